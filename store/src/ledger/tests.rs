//! Tests of what the ledger promises: the next coordinator sees a commit, or the commit was never
//! acknowledged. In the tests, replies are lost, calls fail, the store gives false answers, and
//! coordinators race.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use zephyr_engine::coordinator::FailureReason;
use zephyr_engine::coordinator::record::{
    FailureClass, FilePlace, FinalPlace, JobResult, LogRecord, OutputFile, Restart, TaskOutput,
};
use zephyr_engine::id::{Epoch, JobUid, StageId};

use super::{Ledger, LedgerError, MergePolicy, TakeOver, WriterToken};
use crate::fixtures::attempts::first_attempt;
use crate::fixtures::tricky::{Trick, Tricks, tricky};
use crate::storage::{JobStorage, Location, Stores};

/// Returns the job's storage on this store, as one coordinator sees it.
fn storage(inner: &Arc<InMemory>, tricks: Tricks) -> JobStorage {
    JobStorage::new(
        tricky(inner, tricks),
        "s3://b/jobs",
        JobUid::parse("uid").unwrap(),
    )
    .unwrap()
}

fn no_tricks() -> Tricks {
    Arc::new(|_, _| Box::pin(std::future::ready(Trick::Pass)))
}

fn token(number: u128) -> WriterToken {
    WriterToken::from_random(number)
}

/// Takes over as a coordinator that merges its log after this number of objects.
async fn take_over(
    storage: &JobStorage,
    writer: u128,
    merge_after: u64,
) -> Result<TakeOver, LedgerError> {
    let policy = MergePolicy {
        objects: merge_after,
        ..MergePolicy::default()
    };
    Ledger::open(storage, token(writer))
        .await?
        .take_over(policy)
        .await
}

/// Makes a record that differs from those of all other shards.
fn fact(shard: u32) -> LogRecord {
    LogRecord::Revoked {
        task: first_attempt(0, shard),
    }
}

fn shards(records: &[LogRecord]) -> Vec<u32> {
    let shard = |record: &LogRecord| {
        let LogRecord::Revoked { task } = record else {
            panic!("{record:?}")
        };
        task.task.shard.0
    };
    records.iter().map(shard).collect()
}

fn every_kind_of_record() -> Vec<LogRecord> {
    let file = |place| OutputFile {
        rows: 3,
        bytes: u64::MAX,
        crc32c: u32::MAX,
        place,
    };
    let done = |place| LogRecord::Done {
        task: first_attempt(0, 7),
        output: TaskOutput {
            file: file(place),
            records_in: 9,
            bytes_in: 8,
            more: None,
        },
    };
    vec![
        done(FilePlace::Shuffle),
        done(FilePlace::from(FinalPlace::Multipart {
            uri: "s3://o/é".to_owned(),
            upload: "u\"\n".to_owned(),
            parts: vec!["a".to_owned(), String::new()],
        })),
        done(FilePlace::from(FinalPlace::Staged {
            uri: "file:///o/x".to_owned(),
            staged: "file:///o/.x".to_owned(),
        })),
        LogRecord::Failed {
            task: first_attempt(0, 1),
            class: FailureClass::Deterministic,
            error: "line 3:\n\u{2028}no".to_owned(),
        },
        LogRecord::Failed {
            task: first_attempt(0, 1),
            class: FailureClass::Application,
            error: String::new(),
        },
        LogRecord::Failed {
            task: first_attempt(0, 1),
            class: FailureClass::TimedOut,
            error: String::new(),
        },
        LogRecord::Failed {
            task: first_attempt(0, 1),
            class: FailureClass::Disruption,
            error: String::new(),
        },
        LogRecord::Revoked {
            task: first_attempt(0, 2),
        },
        LogRecord::StageFinished {
            stage: StageId(4),
            outputs: "p".to_owned(),
        },
        LogRecord::Finalized {
            task: first_attempt(0, 3).task,
        },
        LogRecord::Result(JobResult::Succeeded {
            files: 1,
            rows: 2,
            bytes: 3,
            manifest: "m".to_owned(),
        }),
        LogRecord::Result(JobResult::Failed {
            reason: FailureReason::TaskFailed,
            message: "why".to_owned(),
        }),
        LogRecord::Restarted(Restart {
            token: "after more memory".to_owned(),
            generation: 7,
        }),
    ]
}

#[tokio::test]
async fn a_successor_reads_every_kind_of_record_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for uri in [
        "s3://b/jobs".to_owned(),
        format!("file://{}/jobs", folder.path().display()),
    ] {
        let storage =
            JobStorage::new(Stores::in_memory(), &uri, JobUid::parse("uid").unwrap()).unwrap();
        let mut first = Ledger::take_over(&storage, token(1)).await.unwrap();
        assert_eq!((first.epoch, first.records.len()), (Epoch(1), 0));
        first.ledger.append(&every_kind_of_record()).await.unwrap();
        first.ledger.append(&[]).await.unwrap();
        first.ledger.append(&[fact(1)]).await.unwrap();

        let mut second = Ledger::take_over(&storage, token(2)).await.unwrap();
        let expected = [every_kind_of_record(), vec![fact(1)]].concat();
        assert_eq!((second.epoch, &second.records), (Epoch(2), &expected));
        second.ledger.append(&[fact(2)]).await.unwrap();
        let third = Ledger::take_over(&storage, token(3)).await.unwrap();
        assert_eq!(third.records, [expected, vec![fact(2)]].concat());

        for fenced in [&mut first, &mut second] {
            assert!(matches!(
                fenced.ledger.append(&[fact(9)]).await,
                Err(LedgerError::Fenced { .. })
            ));
        }
    }
}

#[tokio::test]
async fn a_log_longer_than_what_is_fetched_ahead_is_read_whole() {
    let storage = storage(&Arc::new(InMemory::new()), no_tricks());
    let mut first = Ledger::take_over(&storage, token(1)).await.unwrap();
    for shard in 0..100 {
        first.ledger.append(&[fact(shard)]).await.unwrap();
    }
    let second = Ledger::take_over(&storage, token(2)).await.unwrap();
    assert_eq!(shards(&second.records), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_log_is_merged_and_a_successor_reads_few_objects_and_writes_only_what_is_new() {
    let inner = Arc::new(InMemory::new());
    let plain = storage(&inner, no_tricks());
    let mut first = take_over(&plain, 1, 10).await.unwrap();
    for shard in 0..95 {
        first.ledger.append(&[fact(shard)]).await.unwrap();
    }
    let gets = Arc::new(AtomicUsize::new(0));
    let tricks: Tricks = {
        let gets = Arc::clone(&gets);
        Arc::new(move |call, _| {
            gets.fetch_add(usize::from(call == "get"), Ordering::SeqCst);
            Box::pin(std::future::ready(Trick::Pass))
        })
    };
    let counted = storage(&inner, tricks);
    let mut second = take_over(&counted, 2, 10).await.unwrap();
    assert_eq!(shards(&second.records), (0..95).collect::<Vec<_>>());
    // These are a snapshot, nine merged objects, five log objects, and requests for objects that do
    // not exist.
    let read = gets.load(Ordering::SeqCst);
    assert!(read < 15 + 20, "{read} reads");
    let written = |epoch| {
        let folder = plain.at(&format!("epochs/{epoch}/merged")).unwrap();
        let inner = Arc::clone(&inner);
        async move {
            let listed = inner
                .list_with_delimiter(Some(folder.path()))
                .await
                .unwrap();
            listed.objects.len()
        }
    };
    assert_eq!((written(1).await, written(2).await), (9, 1));

    second.ledger.append(&[fact(95)]).await.unwrap();
    let third = take_over(&plain, 3, 10).await.unwrap();
    assert_eq!(shards(&third.records), (0..96).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_merged_object_that_is_missing_damaged_or_another_is_refused_by_name() {
    let inner = Arc::new(InMemory::new());
    let plain = storage(&inner, no_tricks());
    let mut first = take_over(&plain, 1, 2).await.unwrap();
    for shard in 0..4 {
        first.ledger.append(&[fact(shard)]).await.unwrap();
    }
    let object = |name: &str| plain.at(&format!("epochs/1/{name}")).unwrap();
    let (part, other) = (object("merged/0"), object("merged/1"));
    let read = |location: Location| {
        let inner = Arc::clone(&inner);
        async move {
            inner
                .get(location.path())
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap()
        }
    };
    let (good, foreign) = (read(part.clone()).await, read(other).await);
    for bytes in [&good[..good.len() - 1], &foreign, b""] {
        inner
            .put(part.path(), PutPayload::from(bytes.to_vec()))
            .await
            .unwrap();
        let error = take_over(&plain, 5, 2).await.unwrap_err().to_string();
        assert!(
            error.starts_with("s3://b/jobs/uid/epochs/1/merged/0: not a part of this job's ledger"),
            "{error}"
        );
    }
    inner.delete(part.path()).await.unwrap();
    let error = take_over(&plain, 5, 2).await.unwrap_err().to_string();
    assert!(
        error.contains("merged/0") && error.contains("is missing"),
        "{error}"
    );
    inner
        .put(part.path(), PutPayload::from(good))
        .await
        .unwrap();

    // A damaged snapshot is refused as well, and no older one is used instead.
    let snapshot = object("snapshots/4");
    inner
        .put(snapshot.path(), PutPayload::from_static(b"hello"))
        .await
        .unwrap();
    let error = take_over(&plain, 5, 2).await.unwrap_err().to_string();
    assert!(
        error.starts_with("s3://b/jobs/uid/epochs/1/snapshots/4:"),
        "{error}"
    );
    // A missing snapshot only costs reads.
    inner.delete(snapshot.path()).await.unwrap();
    let next = take_over(&plain, 6, 2).await.unwrap();
    assert_eq!(shards(&next.records), [0, 1, 2, 3]);
}

/// `make simulate SEED=11148`: one of a thousand merged objects was damaged in transit in each of
/// three take-overs, and the job ended with an error.
#[tokio::test]
async fn merged_objects_that_are_damaged_on_their_way_once_are_read_again_one_by_one() {
    let inner = Arc::new(InMemory::new());
    let mut first = take_over(&storage(&inner, no_tricks()), 1, 1)
        .await
        .unwrap();
    for shard in 0..8 {
        first.ledger.append(&[fact(shard)]).await.unwrap();
    }
    let read = Mutex::new(BTreeSet::new());
    let damaging: Tricks = Arc::new(move |call, path| {
        let is_part = call == "get" && path.as_ref().contains("/merged/");
        let is_damaged = is_part && read.lock().unwrap().insert(path.clone());
        let trick = if is_damaged {
            Trick::Damage
        } else {
            Trick::Pass
        };
        Box::pin(std::future::ready(trick))
    });
    let next = take_over(&storage(&inner, damaging), 2, 1).await.unwrap();
    assert_eq!(shards(&next.records), (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn lost_replies_errors_and_false_answers_change_nothing() {
    for seed in 0..60_u64 {
        let inner = Arc::new(InMemory::new());
        let random = Arc::new(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
        let tricks: Tricks = Arc::new(move |call, _| {
            let mut state = random.lock().unwrap();
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            let trick = match (*state >> 20) % 8 {
                0 => Trick::Fail,
                1 => Trick::LoseReply,
                2 if call == "put" => Trick::SayExists,
                3 if call == "put" => Trick::SayConflict,
                _ => Trick::Pass,
            };
            Box::pin(std::future::ready(trick))
        });
        let storage = storage(&inner, tricks);
        let mut expected = Vec::new();
        for epoch in 1..=3 {
            let mut coordinator = take_over(&storage, u128::from(epoch), seed % 4 + 1)
                .await
                .unwrap();
            assert_eq!(coordinator.epoch, Epoch(epoch), "seed {seed}");
            assert_eq!(coordinator.records, expected, "seed {seed}");
            for n in 0..5 {
                let record = fact(u32::try_from(epoch).unwrap() * 10 + n);
                coordinator
                    .ledger
                    .append(std::slice::from_ref(&record))
                    .await
                    .unwrap();
                expected.push(record);
            }
        }
    }
}

/// Runs one coordinator and, before or after its n-th call to the store, all of a second one. Then
/// runs a third one, which must read each acknowledged record exactly once and in order.
async fn race(interrupted_call: usize, before: bool, merge_after: u64) -> bool {
    let inner = Arc::new(InMemory::new());
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut old = take_over(&storage(&inner, no_tricks()), 1, merge_after)
        .await
        .unwrap();
    old.ledger.append(&[fact(1)]).await.unwrap();
    acknowledged.lock().unwrap().push(1);

    let calls = Arc::new(AtomicUsize::new(0));
    let tricks: Tricks = {
        let (inner, calls, acknowledged) = (
            Arc::clone(&inner),
            Arc::clone(&calls),
            Arc::clone(&acknowledged),
        );
        Arc::new(move |_, _| {
            // If the other coordinator runs after the call, the call was carried out but its answer
            // was lost. The other coordinator runs before the call is tried again.
            let call = calls.fetch_add(1, Ordering::SeqCst);
            let (inner, acknowledged) = (Arc::clone(&inner), Arc::clone(&acknowledged));
            Box::pin(async move {
                let second = async {
                    let plain = storage(&inner, no_tricks());
                    let mut second = take_over(&plain, 2, merge_after).await.unwrap();
                    for shard in [20, 21] {
                        second.ledger.append(&[fact(shard)]).await.unwrap();
                        acknowledged.lock().unwrap().push(shard);
                    }
                };
                let lose_reply = call == interrupted_call && !before;
                if call == interrupted_call + usize::from(!before) {
                    second.await;
                }
                if lose_reply {
                    Trick::LoseReply
                } else {
                    Trick::Pass
                }
            })
        })
    };
    let racing = storage(&inner, tricks);
    if let Ok(TakeOver { mut ledger, .. }) = take_over(&racing, 3, merge_after).await {
        for shard in [30, 31, 32] {
            match ledger.append(&[fact(shard)]).await {
                Ok(()) => acknowledged.lock().unwrap().push(shard),
                Err(LedgerError::Fenced { .. }) => break,
                Err(other) => panic!("call {interrupted_call}: {other}"),
            }
        }
    }
    // The oldest coordinator has been superseded.
    assert!(matches!(
        old.ledger.append(&[fact(9)]).await,
        Err(LedgerError::Fenced { .. })
    ));
    let last = Ledger::take_over(&storage(&inner, no_tricks()), token(4))
        .await
        .unwrap();
    let mut expected = acknowledged.lock().unwrap().clone();
    let mut seen = shards(&last.records);
    // A successor may see a record that was put but not acknowledged. There is none here, because
    // every append was answered.
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected, "call {interrupted_call}, before: {before}");
    calls.load(Ordering::SeqCst) > interrupted_call
}

#[tokio::test]
async fn fault_3459_two_coordinators_that_race_at_any_step_lose_and_double_no_acknowledged_record()
{
    for (before, merge_after) in [
        (true, 1),
        (false, 1),
        (true, 2),
        (false, 2),
        (true, 100),
        (false, 100),
    ] {
        let mut call = 0;
        while race(call, before, merge_after).await {
            call += 1;
        }
        assert!(call > 8, "only {call} calls were interrupted");
    }
}

#[tokio::test]
async fn an_epoch_that_died_before_its_snapshot_does_no_harm() {
    let inner = Arc::new(InMemory::new());
    let plain = storage(&inner, no_tricks());
    let mut first = Ledger::take_over(&plain, token(1)).await.unwrap();
    first.ledger.append(&[fact(1)]).await.unwrap();
    for dies_at in 1..8 {
        let calls = AtomicUsize::new(0);
        let tricks: Tricks = Arc::new(move |_, _| {
            let dead = calls.fetch_add(1, Ordering::SeqCst) >= dies_at;
            Box::pin(async move {
                if dead {
                    std::future::pending::<()>().await;
                }
                Trick::Pass
            })
        });
        let dying = storage(&inner, tricks);
        // From then on no call is answered. The take-over is dropped while it hangs.
        let hung = tokio::time::timeout(
            Duration::from_millis(30),
            Ledger::take_over(&dying, token(100)),
        )
        .await;
        drop(hung);
        let next = Ledger::take_over(&plain, token(200 + dies_at as u128))
            .await
            .unwrap();
        assert_eq!(shards(&next.records), [1], "died at call {dies_at}");
    }
}

#[tokio::test]
async fn an_append_with_an_unknown_result_is_settled_by_repeating_it() {
    for trick in [|| Trick::LoseReply, || Trick::Fail] {
        let inner = Arc::new(InMemory::new());
        let broken = Arc::new(Mutex::new(false));
        let tricks: Tricks = {
            let broken = Arc::clone(&broken);
            Arc::new(move |_, _| {
                Box::pin(std::future::ready(if *broken.lock().unwrap() {
                    trick()
                } else {
                    Trick::Pass
                }))
            })
        };
        let good = storage(&inner, tricks);
        let without_retries = JobStorage::new(
            good.stores().clone().with_retry_time(Duration::ZERO),
            "s3://b/jobs",
            good.job().clone(),
        )
        .unwrap();
        let mut first = Ledger::take_over(&without_retries, token(1)).await.unwrap();
        *broken.lock().unwrap() = true;
        assert!(matches!(
            first.ledger.append(&[fact(1)]).await,
            Err(LedgerError::Unavailable(_))
        ));
        *broken.lock().unwrap() = false;
        assert!(matches!(
            first.ledger.append(&[fact(2)]).await,
            Err(LedgerError::InDoubt)
        ));
        first.ledger.append(&[fact(1)]).await.unwrap();
        first.ledger.append(&[fact(2)]).await.unwrap();
        let second = Ledger::take_over(&good, token(2)).await.unwrap();
        assert_eq!(shards(&second.records), [1, 2]);
    }
}

#[tokio::test]
async fn fault_2974_an_object_that_is_damaged_or_of_another_job_is_refused_by_name() {
    let inner = Arc::new(InMemory::new());
    let plain = storage(&inner, no_tricks());
    let mut first = Ledger::take_over(&plain, token(1)).await.unwrap();
    first.ledger.append(&[fact(1)]).await.unwrap();
    let location = plain.at("epochs/1/log/0").unwrap();
    let good = inner
        .get(location.path())
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();

    let mut broken: Vec<Vec<u8>> = (0..good.len())
        .map(|at| [&good[..at], &[good[at] ^ 1], &good[at + 1..]].concat())
        .collect();
    broken.push(Vec::new());
    broken.push(good[..good.len() - 1].to_vec());
    broken.push(b"hello".to_vec());
    for bytes in broken {
        inner
            .put(location.path(), PutPayload::from(bytes.clone()))
            .await
            .unwrap();
        let error = Ledger::take_over(&plain, token(5)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("s3://b/jobs/uid/epochs/1/log/0: not a part of this job's ledger"),
            "{error}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let other = JobStorage::new(
        plain.stores().clone(),
        "s3://b/jobs",
        JobUid::parse("other").unwrap(),
    )
    .unwrap();
    Ledger::take_over(&other, token(1))
        .await
        .unwrap()
        .ledger
        .append(&[fact(1)])
        .await
        .unwrap();
    let foreign = inner
        .get(other.at("epochs/1/log/0").unwrap().path())
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    inner
        .put(location.path(), PutPayload::from(foreign))
        .await
        .unwrap();
    let error = Ledger::take_over(&plain, token(5)).await.unwrap_err();
    assert!(error.to_string().contains("of job other"), "{error}");
}

#[test]
fn a_location_under_the_job_is_its_own() {
    let plain = storage(&Arc::new(InMemory::new()), no_tricks());
    assert_eq!(
        plain.at("epochs/1/open").unwrap(),
        Location::parse("s3://b/jobs/uid/epochs/1/open").unwrap()
    );
}
