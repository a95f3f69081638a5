//! What gives a task back through no fault of its own. Each cause is free a number of times in a row; after that it is
//! charged to `taskFailures`, so that no task is tried for ever. What keeps everybody from work is never charged.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::config::{
    ERROR_CHARACTERS_MAX, FEW_WORKERS_FREE_TRIES, LOST_INPUTS_FREE_TRIES, LOST_OFTENER,
    LOST_WITHIN_MS, LOST_WORKERS_FREE, SAME_CAUSE_FREE_TRIES, WORKERS_AVOIDED_MAX,
    WORKERS_TRIED_MIN,
};
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::state::{State, TaskState, WorkerNumber};
use crate::id::{TaskAttempt, TaskId, Timestamp};

/// Why an attempt was given back, as its worker saw it or as it was found here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setback {
    /// A local disk, for spilling or for the output, has no room.
    DiskFull,
    /// Calls for one object failed for as long as a task is patient, and the same store answered a like call beside it: a read for a
    /// read, a write for a write.
    ObjectUnavailable,
    /// The store answered no like call: none at all, no write, or none in the object's folder.
    StoreAway,
    /// The worker cannot start a process, or its scratch folder cannot be used.
    WorkerUnwell,
    /// An output of an earlier stage is lost or damaged: the task that made it runs again.
    InputLost,
    /// An input is said to be lost that had been replaced before.
    InputReplaced,
}

impl Setback {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::DiskFull,
        Self::ObjectUnavailable,
        Self::StoreAway,
        Self::WorkerUnwell,
        Self::InputLost,
        Self::InputReplaced,
    ];

    /// How often in a row it is free; `None` where it always is.
    pub fn free_tries(self) -> Option<u32> {
        match self {
            Self::DiskFull | Self::ObjectUnavailable | Self::WorkerUnwell => {
                Some(SAME_CAUSE_FREE_TRIES)
            }
            // Where many inputs are lost at once, several readers find the same ones.
            Self::InputLost | Self::InputReplaced => Some(LOST_INPUTS_FREE_TRIES),
            Self::StoreAway => None,
        }
    }

    /// The cause in a few words, for a sentence that begins with "held up by".
    pub fn words(self) -> &'static str {
        match self {
            Self::DiskFull => "a full disk",
            Self::ObjectUnavailable => "an object that cannot be reached, while its store answers",
            Self::StoreAway => "a store that does not answer",
            Self::WorkerUnwell => "workers that cannot run tasks",
            Self::InputLost => "inputs that were found lost",
            Self::InputReplaced => "inputs that had been replaced",
        }
    }
}

/// What held a task up, since it was last done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct HeldUp {
    causes: BTreeMap<Setback, Times>,
    /// Workers at which it was tried so, the first few.
    at: BTreeSet<WorkerNumber>,
    /// The most records that any of these tries had read.
    furthest: u64,
    /// The last cause, and the worker's words for it.
    last: Option<(Setback, String)>,
}

/// How often in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Times {
    all: u32,
    /// Those that were charged to nobody.
    free: u32,
}

impl HeldUp {
    /// Workers that are not the first choice for the next try.
    pub(crate) fn avoided(&self) -> &BTreeSet<WorkerNumber> {
        &self.at
    }

    /// How often it was given back in a row, for whatever cause.
    pub(crate) fn times(&self) -> u32 {
        self.causes.values().map(|times| times.all).sum()
    }

    /// The cause of the last time.
    pub(crate) fn last(&self) -> Option<(Setback, &str)> {
        let (setback, error) = self.last.as_ref()?;
        Some((*setback, error))
    }

    /// A cause that was free more often than any may be.
    pub(crate) fn beyond_all_bounds(&self) -> Option<Setback> {
        let is_beyond = |(setback, times): (&Setback, &Times)| {
            let most = setback.free_tries()?.max(FEW_WORKERS_FREE_TRIES);
            (times.free > most).then_some(*setback)
        };
        self.causes.iter().find_map(is_beyond)
    }

    /// Notes one more time; gives how often it was the same cause in a row, and how often that was free. A try that read twice as
    /// much as any before got on: what was counted before it is forgotten.
    fn note(&mut self, number: WorkerNumber, setback: Setback, read: u64, error: &str) -> Times {
        if read > self.furthest.saturating_mul(2) {
            self.causes.clear();
            self.at.clear();
        }
        self.furthest = self.furthest.max(read);
        if self.at.len() < WORKERS_AVOIDED_MAX {
            self.at.insert(number);
        }
        let words = error.chars().take(ERROR_CHARACTERS_MAX).collect();
        self.last = Some((setback, words));
        let times = self.causes.entry(setback).or_default();
        times.all = times.all.saturating_add(1);
        *times
    }
}

/// Time of connected workers, and how many of them were lost: how often a worker is lost where nothing is wrong with its task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Exposure {
    /// Worker-milliseconds.
    pub(crate) worker_ms: u64,
    /// Workers that were lost of a sudden.
    pub(crate) losses: u64,
}

/// The workers that were lost under a task, since it was last done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LostWorkers {
    /// The fleet's when the first was lost: what follows is compared with what others met since then.
    since: Option<Exposure>,
    /// Further ones.
    times: u32,
    /// How long the task ran at these further ones, in all. Milliseconds.
    ran_ms: u64,
}

impl LostWorkers {
    /// How many, the first included.
    pub(crate) fn count(&self) -> u32 {
        self.times + u32::from(self.since.is_some())
    }

    /// Whether the task's workers are lost so much oftener than others that the task itself must be what ends them.
    fn convict(&self, fleet: Exposure) -> bool {
        let Some(since) = self.since else {
            return false;
        };
        let others_ms = fleet.worker_ms.saturating_sub(since.worker_ms);
        let others_ms = others_ms.saturating_sub(self.ran_ms);
        let others_lost = fleet.losses.saturating_sub(since.losses);
        let others_lost = others_lost.saturating_sub(u64::from(self.times));
        // lost / ran_ms of this task against lost / ms of the others, of whom one more counts as lost than were.
        let of_task = u128::from(self.times) * u128::from(others_ms);
        let of_others = u128::from(others_lost + 1) * u128::from(self.ran_ms);
        self.times >= LOST_WORKERS_FREE
            && self.ran_ms < u64::from(self.times) * LOST_WITHIN_MS
            && of_task > u128::from(LOST_OFTENER) * of_others
    }
}

impl State {
    /// Counts that an attempt was given back. Where the cause is not free any more: the sentence to charge.
    pub(crate) fn hold_up(
        &mut self,
        number: WorkerNumber,
        task: TaskId,
        setback: Setback,
        read: u64,
        error: &str,
    ) -> Option<String> {
        let takers = self.workers.values();
        let takers = takers.filter(|worker| worker.session().is_some() && !worker.draining);
        let wanted = takers.take(WORKERS_TRIED_MIN).count();
        let held_up = &mut self.history_mut(task).held_up;
        let times = held_up.note(number, setback, read, error);
        let is_tried_elsewhere = held_up.at.len() >= wanted;
        let is_free = setback.free_tries().is_none_or(|free| {
            times.all <= free
                || !is_tried_elsewhere && times.all <= FEW_WORKERS_FREE_TRIES.max(free)
        });
        if is_free || defect::is(Defect::HeldUpForEver) {
            if let Some(times) = held_up.causes.get_mut(&setback) {
                times.free = times.free.saturating_add(1);
            }
            return None;
        }
        Some(format!(
            "{error}; given back {} times in a row without getting on, held up by {}, so that it counts as a failure",
            times.all,
            setback.words()
        ))
    }

    /// Counts that a worker was lost of a sudden while it ran this attempt. Where the task is what ends its workers: the sentence
    /// to charge.
    pub(crate) fn lose_under(&mut self, now: Timestamp, task: TaskAttempt) -> Option<String> {
        let Some(TaskState::Running { attempts }) = self.task(task.task).map(|known| &known.state)
        else {
            return None;
        };
        let mut attempts = attempts.iter();
        let began = attempts
            .find(|running| running.attempt == task.attempt)?
            .since;
        let fleet = self.exposure;
        let lost = &mut self.history_mut(task.task).lost_workers;
        if lost.since.is_none() {
            lost.since = Some(fleet);
            return None;
        }
        lost.times = lost.times.saturating_add(1);
        lost.ran_ms = lost.ran_ms.saturating_add(now.since_ms(began));
        let lost = *lost;
        lost.convict(fleet).then(|| {
            format!(
                "its worker was lost {} times in a row under it, within {} s of work, and workers without it are lost far more seldom: it, or what ran beside it, is taken for the cause",
                lost.count(),
                lost.ran_ms / 1_000
            )
        })
    }

    /// Time passed for all workers that are known.
    pub(crate) fn expose(&mut self, passed_ms: u64) {
        let worker_ms = passed_ms.saturating_mul(self.workers.len() as u64);
        self.exposure.worker_ms = self.exposure.worker_ms.saturating_add(worker_ms);
    }

    /// The task is done: what held it up is over.
    pub(crate) fn gets_on(&mut self, task: TaskId) {
        let Some(history) = self.histories.get_mut(&task) else {
            return;
        };
        history.held_up = HeldUp::default();
        history.lost_workers = LostWorkers::default();
        if history.failures.is_empty() && history.revoked.is_empty() {
            self.histories.remove(&task);
        }
    }
}
