//! Tests of a job that continues an exported job: it begins with what was complete, and the
//! exported job cannot run any more. If several jobs continue the same job, only one of them gets
//! the work.

use zephyr_crds::frozen::FrozenRestart;
use zephyr_crds::life::RestoreFrom;
use zephyr_engine::coordinator::record::{Restart, restart_of};
use zephyr_store::export::{Exported, archive_object, export, keep_archive};
use zephyr_store::ledger::{Owner, inspect, read_moves};
use zephyr_store::storage::{Sign, fetch, touch};

use super::*;

const SOURCE: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";

/// A job with two records, which ran in its second generation and was suspended.
async fn suspended(stores: &Stores) -> Arc<RunJob> {
    let job = job_of(stores, SOURCE, "old", SinkMode::Refuse);
    let Runnable { mut ledger, .. } = *runs(&job).await;
    ledger.append(&[fact(0), fact(1)]).await.unwrap();
    job
}

/// Exports a job, and returns the digest of the archive.
async fn exported(job: &RunJob, uid: &str) -> String {
    let of = Exported {
        owner: Owner {
            uid: uid.to_owned(),
            namespace: "ns".to_owned(),
            name: job.frozen.name.clone(),
        },
        generation: 2,
        manifest: b"{}".to_vec(),
        history: b"{}".to_vec(),
    };
    let made = export(&job.storage, of).await.unwrap();
    keep_archive(&job.storage, &made).await.unwrap();
    made.digest
}

/// A job of another cluster, which continues the source.
fn continuing(stores: &Stores, uid: &str, digest: &str) -> Arc<RunJob> {
    let mut frozen = job_of(stores, uid, "new", SinkMode::Refuse).frozen.clone();
    frozen.spec.restore_from = Some(RestoreFrom {
        job: SOURCE.to_owned(),
        digest: digest.to_owned(),
    });
    of_frozen(stores, frozen)
}

fn of_frozen(stores: &Stores, frozen: FrozenJob) -> Arc<RunJob> {
    let folder = JobUid::parse(SOURCE).unwrap();
    Arc::new(RunJob {
        stores: stores.clone(),
        storage: JobStorage::new(stores.clone(), "s3://b/jobs", folder).unwrap(),
        ..RunJob::new(frozen).unwrap()
    })
}

/// Says in the folder that its job is suspended.
async fn suspend_sign(job: &RunJob) {
    touch(&job.storage, Sign::Suspended).await.unwrap();
}

/// What the sign of life in the folder says.
async fn sign(job: &RunJob) -> &'static str {
    let location = job.storage.at("probe").unwrap();
    let bytes = fetch(&job.stores, &location).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    if text.contains("suspended") {
        "suspended"
    } else {
        "alive"
    }
}

/// The message of a job that may not use the folder. It has not changed anything there.
async fn is_refused(job: &Arc<RunJob>) -> String {
    let before = inspect(&job.storage).await.unwrap();
    let moves = read_moves(&job.storage).await.unwrap();
    suspend_sign(job).await;
    let Planned::Refused { epoch, result } = begin(job).await else {
        panic!("it is not refused");
    };
    assert_eq!(inspect(&job.storage).await.unwrap(), before);
    assert_eq!(read_moves(&job.storage).await.unwrap(), moves);
    assert_eq!(sign(job).await, "suspended", "the sign of life");
    assert!(epoch >= before.0.max(Epoch(1)));
    match result {
        JobResult::Failed { reason, message } => {
            assert_eq!(reason, FailureReason::PlanFailed);
            message
        }
        JobResult::Succeeded { .. } => panic!("it has succeeded"),
    }
}

async fn claim_of(stores: &Stores) -> String {
    let location = Location::parse("s3://o/out/_STARTED.json").unwrap();
    let bytes = fetch(stores, &location).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_job_continues_an_exported_one_which_cannot_run_any_more() {
    let stores = Stores::in_memory();
    let source = suspended(&stores).await;
    let digest = exported(&source, SOURCE).await;
    let new = continuing(&stores, "new-uid", &digest);
    let Runnable { records, epoch, .. } = *runs(&new).await;
    assert_eq!(records, [fact(0), fact(1)]);
    assert_eq!(epoch, Epoch(2));
    assert!(claim_of(&stores).await.contains("\"name\": \"new\""));

    let message = is_refused(&source).await;
    assert_eq!(
        message,
        "spec.storage.uri: another job has taken over the work of this job (got job ns/new, uid new-uid, which names it in spec.restoreFrom); continue that job, or create a new one"
    );
    let message = is_refused(&continuing(&stores, "third", &digest)).await;
    assert_eq!(
        message,
        "spec.restoreFrom: the exported job was taken over before (got job ns/new, uid new-uid); an archive is imported once"
    );
    // The next coordinators of the new job go on.
    let Runnable { records, epoch, .. } = *runs(&new).await;
    assert_eq!((records.len(), epoch), (2, Epoch(3)));

    // It can be moved again.
    let digest = exported(&new, "new-uid").await;
    let newest = continuing(&stores, "newest", &digest);
    runs(&newest).await;
    let message = is_refused(&new).await;
    assert!(message.contains("(got job ns/new, uid newest"), "{message}");
    let moves = read_moves(&source.storage).await.unwrap();
    let generations: Vec<u32> = moves.iter().map(|one| one.generations).collect();
    assert_eq!(generations, [2, 4]);
}

#[tokio::test]
async fn the_output_moves_in_both_modes_and_with_each_rule_for_intermediate_data() {
    use zephyr_crds::job::Retain;
    for mode in [SinkMode::Refuse, SinkMode::Overwrite] {
        for retain in [Retain::Never, Retain::OnFailure, Retain::Always] {
            let stores = Stores::in_memory();
            let source = job_of(&stores, SOURCE, "old", mode);
            let Runnable { mut ledger, .. } = *runs(&source).await;
            ledger.append(&[fact(0)]).await.unwrap();
            let digest = exported(&source, SOURCE).await;
            let mut frozen = continuing(&stores, "new-uid", &digest).frozen.clone();
            frozen.spec.pipeline.sink.files.mode = mode;
            frozen.spec.storage.retain = retain;
            let new = of_frozen(&stores, frozen);
            let Runnable { records, .. } = *runs(&new).await;
            assert_eq!(records, [fact(0)]);
            assert!(claim_of(&stores).await.contains("\"name\": \"new\""));
            is_refused(&source).await;
        }
    }
}

#[tokio::test]
async fn a_restart_counts_although_the_new_job_begins_with_generation_1() {
    let stores = Stores::in_memory();
    let source = suspended(&stores).await;
    let mut again = RunJob::clone(&source);
    again.frozen.generation = 2;
    again.frozen.restart = Some(FrozenRestart {
        token: "a".to_owned(),
        generation: 2,
    });
    runs(&Arc::new(again)).await;
    let digest = exported(&source, SOURCE).await;
    let new = continuing(&stores, "new-uid", &digest);
    runs(&new).await;
    let mut frozen = new.frozen.clone();
    frozen.generation = 2;
    frozen.restart = Some(FrozenRestart {
        token: "b".to_owned(),
        generation: 2,
    });
    let Runnable { records, .. } = *runs(&of_frozen(&stores, frozen)).await;
    let expected = Restart {
        token: "b".to_owned(),
        generation: 4,
    };
    assert_eq!(restart_of(&records), Some(&expected));
}

#[tokio::test]
async fn an_archive_that_is_not_the_state_of_the_job_is_refused_and_nothing_changes() {
    let stores = Stores::in_memory();
    let source = suspended(&stores).await;
    let digest = exported(&source, SOURCE).await;
    let missing = "0123456789abcdef0123456789abcdef";
    let message = is_refused(&continuing(&stores, "new", missing)).await;
    let words = format!("there is no archive of this digest (got {missing})");
    assert!(message.contains(&words), "{message}");

    let mut frozen = continuing(&stores, "new", &digest).frozen.clone();
    let items = json!({"items": {"values": [1, 2, 3]}});
    frozen.spec.pipeline.source = serde_json::from_value(items).unwrap();
    let message = is_refused(&of_frozen(&stores, frozen)).await;
    let words = "plan.json was made from another pipeline";
    assert!(message.starts_with(words), "{message}");

    // The job was resumed after its export.
    runs(&source).await;
    let message = is_refused(&continuing(&stores, "new", &digest)).await;
    assert_eq!(
        message,
        "spec.restoreFrom.digest: job ns/old has run since it was exported (got epoch 2 with 2 records); the archive has epoch 1 with 2 records: suspend the job and export it again"
    );

    let digest = exported(&source, SOURCE).await;
    let archive = archive_object(&source.storage, &digest).unwrap();
    put(&stores, &archive.to_string(), b"damaged".to_vec()).await;
    let message = is_refused(&continuing(&stores, "new", &digest)).await;
    assert!(message.contains("it is damaged"), "{message}");
    runs(&source).await;
}

#[tokio::test(start_paused = true)]
async fn an_import_that_ends_after_any_write_leaves_one_owner_and_all_records() {
    let mut cuts = 0;
    for writes in 0.. {
        let inner = Arc::new(InMemory::new());
        let stores = plain(&inner);
        let source = suspended(&stores).await;
        let digest = exported(&source, SOURCE).await;
        let cut = continuing(&both(&inner, until(writes)), "first", &digest);
        let (status, _shown) = watch::channel(Status::default());
        let limit = Duration::from_secs(30);
        let first = tokio::time::timeout(limit, prepare(&cut, &status)).await;
        let is_whole = matches!(&first, Ok(Ok(Planned::Runnable(_))));

        let moves = read_moves(&source.storage).await.unwrap();
        let is_taken = !moves.is_empty();
        let other = continuing(&stores, "second", &digest);
        let again = continuing(&stores, "first", &digest);
        let (owner, losers) = if is_taken {
            (again, [source, other])
        } else {
            (other, [source, again])
        };
        let Runnable { records, .. } = *runs(&owner).await;
        assert_eq!(records, [fact(0), fact(1)], "after {writes} writes");
        for loser in losers {
            is_refused(&loser).await;
        }
        if is_whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 4, "{cuts}");
}

#[tokio::test]
async fn a_source_that_is_resumed_during_the_import_is_refused_after_it_opened_an_epoch() {
    let inner = Arc::new(InMemory::new());
    let stores = plain(&inner);
    let source = suspended(&stores).await;
    let digest = exported(&source, SOURCE).await;
    let new = continuing(&stores, "new-uid", &digest);
    // The import takes place between the first look of the source and its epoch.
    let import = Arc::clone(&new);
    let races: Tricks = Arc::new(move |call, path| {
        let is_opening = call == "put" && path.as_ref().ends_with("epochs/2/open");
        let import = Arc::clone(&import);
        Box::pin(async move {
            if is_opening {
                runs(&import).await;
            }
            Trick::Pass
        })
    });
    let resumed = job_of(&both(&inner, races), SOURCE, "old", SinkMode::Refuse);
    let Planned::Refused { epoch, result } = begin(&resumed).await else {
        panic!("it is not refused");
    };
    assert_eq!(epoch, Epoch(3));
    assert!(format!("{result:?}").contains("uid new-uid"), "{result:?}");
    let Runnable { records, .. } = *runs(&new).await;
    assert_eq!(records, [fact(0), fact(1)]);
}
