//! Chooses the settings of a seed before its run begins: the job, the fleet, the kinds of faults
//! and their frequency. A seed has only some kinds of faults, because one kind can hide the effect
//! of another.

use super::rng::Rng;
use crate::coordinator::Config;
use crate::coordinator::tests::cluster::task;
use crate::id::TaskId;

/// One run in this many is a large one.
pub(super) const LARGE_EVERY: u64 = 500;

/// The choices of one seed.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) is_large: bool,
    pub(super) mode: Mode,
    pub(super) shards: Vec<u32>,
    /// For each stage the stages that it reads; none if it reads a source.
    pub(super) reads: Vec<Vec<u32>>,
    pub(super) pods: u64,
    pub(super) slots: u32,
    pub(super) task_ms_max: u64,
    pub(super) storage_ms_max: u64,
    pub(super) trouble: Trouble,
    pub(super) task_disruptions: u32,
    /// How often the job is restarted if it fails.
    pub(super) restarts: u32,
    pub(super) nemeses: Vec<Nemesis>,
    /// Mean time between two faults.
    pub(super) fault_every_ms: u64,
    /// Percentage of broken streams that the coordinator does not notice.
    pub(super) unnoticed: u64,
    /// Percentage of messages to the coordinator that arrive twice.
    pub(super) repeats: u64,
    /// Number of messages in a thousand that are lost with their stream.
    pub(super) lost_messages: u64,
    /// Percentage of puts during which the coordinator dies.
    pub(super) deaths_at_put: u64,
    /// Whether messages in transit may be lost, or arrive much later, when their stream breaks.
    pub(super) harsh_streams: bool,
    /// Whether there are only faults for which the charges can be predicted.
    pub(super) is_exact: bool,
}

/// What is checked at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Faults continue to the end: nothing wrong may ever happen, but the job need not end.
    Safety { until_ms: u64 },
    /// From a certain time on there are no faults: the job must end within a bound.
    Liveness { heals_at_ms: u64 },
}

/// How tasks fail by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Never,
    /// Each try fails with this probability in percent, for one of several reasons. The budget is
    /// large.
    Often(u64),
    /// Each task fails at most twice, and three failures are allowed.
    Twice,
    /// This task always fails.
    Poison(TaskId),
    /// This task finds the disk full wherever it runs.
    HeldUp(TaskId),
    /// Tries fail from time to time, and the budget is small. The job may fail, but only for the
    /// right reason.
    Scarce(u64),
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nemesis {
    /// A pod is preempted.
    PodDies,
    /// A pod's process exits by itself or runs out of memory, and another begins.
    ContainerEnds,
    StreamBreaks,
    PodStalls,
    PodDrains,
    CoordinatorDies,
    CoordinatorStalls,
    /// It stalls, is replaced, and resumes.
    CoordinatorIsReplacedAlive,
    OutputIsLost,
    StorageIsSlow,
    /// Most pods are preempted at once, with or without notice.
    Wave,
    /// All pods are preempted, and stay away.
    AllDie,
}

const ALL: [Nemesis; 12] = [
    Nemesis::PodDies,
    Nemesis::ContainerEnds,
    Nemesis::StreamBreaks,
    Nemesis::PodStalls,
    Nemesis::PodDrains,
    Nemesis::CoordinatorDies,
    Nemesis::CoordinatorStalls,
    Nemesis::CoordinatorIsReplacedAlive,
    Nemesis::OutputIsLost,
    Nemesis::StorageIsSlow,
    Nemesis::Wave,
    Nemesis::AllDie,
];

/// The faults for which it is clear whether a task is charged.
const CLEAR: [Nemesis; 5] = [
    Nemesis::PodDies,
    Nemesis::ContainerEnds,
    Nemesis::PodDrains,
    Nemesis::StorageIsSlow,
    Nemesis::Wave,
];

/// More failures than any run has.
const AMPLE: u32 = 100_000;

impl Settings {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let is_large = seed % LARGE_EVERY == LARGE_EVERY - 1;
        let is_exact = rng.percent(20);
        let mut shards = draw_shards(&mut rng, is_large);
        let reads = draw_graph(&mut Rng::new(seed ^ 0x6fab), &mut shards);
        let trouble = draw_trouble(&mut rng, &shards, is_exact);
        let nemeses = draw_nemeses(&mut rng, trouble, is_exact);
        let limit = rng.pick(&[0, AMPLE]).unwrap_or(0);
        let heals_at_ms = rng.between(5_000, 150_000);
        let is_liveness = rng.percent(70);
        let mut settings = Self {
            is_large,
            mode: if is_liveness {
                Mode::Liveness { heals_at_ms }
            } else {
                Mode::Safety {
                    until_ms: heals_at_ms * 2,
                }
            },
            pods: if is_large {
                rng.between(200, 1_000)
            } else {
                rng.between(1, 8)
            },
            slots: u32::try_from(rng.between(1, 4)).unwrap_or(1),
            task_ms_max: rng.pick(&[5, 2_000, 10_000, 40_000]).unwrap_or(5),
            storage_ms_max: rng.pick(&[20, 500, 3_000]).unwrap_or(20),
            task_disruptions: match trouble {
                Trouble::Scarce(_) => rng.pick(&[0, 3]).unwrap_or(0),
                Trouble::Never
                | Trouble::Often(_)
                | Trouble::Twice
                | Trouble::Poison(_)
                | Trouble::HeldUp(_) => limit,
            },
            restarts: Rng::new(seed ^ 0x4e57).pick(&[0, 0, 1, 2]).unwrap_or(0),
            fault_every_ms: rng.pick(&[300, 2_000, 10_000]).unwrap_or(300),
            unnoticed: rng.pick(&[0, 50, 100]).unwrap_or(0),
            repeats: rng.pick(&[0, 0, 5, 30]).unwrap_or(0),
            lost_messages: rng.pick(&[0, 0, 5, 30]).unwrap_or(0),
            deaths_at_put: rng.pick(&[0, 0, 3, 15]).unwrap_or(0),
            harsh_streams: rng.percent(50),
            shards,
            reads,
            trouble,
            nemeses,
            is_exact,
        };
        if is_large {
            settings.soften();
        }
        if is_exact {
            settings.fault_every_ms = settings.fault_every_ms.max(2_000);
            settings.harsh_streams = false;
            settings.unnoticed = 0;
            settings.repeats = 0;
            settings.lost_messages = 0;
            settings.deaths_at_put = 0;
        }
        settings
    }

    /// Adapts the frequency of faults to a large run. A thousand workers make progress even with
    /// three faults in a second. But if the coordinator died at every tenth put, the run would
    /// never finish.
    fn soften(&mut self) {
        self.task_ms_max = self.task_ms_max.max(500);
        self.deaths_at_put = self.deaths_at_put.min(1);
        self.lost_messages = self.lost_messages.min(5);
    }

    /// Whether no fault can happen at this time or later.
    pub(super) fn is_healed(&self, now: u64) -> bool {
        match self.mode {
            Mode::Safety { .. } => false,
            Mode::Liveness { heals_at_ms } => now >= heals_at_ms,
        }
    }

    /// The time by which faults are over.
    pub(super) fn faults_end_ms(&self) -> u64 {
        match self.mode {
            Mode::Safety { until_ms } => until_ms,
            Mode::Liveness { heals_at_ms } => heals_at_ms,
        }
    }

    pub(super) fn config(&self) -> Config {
        let task_failures = match self.trouble {
            Trouble::Never | Trouble::Often(_) => AMPLE,
            Trouble::Twice | Trouble::Poison(_) | Trouble::HeldUp(_) | Trouble::Scarce(_) => 3,
        };
        Config::new(task_failures, self.task_disruptions)
    }

    pub(super) fn is_last_stage(&self, task: TaskId) -> bool {
        task.stage.0 as usize + 1 == self.shards.len()
    }
}

fn draw_shards(rng: &mut Rng, is_large: bool) -> Vec<u32> {
    let stages = rng.between(1, 4);
    let mut shards = Vec::new();
    for _ in 0..stages {
        let size = match rng.between(0, 9) {
            0 | 1 => 0,
            2 | 3 => 1,
            _ if is_large => rng.between(500, 2_000),
            _ => rng.between(2, 40),
        };
        shards.push(u32::try_from(size).unwrap_or(0));
    }
    // A large run has at least one large stage.
    if is_large && let Some(first) = shards.first_mut() {
        *first = (*first).max(2_000);
    }
    shards
}

/// Half of the plans are chains. The others have up to three more stages, and each stage reads a
/// source of its own or any stages before it.
fn draw_graph(rng: &mut Rng, shards: &mut Vec<u32>) -> Vec<Vec<u32>> {
    let is_chain = rng.percent(50);
    if !is_chain {
        for _ in 0..rng.between(1, 3) {
            let sizes = [0, 1, rng.between(2, 20)];
            let size = rng.pick(&sizes).unwrap_or(1);
            shards.push(u32::try_from(size).unwrap_or(1));
        }
    }
    let count = u32::try_from(shards.len()).unwrap_or(1);
    let mut reads: Vec<Vec<u32>> = vec![Vec::new()];
    for stage in 1..count {
        if is_chain {
            reads.push(vec![stage - 1]);
            continue;
        }
        let mut from = Vec::new();
        if stage + 1 == count || rng.percent(70) {
            for _ in 0..rng.between(1, 3) {
                let read = u32::try_from(rng.between(0, u64::from(stage) - 1)).unwrap_or(0);
                if !from.contains(&read) {
                    from.push(read);
                }
            }
        }
        reads.push(from);
    }
    // The last stage reads each stage that no other stage reads.
    for stage in 0..count - 1 {
        if !reads.iter().flatten().any(|read| *read == stage)
            && let Some(last) = reads.last_mut()
        {
            last.push(stage);
        }
    }
    reads
}

fn draw_trouble(rng: &mut Rng, shards: &[u32], is_exact: bool) -> Trouble {
    let often = rng.pick(&[5, 30]).unwrap_or(5);
    if is_exact {
        return rng
            .pick(&[Trouble::Never, Trouble::Often(often)])
            .unwrap_or(Trouble::Never);
    }
    match rng.between(0, 9) {
        0..=2 => Trouble::Never,
        3..=5 => Trouble::Often(often),
        6 | 7 => Trouble::Twice,
        8 => Trouble::Scarce(often),
        _ => {
            let stages: Vec<u32> = (0..)
                .zip(shards)
                .filter(|(_, shards)| **shards > 0)
                .map(|(stage, _)| stage)
                .collect();
            let Some(stage) = rng.pick(&stages) else {
                return Trouble::Never;
            };
            let last = u64::from(shards[stage as usize]) - 1;
            let shard = u32::try_from(rng.between(0, last)).unwrap_or(0);
            let task = task(stage, shard);
            if rng.percent(50) {
                Trouble::Poison(task)
            } else {
                Trouble::HeldUp(task)
            }
        }
    }
}

fn draw_nemeses(rng: &mut Rng, trouble: Trouble, is_exact: bool) -> Vec<Nemesis> {
    let possible: &[Nemesis] = if is_exact { &CLEAR } else { &ALL };
    let chance = rng.pick(&[25, 50, 100]).unwrap_or(50);
    let mut nemeses: Vec<Nemesis> = possible
        .iter()
        .copied()
        .filter(|_| rng.percent(chance))
        .collect();
    if is_exact && !nemeses.contains(&Nemesis::ContainerEnds) {
        nemeses.push(Nemesis::ContainerEnds);
    }
    // In these runs the number of failures is predicted. The end of a container would use up the
    // same small budget, so it must not happen.
    if matches!(
        trouble,
        Trouble::Twice | Trouble::Poison(_) | Trouble::HeldUp(_)
    ) {
        nemeses.retain(|nemesis| *nemesis != Nemesis::ContainerEnds);
    }
    nemeses
}
