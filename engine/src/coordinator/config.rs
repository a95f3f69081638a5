//! Defines the settings of a coordinator, and its limits, each with its reason. Reads nothing.

/// The settings of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// `spec.retries.taskFailures`: the job ends when one task has failed this often. 0 counts as
    /// 1.
    pub task_failures: u32,
    /// `spec.retries.taskDisruptions`: the job ends when this many workers were lost while they ran
    /// the same task; 0 = no limit.
    pub task_disruptions: u32,
    /// How often workers send heartbeats, and how long they may be silent.
    pub heartbeat: HeartbeatPolicy,
    /// How many tasks a worker gets in addition to those for which it has a slot.
    pub advance: AdvancePolicy,
    /// How long a failed task waits for its next try.
    pub backoff: BackoffPolicy,
    /// When a straggler gets a second attempt. If this is absent, no task gets one.
    pub speculation: Option<SpeculationPolicy>,
    /// How long a coordinator that took over waits before it dispatches, so that returning workers
    /// can first report which attempts they are still running. Milliseconds.
    pub adoption_grace_ms: u64,
}

/// How long a coordinator that took over waits for reports of returning workers. Most return within
/// their first reconnect delays (0.1 s, 0.2 s, 0.4 s); [`ADOPTION_PREFERENCE_MS`] covers the rest.
pub const ADOPTION_GRACE_MS: u64 = 1_000;

/// A returning worker may still run an attempt of a task that was dispatched again in the meantime.
/// The returning attempt is preferred if the other one was dispatched less than this long ago and
/// has read nothing. This is twice the longest reconnect delay of a worker (5 s).
pub const ADOPTION_PREFERENCE_MS: u64 = 10_000;

/// How long a job that fails waits until the final files of its committed tasks are complete. One
/// call to a store that answers takes less than a second, and many files are completed at the same
/// time. If a store does not answer for a minute, the job ends without waiting for it.
pub const MAX_FAILING_MS: u64 = 60_000;

/// The most task slots a worker may claim. This is the largest value of `spec.workers.slots`.
/// Without this limit, a worker that reports a wrong number could get all tasks.
pub const MAX_SLOTS: u32 = 256;

/// The most characters of an error that are kept, so that status and log records stay small.
pub const MAX_ERROR_CHARACTERS: usize = 2_048;

/// If the committed output of one task was lost this often, the job fails, because the storage does
/// not keep data.
pub const MAX_LOST_OUTPUTS: usize = 5;

/// How often in a row the same cause may give a task back without a charge, if the task made no
/// progress. With the waits between tries (1, 2, 4, 8 and 16 s) this is half a minute, in which a
/// disk that others filled may become free. With the default `taskFailures` of 3 the job then ends
/// after a minute and a half.
pub const SAME_CAUSE_FREE_TRIES: u32 = 5;

/// A task that was tried at fewer workers than this gets more tries before it is charged, as long
/// as there are other workers. Otherwise one broken worker that is always idle could end a job
/// while the healthy workers are busy.
pub const MIN_WORKERS_TRIED: usize = 3;

/// How often in a row the same cause may give back a task that was tried at too few workers. With
/// 30 s between tries, this takes an hour. The number has a second use: if a task finds the disk
/// full, at most this number of other attempts at its worker may count as the cause.
pub const FEW_WORKERS_FREE_TRIES: u32 = 120;

/// How often in a row a task may find an input lost before this is charged to the task. A few
/// inputs may really be lost. But a machine that damages everything that it reads finds all inputs
/// lost.
pub const LOST_INPUTS_FREE_TRIES: u32 = 64;

/// For each task, at most this many workers that gave it back are remembered. The choice of the
/// next worker avoids only these.
pub const MAX_WORKERS_AVOIDED: usize = 16;

/// How many workers must be lost while they run a task before the task can count as the cause. By
/// chance alone, one task of many can lose eight workers in a row. But then other workers are lost
/// too, which `LOST_OFTENER` takes into account.
pub const LOST_WORKERS_FREE: u32 = 8;

/// At how many different pods workers must be lost before a task can count as the cause, because a
/// single pod may be on a bad node.
pub const MIN_LOST_AT_PODS: usize = 2;

/// The most pods for which the number of losses is remembered: the number of workers that the
/// design supports.
pub const MAX_LOST_PODS: usize = 10_000;

/// A task counts as the cause only if its workers are lost this many times as often as other
/// workers. They must also be lost this many times as often as they were without the task. Bad
/// nodes do not have this effect: they affect all tasks in proportion to their running time.
pub const LOST_OFTENER: u32 = 10;

/// A task can count as the cause only if its workers are lost, on average, within this time after
/// they began to run it. If machines are taken away one after the other after a fixed time, each of
/// these losses may hit the same long task. But then its workers run the task for longer than this.
pub const LOST_WITHIN_MS: u64 = 600_000;

/// Status mentions a task after this many workers were lost with it. Two in a row are normal on
/// preemptible nodes.
pub const LOST_WORKERS_REPORTED: u32 = 3;

/// A report that a container of a pod ended refers to the pod's last process if it arrives within
/// this time after the end of that process. The operator sees such an end within seconds.
pub const LATE_END_MS: u64 = 60_000;

/// The report that a container ended may arrive at most this long before its stream breaks. If the
/// stream stays open for longer, the report repeated an old end, and the connected process is not
/// the one that ended.
pub const EARLY_END_MS: u64 = 10_000;

/// How many replaced processes of one pod are remembered at most. If a container restarts again and
/// again, only its last few processes can still have a message in transit.
pub const MAX_PREDECESSORS: usize = 64;

/// The most pod uids in a report: the number of workers that the design supports.
pub const MAX_POD_UIDS: usize = 10_000;

impl Config {
    /// Returns a configuration with these settings of the user. All other settings have their
    /// defaults.
    pub fn new(task_failures: u32, task_disruptions: u32) -> Self {
        Self {
            task_failures,
            task_disruptions,
            heartbeat: HeartbeatPolicy::default(),
            advance: AdvancePolicy::default(),
            backoff: BackoffPolicy::default(),
            speculation: Some(SpeculationPolicy::default()),
            adoption_grace_ms: ADOPTION_GRACE_MS,
        }
    }
}

/// How often workers send heartbeats, and how long they may be silent. With the defaults, the
/// interval is `clamp(workers / 500, 5, 20)` seconds, and the silence is `max(3 intervals, 30 s)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeartbeatPolicy {
    /// The shortest interval, so that small jobs notice a loss early.
    pub interval_min_ms: u64,
    /// The longest interval, so that a loss is noticed within a minute with any number of workers.
    pub interval_max_ms: u64,
    /// The largest number of heartbeats a second from all workers together.
    pub workers_per_second: u64,
    /// After this many intervals without a message, a worker counts as lost.
    pub silent_intervals: u64,
    /// The shortest silence after which a worker counts as lost. It is longer than the silence that
    /// the restart of a switch, a slow node or a delay of the storage causes.
    pub silence_min_ms: u64,
}

impl Default for HeartbeatPolicy {
    fn default() -> Self {
        Self {
            interval_min_ms: 5_000,
            interval_max_ms: 20_000,
            workers_per_second: 500,
            silent_intervals: 3,
            silence_min_ms: 30_000,
        }
    }
}

impl HeartbeatPolicy {
    /// The interval to request for this number of known workers.
    pub fn interval_ms(&self, workers: usize) -> u64 {
        let wanted = (workers as u64).saturating_mul(1_000) / self.workers_per_second.max(1);
        wanted.min(self.interval_max_ms).max(self.interval_min_ms)
    }

    /// How long a worker with the interval `interval_ms` may be silent.
    pub fn silence_ms(&self, interval_ms: u64) -> u64 {
        interval_ms
            .saturating_mul(self.silent_intervals)
            .max(self.silence_min_ms)
    }
}

/// How many tasks a worker holds in addition to those in its slots. The number is 0 while tasks are
/// long, because a task that waits at a busy worker could run at an idle one. If tasks are shorter
/// than a round trip to the coordinator, the number is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdvancePolicy {
    /// How much work may wait for one slot, as running time. This is small compared with the time
    /// between the notice and the end of a preempted node, and with the last part of a stage.
    pub window_ms: u64,
    /// The most waiting tasks for each slot: the number of empty tasks that run during a round trip
    /// of a few milliseconds.
    pub per_slot_max: u64,
}

impl Default for AdvancePolicy {
    fn default() -> Self {
        Self {
            window_ms: 200,
            per_slot_max: 16,
        }
    }
}

impl AdvancePolicy {
    /// How many tasks may wait for each slot if a task takes `latency_ms` from dispatch to report.
    /// 0 while that time is not known.
    pub fn per_slot(&self, latency_ms: Option<u64>) -> u64 {
        latency_ms.map_or(0, |latency| {
            (self.window_ms / latency.max(1)).min(self.per_slot_max)
        })
    }
}

/// When a task at the end of a stage counts as a straggler, which an idle slot may run a second
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpeculationPolicy {
    /// Percentage of the stage's tasks that must be committed; before that, the usual time is not
    /// known.
    pub committed_percent: u64,
    /// An attempt must have run for this many times the median time of the committed tasks.
    pub times_median: u64,
    /// The least time that the attempt must have run, because a second attempt of a short task
    /// costs more than it can save.
    pub elapsed_min_ms: u64,
}

impl Default for SpeculationPolicy {
    /// Spark also waits until three quarters of the tasks are done. Its factor of 1.5 would treat
    /// normal skew as a problem, so the factor is three here. Five seconds are one heartbeat.
    fn default() -> Self {
        Self {
            committed_percent: 75,
            times_median: 3,
            elapsed_min_ms: 5_000,
        }
    }
}

/// How long a failed task waits for its next try. Each failure doubles the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackoffPolicy {
    /// The first wait.
    pub initial_ms: u64,
    /// The longest wait. With it, a task that always fails waits for much less than two minutes
    /// between its three tries.
    pub max_ms: u64,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            initial_ms: 1_000,
            max_ms: 30_000,
        }
    }
}

impl BackoffPolicy {
    /// Returns the wait after this many failures.
    pub fn delay_ms(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(u64::BITS - 1);
        self.initial_ms
            .saturating_mul(1 << doublings)
            .min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_the_workers_between_5_and_20_seconds() {
        let policy = HeartbeatPolicy::default();
        for (workers, interval, silence) in [
            (0, 5_000, 30_000),
            (1, 5_000, 30_000),
            (2_500, 5_000, 30_000),
            (5_000, 10_000, 30_000),
            (7_500, 15_000, 45_000),
            (10_000, 20_000, 60_000),
            (usize::MAX, 20_000, 60_000),
        ] {
            assert_eq!(policy.interval_ms(workers), interval, "{workers} workers");
            assert_eq!(policy.silence_ms(interval), silence, "{workers} workers");
        }
    }

    #[test]
    fn fault_2829_the_wait_after_any_number_of_failures_is_clamped_and_never_overflows() {
        let policy = BackoffPolicy::default();
        for (failures, delay) in [
            (0, 1_000),
            (1, 1_000),
            (2, 2_000),
            (3, 4_000),
            (5, 16_000),
            (6, 30_000),
            (64, 30_000),
            (65, 30_000),
            (u32::MAX, 30_000),
        ] {
            assert_eq!(policy.delay_ms(failures), delay, "{failures} failures");
        }
        assert_eq!(
            BackoffPolicy {
                initial_ms: u64::MAX,
                max_ms: u64::MAX
            }
            .delay_ms(u32::MAX),
            u64::MAX
        );
    }

    #[test]
    fn only_short_tasks_are_given_in_advance() {
        let policy = AdvancePolicy::default();
        for (latency, tasks) in [
            (None, 0),
            (Some(60_000), 0),
            (Some(201), 0),
            (Some(200), 1),
            (Some(50), 4),
            (Some(1), 16),
            (Some(0), 16),
        ] {
            assert_eq!(policy.per_slot(latency), tasks, "{latency:?}");
        }
    }
}
