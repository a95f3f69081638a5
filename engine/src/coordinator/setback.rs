//! Counts setbacks: failures of attempts that the task did not cause. Each cause of setbacks is
//! free for a number of times in a row. After that it is charged to `taskFailures`, so that no task
//! is retried forever. Causes that affect every worker are never charged.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::config::{
    FEW_WORKERS_FREE_TRIES, LOST_INPUTS_FREE_TRIES, MAX_ERROR_CHARACTERS, MAX_WORKERS_AVOIDED,
    MIN_WORKERS_TRIED, SAME_CAUSE_FREE_TRIES,
};
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::losses::{LostWorkers, PodIdentity};
use crate::coordinator::state::{State, Worker, WorkerNumber};
use crate::id::{TaskAttempt, TaskId};

/// Why an attempt was given back, as its worker reported it or as the coordinator found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setback {
    /// A local disk, for spilling or for the output, has no room.
    DiskFull,
    /// Calls for one object failed for as long as a task retries them, although the same store
    /// answered a similar call for a neighbouring object. After a failed read, the similar call is
    /// a read. After a failed write, it is a write.
    ObjectUnavailable,
    /// The store answered no similar call. So it answers no calls at all, or no writes, or no calls
    /// for the object's folder.
    StoreAway,
    /// The worker cannot start a process, or its scratch folder cannot be used.
    WorkerUnhealthy,
    /// An output of an earlier stage is lost or damaged: the task that wrote it runs again.
    InputLost,
    /// The input that the task reports as lost was replaced by a newer one before.
    InputReplaced,
}

impl Setback {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::DiskFull,
        Self::ObjectUnavailable,
        Self::StoreAway,
        Self::WorkerUnhealthy,
        Self::InputLost,
        Self::InputReplaced,
    ];

    /// How often in a row this setback is free; `None` if it is always free.
    pub fn free_tries(self) -> Option<u32> {
        match self {
            Self::DiskFull | Self::ObjectUnavailable | Self::WorkerUnhealthy => {
                Some(SAME_CAUSE_FREE_TRIES)
            }
            // If many inputs are lost at the same time, several readers find the same ones.
            Self::InputLost | Self::InputReplaced => Some(LOST_INPUTS_FREE_TRIES),
            Self::StoreAway => None,
        }
    }

    /// Whether another task at the same worker can be the cause of this setback.
    fn may_be_of_others(self) -> bool {
        match self {
            Self::DiskFull | Self::WorkerUnhealthy => true,
            Self::ObjectUnavailable | Self::StoreAway | Self::InputLost | Self::InputReplaced => {
                false
            }
        }
    }

    /// The cause in a few words, for a sentence that begins with "because of".
    pub fn words(self) -> &'static str {
        match self {
            Self::DiskFull => "a full disk",
            Self::ObjectUnavailable => "an object that cannot be reached, while its store answers",
            Self::StoreAway => "a store that does not answer",
            Self::WorkerUnhealthy => "workers that cannot run tasks",
            Self::InputLost => "inputs that were found lost",
            Self::InputReplaced => "inputs that had been replaced",
        }
    }
}

/// The setbacks of a task since its last success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct HeldUp {
    causes: BTreeMap<Setback, Times>,
    /// The pods of the workers that ran these tries. At most a fixed number of pods is kept. A
    /// process that replaced another one does not count as a second worker.
    at: BTreeSet<PodIdentity>,
    /// The most records that any of these tries read.
    furthest: u64,
    /// Tries that do not count, because another task at the same worker may be the cause.
    crowded: u32,
    /// The attempts of other tasks that were accepted as this cause.
    crowded_by: BTreeSet<TaskAttempt>,
    /// The last cause, with the worker's message.
    last: Option<(Setback, String)>,
}

/// How often a cause occurred in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Times {
    all: u32,
    /// The times that were not charged.
    free: u32,
}

impl HeldUp {
    /// Whether another worker is a better choice than this one for the next try.
    pub(crate) fn avoids(&self, worker: &Worker) -> bool {
        self.at.iter().any(|pod| pod.is_of(worker))
    }

    /// How often the task was given back in a row, for any cause.
    pub(crate) fn times(&self) -> u32 {
        let counted: u32 = self.causes.values().map(|times| times.all).sum();
        counted.saturating_add(self.crowded)
    }

    /// The last cause.
    pub(crate) fn last(&self) -> Option<(Setback, &str)> {
        let (setback, error) = self.last.as_ref()?;
        Some((*setback, error))
    }

    /// Returns a cause that was free more often than any limit allows, if there is one. Used by the
    /// invariants.
    pub(crate) fn beyond_all_bounds(&self) -> Option<Setback> {
        let is_beyond = |(setback, times): (&Setback, &Times)| {
            let most = setback.free_tries()?.max(FEW_WORKERS_FREE_TRIES);
            (times.free > most).then_some(*setback)
        };
        self.causes.iter().find_map(is_beyond)
    }

    /// Whether more attempts than allowed were accepted as the possible cause.
    pub(crate) fn is_crowded_beyond_all_bounds(&self) -> bool {
        self.crowded_by.len() > FEW_WORKERS_FREE_TRIES as usize
    }

    /// Chooses the attempt at the same worker that may have used up the disk. This is an attempt
    /// that was accepted as the cause before. If there is none, it is a new one, up to a limit.
    /// Each attempt ends at some time, so a task is not excused forever.
    fn excuse(&self, mut beside: impl Iterator<Item = TaskAttempt> + Clone) -> Option<TaskAttempt> {
        let known = beside.clone().find(|other| self.crowded_by.contains(other));
        let takes_more = self.crowded_by.len() < FEW_WORKERS_FREE_TRIES as usize;
        known.or_else(|| beside.next().filter(|_| takes_more))
    }

    /// Records one more setback. A try that read twice as much as every earlier try made progress,
    /// so the earlier counts are forgotten.
    fn note(&mut self, at: Option<PodIdentity>, setback: Setback, read: u64, error: &str) {
        if read > self.furthest.saturating_mul(2) {
            self.causes.clear();
            self.at.clear();
            self.crowded = 0;
            self.crowded_by.clear();
        }
        self.furthest = self.furthest.max(read);
        if self.at.len() < MAX_WORKERS_AVOIDED {
            self.at.extend(at);
        }
        let words = error.chars().take(MAX_ERROR_CHARACTERS).collect();
        self.last = Some((setback, words));
    }

    /// Records that the try does not count, because the attempt `by` may be the cause.
    fn count_crowded(&mut self, by: TaskAttempt) {
        self.crowded = self.crowded.saturating_add(1);
        self.crowded_by.insert(by);
    }

    /// Counts a setback. Returns how often the same cause occurred in a row, and how many of these
    /// were free.
    fn count(&mut self, setback: Setback) -> Times {
        let times = self.causes.entry(setback).or_default();
        times.all = times.all.saturating_add(1);
        *times
    }
}

impl State {
    /// Counts that an attempt was given back. Returns the sentence of the charge if the cause is no
    /// longer free.
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
        let wanted = takers.take(MIN_WORKERS_TRIED).count();
        let at = self.workers.get(&number).map(PodIdentity::of);
        let held_up = &mut self.history_mut(task).held_up;
        held_up.note(at, setback, read, error);
        if let Some(other) = self.crowded_by(number, task, setback) {
            self.history_mut(task).held_up.count_crowded(other);
            return None;
        }
        let held_up = &mut self.history_mut(task).held_up;
        let times = held_up.count(setback);
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
            "{error}; given back {} times in a row without progress because of {}, so it counts as a failure",
            times.all,
            setback.words()
        ))
    }

    /// Returns an attempt at the same worker that may have filled the disk. If there is one, the
    /// failed try does not count. The task of that attempt must not have been given back itself.
    /// Otherwise two tasks that never fit could excuse each other forever.
    fn crowded_by(
        &self,
        number: WorkerNumber,
        task: TaskId,
        setback: Setback,
    ) -> Option<TaskAttempt> {
        // If the worker has only one slot, its other attempts only wait and use no disk.
        let worker = self
            .workers
            .get(&number)
            .filter(|worker| setback.may_be_of_others() && worker.slots > 1)?;
        let gets_on = |other: &&TaskAttempt| {
            let history = self.histories.get(&other.task);
            other.task != task && history.is_none_or(|history| history.held_up.last.is_none())
        };
        let beside = worker.running.iter().filter(gets_on).copied();
        self.histories.get(&task)?.held_up.excuse(beside)
    }

    /// Forgets the setbacks of a task that is done.
    pub(crate) fn gets_on(&mut self, task: TaskId) {
        let Some(history) = self.histories.get_mut(&task) else {
            return;
        };
        history.held_up = HeldUp::default();
        history.lost_workers = LostWorkers::default();
        if history.is_empty() {
            self.histories.remove(&task);
        }
    }
}
