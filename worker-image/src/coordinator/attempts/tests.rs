//! Tests of when ended attempts are written, and of a store that does not accept them.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::json;
use zephyr_crds::frozen::FrozenJob;
use zephyr_engine::coordinator::Ending;
use zephyr_engine::coordinator::uncharged::Uncharged;
use zephyr_engine::id::{Attempt, JobUid, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_store::attempts::{ReadAttempts, read_attempts};
use zephyr_store::storage::{JobStorage, Stores};

use super::*;
use crate::fixtures::tricky::{Trick, Tricks, tricky};

const UID: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";

/// A coordinator's attempts over a store that accepts writes, or not.
struct History {
    attempts: Attempts,
    storage: JobStorage,
    is_away: Arc<AtomicBool>,
}

fn frozen() -> FrozenJob {
    let job = json!({
        "version": 1, "namespace": "test", "name": "count", "uid": UID, "generation": 4,
        "coordinatorAddress": "http://127.0.0.1:1",
        "spec": {
            "pipeline": {
                "source": {"items": {"values": [1]}},
                "sink": {"files": {"path": "s3://b/o-{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://b/jobs"},
            "workers": {"replicas": 1},
        },
    });
    FrozenJob::from_json(&job.to_string()).unwrap()
}

fn over(is_local: bool) -> History {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    let tricks: Tricks = Arc::new(move |call: &'static str, _: &Path| {
        let fails = call == "put" && away.load(Ordering::Relaxed);
        async move { if fails { Trick::Fail } else { Trick::Pass } }.boxed()
    });
    let stores: Stores = tricky(&Arc::new(InMemory::new()), tricks);
    let uid = JobUid::parse(UID).unwrap();
    let storage = JobStorage::new(stores.clone(), "s3://b/jobs", uid).unwrap();
    let job = RunJob {
        stores,
        storage: storage.clone(),
        is_local,
        ..RunJob::new(frozen()).unwrap()
    };
    let attempts = Attempts::new(Arc::new(job), Epoch(3), SystemTime::UNIX_EPOCH);
    History {
        attempts,
        storage,
        is_away,
    }
}

fn ended(shard: u32) -> EndedAttempt {
    EndedAttempt {
        task: TaskAttempt {
            task: TaskId {
                stage: StageId(0),
                shard: ShardId(shard),
            },
            attempt: Attempt {
                epoch: Epoch(2),
                number: 5,
            },
        },
        pod_uid: "pod".to_owned(),
        ordinal: Some(7),
        started: Some(Timestamp(1)),
        ended: Timestamp(61_002),
        ending: Ending::WorkerLost,
        records: 9,
        bytes: None,
        error: "why".to_owned(),
    }
}

impl History {
    /// Time passes, as the coordinator's loop sees it.
    async fn passes(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let tick = (Instant::now() + Duration::from_millis(200)).min(end);
            tokio::select! {
                biased;
                () = self.attempts.written() => continue,
                () = tokio::time::sleep_until(tick) => self.attempts.write_if_due(),
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    async fn shards(&self) -> (Vec<u32>, ReadAttempts) {
        let mut shards = Vec::new();
        let read = read_attempts(&self.storage, |line| shards.push(line.shard)).await;
        (shards, read.unwrap())
    }

    async fn count(&self) -> usize {
        self.shards().await.0.len()
    }

    fn end(&mut self, shards: std::ops::Range<u32>) {
        self.attempts.add(shards.map(ended).collect());
    }
}

#[test]
fn the_documentation_says_when_attempts_are_written() {
    let page = include_str!("../../../../docs/plugin.md").replace(['\n', ','], " ");
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let seconds = INTERVAL.as_secs();
    let thousands = |count: usize| format!("{} {:03}", count / 1_000, count % 1_000);
    let often = format!(
        "every {seconds} s or when there are {} and",
        thousands(ENOUGH)
    );
    let most = format!(
        "At most {} attempts wait for a write",
        thousands(MAX_WAITING)
    );
    assert!(words.contains(&often), "{often}");
    assert!(words.contains(&most), "{most}");
    let told = Uncharged::AttemptHistory.row().bound;
    let bound =
        format!("every {seconds} s until the job's end; {MAX_WAITING} attempts wait at most");
    assert_eq!(told, bound);
}

#[tokio::test(start_paused = true)]
async fn a_line_names_the_pod_and_has_the_times_of_the_calendar() {
    let mut history = over(false);
    history.end(0..1);
    history.passes(INTERVAL * 2).await;
    let mut lines = Vec::new();
    let read = read_attempts(&history.storage, |line| lines.push(line)).await;
    assert_eq!(read.unwrap(), ReadAttempts::default());
    let expected = AttemptLine {
        stage: 1,
        shard: 0,
        epoch: 2,
        attempt: 5,
        worker: "count-workers-g4-7".to_owned(),
        pod_uid: "pod".to_owned(),
        started: Some("1970-01-01T00:00:00.001Z".to_owned()),
        ended: "1970-01-01T00:01:01.002Z".to_owned(),
        outcome: "WorkerLost".to_owned(),
        records_read: 9,
        bytes_read: None,
        bytes_written: None,
        error: "why".to_owned(),
    };
    assert_eq!(lines, [expected]);
}

#[tokio::test(start_paused = true)]
async fn few_attempts_wait_for_others_and_many_are_written_at_once() {
    let mut history = over(false);
    history.end(0..1);
    history.passes(Duration::from_secs(9)).await;
    assert_eq!(history.count().await, 0);
    history.end(1..3);
    history.passes(Duration::from_secs(2)).await;
    assert_eq!(history.shards().await.0, [0, 1, 2]);
    history.end(0..u32::try_from(ENOUGH).unwrap());
    history.passes(Duration::from_millis(1)).await;
    assert_eq!(history.count().await, 3 + ENOUGH);
    // What ends while a write runs begins the next one.
    history.end(0..u32::try_from(ENOUGH).unwrap());
    history.end(0..u32::try_from(ENOUGH).unwrap());
    history.passes(Duration::from_secs(1)).await;
    assert_eq!(history.count().await, 3 + 3 * ENOUGH);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_drains_writes_what_ends_without_waiting() {
    let mut history = over(false);
    history.end(0..1);
    history.attempts.hurry(true);
    history.passes(Duration::from_millis(1)).await;
    assert_eq!(history.count().await, 1);
    history.end(1..2);
    history.end(2..3);
    history.passes(Duration::from_millis(1)).await;
    assert_eq!(history.count().await, 3);
    history.attempts.hurry(false);
    history.end(3..4);
    history.passes(Duration::from_secs(1)).await;
    assert_eq!(history.count().await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_store_does_not_accept_is_written_later_and_what_is_too_much_is_counted() {
    let mut history = over(false);
    history.is_away.store(true, Ordering::Relaxed);
    let all = u32::try_from(MAX_WAITING + MAX_ATTEMPTS_PER_OBJECT).unwrap();
    history.end(0..1);
    history.passes(INTERVAL * 3).await;
    history.end(1..all);
    history.passes(INTERVAL * 60).await;
    history.end(all..all + 10);
    assert_eq!(history.count().await, 0);
    history.is_away.store(false, Ordering::Relaxed);
    history.passes(INTERVAL * 30).await;
    let (shards, read) = history.shards().await;
    let kept = u32::try_from(MAX_WAITING + 1).unwrap();
    assert_eq!(shards, (0..kept).collect::<Vec<u32>>());
    let dropped = u64::from(all + 10 - kept);
    assert_eq!(
        (read.dropped, read.problems),
        (dropped, Vec::<String>::new())
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_writes_everything_and_then_nothing_more() {
    let mut history = over(false);
    history.is_away.store(true, Ordering::Relaxed);
    history.end(0..2);
    history.passes(INTERVAL * 2).await;
    history.end(2..4);
    history.is_away.store(false, Ordering::Relaxed);
    history.attempts.close().await;
    assert_eq!(history.shards().await.0, [0, 1, 2, 3]);
    history.end(4..6);
    history.passes(INTERVAL * 2).await;
    assert_eq!(history.count().await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_the_end_delays_it_only_for_a_limited_time() {
    let mut history = over(false);
    history.is_away.store(true, Ordering::Relaxed);
    history.end(0..u32::try_from(MAX_WAITING).unwrap());
    let began = Instant::now();
    history.attempts.close().await;
    assert_eq!(began.elapsed(), LAST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_run_on_one_machine_writes_nothing() {
    let mut history = over(true);
    history.end(0..u32::try_from(ENOUGH).unwrap());
    history.passes(INTERVAL * 2).await;
    history.attempts.close().await;
    assert_eq!(history.count().await, 0);
}
