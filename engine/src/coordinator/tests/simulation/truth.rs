//! Keeps the true events of attempts and workers, and checks that the coordinator's records and
//! messages agree with them. It does not know how a coordinator decides.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use crate::coordinator::config::{EARLY_END_MS, SAME_CAUSE_FREE_TRIES};
use crate::coordinator::record::{FailureClass, LogRecord};
use crate::coordinator::setback::Setback;
use crate::id::{Attempt, TaskAttempt, TaskId};

/// A pod and an incarnation of its process.
pub(super) type Process = (u64, u64);

/// How an attempt ended at its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Failed {
        class: FailureClass,
        setback: Option<Setback>,
        error: String,
        lost_input: Option<TaskAttempt>,
    },
}

/// A container's end that is not a disruption.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) at: u64,
    /// When a coordinator was informed.
    pub(super) noticed_at: Option<u64>,
}

/// The true events so far.
#[derive(Default)]
pub(super) struct Truth {
    fates: BTreeMap<TaskAttempt, Fate>,
    /// Attempts whose reports were sent before their process ended.
    pub(super) reported: BTreeSet<TaskAttempt>,
    /// The processes that each attempt was sent to.
    holders: BTreeMap<TaskAttempt, BTreeSet<Process>>,
    /// The newest dispatched attempt of each task.
    newest: BTreeMap<TaskId, Attempt>,
    cancelled: BTreeSet<TaskAttempt>,
    pub(super) ends: BTreeMap<Process, End>,
    /// When a coordinator was last informed that a container of this pod ended.
    pod_end_reported: BTreeMap<u64, u64>,
    /// When a coordinator decided that a task is done, unless that was revoked.
    done_at: BTreeMap<TaskId, u64>,
    /// Failures of each task itself.
    pub(super) own_failures: BTreeMap<TaskId, u32>,
    /// How often each task was given back for a cause that is free only a limited number of times.
    held_up: BTreeMap<TaskId, u32>,
}

impl Truth {
    pub(super) fn ended(&mut self, task: TaskAttempt, fate: Fate) {
        if matches!(&fate, Fate::Failed { class, .. } if *class != FailureClass::Disruption) {
            *self.own_failures.entry(task.task).or_default() += 1;
        }
        if let Fate::Failed { setback, .. } = &fate
            && setback.is_some_and(|setback| setback.free_tries().is_some())
        {
            *self.held_up.entry(task.task).or_default() += 1;
        }
        let before = self.fates.insert(task, fate);
        assert_eq!(before, None, "{task} ran twice");
    }

    pub(super) fn sent(&mut self, task: TaskAttempt, process: Process) {
        let is_new = self.holders.entry(task).or_default().insert(process);
        assert!(is_new, "{task} was sent to the same process twice");
        assert_eq!(self.holders[&task].len(), 1, "{task} was sent out twice");
        self.newest.insert(task.task, task.attempt);
    }

    pub(super) fn is_cancelled(&mut self, task: TaskAttempt) {
        self.cancelled.insert(task);
    }

    pub(super) fn container_ended(&mut self, process: Process, at: u64) {
        let noticed_at = None;
        self.ends.insert(process, End { at, noticed_at });
    }

    /// A coordinator is informed that a container of a pod ended. The report may be about any
    /// container of the pod that has ended so far.
    pub(super) fn pod_end_reported(&mut self, pod: u64, now: u64) {
        self.pod_end_reported.insert(pod, now);
        for (_, end) in self.ends.range_mut((pod, 0)..=(pod, u64::MAX)) {
            end.noticed_at.get_or_insert(now);
        }
    }

    /// Whether a record agrees with the events.
    pub(super) fn expect(&mut self, record: &LogRecord, now: u64) {
        match record {
            LogRecord::Done { task, .. } => {
                let fate = self.fates.get(task);
                assert_eq!(fate, Some(&Fate::Done), "{task} is said to be done");
                self.done_at.insert(task.task, now);
            }
            LogRecord::Failed { task, class, error } => {
                self.expect_failure(*task, *class, error, now);
            }
            LogRecord::Revoked { .. }
            | LogRecord::StageFinished { .. }
            | LogRecord::Finalized { .. }
            | LogRecord::Result(_)
            | LogRecord::Restarted(_) => {}
        }
    }

    fn expect_failure(&self, task: TaskAttempt, charged: FailureClass, error: &str, now: u64) {
        if charged == FailureClass::Disruption {
            return;
        }
        if error.starts_with("the worker's container ended") {
            let is_right = self.holders.get(&task).is_some_and(|holders| {
                holders
                    .iter()
                    .any(|process| self.may_have_ended(*process, now))
            });
            assert!(
                is_right,
                "{task} is charged for a container that did not end: {error}"
            );
            return;
        }
        let held_up = self.held_up.get(&task.task).copied().unwrap_or(0);
        let is_right = match self.fates.get(&task) {
            Some(Fate::Failed {
                class: FailureClass::Disruption,
                error: own,
                ..
            }) => {
                let is_reported = error.starts_with(&format!("{own}; given back "));
                is_reported && held_up > SAME_CAUSE_FREE_TRIES
            }
            Some(Fate::Failed {
                class, error: own, ..
            }) => *class == charged && own == error,
            Some(Fate::Done) | None => false,
        };
        let fate = self.fates.get(&task);
        assert!(
            is_right,
            "{task} is charged with {charged:?} {error}, but was {fate:?}"
        );
    }

    /// Whether a process exited by itself. The report names only its pod, so any end within seconds
    /// of it matches.
    fn may_have_ended(&self, process: Process, now: u64) -> bool {
        let (pod, incarnation) = process;
        let is_recent = self
            .pod_end_reported
            .get(&pod)
            .is_some_and(|reported| now - reported <= EARLY_END_MS);
        let earlier = self
            .ends
            .range((pod, 0)..(pod, incarnation))
            .next()
            .is_some();
        self.ends.contains_key(&process) || earlier && is_recent
    }

    /// Checks an acknowledgement. The worker then forgets the attempt. So its result must be in the
    /// ledger, or must not be needed.
    pub(super) fn expect_acknowledgement(&self, task: TaskAttempt, durable: &Book, soon: &Book) {
        let is_over = soon.result().is_some() || soon.is_revoked(task) || durable.is_revoked(task);
        let is_superseded = soon
            .winner(task.task)
            .is_some_and(|winner| winner != task.attempt);
        let is_given_up = self.cancelled.contains(&task)
            || self
                .newest
                .get(&task.task)
                .is_some_and(|newest| *newest != task.attempt);
        let is_right = match self.fates.get(&task) {
            None => false,
            // The coordinator may have charged the attempt for a container that ended.
            Some(Fate::Done) => {
                durable.is_winner(task) || durable.is_charged(task) || is_superseded || is_over
            }
            Some(Fate::Failed {
                class, lost_input, ..
            }) => {
                *class == FailureClass::Disruption && !soon.is_charged(task)
                    || lost_input.is_some() && !soon.is_charged(task)
                    || durable.is_charged(task)
                    || !soon.is_charged(task) && (is_superseded || is_over || is_given_up)
            }
        };
        let fate = self.fates.get(&task);
        assert!(
            is_right,
            "{task} is acknowledged and not dealt with: {fate:?}"
        );
    }

    /// Checks that an attempt is charged if its container ended by itself before the attempt was
    /// reported. Cases in which the coordinator may not have charged it yet, or need not charge it,
    /// are left out.
    pub(super) fn expect_all_charged(&self, book: &Book, ended_at: u64) {
        for (task, holders) in &self.holders {
            let Some((process, end)) = holders
                .iter()
                .find_map(|process| Some((process, self.ends.get(process)?)))
            else {
                continue;
            };
            let was_out = !self.reported.contains(task) && !self.cancelled.contains(task);
            let in_time = end.at + 25_000 < ended_at;
            let was_open = end.noticed_at.is_some_and(|reported| {
                self.done_at
                    .get(&task.task)
                    .is_none_or(|done| reported < *done)
            });
            assert!(
                !(was_out && in_time && was_open) || book.is_charged(*task),
                "{task} ended with the container of {process:?} at {end:?}, and is not charged"
            );
        }
    }
}
