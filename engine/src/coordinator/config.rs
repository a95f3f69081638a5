//! What a coordinator is told before it begins, and the limits it keeps, each with its reason.
//! Reads nothing.

/// The settings of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// `spec.retries.taskFailures`: failures of one task that end the job. 0 is taken as 1.
    pub task_failures: u32,
    /// `spec.retries.taskDisruptions`: losses of a worker under one task that end the job; 0 = no
    /// limit.
    pub task_disruptions: u32,
    /// How often workers say that they are alive, and how long they may not.
    pub heartbeat: HeartbeatPolicy,
    /// How many tasks a worker is given before it has a slot for them.
    pub advance: AdvancePolicy,
    /// How long a task that failed waits for its next try.
    pub backoff: BackoffPolicy,
    /// When a straggler gets a second attempt; never where there is none.
    pub speculation: Option<SpeculationPolicy>,
    /// How long a coordinator that took over waits before it dispatches, so that workers that come
    /// back can first name what they are still running. Milliseconds.
    pub adoption_grace_ms: u64,
}

/// A coordinator that took over lets returning workers speak first for this long. Most are back
/// within their first reconnect delays (0.1 s, 0.2 s, 0.4 s); [`ADOPTION_PREFERENCE_MS`] covers the
/// rest.
pub const ADOPTION_GRACE_MS: u64 = 1_000;

/// An attempt that comes back with its worker is preferred to one of the same task that was
/// dispatched less than this long ago and has read nothing: twice the longest reconnect delay of a
/// worker (5 s).
pub const ADOPTION_PREFERENCE_MS: u64 = 10_000;

/// The most task slots a worker may claim: the bound of `spec.workers.slots`, so that a wrong
/// number cannot draw all tasks to one worker.
pub const MAX_SLOTS: u32 = 256;

/// The most characters of an error that are kept: status and log records stay small.
pub const MAX_ERROR_CHARACTERS: usize = 2_048;

/// A task whose committed output was lost this often fails the job: storage does not keep what is
/// written to it.
pub const MAX_LOST_OUTPUTS: usize = 5;

/// How often in a row the same cause may give a task back for nothing, where it got no further:
/// with the waits between two tries (1, 2, 4, 8 and 16 s) half a minute, in which a disk that
/// others filled may be free again. With the default `taskFailures` of 3 the job then ends after a
/// minute and a half.
pub const SAME_CAUSE_FREE_TRIES: u32 = 5;

/// A task that was tried at fewer workers than this is given more time, as long as there are
/// others: one sick worker that is idle must not end a job while those that are well are busy.
pub const MIN_WORKERS_TRIED: usize = 3;

/// How often in a row the same cause may give a task back that was tried at too few workers: with
/// 30 s between two tries an hour. As many attempts beside it may excuse a task that finds the disk
/// full: short ones an hour as well, longer ones until they end.
pub const FEW_WORKERS_FREE_TRIES: u32 = 120;

/// How often in a row a task may find an input lost before it is its own failure: each of them may
/// be lost, but a machine that damages what it reads finds all of them lost.
pub const LOST_INPUTS_FREE_TRIES: u32 = 64;

/// The most workers that are remembered as those at which a task was held up: the choice of the
/// next one looks at no more.
pub const MAX_WORKERS_AVOIDED: usize = 16;

/// How many workers must be lost under a task before it can be taken for what ends them. Chance
/// alone takes eight in a row from one task of many, but not while others live on (`LOST_OFTENER`).
pub const LOST_WORKERS_FREE: u32 = 8;

/// At how many pods workers must be lost under a task before it can be taken for what ends them:
/// one may stand on a bad node.
pub const MIN_LOST_AT_PODS: usize = 2;

/// The most pods of which is remembered how often they were lost: the number of workers we design
/// for.
pub const MAX_LOST_PODS: usize = 10_000;

/// How many times as often as other workers those of one task must be lost before it is taken for
/// the cause: bad nodes meet whoever runs longest in proportion to the time, and never one task
/// alone. The same against the very workers that were lost, for the time that they had lived
/// without the task.
pub const LOST_OFTENER: u32 = 10;

/// How long the workers of a task that is taken for the cause last with it, on average and at most.
/// Where machines live for a time and are then taken away one after the other, a long task may meet
/// each of them; that takes longer.
pub const LOST_WITHIN_MS: u64 = 600_000;

/// Lost workers under one task that are worth a word in status: two in a row are nothing on
/// preemptible nodes.
pub const LOST_WORKERS_TOLD: u32 = 3;

/// How long after a worker's process has gone the news that a container of its pod ended still
/// means that process. The operator sees it within seconds.
pub const LATE_NEWS_MS: u64 = 60_000;

/// How long before its stream breaks the news of a container's end may come. Longer, and the news
/// was an old one repeated: the connected process is not the one that ended.
pub const EARLY_NEWS_MS: u64 = 10_000;

/// The most replaced processes of one pod that are remembered: of a container that restarts again
/// and again only the last few can still have a message on its way.
pub const MAX_PREDECESSORS: usize = 64;

/// The most pod uids that a report lists: the number of workers we design for.
pub const MAX_POD_UIDS: usize = 10_000;

impl Config {
    /// The settings that a user can choose, with ours for the rest.
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

/// How often workers say that they are alive, and how long they may not. With the defaults
/// `clamp(workers / 500, 5, 20)` seconds and `max(3 intervals, 30 s)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeartbeatPolicy {
    /// Shortest interval: small jobs notice a loss early.
    pub interval_min_ms: u64,
    /// Longest interval: a loss is noticed within a minute however many workers there are.
    pub interval_max_ms: u64,
    /// Heartbeats a second that the coordinator wants to see at most, from all workers together.
    pub workers_per_second: u64,
    /// Intervals without a sign of life after which a worker counts as lost.
    pub silent_intervals: u64,
    /// Shortest silence after which a worker counts as lost: longer than a garbage-collected
    /// switch, a slow node or a storage hiccup lasts.
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
    /// The interval to ask for when this many workers are known.
    pub fn interval_ms(&self, workers: usize) -> u64 {
        let wanted = (workers as u64).saturating_mul(1_000) / self.workers_per_second.max(1);
        wanted.min(self.interval_max_ms).max(self.interval_min_ms)
    }

    /// How long a worker that was asked for `interval_ms` may be silent.
    pub fn silence_ms(&self, interval_ms: u64) -> u64 {
        interval_ms
            .saturating_mul(self.silent_intervals)
            .max(self.silence_min_ms)
    }
}

/// How many tasks a worker holds in advance of its slots. None while tasks are long, because a task
/// that waits at a busy worker could run at an idle one; some when tasks are shorter than the way
/// to the coordinator and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdvancePolicy {
    /// Work, as time, that a slot may have waiting: small beside any notice period or tail.
    pub window_ms: u64,
    /// The most tasks in advance of each slot: what a round trip of a few milliseconds can use up
    /// with empty tasks.
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
    /// Tasks in advance of each slot where a task takes this long from dispatch to report; 0 while
    /// that is not known.
    pub fn per_slot(&self, latency_ms: Option<u64>) -> u64 {
        latency_ms.map_or(0, |latency| {
            (self.window_ms / latency.max(1)).min(self.per_slot_max)
        })
    }
}

/// When a task in the tail of a stage counts as a straggler, which an idle slot may run a second
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpeculationPolicy {
    /// Share of the stage's tasks that must be committed, in percent: before, the usual time is not
    /// known.
    pub committed_percent: u64,
    /// How many times the median of the committed tasks' times an attempt must have run.
    pub times_median: u64,
    /// How long it must have run at least: a second attempt of a short task costs more than it can
    /// save.
    pub elapsed_min_ms: u64,
}

impl Default for SpeculationPolicy {
    /// Three quarters are what Spark waits for; its factor of 1.5 takes ordinary skew for trouble,
    /// three times the median does not; five seconds are one heartbeat.
    fn default() -> Self {
        Self {
            committed_percent: 75,
            times_median: 3,
            elapsed_min_ms: 5_000,
        }
    }
}

/// How long a task that failed waits for its next try: doubled with each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackoffPolicy {
    /// The first wait.
    pub initial_ms: u64,
    /// The longest: three tries of a poison task end well within two minutes of waiting.
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
    /// The wait after this many failures, the first being 1.
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
