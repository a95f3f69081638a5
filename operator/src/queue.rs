//! Decides which job is reconciled next, and when: the queue is a set of keys with due times.
//!
//! Pure: no clock, no runtime; `driver.rs` runs the reconciles. The size of the queue is bounded by
//! the number of jobs, regardless of the number of changes. Four rules hold, each tested as a
//! property:
//!
//! - A change is followed by a reconcile that starts after it.
//! - At most one reconcile of a job runs at a time.
//! - Nothing shortens a back-off, not even an edit of the spec: a change during the back-off is
//!   handled when the back-off ends. The longest back-off after a failed call is a minute. If edits
//!   ended a back-off, a client that edits in a loop could bypass it.
//! - Namespaces take turns, and one namespace never holds all slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::defect::{self, Defect};

/// How many reconciles run at the same time. A reconcile mostly waits for the API server, and a
/// call that hangs ends with a timeout. So slots are cheap, and there are many.
pub const SLOTS: usize = 128;
/// How many slots one namespace has at most. An API server answers this number of simultaneous
/// calls of one client without problems.
pub const SLOTS_PER_NAMESPACE: usize = 16;
/// How much time passes at least between the end of one reconcile of a job and the start of the
/// next. Changes in between are handled together.
pub const SPACING: Duration = Duration::from_millis(100);
/// The longest wait for a reconcile. If a job wants to wait longer, it is reconciled after this
/// time, and then waits again.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// A job by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The job's namespace.
    pub namespace: String,
    /// The job's name.
    pub name: String,
}

/// The result of a reconcile for the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Reconcile again when something changes.
    Settled,
    /// Reconcile again when something changes, or after this time.
    LookAgain(Duration),
    /// Reconcile again after this time, and not earlier, even if something changes.
    BackOff(Duration),
    /// There is no such job.
    Gone,
}

/// The jobs, with the times at which they are due.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: BTreeMap<JobKey, Entry>,
    /// The jobs that are due in the future.
    timed: BTreeSet<(Instant, JobKey)>,
    lanes: BTreeMap<String, Lane>,
    /// The namespaces with jobs that are ready, by the number of the namespace's turn.
    turns: BTreeMap<u64, String>,
    /// The next number of a turn, and of a place within a lane.
    next_number: u64,
    running: usize,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// No reconcile starts before this time: the end of the spacing or of the back-off.
    not_before: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Idle,
    Timed(Instant),
    /// Ready, with this number in the lane of its namespace.
    Ready(u64),
    Running {
        /// Whether something changed since the reconcile started.
        is_dirty: bool,
        /// Whether the job was deleted since the reconcile started.
        is_forgotten: bool,
    },
}

/// The jobs of one namespace that are ready or running.
#[derive(Debug, Default)]
struct Lane {
    ready: BTreeMap<u64, String>,
    /// The number of the namespace's turn. Present while `ready` is not empty.
    turn: Option<u64>,
    running: usize,
}

impl Queue {
    /// Records that something about a job changed. The job is reconciled as soon as its spacing or
    /// back-off allows.
    pub fn touch(&mut self, key: &JobKey, now: Instant) {
        let entry = self.jobs.entry(key.clone()).or_insert(Entry {
            place: Place::Idle,
            not_before: now,
        });
        let due = entry.not_before.max(now);
        match entry.place {
            Place::Idle => self.schedule(key, due),
            Place::Timed(at) if due < at => {
                self.timed.remove(&(at, key.clone()));
                self.schedule(key, due);
            }
            Place::Timed(_) | Place::Ready(_) => {}
            Place::Running { .. } => {
                entry.place = Place::Running {
                    is_dirty: true,
                    is_forgotten: false,
                };
            }
        }
    }

    /// Records that the job no longer exists, so no further reconcile of it starts. A running
    /// reconcile continues.
    pub fn forget(&mut self, key: &JobKey) {
        let Some(entry) = self.jobs.get_mut(key) else {
            return;
        };
        match entry.place {
            Place::Running { .. } => {
                entry.place = Place::Running {
                    is_dirty: false,
                    is_forgotten: true,
                };
                return;
            }
            Place::Timed(at) => {
                self.timed.remove(&(at, key.clone()));
            }
            Place::Ready(number) => self.leave_lane(key, number),
            Place::Idle => {}
        }
        self.jobs.remove(key);
    }

    /// Returns the next job to reconcile, if one is due and a slot is free. The job counts as
    /// running until [`Self::finish`] is called for it.
    pub fn take(&mut self, now: Instant) -> Option<JobKey> {
        self.make_ready(now);
        let free = SLOTS.checked_sub(self.running).filter(|free| *free > 0)?;
        // The fewer slots are free, the fewer slots one namespace may use. So there is a free slot
        // for the first job of another namespace, even if the calls of a dozen namespaces hang.
        let share = (free / 4).clamp(1, SLOTS_PER_NAMESPACE);
        let namespace = self.turns.values().find(|namespace| {
            self.lanes
                .get(*namespace)
                .is_some_and(|lane| lane.running < share)
        })?;
        let namespace = namespace.clone();
        let lane = self.lanes.get_mut(&namespace)?;
        let (number, name) = lane.ready.pop_first()?;
        lane.running += 1;
        self.running += 1;
        let key = JobKey { namespace, name };
        self.end_turn(&key.namespace);
        if let Some(entry) = self.jobs.get_mut(&key) {
            debug_assert_eq!(entry.place, Place::Ready(number));
            entry.place = Place::Running {
                is_dirty: false,
                is_forgotten: false,
            };
        }
        Some(key)
    }

    /// Records that the reconcile of `key` ended with `outcome`.
    pub fn finish(&mut self, key: &JobKey, outcome: Outcome, now: Instant) {
        let Some(entry) = self.jobs.get_mut(key) else {
            return;
        };
        let Place::Running {
            is_dirty,
            is_forgotten,
        } = entry.place
        else {
            return;
        };
        let outcome = match outcome {
            Outcome::BackOff(wait) if defect::is(Defect::BackoffBypassed) => {
                Outcome::LookAgain(wait)
            }
            Outcome::Settled | Outcome::LookAgain(_) | Outcome::BackOff(_) | Outcome::Gone => {
                outcome
            }
        };
        let at = |wait: Duration| now + wait.min(LONGEST_WAIT);
        let soonest = match outcome {
            Outcome::BackOff(wait) => at(wait.max(SPACING)),
            Outcome::Settled | Outcome::LookAgain(_) | Outcome::Gone => at(SPACING),
        };
        entry.place = Place::Idle;
        entry.not_before = soonest;
        self.free_slot(&key.namespace);
        if is_forgotten || (outcome == Outcome::Gone && !is_dirty) {
            self.jobs.remove(key);
            return;
        }
        match outcome {
            Outcome::BackOff(_) => self.schedule(key, soonest),
            _ if is_dirty => self.schedule(key, soonest),
            Outcome::LookAgain(wait) => self.schedule(key, at(wait).max(soonest)),
            Outcome::Settled | Outcome::Gone => {}
        }
    }

    /// Returns the next time at which another job becomes ready without a change.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Returns the number of jobs that are ready and wait for a slot, and the number of running
    /// jobs.
    pub fn depth(&self) -> (usize, usize) {
        let ready = self.lanes.values().map(|lane| lane.ready.len()).sum();
        (ready, self.running)
    }

    /// Makes an idle job due at `due`.
    fn schedule(&mut self, key: &JobKey, due: Instant) {
        if let Some(entry) = self.jobs.get_mut(key) {
            entry.place = Place::Timed(due);
            self.timed.insert((due, key.clone()));
        }
    }

    /// Moves due jobs to their namespaces' lanes.
    fn make_ready(&mut self, now: Instant) {
        while let Some((at, key)) = self.timed.pop_first() {
            if at > now {
                self.timed.insert((at, key));
                return;
            }
            let number = self.number();
            let lane = self.lanes.entry(key.namespace.clone()).or_default();
            lane.ready.insert(number, key.name.clone());
            if lane.turn.is_none() {
                lane.turn = Some(number);
                self.turns.insert(number, key.namespace.clone());
            }
            if let Some(entry) = self.jobs.get_mut(&key) {
                entry.place = Place::Ready(number);
            }
        }
    }

    /// Ends the turn of a namespace: all other waiting namespaces have a turn before its next one.
    fn end_turn(&mut self, namespace: &str) {
        let number = self.number();
        let Some(lane) = self.lanes.get_mut(namespace) else {
            return;
        };
        if let Some(turn) = lane.turn.take() {
            self.turns.remove(&turn);
        }
        if !lane.ready.is_empty() {
            lane.turn = Some(number);
            self.turns.insert(number, namespace.to_owned());
        }
    }

    fn leave_lane(&mut self, key: &JobKey, number: u64) {
        let Some(lane) = self.lanes.get_mut(&key.namespace) else {
            return;
        };
        lane.ready.remove(&number);
        if lane.ready.is_empty()
            && let Some(turn) = lane.turn.take()
        {
            self.turns.remove(&turn);
        }
        self.drop_empty_lane(&key.namespace);
    }

    fn free_slot(&mut self, namespace: &str) {
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(namespace) {
            lane.running = lane.running.saturating_sub(1);
        }
        self.drop_empty_lane(namespace);
    }

    fn drop_empty_lane(&mut self, namespace: &str) {
        if self
            .lanes
            .get(namespace)
            .is_some_and(|lane| lane.running == 0 && lane.ready.is_empty())
        {
            self.lanes.remove(namespace);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

impl std::fmt::Display for JobKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
