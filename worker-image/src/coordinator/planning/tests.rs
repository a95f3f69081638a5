//! Tests what a starting coordinator reports if its storage is defective: the cause, the object,
//! and whether the error is permanent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::json;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::pipeline::SinkMode;
use zephyr_engine::id::{Attempt, JobUid, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_proto::run::Phase;
use zephyr_store::finalize::give_up;
use zephyr_store::storage::{JobStorage, Location, Stores, fetch};

use super::*;
use crate::fixtures::tricky::{Trick, Tricks, tricky};

mod moving;
mod restart;
mod sharding;

const FOLDER: &str = "s3://b/jobs/uid";

fn job(stores: Stores) -> Arc<RunJob> {
    job_reading(stores, &json!({"items": {"values": [1, 2]}}))
}

fn job_reading(stores: Stores, source: &serde_json::Value) -> Arc<RunJob> {
    let frozen = json!({
        "version": 1, "namespace": "ns", "name": "name", "uid": "uid", "generation": 1,
        "coordinatorAddress": "http://127.0.0.1:1",
        "spec": {
            "pipeline": {
                "source": source,
                "sink": {"files": {"path": "s3://o/out/part-{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://b/jobs"},
            "workers": {"replicas": 1},
        },
    });
    let frozen = FrozenJob::from_json(&frozen.to_string()).unwrap();
    let job = RunJob::new(frozen).unwrap();
    let storage = JobStorage::new(stores.clone(), "s3://b/jobs", job.identity.job.clone()).unwrap();
    Arc::new(RunJob {
        stores,
        storage,
        ..job
    })
}

fn fact(shard: u32) -> LogRecord {
    let task = TaskId {
        stage: StageId(0),
        shard: ShardId(shard),
    };
    let attempt = Attempt {
        epoch: Epoch(1),
        number: 1,
    };
    LogRecord::Failed {
        task: TaskAttempt { task, attempt },
        class: zephyr_engine::coordinator::record::FailureClass::Application,
        error: "e".to_owned(),
    }
}

/// The bucket of the storage and that of the output, as one store that makes these tricks.
fn both(inner: &Arc<InMemory>, tricks: Tricks) -> Stores {
    let stores = tricky(inner, tricks);
    let bucket = Location::parse("s3://b/x").unwrap();
    let store = stores.open(&bucket).unwrap();
    stores.with_store("s3://o", store)
}

/// Both buckets, as a store that makes no tricks.
fn plain(inner: &Arc<InMemory>) -> Stores {
    both(
        inner,
        Arc::new(|_, _| Box::pin(std::future::ready(Trick::Pass))),
    )
}

/// After this many writes, refuses every call.
fn until(writes: usize) -> Tricks {
    let done = AtomicUsize::new(0);
    Arc::new(move |call, _| {
        let is_write = call == "put" || call == "delete";
        let before = done.fetch_add(usize::from(is_write), Ordering::SeqCst);
        let trick = if before < writes {
            Trick::Pass
        } else {
            Trick::Deny
        };
        Box::pin(std::future::ready(trick))
    })
}

async fn begin(job: &Arc<RunJob>) -> Planned {
    let (status, _shown) = watch::channel(Status::default());
    prepare(job, &status).await.unwrap()
}

async fn runs(job: &Arc<RunJob>) -> Box<Runnable> {
    match begin(job).await {
        Planned::Runnable(runnable) => runnable,
        Planned::Ended { result, .. } | Planned::Refused { result, .. } => {
            panic!("it ended: {result:?}")
        }
    }
}

async fn fails(job: &Arc<RunJob>) -> (Epoch, FailureReason, String) {
    match begin(job).await {
        Planned::Ended {
            epoch,
            result: JobResult::Failed { reason, message },
            uploads: _,
        } => (epoch, reason, message),
        Planned::Ended { result, .. } | Planned::Refused { result, .. } => {
            panic!("it ended: {result:?}")
        }
        Planned::Runnable(_) => panic!("it runs"),
    }
}

/// Returns what the coordinator waits for, as status shows it.
async fn waits(job: &Arc<RunJob>) -> String {
    let (status, mut shown) = watch::channel(Status::default());
    let is_waiting = |status: &Status| status.snapshot.phase() == Phase::StorageUnavailable;
    tokio::select! {
        _ = prepare(job, &status) => panic!("it does not wait"),
        waiting = shown.wait_for(is_waiting) => waiting.unwrap().snapshot.message.clone(),
    }
}

async fn put(stores: &Stores, uri: &str, bytes: impl Into<PutPayload>) {
    let location = Location::parse(uri).unwrap();
    let store = stores.open(&location).unwrap().objects;
    store.put(location.path(), bytes.into()).await.unwrap();
}

async fn delete(stores: &Stores, uri: &str) {
    let location = Location::parse(uri).unwrap();
    let store = stores.open(&location).unwrap().objects;
    store.delete(location.path()).await.unwrap();
}

/// Returns a job that has records in its log, and a snapshot before the log.
async fn begun() -> Arc<RunJob> {
    let job = job(Stores::in_memory());
    let Runnable { mut ledger, .. } = *runs(&job).await;
    ledger.append(&[fact(0)]).await.unwrap();
    let Runnable { mut ledger, .. } = *runs(&job).await;
    ledger.append(&[fact(1)]).await.unwrap();
    ledger.append(&[fact(2)]).await.unwrap();
    job
}

#[tokio::test]
async fn a_damaged_object_of_any_kind_ends_the_job_with_its_name_for_as_long_as_it_is_damaged() {
    let mut cases = Vec::new();
    for name in [
        "plan.json",
        "epochs/2/snapshots/0",
        "epochs/2/merged/0",
        "epochs/2/log/0",
        "epochs/2/log/1",
    ] {
        for case in ["cut", "empty", "flipped", "trailing garbage", "missing"] {
            // If the newest snapshot or the end of a log is missing, nothing shows that it existed.
            let may_be_missing = name.ends_with("snapshots/0") || name.ends_with("log/1");
            if case != "missing" || !may_be_missing {
                cases.push(damage(name, case));
            }
        }
    }
    futures::future::join_all(cases).await;
}

async fn damage(name: &str, case: &str) {
    let job = begun().await;
    let uri = format!("{FOLDER}/{name}");
    let good = fetch(&job.stores, &Location::parse(&uri).unwrap())
        .await
        .unwrap();
    let half = good.len() / 2;
    let mut flipped = good.to_vec();
    flipped[half] ^= 1;
    match case {
        "cut" => put(&job.stores, &uri, good.slice(..half)).await,
        "empty" => put(&job.stores, &uri, Vec::new()).await,
        "trailing garbage" => put(&job.stores, &uri, [&good[..], b"x"].concat()).await,
        "flipped" => put(&job.stores, &uri, flipped).await,
        _ => delete(&job.stores, &uri).await,
    }
    let mut newest = Epoch(2);
    for _ in 0..2 {
        let (epoch, reason, message) = fails(&job).await;
        assert_eq!(
            reason,
            FailureReason::LedgerDamaged,
            "{name}, {case}: {message}"
        );
        let told = format!("spec.storage.uri: {uri}: not a part of this job's ledger: ");
        assert!(message.starts_with(&told), "{name}, {case}: {message}");
        assert!(
            epoch > newest,
            "{name}, {case}: an operator accepts only a newer epoch"
        );
        newest = epoch;
    }
    put(&job.stores, &uri, good).await;
    let records = runs(&job).await.records;
    assert_eq!(records, [fact(0), fact(1), fact(2)], "{name}, {case}");
}

#[tokio::test]
async fn a_read_that_fails_once_or_twice_does_not_end_the_job() {
    for name in ["plan.json", "epochs/2/snapshots/0", "epochs/2/log/0"] {
        for times in [1, 2] {
            let inner = Arc::new(InMemory::new());
            let none: Tricks = Arc::new(|_, _| Box::pin(std::future::ready(Trick::Pass)));
            let good = job(tricky(&inner, none));
            for n in 0..2 {
                let Runnable { mut ledger, .. } = *runs(&good).await;
                ledger.append(&[fact(n)]).await.unwrap();
            }
            let reads = AtomicUsize::new(0);
            let damaging: Tricks = Arc::new(move |call, path| {
                let is_it = call == "get" && path.as_ref().ends_with(name);
                let damages = is_it && reads.fetch_add(1, Ordering::SeqCst) < times;
                let trick = if damages { Trick::Damage } else { Trick::Pass };
                Box::pin(std::future::ready(trick))
            });
            let records = runs(&job(tricky(&inner, damaging))).await.records;
            assert_eq!(records, [fact(0), fact(1)], "{name}, {times} times");
        }
    }
}

#[tokio::test]
async fn a_foreign_folder_among_the_epochs_is_named_and_waited_for() {
    let job = begun().await;
    let foreign = format!("{FOLDER}/epochs/18446744073709551615");
    put(&job.stores, &format!("{foreign}/open"), Vec::new()).await;
    assert_eq!(
        waits(&job).await,
        format!(
            "spec.storage.uri: {foreign}: not a part of this job's ledger: no job has more than 1000000 epochs"
        )
    );
    delete(&job.stores, &format!("{foreign}/open")).await;
    assert_eq!(runs(&job).await.epoch, Epoch(3));
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_named_and_not_used() {
    for overwrites in [true, false] {
        let inner = Arc::new(InMemory::new());
        let puts = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&puts);
        let tricks: Tricks = Arc::new(move |call, path| {
            if call == "put" {
                seen.lock().unwrap().push(path.to_string());
            }
            let trick = if overwrites {
                Trick::Overwrite
            } else {
                Trick::SayNotImplemented
            };
            Box::pin(std::future::ready(trick))
        });
        assert_eq!(
            waits(&job(tricky(&inner, tricks))).await,
            "spec.storage.uri: s3://b lacks conditional writes (If-None-Match): an object was overwritten that was to be written only if absent; allowed are stores that have them",
            "it overwrites: {overwrites}"
        );
        let puts = puts.lock().unwrap();
        assert!(
            puts.len() >= 2 && puts.iter().all(|path| path == "jobs/uid/probe"),
            "{puts:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn planning_that_waits_for_the_store_shows_that_it_is_alive() {
    let signs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&signs);
    // The ledger is taken over, and afterwards only the probe is answered.
    let tricks: Tricks = Arc::new(move |call, path| {
        let is_sign = call == "put" && path.as_ref() == "jobs/uid/probe";
        if is_sign {
            seen.lock().unwrap().push(tokio::time::Instant::now());
        }
        let is_ledger = path.as_ref().starts_with("jobs/uid/epochs");
        let trick = if is_sign || is_ledger || call == "put" {
            Trick::Pass
        } else {
            Trick::Fail
        };
        Box::pin(std::future::ready(trick))
    });
    let job = job(tricky(&Arc::new(InMemory::new()), tricks));
    let (status, _shown) = watch::channel(Status::default());
    let an_hour = Duration::from_hours(1);
    let began = tokio::time::Instant::now();
    assert!(
        tokio::time::timeout(an_hour, prepare(&job, &status))
            .await
            .is_err()
    );
    let mut signs = signs.lock().unwrap().clone();
    signs.push(tokio::time::Instant::now());
    let mut last = began;
    for sign in signs {
        let silence = sign.duration_since(last);
        assert!(silence <= Duration::from_mins(3), "{silence:?}");
        last = sign;
    }
}

/// Puts the finished output of the job with this uid.
async fn finished(stores: &Stores, uid: &str, files: &[&str]) {
    let files: Vec<_> = files
        .iter()
        .map(|uri| json!({"uri": uri, "bytes": 4}))
        .collect();
    let text = json!({"version": 1, "jobUid": uid, "job": "ns/nightly", "files": files});
    put(
        stores,
        "s3://o/out/_SUCCESS.json",
        text.to_string().into_bytes(),
    )
    .await;
}

#[tokio::test]
async fn output_of_another_job_is_not_written_over_and_a_half_written_own_one_is() {
    let stores = Stores::in_memory();
    let first = job(stores.clone());
    runs(&first).await;
    put(&stores, "s3://o/out/part-0.jsonl", b"half".to_vec()).await;
    runs(&first).await;
    finished(&stores, "uid", &[]).await;
    runs(&first).await;
    // Another job finished in the folder while this job ran, so the next coordinator of this job
    // does not continue.
    finished(&stores, "other", &[]).await;
    for _ in 0..2 {
        let (_, reason, message) = fails(&first).await;
        assert_eq!(reason, FailureReason::PlanFailed);
        assert_eq!(
            message,
            "spec.pipeline.sink.files.path: another job has taken s3://o/out since this one claimed it (got s3://o/out/_SUCCESS.json of job ns/nightly, uid other); run one job at a time there, or write to another folder"
        );
    }
    delete(&stores, "s3://o/out/_STARTED.json").await;
    let late = job_of(&stores, "late", "late", SinkMode::Refuse);
    let (_, _, message) = fails(&late).await;
    assert_eq!(
        message,
        "spec.pipeline.sink.files.path: s3://o/out holds the finished output of another job (got s3://o/out/_SUCCESS.json of job ns/nightly, uid other); write to another folder, or set spec.pipeline.sink.files.mode: Overwrite to replace it"
    );
}

/// Returns the same job, created again with this uid, name and mode.
fn job_of(stores: &Stores, uid: &str, name: &str, mode: SinkMode) -> Arc<RunJob> {
    let mut frozen = job(stores.clone()).frozen.clone();
    uid.clone_into(&mut frozen.uid);
    name.clone_into(&mut frozen.name);
    frozen.spec.pipeline.sink.files.mode = mode;
    let uid = JobUid::parse(uid).unwrap();
    let storage = JobStorage::new(stores.clone(), "s3://b/jobs", uid).unwrap();
    Arc::new(RunJob {
        stores: stores.clone(),
        storage,
        ..RunJob::new(frozen).unwrap()
    })
}

#[tokio::test]
async fn a_folder_that_a_job_holds_is_free_for_others_only_after_its_failure() {
    use SinkMode::{Overwrite, Refuse};
    let stores = Stores::in_memory();
    let first = job_of(&stores, "first", "first", Refuse);
    runs(&first).await;
    for mode in [Refuse, Overwrite] {
        let (_, reason, message) = fails(&job_of(&stores, "second", "second", mode)).await;
        assert_eq!(reason, FailureReason::PlanFailed);
        assert_eq!(
            message,
            "spec.pipeline.sink.files.path: another job has begun to write to s3://o/out and has not ended (got s3://o/out/_STARTED.json of job ns/first, uid first), and its folder is not taken over because its last sign of life is 0 min old, and 60 min of silence are needed; wait for its end, write to another folder or, only if nothing of that job runs any more, remove that file: `aws s3 rm 's3://o/out/_STARTED.json'`"
        );
    }
    put(&stores, "s3://o/out/part-0.jsonl", b"half".to_vec()).await;
    give_up(&first.output()).await.unwrap();
    let (_, _, message) = fails(&job_of(&stores, "third", "third", Refuse)).await;
    assert!(message.contains("s3://o/out/part-0.jsonl"), "{message}");
    runs(&job_of(&stores, "fourth", "fourth", Overwrite)).await;
    // When a coordinator of the first job starts again, it finds that another job holds the folder.
    let (_, _, message) = fails(&first).await;
    let told = "another job has taken s3://o/out since this one claimed it (got s3://o/out/_STARTED.json of job ns/fourth, uid fourth)";
    assert!(message.contains(told), "{message}");
    // Another job of the same name continues in the folder of the earlier one.
    runs(&job_of(&stores, "fifth", "fourth", Overwrite)).await;
    let (_, _, message) = fails(&job_of(&stores, "sixth", "fourth", Refuse)).await;
    assert!(message.contains("set Overwrite to continue"), "{message}");
}

#[tokio::test]
async fn a_job_that_cannot_be_planned_holds_no_folder() {
    let stores = Stores::in_memory();
    put(&stores, "s3://o/out/part-0.jsonl", b"old".to_vec()).await;
    let refused = job_of(&stores, "a", "a", SinkMode::Refuse);
    for _ in 0..2 {
        let (_, reason, message) = fails(&refused).await;
        assert_eq!(reason, FailureReason::PlanFailed);
        assert!(message.contains("s3://o/out/part-0.jsonl"), "{message}");
    }
    runs(&job_of(&stores, "b", "b", SinkMode::Overwrite)).await;
}

#[tokio::test]
async fn files_of_an_unknown_format_are_named_before_a_task_runs() {
    let stores = Stores::in_memory();
    for uri in ["s3://in/d/a.jsonl", "s3://in/d/b.csv", "s3://in/d/c"] {
        put(&stores, uri, "1\n").await;
    }
    let pattern = json!({"files": {"paths": ["s3://in/d/*"]}});
    let (_, _, message) = fails(&job_reading(stores.clone(), &pattern)).await;
    assert_eq!(
        message,
        "spec.pipeline.source.files.paths: the extension of 2 of 3 files does not imply a format (got s3://in/d/b.csv, s3://in/d/c); .jsonl, .ndjson, .txt or .text, before .gz or .zst if compressed, or set spec.pipeline.source.files.format"
    );
    let told = json!({"files": {"paths": ["s3://in/d/*"], "format": "jsonl"}});
    runs(&job_reading(
        Stores::in_memory(),
        &json!({"files": {"paths": ["s3://in/*"], "emptyOk": true}}),
    ))
    .await;
    let other = Stores::in_memory();
    put(&other, "s3://in/d/b.csv", "1\n").await;
    runs(&job_reading(other, &told)).await;
}

#[tokio::test]
async fn a_sink_that_cannot_be_read_is_named_with_its_field() {
    let denied: Tricks = Arc::new(|_, _| Box::pin(std::future::ready(Trick::Deny)));
    let inner = Arc::new(InMemory::new());
    let sink = tricky(&inner, denied)
        .open(&Location::parse("s3://b/x").unwrap())
        .unwrap();
    let job = job(Stores::in_memory().with_store("s3://o", sink));
    let (_, reason, message) = fails(&job).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert!(
        message.starts_with(
            "spec.pipeline.sink.files.path: reading s3://o/out/_SUCCESS.json: access denied: "
        ),
        "{message}"
    );
}

fn final_file(shard: u32) -> OutputFile {
    let place = zephyr_engine::coordinator::record::FinalPlace::Multipart {
        uri: format!("s3://o/out/part-{shard}.jsonl"),
        upload: format!("upload {shard}"),
        parts: vec!["p".to_owned()],
    };
    OutputFile {
        rows: 1,
        bytes: 1,
        crc32c: 0,
        place: place.into(),
    }
}

#[test]
fn uploads_that_the_ledger_names_are_left_until_they_are_completed_or_lost() {
    let done = |shard, number| {
        let task = TaskId {
            stage: StageId(1),
            shard: ShardId(shard),
        };
        let attempt = Attempt {
            epoch: Epoch(1),
            number,
        };
        TaskAttempt { task, attempt }
    };
    let record = |shard, place: OutputFile| LogRecord::Done {
        task: done(shard, 1),
        output: zephyr_engine::coordinator::record::TaskOutput {
            file: place,
            records_in: 1,
            bytes_in: 1,
            more: None,
        },
    };
    let shuffle = OutputFile {
        place: zephyr_engine::coordinator::record::FilePlace::Shuffle,
        ..final_file(0)
    };
    let records = [
        record(0, final_file(0)),
        record(1, final_file(1)),
        record(2, final_file(2)),
        record(3, shuffle),
        LogRecord::Finalized {
            task: done(0, 1).task,
        },
        LogRecord::Revoked { task: done(1, 1) },
    ];
    assert_eq!(uncompleted_files(&records), [final_file(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_ledger_was_removed_is_not_run_a_second_time() {
    let job = job(Stores::in_memory());
    let result = JobResult::Failed {
        reason: FailureReason::TaskFailed,
        message: "m".to_owned(),
    };
    let Runnable { mut ledger, .. } = *runs(&job).await;
    ledger.append(&[LogRecord::Result(result)]).await.unwrap();
    let marker = zephyr_store::reclaim::Marker::new(
        &job.storage,
        "ns/name".to_owned(),
        "TaskFailed".to_owned(),
        None,
    );
    zephyr_store::reclaim::mark(&job.storage, &marker)
        .await
        .unwrap();
    // The ledger with the result is complete, and shows how the job ended.
    assert_eq!(fails(&job).await.1, FailureReason::TaskFailed);
    zephyr_store::storage::remove_chosen(&job.stores, job.storage.root(), |path| {
        path != "ended.json"
    })
    .await
    .unwrap();
    for _ in 0..2 {
        let (_, reason, message) = fails(&job).await;
        assert_eq!(reason, FailureReason::LedgerDamaged);
        let told = format!(
            "spec.storage.uri: the ledger of this job was removed (got {FOLDER}/ended.json without a result in the ledger)"
        );
        assert!(message.starts_with(&told), "{message}");
    }
    assert!(load_plan(&job.storage, false).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_without_a_ledger_reads_its_result_from_its_manifest() {
    let job = job(Stores::in_memory());
    let totals = json!({"files": 1, "rows": 1, "bytes": 1});
    let manifest = json!({"version": 1, "jobUid": "uid", "files": [], "totals": totals});
    let manifest = manifest.to_string().into_bytes();
    put(&job.stores, "s3://o/out/_SUCCESS.json", manifest).await;
    for _ in 0..2 {
        let Planned::Ended { result, .. } = begin(&job).await else {
            panic!("it runs")
        };
        let expected = JobResult::Succeeded {
            files: 1,
            rows: 1,
            bytes: 1,
            manifest: "s3://o/out/_SUCCESS.json".to_owned(),
        };
        assert_eq!(result, expected);
    }
}

#[tokio::test]
async fn a_sink_that_cannot_be_listed_is_reported_with_what_is_needed() {
    let inner = Arc::new(InMemory::new());
    let no_lists: Tricks = Arc::new(|call, _| {
        let trick = if call == "list" {
            Trick::Deny
        } else {
            Trick::Pass
        };
        Box::pin(std::future::ready(trick))
    });
    let sink = tricky(&inner, no_lists)
        .open(&Location::parse("s3://b/x").unwrap())
        .unwrap();
    let (_, _, message) = fails(&job(Stores::in_memory().with_store("s3://o", sink))).await;
    let told = "spec.pipeline.sink.files.path: listing s3://o/out: access denied: ";
    let needed = "; the credentials must allow listing the folder, so that nothing in it is overwritten unnoticed";
    assert!(
        message.starts_with(told) && message.ends_with(needed),
        "{message}"
    );
}

/// Returns a job that reads these files and writes to `sink`.
fn reading(stores: &Stores, paths: &[&str], sink: &str, steps: &serde_json::Value) -> Arc<RunJob> {
    let mut spec = serde_json::to_value(&job(stores.clone()).frozen.spec).unwrap();
    spec["pipeline"] = json!({
        "source": {"files": {"paths": paths}},
        "steps": steps,
        "sink": {"files": {"path": sink}},
    });
    let before = job(stores.clone());
    let frozen = FrozenJob {
        spec: serde_json::from_value(spec).unwrap(),
        ..before.frozen.clone()
    };
    Arc::new(RunJob {
        stores: stores.clone(),
        storage: before.storage.clone(),
        ..RunJob::new(frozen).unwrap()
    })
}

#[tokio::test]
async fn shards_of_one_name_end_the_job_before_a_plan_is_kept() {
    let group = json!([{"groupBy": {"key": ".", "aggregate": {"n": {"count": {}}}, "shards": 3}}]);
    for (sink, steps) in [
        ("s3://o/out/all.jsonl", json!([])),
        ("s3://o/out/of-{total}.jsonl", json!([])),
        ("s3://o/out/all.jsonl", group),
    ] {
        let stores = Stores::in_memory();
        for name in ["a", "b", "c"] {
            put(&stores, &format!("s3://i/in/{name}.jsonl"), "1\n").await;
        }
        let (_, reason, message) = fails(&reading(&stores, &["s3://i/in/*"], sink, &steps)).await;
        assert_eq!(reason, FailureReason::PlanFailed);
        let name = sink.replace("{total}", "3");
        assert_eq!(
            message,
            format!(
                "spec.pipeline.sink.files.path: gives shards 0 and 1 of 3 the same name, {name} (got {sink}); put {{shard}} or {{shard:05}} into the name of the file"
            )
        );
        let plan = Location::parse(&format!("{FOLDER}/plan.json")).unwrap();
        assert!(fetch(&stores, &plan).await.is_err(), "a plan was kept");
    }
}

#[tokio::test]
async fn output_that_is_an_input_ends_the_job_before_a_plan_is_kept() {
    let stores = Stores::in_memory();
    let paths = ["s3://i/part-00000.jsonl", "s3://i/part-00001.jsonl"];
    for path in paths {
        put(&stores, path, "1\n").await;
    }
    let sink = "s3://i/part-{shard:05}.jsonl";
    let (_, reason, message) = fails(&reading(&stores, &paths, sink, &json!([]))).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert!(
        message.starts_with("spec.pipeline.sink.files.path: s3://i/part-00000.jsonl is the input s3://i/part-00000.jsonl (got "),
        "{message}"
    );
    let stores = Stores::in_memory();
    for path in paths {
        put(&stores, path, "1\n").await;
    }
    let sink = "s3://i/of-{shard}.jsonl";
    runs(&reading(&stores, &paths, sink, &json!([]))).await;
}

#[tokio::test]
async fn input_that_overwrite_would_remove_as_older_output_is_refused() {
    let stores = Stores::in_memory();
    let input = "s3://i/old-0.jsonl";
    put(&stores, input, "1\n").await;
    let listed = json!({"uri": input, "rows": 1, "bytes": 2, "crc32c": "00000000"});
    let manifest = json!({"version": 1, "jobUid": "before", "job": "ns/before", "files": [listed]});
    put(&stores, "s3://i/_SUCCESS.json", manifest.to_string()).await;
    let job = reading(&stores, &[input], "s3://i/new-{shard}.jsonl", &json!([]));
    let mut overwriting = RunJob::clone(&job);
    overwriting.frozen.spec.pipeline.sink.files.mode = zephyr_crds::pipeline::SinkMode::Overwrite;
    let (_, reason, message) = fails(&Arc::new(overwriting)).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert_eq!(
        message,
        "spec.pipeline.sink.files.mode: Overwrite removes the input s3://i/old-0.jsonl, which the _SUCCESS.json of the output's folder lists (got s3://i/new-{shard}.jsonl); output must not replace input, write to another folder"
    );
}
