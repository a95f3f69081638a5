//! Records when each task was dispatched, and the resources of the coordinator's process. Changes
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zephyr_engine::id::{Epoch, StageId, TaskAttempt};

use crate::light::{Coordinator, Fleet, until};

/// Ticks per second in /proc/<process>/stat, on every current Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The times at which tasks of the first stage were dispatched.
pub(crate) struct Runs {
    began: Instant,
    /// Microseconds from the beginning until each task was last dispatched.
    last: Vec<AtomicU64>,
    newest_epoch: AtomicU64,
    first_of_epoch: Mutex<BTreeMap<Epoch, Instant>>,
}

impl Runs {
    pub(crate) fn of(tasks: u32) -> Self {
        Self {
            began: Instant::now(),
            last: (0..tasks).map(|_| AtomicU64::new(0)).collect(),
            newest_epoch: AtomicU64::new(0),
            first_of_epoch: Mutex::default(),
        }
    }

    /// A worker was asked to run this task.
    pub(crate) fn note(&self, task: TaskAttempt) {
        if task.task.stage != StageId(0) {
            return;
        }
        let now = Instant::now();
        let since = u64::try_from(now.duration_since(self.began).as_micros()).unwrap();
        self.last[task.task.shard.0 as usize].store(since, Ordering::Relaxed);
        let epoch = task.attempt.epoch;
        if epoch.0 > self.newest_epoch.fetch_max(epoch.0, Ordering::Relaxed) {
            self.first_of_epoch.lock().unwrap().insert(epoch, now);
        }
    }

    /// When the first task of an epoch was dispatched.
    pub(crate) fn first_of(&self, epoch: Epoch) -> Option<Instant> {
        self.first_of_epoch.lock().unwrap().get(&epoch).copied()
    }

    /// Waits until all these tasks were dispatched after this moment, and returns when the last one
    /// was.
    pub(crate) async fn again(&self, tasks: &[TaskAttempt], after: Instant) -> Instant {
        let mut last = after;
        until("the tasks at other workers", async || {
            let moments = tasks.iter().map(|task| {
                let since = self.last[task.task.shard.0 as usize].load(Ordering::Relaxed);
                self.began + Duration::from_micros(since)
            });
            let moments: Vec<_> = moments.collect();
            last = moments.iter().copied().max().unwrap_or(after);
            moments.iter().all(|moment| *moment > after)
        })
        .await;
        last
    }
}

/// CPU time that a process has used.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    Duration::from_secs_f64(ticks / TICKS_PER_SECOND)
}

/// Current and peak memory of a process, in MiB.
pub(crate) fn memory_mib(process: u32) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024
    })
}

/// Returns the buckets of a histogram: each has a number of seconds, and how many heartbeats waited
/// at most that long.
pub(crate) async fn heartbeat_waits(coordinator: &Coordinator) -> Vec<(String, u64)> {
    const BUCKET: &str = "zephyr_coordinator_heartbeat_wait_seconds_bucket{le=\"";
    let metrics = coordinator.metrics().await.unwrap();
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(BUCKET)?.split_once("\"} ")?;
        Some((bound.to_owned(), count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

/// Returns the bound of the first bucket that contains this percentage of the heartbeats between
/// two measurements, in seconds.
pub(crate) fn wait_of(before: &[(String, u64)], after: &[(String, u64)], percent: u64) -> String {
    let between = |(before, after): (&(String, u64), &(String, u64))| after.1 - before.1;
    let counts: Vec<_> = before.iter().zip(after).map(between).collect();
    let all = counts.last().copied().unwrap_or(0);
    let bounds = after.iter().map(|(bound, _)| bound);
    let found = bounds
        .zip(counts)
        .find(|(_, count)| all > 0 && count * 100 >= all * percent);
    found.map_or_else(|| "?".to_owned(), |(bound, _)| bound.clone())
}

/// Waits until this number of tasks are acknowledged, as long as there is progress.
pub(crate) async fn committed(fleet: &Fleet, tasks: u64) {
    const STEPS: u64 = 20;
    for step in 1..=STEPS {
        until("commits", async || {
            fleet.acknowledged() >= tasks * step / STEPS
        })
        .await;
    }
}
