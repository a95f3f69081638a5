//! Tests of archives: what is in them, and which are refused because they are damaged or of another
//! kind.

use zephyr_engine::id::JobUid;

use super::*;
use crate::ledger::{Ledger, Move, PlanFile, WriterToken, keep_plan, put_move};
use crate::storage::Stores;

const UID: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";

fn storage() -> JobStorage {
    let job = JobUid::parse(UID).unwrap();
    JobStorage::new(Stores::in_memory(), "s3://b/jobs", job).unwrap()
}

fn owner(uid: &str) -> Owner {
    Owner {
        uid: uid.to_owned(),
        namespace: "team".to_owned(),
        name: "count".to_owned(),
    }
}

fn exported(uid: &str) -> Exported {
    Exported {
        owner: owner(uid),
        generation: 2,
        manifest: b"{\"kind\":\"ZephyrJob\"}".to_vec(),
        history: b"[]".to_vec(),
    }
}

async fn begin(storage: &JobStorage) {
    let plan = PlanFile {
        digest: "d".to_owned(),
        ..PlanFile::default()
    };
    keep_plan(storage, plan).await.unwrap();
    let writer = WriterToken::from_random(1);
    Ledger::take_over(storage, writer).await.unwrap();
}

#[tokio::test]
async fn an_archive_has_the_state_of_the_ledger_and_the_manifest() {
    let storage = storage();
    let nothing = export(&storage, exported(UID)).await.unwrap_err();
    assert!(matches!(nothing, ExportError::NotBegun), "{nothing}");
    begin(&storage).await;
    let made = export(&storage, exported(UID)).await.unwrap();
    let expected = Head {
        version: 1,
        job: UID.to_owned(),
        owner: owner(UID),
        storage: "s3://b/jobs".to_owned(),
        moves: 0,
        generations: 2,
        epoch: 1,
        records: 0,
        plan_digest: "d".to_owned(),
        committed: 0,
    };
    assert_eq!(made.head, expected);
    let found = read(&made.bytes).unwrap();
    assert_eq!(found.head, expected);
    assert_eq!(found.job, exported(UID).manifest);
    let location = keep_archive(&storage, &made).await.unwrap();
    keep_archive(&storage, &made).await.unwrap();
    let kept = fetch_archive(&storage, &location).await.unwrap();
    let kept = kept.unwrap().unwrap();
    assert_eq!(digest(&kept), made.digest);
    // The same state gives the same archive.
    let again = export(&storage, exported(UID)).await.unwrap();
    assert_eq!(again.digest, made.digest);
}

#[tokio::test]
async fn only_the_job_that_owns_the_folder_is_exported() {
    let storage = storage();
    begin(&storage).await;
    let other = export(&storage, exported("new")).await.unwrap_err();
    assert!(matches!(other, ExportError::NotBegun), "{other}");
    let first = Move::new(&storage, owner("new"), String::new(), 3);
    put_move(&storage, 0, first).await.unwrap();
    let moved = export(&storage, exported(UID)).await.unwrap_err();
    let words = "the job was moved to job team/count, uid new; export that job";
    assert_eq!(moved.to_string(), words);
    let made = export(&storage, exported("new")).await.unwrap();
    assert_eq!((made.head.moves, made.head.generations), (1, 5));
}

#[test]
fn what_is_no_archive_of_this_version_is_refused() {
    let head = |version: u32| serde_json::json!({"version": version}).to_string();
    let pack = |head: String| pack(&[(HEAD, head.as_bytes())]).unwrap();
    for (bytes, words) in [
        (b"nothing".to_vec(), "export.json: "),
        (
            pack(head(2)),
            "export.json: it has version 2; this program reads version 1",
        ),
        (pack(head(1)), "export.json: missing field"),
    ] {
        let problem = read(&bytes).unwrap_err();
        assert!(problem.starts_with(words), "{problem}");
    }
}
