//! Which job is looked at next, and when: a set of keys with due times.
//!
//! Pure: no clock, no runtime; `driver.rs` runs what is taken. Bounded by the number of jobs, however much happens to each of
//! them. Four rules hold, each tested as a property:
//!
//! - A change that arrives is followed by a look that starts after it.
//! - A job is looked at once at a time.
//! - Nothing shortens a back-off: a change during it is seen when it ends. That includes edits of the spec. The longest
//!   back-off after a failed call is a minute, and an edit that ended it would let a loop of edits pass it by.
//! - Namespaces take turns, and one namespace never holds all slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::defect::{self, Defect};

/// Jobs that are looked at at the same time. A look waits for the API server most of the time, and one that hangs ends with
/// its calls' time-out, so slots cost little and are many.
pub const SLOTS: usize = 128;
/// Slots of one namespace at most: as many calls as an API server answers at once for one client without complaint.
pub const SLOTS_PER_NAMESPACE: usize = 16;
/// The least time between the end of one look at a job and the start of the next: what happens meanwhile is seen together.
pub const SPACING: Duration = Duration::from_millis(100);
/// The longest wait: a timer further away is set again by the look that it would cause.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// A job by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The job's namespace.
    pub namespace: String,
    /// The job's name.
    pub name: String,
}

/// What a look at a job asks of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Look again when something changes.
    Settled,
    /// Look again when something changes, or after this time.
    LookAgain(Duration),
    /// Look again after this time, and not before, whatever changes.
    BackOff(Duration),
    /// There is no such job.
    Gone,
}

/// The set of keys.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: BTreeMap<JobKey, Entry>,
    /// Due in the future.
    timed: BTreeSet<(Instant, JobKey)>,
    lanes: BTreeMap<String, Lane>,
    /// Namespaces with jobs that are ready, by the number of their turn.
    turns: BTreeMap<u64, String>,
    /// Numbers of turns, and of places within a lane.
    next_number: u64,
    running: usize,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// No look starts before: the end of the spacing or of the back-off.
    not_before: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Idle,
    Timed(Instant),
    /// Its place in its namespace's lane.
    Ready(u64),
    Running {
        /// Something changed since the look started.
        is_dirty: bool,
        /// The job was deleted since the look started.
        is_forgotten: bool,
    },
}

/// The jobs of one namespace that are ready or running.
#[derive(Debug, Default)]
struct Lane {
    ready: BTreeMap<u64, String>,
    /// Present while `ready` is not empty.
    turn: Option<u64>,
    running: usize,
}

impl Queue {
    /// Something about a job changed: it is looked at as soon as its spacing or back-off allows.
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

    /// The job is gone: what was due is not done. A look that runs goes on.
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

    /// The next job to look at, if one is due and a slot is free. It runs until [`Self::finish`].
    pub fn take(&mut self, now: Instant) -> Option<JobKey> {
        self.make_ready(now);
        let free = SLOTS.checked_sub(self.running).filter(|free| *free > 0)?;
        // The fewer slots are free, the fewer one namespace may hold: a namespace that comes late finds one even if the calls
        // of a dozen others hang.
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

    /// The look at `key` ended.
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

    /// When time alone makes another job ready.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Jobs that are ready and wait for a slot, and jobs that run.
    pub fn depth(&self) -> (usize, usize) {
        let ready = self.lanes.values().map(|lane| lane.ready.len()).sum();
        (ready, self.running)
    }

    /// Puts a job that is in no place to where it is found at `due`.
    fn schedule(&mut self, key: &JobKey, due: Instant) {
        if let Some(entry) = self.jobs.get_mut(key) {
            entry.place = Place::Timed(due);
            self.timed.insert((due, key.clone()));
        }
    }

    /// Moves what is due to its namespace's lane.
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

    /// A namespace had its turn: the next one comes after everybody else's.
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
