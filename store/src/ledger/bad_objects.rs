//! Tests that break every kind of object of a ledger in every known way. Such an object must be
//! refused by name. No valid object may be used in place of it.

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::Value;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::{Attempt, Epoch, JobUid, ShardId, StageId, TaskAttempt, TaskId};

use super::{
    Ledger, LedgerError, MergePolicy, PlanFile, TakeOver, WriterToken, keep_plan, load_plan,
};
use crate::storage::{JobStorage, Stores, fetch};

/// A way to break an object, the resulting bytes, and a part of the expected error message.
type Damage = (&'static str, Vec<u8>, &'static str);

const CHECKSUM: &str = "its checksum is wrong: it is damaged";

fn fact(shard: u32) -> LogRecord {
    let task = TaskId {
        stage: StageId(0),
        shard: ShardId(shard),
    };
    let attempt = Attempt {
        epoch: Epoch(1),
        number: 1,
    };
    LogRecord::Revoked {
        task: TaskAttempt { task, attempt },
    }
}

async fn take_over(storage: &JobStorage) -> Result<TakeOver, LedgerError> {
    take_over_as(storage, rand::random()).await
}

async fn take_over_as(storage: &JobStorage, writer: u128) -> Result<TakeOver, LedgerError> {
    let policy = MergePolicy {
        objects: 2,
        ..MergePolicy::default()
    };
    Ledger::open(storage, WriterToken::from_random(writer))
        .await?
        .take_over(policy)
        .await
}

/// Returns a ledger of two coordinators. Its bytes are always the same. The second coordinator died
/// before its snapshot. So the successor reads the newest snapshot of epoch 1 with its two merged
/// objects, the log after it with its seal, and the log of the second coordinator.
async fn ledger() -> JobStorage {
    let uid = JobUid::parse("uid").unwrap();
    let storage = JobStorage::new(Stores::in_memory(), "s3://b/jobs", uid).unwrap();
    let mut first = take_over_as(&storage, 1).await.unwrap().ledger;
    for shard in 0..5 {
        first.append(&[fact(shard)]).await.unwrap();
    }
    let mut second = take_over_as(&storage, 2).await.unwrap().ledger;
    second.append(&[fact(5)]).await.unwrap();
    delete(&storage, "epochs/2/snapshots/0").await;
    storage
}

async fn read(storage: &JobStorage, name: &str) -> Bytes {
    let location = storage.at(name).unwrap();
    fetch(storage.stores(), &location).await.unwrap()
}

async fn write(storage: &JobStorage, name: &str, bytes: Vec<u8>) {
    let location = storage.at(name).unwrap();
    let store = storage.stores().open(&location).unwrap().objects;
    store
        .put(location.path(), PutPayload::from(bytes))
        .await
        .unwrap();
}

async fn delete(storage: &JobStorage, name: &str) {
    let location = storage.at(name).unwrap();
    let store = storage.stores().open(&location).unwrap().objects;
    store.delete(location.path()).await.unwrap();
}

/// Fails unless exactly this object is refused, with this message.
fn refused<T>(outcome: Result<T, LedgerError>, name: &str, said: &str, case: &str) {
    let Err(LedgerError::Refused { object, problem }) = outcome else {
        panic!("{name}, {case}: it was not refused")
    };
    assert_eq!(
        object,
        format!("s3://b/jobs/uid/{name}"),
        "{case}: {problem}"
    );
    assert!(problem.contains(said), "{name}, {case}: {problem}");
}

/// An object whose header was changed by somebody who can compute checksums.
fn with_header(good: &[u8], version: u32, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let text = std::str::from_utf8(good).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    let (header, records) = rest.split_once('\n').unwrap();
    let mut header: Value = serde_json::from_str(header).unwrap();
    change(&mut header);
    sealed(version, &format!("{header}\n{records}"))
}

fn sealed(version: u32, body: &str) -> Vec<u8> {
    let checksum = crc32c::crc32c(body.as_bytes());
    format!("zephyr-ledger {version} {checksum:08x}\n{body}").into_bytes()
}

fn flipped(good: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Accidental damage to bytes.
fn accidents(good: &[u8]) -> Vec<Damage> {
    let header_ends = 1 + good.iter().position(|byte| *byte == b'\n').unwrap();
    let last = good.len() - 1;
    let no_first_line = "its first line is not that of a ledger object";
    vec![
        ("empty", Vec::new(), "it has no first line"),
        ("one byte", vec![b'\n'], no_first_line),
        (
            "cut in the first line",
            good[..5].to_vec(),
            "it has no first line",
        ),
        (
            "cut after the first line",
            good[..header_ends].to_vec(),
            CHECKSUM,
        ),
        ("cut in the middle", good[..last / 2].to_vec(), CHECKSUM),
        ("cut by a byte", good[..last].to_vec(), CHECKSUM),
        ("trailing garbage", [good, b"garbage"].concat(), CHECKSUM),
        ("trailing line break", [good, b"\n"].concat(), CHECKSUM),
        ("twice", [good, good].concat(), CHECKSUM),
        ("leading garbage", [b"x", good].concat(), no_first_line),
        ("first byte flipped", flipped(good, 0), no_first_line),
        ("middle byte flipped", flipped(good, last / 2), ""),
        ("last byte flipped", flipped(good, last), CHECKSUM),
        ("not UTF-8", [good, &[0xFF]].concat(), "it is not UTF-8"),
        ("all zeros", vec![0; good.len()], "it has no first line"),
        ("something else", b"hello\n".to_vec(), no_first_line),
    ]
}

/// Objects that are valid but belong to another place, job or epoch.
fn strangers(good: &[u8], kinds: &[&'static str]) -> Vec<Damage> {
    let with = |change: &dyn Fn(&mut Value)| with_header(good, 1, |header| change(header));
    let says = "it says that it is ";
    let mut cases: Vec<Damage> = vec![
        (
            "another version",
            with_header(good, 2, |_| ()),
            "it has version \"2\"; this program reads version 1",
        ),
        (
            "another job's",
            with(&|header| header["job"] = "other".into()),
            "of job other",
        ),
        (
            "another epoch's",
            with(&|header| header["epoch"] = 7.into()),
            "of epoch 7",
        ),
        (
            "another place's",
            with(&|header| header["seq"] = 99.into()),
            says,
        ),
        (
            "more records than it has",
            with(&|header| header["records"] = 1_000_000_000_000_u64.into()),
            "records, but its header says 1000000000000",
        ),
        (
            "an unknown field",
            with(&|header| header["owner"] = "x".into()),
            "its header cannot be read",
        ),
        (
            "a number below zero",
            with(&|header| header["seq"] = (-1).into()),
            "its header cannot be read",
        ),
        (
            "an unknown kind",
            with(&|header| header["kind"] = "cover".into()),
            "its header cannot be read",
        ),
        ("no header", sealed(1, ""), "it has no header"),
        (
            "an unknown record",
            sealed(1, &format!("{}{{\"type\":\"x\"}}\n", first_lines(good))),
            "a record cannot be read",
        ),
        (
            "deep nesting",
            sealed(1, &format!("{}{}\n", first_lines(good), "[".repeat(10_000))),
            "a record cannot be read",
        ),
    ];
    for kind in kinds {
        cases.push((kind, with(&|header| header["kind"] = (*kind).into()), says));
    }
    cases
}

fn first_lines(good: &[u8]) -> String {
    let text = std::str::from_utf8(good).unwrap();
    let header = text.lines().nth(1).unwrap();
    format!("{header}\n")
}

#[tokio::test]
async fn a_damaged_log_object_seal_or_snapshot_is_refused_by_name() {
    // The lines of a snapshot are not records: if the kind is wrong, they cannot be read either.
    for (name, other_kinds) in [
        ("epochs/1/log/4", &["open", "merged", "snapshot"][..]),
        ("epochs/1/log/5", &["open", "merged", "snapshot"]),
        ("epochs/2/log/0", &["open", "merged", "snapshot"]),
        ("epochs/1/snapshots/4", &["open", "log", "seal", "merged"]),
    ] {
        let good = read(&ledger().await, name).await;
        for (case, bytes, said) in [accidents(&good), strangers(&good, other_kinds)].concat() {
            let storage = ledger().await;
            write(&storage, name, bytes).await;
            for again in 0..2 {
                refused(
                    take_over(&storage).await,
                    name,
                    said,
                    &format!("{case}, {again}"),
                );
            }
            write(&storage, name, good.to_vec()).await;
            let records = take_over(&storage).await.unwrap().records;
            assert_eq!(
                records,
                (0..6).map(fact).collect::<Vec<_>>(),
                "{name}, {case}"
            );
        }
    }
}

#[tokio::test]
async fn a_damaged_merged_object_is_refused_by_name_although_a_snapshot_lists_it() {
    let name = "epochs/1/merged/0";
    let good = read(&ledger().await, name).await;
    let cases = [
        accidents(&good),
        strangers(&good, &["open", "log", "seal", "snapshot"]),
    ];
    for (case, bytes, said) in cases.concat() {
        let storage = ledger().await;
        write(&storage, name, bytes.clone()).await;
        let differs = "it is not the object that the snapshot names: its checksum differs";
        refused(take_over(&storage).await, name, differs, case);
        if ["another epoch's", "another place's"].contains(&case) {
            // The snapshot determines where a merged object is.
            continue;
        }
        let snapshot =
            String::from_utf8(read(&storage, "epochs/1/snapshots/4").await.to_vec()).unwrap();
        let (_, body) = snapshot.split_once('\n').unwrap();
        let was = format!("\"crc32c\":{}", crc32c::crc32c(&good));
        assert!(body.contains(&was), "{body}");
        let body = body.replace(&was, &format!("\"crc32c\":{}", crc32c::crc32c(&bytes)));
        write(&storage, "epochs/1/snapshots/4", sealed(1, &body)).await;
        refused(take_over(&storage).await, name, said, case);
    }
}

#[tokio::test]
async fn a_snapshot_with_impossible_contents_is_refused_and_costs_no_memory() {
    let part = |object: &str, records: &str| {
        format!("{{\"object\":{object},\"records\":{records},\"crc32c\":1}}\n")
    };
    let missing = "it is missing, and a snapshot names it";
    let no_name = "a snapshot names a merged object that cannot be one";
    for (lines, object, said) in [
        (
            part("\"epochs/1/merged/77\"", "18446744073709551615"),
            "/epochs/1/merged/77",
            missing,
        ),
        (part("\"../other/epochs/1/merged/0\"", "1"), "", no_name),
        (part("\"a\\u0000b\"", "1"), "", no_name),
        (part(&format!("{:?}", "x".repeat(5_000)), "1"), "", no_name),
        (part("\"\"", "1"), "", missing),
    ] {
        let storage = ledger().await;
        let good = read(&storage, "epochs/1/snapshots/4").await;
        let with_one = with_header(&good, 1, |header| header["records"] = 2.into());
        let body = format!("{}{lines}{lines}", first_lines(&with_one));
        write(&storage, "epochs/1/snapshots/4", sealed(1, &body)).await;
        let Err(LedgerError::Refused {
            object: expected,
            problem,
        }) = take_over(&storage).await
        else {
            panic!("{lines} was taken")
        };
        assert_eq!(expected, format!("s3://b/jobs/uid{object}"), "{problem}");
        assert!(problem.contains(said), "{lines}: {problem}");
    }
}

#[tokio::test]
async fn an_object_that_vanished_is_refused_by_name() {
    for name in ["epochs/1/merged/0", "epochs/1/merged/1", "epochs/1/log/4"] {
        let storage = ledger().await;
        delete(&storage, name).await;
        refused(take_over(&storage).await, name, "it is missing", name);
    }
    // If the newest snapshot is missing, an older one is used. The objects that were not merged in
    // the older one still exist.
    let storage = ledger().await;
    delete(&storage, "epochs/1/snapshots/4").await;
    let records = take_over(&storage).await.unwrap().records;
    assert_eq!(records, (0..6).map(fact).collect::<Vec<_>>());
}

#[tokio::test]
async fn folders_that_no_coordinator_opened_are_refused_or_ignored() {
    for number in [1_000_001, u64::MAX] {
        let storage = ledger().await;
        let name = format!("epochs/{number}");
        write(&storage, &format!("{name}/open"), b"x".to_vec()).await;
        refused(
            take_over(&storage).await,
            &name,
            "no job has more than 1000000 epochs",
            "",
        );
    }
    // A folder whose name is not a number is not an epoch. If another program wrote an object
    // `open`, only the number of that epoch is used up.
    let storage = ledger().await;
    for name in [
        "epochs/x/open",
        "epochs/-1/open",
        "epochs/3/open",
        "epochs/99999999999999999999/open",
    ] {
        write(&storage, name, b"x".to_vec()).await;
    }
    let taken = take_over(&storage).await.unwrap();
    assert_eq!((taken.epoch, taken.records.len()), (Epoch(4), 6));
}

#[tokio::test]
async fn a_damaged_or_foreign_plan_is_refused_by_name() {
    let uid = |text| JobUid::parse(text).unwrap();
    let stores = Stores::in_memory();
    let storage = JobStorage::new(stores.clone(), "s3://b/jobs", uid("uid")).unwrap();
    let other = JobStorage::new(stores, "s3://b/jobs", uid("other")).unwrap();
    let plan = PlanFile {
        digest: "d".to_owned(),
        pipeline: serde_json::json!({"steps": []}),
        inputs: Vec::new(),
        source_shards: 1,
        ..PlanFile::default()
    };
    for each in [&storage, &other] {
        keep_plan(each, plan.clone()).await.unwrap();
    }
    let good = read(&storage, "plan.json").await.to_vec();
    let text = String::from_utf8(good.clone()).unwrap();
    let last = good.len() - 1;
    let unreadable = "it cannot be read";
    let cases: Vec<Damage> = vec![
        ("empty", Vec::new(), unreadable),
        ("cut by a byte", good[..last].to_vec(), unreadable),
        ("cut in the middle", good[..last / 2].to_vec(), unreadable),
        (
            "trailing garbage",
            [&good[..], b"garbage"].concat(),
            unreadable,
        ),
        ("twice", [&good[..], &good].concat(), unreadable),
        ("not UTF-8", [&good[..], &[0xFF]].concat(), unreadable),
        ("something else", b"hello".to_vec(), unreadable),
        ("other JSON", b"{}".to_vec(), "missing field `version`"),
        ("deep nesting", "[".repeat(100_000).into_bytes(), unreadable),
        ("a log object", sealed(1, "{}\n"), unreadable),
        (
            "another version",
            text.replace("\"version\":2", "\"version\":8").into_bytes(),
            "it has version 8; this program reads versions 2 to 7",
        ),
        (
            "an older version",
            text.replace("\"version\":2", "\"version\":1").into_bytes(),
            "it has version 1; this program reads versions 2 to 7",
        ),
        (
            "an unknown field",
            text.replacen('{', "{\"x\":1,", 1).into_bytes(),
            "unknown field `x`",
        ),
        (
            "another job's",
            read(&other, "plan.json").await.to_vec(),
            "it is marked as the plan of job other",
        ),
        (
            "a changed plan",
            text.replace("\"sourceShards\":1", "\"sourceShards\":2")
                .into_bytes(),
            CHECKSUM,
        ),
        (
            "a changed checksum",
            text.replace("\"crc32c\":\"", "\"crc32c\":\"0").into_bytes(),
            CHECKSUM,
        ),
    ];
    for (case, bytes, said) in cases {
        assert_ne!(bytes, good, "{case}");
        write(&storage, "plan.json", bytes).await;
        refused(load_plan(&storage, true).await, "plan.json", said, case);
        refused(
            keep_plan(&storage, plan.clone()).await,
            "plan.json",
            said,
            case,
        );
    }
    delete(&storage, "plan.json").await;
    refused(
        load_plan(&storage, true).await,
        "plan.json",
        "it is missing",
        "missing",
    );
    assert_eq!(load_plan(&storage, false).await.unwrap(), None);
}

#[tokio::test]
async fn a_coordinator_ends_and_names_the_object_that_another_process_wrote_first() {
    let storage = ledger().await;
    let mut mine = take_over(&storage).await.unwrap();
    let name = format!("epochs/{}/log/0", mine.epoch);
    let log = read(&storage, "epochs/1/log/4").await.to_vec();
    for (bytes, said) in [
        (
            b"hello\n".to_vec(),
            "its first line is not that of a ledger object",
        ),
        (log, "another process wrote into this epoch's log"),
    ] {
        write(&storage, &name, bytes).await;
        refused(mine.ledger.append(&[fact(9)]).await, &name, said, said);
    }
}
