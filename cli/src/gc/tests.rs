//! Tests of the clean-up: which folders and uploads it lists and deletes, and which it keeps.

use std::path::Path;
use std::sync::Arc;

use zephyr_engine::coordinator::FailureReason;
use zephyr_engine::coordinator::record::{JobResult, LogRecord};
use zephyr_store::ledger::{Ledger, PlanFile, WriterToken, keep_plan};
use zephyr_store::reclaim::Ended;
use zephyr_store::storage::probe;

use super::*;

const ENDED: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";
const UNFINISHED: &str = "11111111-6a0b-4a6e-9a63-5a8f1df2a1d7";
const LOCAL_RUN: &str = "0123456789abcdef0123456789abcdef";
const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

fn options(folder: &Path, older_than: Duration, yes: bool) -> Options {
    Options {
        uri: folder.display().to_string(),
        older_than,
        yes,
        kubeconfig: None,
        context: Vec::new(),
        without_cluster: false,
    }
}

/// A job's folder as a coordinator writes it, with some intermediate data.
async fn job_folder(root: &Path, uid: &str, has_ended: bool) -> JobStorage {
    let stores = Stores::new(std::collections::BTreeMap::new());
    let root = Location::parse_local(root.to_str().unwrap()).unwrap();
    let storage = folder(&stores, &root, uid).unwrap();
    probe(&storage).await.unwrap();
    let taken = Ledger::take_over(&storage, WriterToken::from_random(1)).await;
    let plan = PlanFile {
        digest: "d".to_owned(),
        pipeline: serde_json::json!({"sink": {"files": {"path": "s3://o/part-{shard}.jsonl"}}}),
        inputs: Vec::new(),
        source_shards: 1,
        ..PlanFile::default()
    };
    keep_plan(&storage, plan).await.unwrap();
    if has_ended {
        let result = JobResult::Failed {
            reason: FailureReason::TaskFailed,
            message: "m".to_owned(),
        };
        let records = [LogRecord::Result(result)];
        taken.unwrap().ledger.append(&records).await.unwrap();
    }
    let data = storage.at("data/0/0/e1a1/shuffle").unwrap();
    let data = data.local_path().unwrap();
    std::fs::create_dir_all(data.parent().unwrap()).unwrap();
    std::fs::write(data, "12345").unwrap();
    storage
}

/// Makes all files in a folder older by `by`.
fn age(folder: &Path, by: Duration) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), by);
        } else if entry.file_type().unwrap().is_file() {
            let file = std::fs::File::options().append(true).open(entry.path());
            let time = SystemTime::now() - by;
            file.unwrap().set_modified(time).unwrap();
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn without_yes_nothing_is_deleted_and_with_yes_only_folders_that_no_job_needs() {
    let local = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let root = local.path();
    std::fs::write(outside.path().join("precious"), "x").unwrap();
    for (uid, has_ended) in [(ENDED, true), (UNFINISHED, false), (LOCAL_RUN, false)] {
        job_folder(root, uid, has_ended).await;
    }
    let other = |digit: &str| ENDED.replace('0', digit);
    job_folder(root, &other("2"), true).await;
    std::fs::write(root.join(other("2")).join("notes.txt"), "mine").unwrap();
    job_folder(root, &other("3"), true).await;
    let link = root.join(other("3")).join("data/linked");
    std::os::unix::fs::symlink(outside.path(), link).unwrap();
    // A folder of another program.
    std::fs::create_dir_all(root.join(other("4")).join("data/0")).unwrap();
    std::fs::write(root.join(other("4")).join("plan.json"), "{}").unwrap();
    std::fs::create_dir(root.join("reports")).unwrap();
    std::fs::write(root.join("reports/ended.json"), "{}").unwrap();
    std::fs::write(root.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.join(other("5"))).unwrap();
    age(root, DAY * 8);
    let young = job_folder(root, &other("6"), true).await;
    let before = names(root);
    gc(options(root, DAY * 7, false)).await.unwrap();
    assert_eq!(names(root), before);
    gc(options(root, DAY * 7, true)).await.unwrap();
    let gone = [ENDED, UNFINISHED, LOCAL_RUN];
    let left: Vec<String> = before
        .into_iter()
        .filter(|name| !gone.contains(&name.as_str()))
        .collect();
    assert_eq!(names(root), left);
    assert!(root.join(other("2")).join("notes.txt").exists());
    assert!(root.join(other("2")).join("plan.json").exists());
    assert!(outside.path().join("precious").exists());
    // The folder of a job that has ended is deleted at any age, because the job no longer needs it.
    gc(options(root, Duration::ZERO, true)).await.unwrap();
    assert!(!young.root().local_path().unwrap().exists());
}

#[tokio::test]
async fn a_run_that_may_be_alive_keeps_its_folder_at_any_requested_age() {
    let local = tempfile::tempdir().unwrap();
    job_folder(local.path(), LOCAL_RUN, false).await;
    for (aged, stays) in [(MINUTE, true), (MINUTE * 14, true), (MINUTE * 16, false)] {
        age(local.path(), aged);
        gc(options(local.path(), Duration::ZERO, true))
            .await
            .unwrap();
        assert_eq!(names(local.path()).is_empty(), !stays, "{aged:?}");
    }
}

#[tokio::test]
async fn a_folder_that_changes_after_the_listing_is_left_alone() {
    let local = tempfile::tempdir().unwrap();
    let storage = job_folder(local.path(), ENDED, true).await;
    let stores = storage.stores();
    let root = storage.root().parent();
    let rules = rules(&[]);
    let found = Found {
        state: State::Ended(String::new()),
        ..look(stores, &root).await.unwrap().remove(0)
    };
    std::fs::write(local.path().join(ENDED).join("epochs/1/log/7"), "x").unwrap();
    let deleted = delete_one(stores, &root, &found, &rules).await.unwrap();
    assert_eq!(deleted, None);
    assert_eq!(names(local.path()), [ENDED]);
}

#[tokio::test]
async fn a_half_deleted_folder_is_deleted_by_the_next_call() {
    let local = tempfile::tempdir().unwrap();
    let storage = job_folder(local.path(), UNFINISHED, false).await;
    let marker = Marker::new(&storage, String::new(), ABANDONED.to_owned(), None);
    mark(&storage, &marker).await.unwrap();
    std::fs::remove_dir_all(local.path().join(UNFINISHED).join("epochs")).unwrap();
    std::fs::remove_file(local.path().join(UNFINISHED).join("plan.json")).unwrap();
    gc(options(local.path(), Duration::ZERO, true))
        .await
        .unwrap();
    assert_eq!(names(local.path()), [""; 0]);
}

#[tokio::test]
async fn an_object_that_cannot_have_an_address_keeps_only_its_own_folder() {
    use std::os::unix::ffi::OsStrExt;
    let local = tempfile::tempdir().unwrap();
    let root = local.path();
    let kept = job_folder(root, ENDED, true).await;
    job_folder(root, LOCAL_RUN, true).await;
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
    std::fs::write(root.join(ENDED).join("data").join(odd), "x").unwrap();
    std::fs::create_dir(root.join(odd)).unwrap();
    age(root, DAY * 8);
    let found = look(kept.stores(), &kept.root().parent()).await.unwrap();
    let text = table(&kept.root().parent(), &found, &rules(&[]));
    let sentence = "keep: 1 objects in it do not belong to a job, such as data/odd";
    assert!(text.contains(sentence), "{text}");
    gc(options(root, DAY * 7, true)).await.unwrap();
    assert!(root.join(ENDED).join("plan.json").exists());
    assert!(root.join(odd).exists());
    assert!(!root.join(LOCAL_RUN).exists());
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let error = gc(options(Path::new("/no/such/folder"), DAY, true)).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "file:///no/such/folder: there is no such folder");
}

fn rules(owners: &[&str]) -> Rules {
    Rules {
        older_than: Duration::ZERO,
        now: SystemTime::now(),
        owners: Owners(owners.iter().map(|uid| (*uid).to_owned()).collect()),
    }
}

#[test]
fn each_folder_gets_one_verdict_and_an_owner_comes_first() {
    let now = SystemTime::UNIX_EPOCH + DAY * 1000;
    let rules = |older_than| Rules {
        older_than,
        now,
        owners: Owners([UNFINISHED.to_owned()].into()),
    };
    let found =
        |uid: &str, age: Duration, state: State, foreign: Option<(u64, String)>, proof: Proof| {
            let survey = Survey {
                objects: 1,
                bytes: 1,
                newest: Some(now - age),
                foreign,
                ..Survey::default()
            };
            Found {
                state,
                ..Found::new(uid.to_owned(), Ok((survey, proof)))
            }
        };
    let ended = || State::Ended(String::new());
    let foreign = Some((2, "notes.txt".to_owned()));
    let ledger = |age, state| found(ENDED, age, state, None, Proof::Ledger);
    for (folder, older_than, expected) in [
        (ledger(DAY * 8, ended()), DAY * 7, Verdict::Removable),
        (
            ledger(DAY * 7, State::Unfinished),
            DAY * 7,
            Verdict::Removable,
        ),
        (ledger(HOUR * 167, ended()), DAY * 7, Verdict::Young),
        (
            ledger(Duration::ZERO, ended()),
            Duration::ZERO,
            Verdict::Removable,
        ),
        (
            ledger(MINUTE, State::Unfinished),
            Duration::ZERO,
            Verdict::MayRun,
        ),
        (
            ledger(MINUTE, State::Unknown),
            Duration::ZERO,
            Verdict::MayRun,
        ),
        (
            ledger(HOUR, State::Unfinished),
            Duration::ZERO,
            Verdict::Removable,
        ),
        (
            found(UNFINISHED, DAY * 9, ended(), None, Proof::Ledger),
            DAY,
            Verdict::Owned,
        ),
        (
            found(ENDED, DAY * 9, ended(), foreign, Proof::Ledger),
            DAY,
            Verdict::Foreign(2, "notes.txt".to_owned()),
        ),
        (
            found(ENDED, DAY * 9, ended(), None, Proof::Nothing),
            DAY,
            Verdict::Unproven,
        ),
        (
            Found::new(ENDED.to_owned(), Err("no".to_owned())),
            DAY,
            Verdict::Unreadable("no".to_owned()),
        ),
    ] {
        assert_eq!(rules(older_than).verdict(&folder), expected, "{folder:?}");
    }
    // A clock that is behind the store's clock does not make a folder older.
    let behind = Rules {
        now: now - DAY * 30,
        ..rules(MINUTE)
    };
    assert_eq!(behind.verdict(&ledger(DAY * 8, ended())), Verdict::Young);
    assert!(!behind.may_abort(ENDED, now));
    assert!(rules(Duration::ZERO).may_abort(ENDED, now - HOUR));
    assert!(!rules(Duration::ZERO).may_abort(ENDED, now - MINUTE));
    assert!(!rules(Duration::ZERO).may_abort(UNFINISHED, now - HOUR));
}

#[test]
fn only_uploads_of_intermediate_data_in_job_folders_are_chosen() {
    let upload = |key: String| UnfinishedUpload {
        key,
        upload: "u".to_owned(),
        initiated: SystemTime::now() - HOUR,
    };
    let uploads: Vec<_> = [
        format!("jobs/{ENDED}/data/0/0/e1a1/shuffle"),
        format!("jobs/{ENDED}/backup.tar"),
        format!("jobs/{UNFINISHED}/data/0/0/e1a1/shuffle"),
        "jobs/part-0.jsonl".to_owned(),
        format!("{ENDED}/data/0/0/e1a1/shuffle"),
    ]
    .map(upload)
    .into();
    let chosen = |root: &str| {
        let root = Location::parse(root).unwrap();
        let chosen = choose_uploads(&root, &uploads, &rules(&[UNFINISHED]));
        chosen
            .into_iter()
            .map(|upload| upload.key.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        chosen("s3://b/jobs"),
        [format!("jobs/{ENDED}/data/0/0/e1a1/shuffle")]
    );
    assert_eq!(chosen("s3://b"), [format!("{ENDED}/data/0/0/e1a1/shuffle")]);
}

#[test]
fn ages_are_typed_in_days_hours_minutes_and_seconds() {
    for (text, age) in [
        ("7d", DAY * 7),
        ("1d12h", HOUR * 36),
        ("90m", MINUTE * 90),
        ("0s", Duration::ZERO),
    ] {
        assert_eq!(verdict::parse_age(text), Ok(age), "{text}");
    }
    for text in [
        "",
        "7",
        "d",
        "7w",
        "-1d",
        "1.5d",
        "7d ",
        "40000d",
        "99999999999999999999d",
        "7é",
    ] {
        let error = verdict::parse_age(text).unwrap_err();
        assert!(error.contains(&format!("(got {text})")), "{error}");
    }
}

#[tokio::test]
async fn the_list_shows_job_state_size_and_the_reason() {
    let local = tempfile::tempdir().unwrap();
    let storage = job_folder(local.path(), ENDED, true).await;
    let marker = Marker::new(
        &storage,
        "team/count".to_owned(),
        "TaskFailed".to_owned(),
        None,
    );
    mark(&storage, &marker).await.unwrap();
    job_folder(local.path(), UNFINISHED, false).await;
    let root = storage.root().parent();
    let found = Arc::new(look(storage.stores(), &root).await.unwrap());
    assert!(matches!(
        &found[0].looked,
        Ok((_, Proof::Ended(Ended { .. })))
    ));
    let text = table(&root, &found, &rules(&[]));
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert!(
        rows[1].contains("team/count")
            && rows[1].contains("ended: TaskFailed")
            && rows[1].ends_with("delete"),
        "{text}"
    );
    assert!(
        rows[2].contains("s3://o/part-{shard}.jsonl") && rows[2].contains("keep: unfinished"),
        "{text}"
    );
    let chosen: Vec<&Found> = found.iter().take(1).collect();
    assert!(
        totals(&found, &chosen).starts_with("2 folders, of which 1 to delete: 7 objects, "),
        "{}",
        totals(&found, &chosen)
    );
    assert!(table(&root, &[], &rules(&[])).starts_with("no job folders below file://"));
}
