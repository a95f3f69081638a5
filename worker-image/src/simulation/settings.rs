//! Chooses the settings of a seed before its run begins: the processes, the kinds of faults and
//! their frequency. A seed has only some kinds of faults, because one kind can hide the effect of
//! another. The job is chosen separately.

use std::time::Duration;

use super::faults::{Damages, Faults};
use super::rng::Rng;

/// A kind of fault, besides those of single calls to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nemesis {
    /// The coordinator's process ends, and another process starts some seconds later.
    CoordinatorDies,
    /// The coordinator pauses for some time.
    CoordinatorStalls,
    /// The coordinator pauses, is replaced, and resumes.
    CoordinatorIsReplacedAlive,
    /// A pod disappears at once, and another one starts.
    WorkerDies,
    /// A pod is asked to terminate.
    WorkerDrains,
    WorkerStalls,
    /// A session's stream breaks.
    StreamBreaks,
    /// A session's stream loses all messages in one direction, or in both, until a keepalive
    /// notices it.
    StreamDropsMessages,
    /// No call to the store is answered for some time.
    StoreIsAway,
    /// A committed shuffle file disappears from the store, or is damaged there.
    OutputIsLost,
}

const ALL: [Nemesis; 10] = [
    Nemesis::CoordinatorDies,
    Nemesis::CoordinatorStalls,
    Nemesis::CoordinatorIsReplacedAlive,
    Nemesis::WorkerDies,
    Nemesis::WorkerDrains,
    Nemesis::WorkerStalls,
    Nemesis::StreamBreaks,
    Nemesis::StreamDropsMessages,
    Nemesis::StoreIsAway,
    Nemesis::OutputIsLost,
];

/// How long a call of a task is retried. This is longer than all faults of a seed together.
const TASK_RETRY_TIME: Duration = Duration::from_mins(1);

/// The settings of one seed.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) workers: u64,
    pub(super) slots: u32,
    /// The longest duration of a task, in milliseconds.
    pub(super) task_ms_max: u64,
    /// The longest delay of a message, in milliseconds.
    pub(super) message_ms_max: u64,
    /// How many of a hundred tasks fail by themselves.
    pub(super) failures: u64,
    /// The faults of the coordinators' calls to the store.
    pub(super) faults: Faults,
    /// The faults of the tasks' calls to the store, during which no simulated time passes.
    pub(super) task_faults: Faults,
    /// How long a task's call is retried, in real time.
    pub(super) task_retry_time: Duration,
    pub(super) nemeses: Vec<Nemesis>,
    pub(super) fault_every_ms: u64,
    pub(super) heals_at_ms: u64,
    /// When the job is cancelled and then restarted, in rising order.
    pub(super) cancels_at_ms: Vec<u64>,
}

impl Settings {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "settings");
        let one_of = |rng: &mut Rng, from: &[u64]| rng.pick(from).unwrap_or_default();
        let faults = Faults {
            latency_ms_max: one_of(&mut rng, &[5, 50, 1_000]),
            refused: one_of(&mut rng, &[0, 20, 150]),
            replies_lost: one_of(&mut rng, &[0, 50, 300]),
            falsely_there: one_of(&mut rng, &[0, 50, 200]),
            hung: one_of(&mut rng, &[0, 0, 10, 50]),
            stale: one_of(&mut rng, &[0, 300]),
            short: one_of(&mut rng, &[0, 50]),
            ..Faults::default()
        };
        let task_faults = Faults {
            refused: one_of(&mut rng, &[0, 20]),
            replies_lost: one_of(&mut rng, &[0, 50]),
            damaged: one_of(&mut rng, &[0, 20]),
            short: one_of(&mut rng, &[0, 50]),
            damages: Damages::Shuffles,
            ..Faults::default()
        };
        let mut life = Rng::of(seed, "life");
        let cancels = one_of(&mut life, &[0, 0, 1, 2]);
        let mut cancels_at_ms: Vec<u64> = (0..cancels).map(|_| life.between(500, 60_000)).collect();
        cancels_at_ms.sort_unstable();
        Self {
            cancels_at_ms,
            workers: rng.between(1, 5),
            slots: u32::try_from(rng.between(1, 3)).unwrap_or(1),
            task_ms_max: one_of(&mut rng, &[20, 2_000, 15_000]),
            message_ms_max: one_of(&mut rng, &[2, 20, 500]),
            failures: one_of(&mut rng, &[0, 0, 10]),
            faults,
            task_faults,
            task_retry_time: TASK_RETRY_TIME,
            nemeses: draw_nemeses(&mut rng),
            fault_every_ms: one_of(&mut rng, &[300, 2_000, 8_000]),
            heals_at_ms: rng.between(3_000, 90_000),
        }
    }

    /// Returns settings without any fault.
    pub(super) fn calm() -> Self {
        Self {
            workers: 2,
            slots: 2,
            task_ms_max: 20,
            message_ms_max: 2,
            failures: 0,
            faults: Faults::default(),
            task_faults: Faults::default(),
            task_retry_time: TASK_RETRY_TIME,
            nemeses: Vec::new(),
            fault_every_ms: 1_000,
            heals_at_ms: 0,
            cancels_at_ms: Vec::new(),
        }
    }
}

fn draw_nemeses(rng: &mut Rng) -> Vec<Nemesis> {
    let chance = rng.pick(&[15, 40, 80]).unwrap_or(40);
    ALL.into_iter().filter(|_| rng.percent(chance)).collect()
}
