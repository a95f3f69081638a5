//! A fleet of thousands of workers with one slot each, a coordinator, and a ledger and storage that
//! are always fast. Scenarios say which events happen to the fleet. Time advances in steps of half
//! a second, and nothing is random.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cluster::{output, plan};
use crate::coordinator::record::LogRecord;
use crate::coordinator::{Config, Effect, Event, PodEndCause, Report, State, ToWorker, step};
use crate::id::{Epoch, SessionId, TaskAttempt, TaskId, Timestamp, WorkerId};
use crate::invariants;

/// The state of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Lives,
    /// It works, but its messages do not arrive.
    Silent,
    Dead,
}

struct Worker {
    incarnation: u64,
    life: Life,
    session: Option<SessionId>,
    connects_at: u64,
    /// The attempts that it holds, each with the time at which it is done.
    held: BTreeMap<TaskAttempt, u64>,
    unacknowledged: BTreeSet<TaskAttempt>,
    loses_next_reply: bool,
}

/// A coordinator that was replaced and has not noticed that.
struct Frozen {
    state: State,
    inbox: Vec<Event>,
}

/// How a death is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The stream breaks.
    Stream,
    Nothing,
    /// The streams of half of the dead workers break. Nothing shows that the other half is dead.
    Half,
    /// The operator sees that the pod is gone.
    Operator,
}

/// The events so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) runs: u64,
    pub(super) reports: u64,
    pub(super) discarded: u64,
    pub(super) charged: u64,
}

/// How workers used their time, added up over all workers, in milliseconds. A worker has one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WorkerTime {
    /// The total.
    pub(super) lived: u64,
    /// The time in which they had an attempt to run.
    pub(super) busy: u64,
    /// The time in which they had no attempt to run, although at least one task was not committed
    /// and no live worker had it.
    pub(super) idle_beside_work: u64,
    /// The part of `busy` that was spent on attempts whose workers then died. No coordinator can
    /// save this work.
    pub(super) died_with_workers: u64,
}

/// The fleet, its coordinator, ledger and storage.
pub(super) struct Fleet {
    pub(super) state: State,
    pub(super) now: u64,
    pub(super) counts: Counts,
    pub(super) time: WorkerTime,
    shards: Vec<u32>,
    task_ms: u64,
    epoch: u64,
    appended: u64,
    ledger: Vec<LogRecord>,
    committed: BTreeSet<TaskId>,
    stalled_until: u64,
    /// Messages that arrive while the coordinator is stopped.
    inbox: Vec<Event>,
    /// Consequences of the event that is being handled.
    pending: VecDeque<Event>,
    is_learning: bool,
    frozen: Option<Frozen>,
    workers: BTreeMap<u64, Worker>,
    sessions: BTreeMap<SessionId, u64>,
    next_session: u64,
}

const STEP_MS: u64 = 500;
const HEARTBEAT_MS: u64 = 5_000;

impl Fleet {
    pub(super) fn new(shards: &[u32], task_ms: u64) -> Self {
        let state = State::new(Config::new(3, 0), &plan(shards), Epoch(1), Vec::new()).unwrap();
        let mut fleet = Self {
            state,
            now: 0,
            counts: Counts::default(),
            time: WorkerTime::default(),
            shards: shards.to_vec(),
            task_ms,
            epoch: 1,
            appended: 0,
            ledger: Vec::new(),
            committed: BTreeSet::new(),
            stalled_until: 0,
            inbox: Vec::new(),
            pending: VecDeque::new(),
            is_learning: false,
            frozen: None,
            workers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 0,
        };
        let effects = fleet.state.start(Timestamp(0));
        fleet.carry_out(effects);
        fleet
    }

    pub(super) fn report(&self) -> Report {
        self.state.report()
    }

    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    // What happens.

    pub(super) fn register(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.workers.len() as u64;
            let worker = Worker {
                incarnation: 1,
                life: Life::Lives,
                session: None,
                connects_at: self.now,
                held: BTreeMap::new(),
                unacknowledged: BTreeSet::new(),
                loses_next_reply: false,
            };
            self.workers.insert(number, worker);
            self.connect(number);
        }
    }

    /// The first `count` workers of this kind, by number.
    fn first(&self, count: usize, life: Life) -> Vec<u64> {
        let workers = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.life == life);
        workers.map(|(number, _)| *number).take(count).collect()
    }

    pub(super) fn living(&self) -> usize {
        self.first(usize::MAX, Life::Lives).len()
    }

    pub(super) fn die(&mut self, count: usize, notice: Notice) {
        for (position, number) in (0..).zip(self.first(count, Life::Lives)) {
            let Some(worker) = self.workers.get_mut(&number) else {
                continue;
            };
            worker.life = Life::Dead;
            let left = worker.held.values().map(|end| end - self.now);
            let done = left.map(|left| self.task_ms - left);
            self.time.died_with_workers += done.sum::<u64>();
            worker.held.clear();
            worker.unacknowledged.clear();
            let breaks = match notice {
                Notice::Stream => true,
                Notice::Half => position % 2 == 0,
                Notice::Nothing | Notice::Operator => false,
            };
            if let Some(session) = worker.session.take() {
                self.sessions.remove(&session);
                if breaks {
                    self.receives(Event::SessionClosed { session });
                }
            }
            if notice == Notice::Operator {
                self.receives(Event::PodEnded {
                    pod_uid: format!("pod-{number}"),
                    cause: PodEndCause::Disruption,
                    reason: "TerminationByKubelet".to_owned(),
                });
            }
        }
    }

    /// Dead workers come back as new processes of their pods.
    pub(super) fn come_back(&mut self, count: usize) {
        for number in self.first(count, Life::Dead) {
            if let Some(worker) = self.workers.get_mut(&number) {
                worker.life = Life::Lives;
                worker.incarnation += 1;
            }
            self.connect(number);
        }
    }

    pub(super) fn fall_silent(&mut self, count: usize) {
        for number in self.first(count, Life::Lives) {
            if let Some(worker) = self.workers.get_mut(&number) {
                worker.life = Life::Silent;
            }
        }
    }

    /// The messages of silent workers arrive again, including those about everything that they have
    /// done in the meantime.
    pub(super) fn the_silent_return(&mut self) {
        for number in self.first(usize::MAX, Life::Silent) {
            if let Some(worker) = self.workers.get_mut(&number) {
                worker.life = Life::Lives;
            }
            self.breaks(number);
            self.connect(number);
        }
    }

    pub(super) fn replies_are_lost(&mut self, count: usize) {
        for number in self.first(count, Life::Lives) {
            if let Some(worker) = self.workers.get_mut(&number) {
                worker.loses_next_reply = true;
            }
        }
    }

    pub(super) fn coordinator_stalls(&mut self, milliseconds: u64) {
        self.stalled_until = self.now + milliseconds;
    }

    pub(super) fn coordinator_freezes(&mut self) {
        self.frozen = Some(Frozen {
            state: self.state.clone(),
            inbox: Vec::new(),
        });
    }

    /// A coordinator of the next epoch takes over from the ledger; all workers connect to it one
    /// after another.
    pub(super) fn successor_starts(&mut self) {
        self.epoch += 1;
        self.appended = 0;
        let (config, epoch) = (Config::new(3, 0), Epoch(self.epoch));
        let replay = self.ledger.clone();
        self.state = State::new(config, &plan(&self.shards), epoch, replay).unwrap();
        let effects = self.state.start(Timestamp(self.now));
        self.carry_out(effects);
        for number in self.first(usize::MAX, Life::Lives) {
            if let Some(worker) = self.workers.get_mut(&number) {
                worker.connects_at = self.now + STEP_MS * (1 + number % 10);
                if let Some(session) = worker.session.take() {
                    self.sessions.remove(&session);
                }
            }
        }
    }

    /// The frozen coordinator handles all messages that it received, and ends when it finds its log
    /// sealed. Returns the number of messages that it read, and whether it tried to write.
    pub(super) fn the_frozen_wakes(&mut self) -> Option<(usize, bool)> {
        let Frozen { mut state, inbox } = self.frozen.take()?;
        for (read, event) in (1..).zip(&inbox) {
            let effects = step(&mut state, event.clone(), Timestamp(self.now));
            if effects
                .iter()
                .any(|effect| matches!(effect, Effect::Append { .. }))
            {
                return Some((read, true));
            }
        }
        Some((inbox.len(), false))
    }

    // Time.

    /// Half a second.
    pub(super) fn passes(&mut self) {
        self.now += STEP_MS;
        self.count_the_time();
        if self.now == self.stalled_until {
            // This is the worst order: first the tick, then all messages that were sent before it.
            self.learns(Event::Tick);
            for event in std::mem::take(&mut self.inbox) {
                self.learns(event);
            }
        }
        self.workers_continue();
        if self.now >= self.stalled_until && !self.is_frozen_the_newest() {
            self.learns(Event::Tick);
        }
    }

    pub(super) fn check(&self) {
        if let Err(violation) = invariants::check(&self.state) {
            panic!("at {} ms: {violation}", self.now);
        }
    }

    fn is_frozen_the_newest(&self) -> bool {
        self.frozen
            .as_ref()
            .is_some_and(|frozen| frozen.state.epoch.0 == self.epoch)
    }

    /// The work of all workers in the last step.
    fn count_the_time(&mut self) {
        let mut at_workers = BTreeSet::new();
        let mut idle = 0;
        for worker in self.workers.values() {
            if worker.life != Life::Lives {
                continue;
            }
            self.time.lived += STEP_MS;
            let here = worker.held.keys().chain(&worker.unacknowledged);
            at_workers.extend(here.map(|task| task.task));
            if worker.held.is_empty() {
                idle += STEP_MS;
            } else {
                self.time.busy += STEP_MS;
            }
        }
        let all: u64 = self.shards.iter().map(|shards| u64::from(*shards)).sum();
        let is_open = |task: &&TaskId| !self.committed.contains(task);
        let unfinished = at_workers.iter().filter(is_open).count();
        let found = (self.committed.len() + unfinished) as u64;
        if found < all {
            self.time.idle_beside_work += idle;
        }
    }

    fn workers_continue(&mut self) {
        let numbers: Vec<u64> = self.workers.keys().copied().collect();
        for number in numbers {
            let now = self.now;
            let Some(worker) = self.workers.get_mut(&number) else {
                continue;
            };
            let done: Vec<TaskAttempt> = worker
                .held
                .iter()
                .filter(|(_, end)| **end <= now)
                .map(|(task, _)| *task)
                .collect();
            worker.held.retain(|task, _| !done.contains(task));
            worker.unacknowledged.extend(&done);
            if worker.life != Life::Lives {
                continue;
            }
            match worker.session {
                None if worker.connects_at <= now => self.connect(number),
                None => {}
                Some(session) => {
                    if now.is_multiple_of(HEARTBEAT_MS) {
                        self.receives(Event::Heartbeat { session });
                    }
                    self.says_done(session, done);
                }
            }
        }
    }

    // Workers.

    fn connect(&mut self, number: u64) {
        let Some(worker) = self.workers.get_mut(&number) else {
            return;
        };
        self.next_session += 1;
        let session = SessionId(self.next_session);
        worker.session = Some(session);
        self.sessions.insert(session, number);
        let id = WorkerId::parse(&format!("pod-{number}"), worker.incarnation).unwrap();
        let done: Vec<TaskAttempt> = worker.unacknowledged.iter().copied().collect();
        let running = worker.held.keys().chain(&done).copied().collect();
        self.receives(Event::Hello {
            session,
            worker: id,
            ordinal: None,
            slots: 1,
            running,
        });
        self.says_done(session, done);
    }

    fn says_done(&mut self, session: SessionId, done: Vec<TaskAttempt>) {
        if done.is_empty() {
            return;
        }
        self.counts.reports += done.len() as u64;
        let last = self.shards.len() - 1;
        let tasks = done.into_iter().map(|task| {
            let is_last = task.task.stage.0 as usize == last;
            (task, output(task, is_last))
        });
        let tasks = tasks.collect();
        self.receives(Event::Done { session, tasks });
    }

    /// A worker's stream breaks, and the coordinator sees it.
    fn breaks(&mut self, number: u64) {
        let session = self
            .workers
            .get_mut(&number)
            .and_then(|worker| worker.session.take());
        if let Some(session) = session {
            self.sessions.remove(&session);
            self.receives(Event::SessionClosed { session });
        }
    }

    fn obeys(&mut self, session: SessionId, message: ToWorker) {
        let Some(number) = self.sessions.get(&session).copied() else {
            return;
        };
        let end = self.now + self.task_ms;
        let Some(worker) = self.workers.get_mut(&number) else {
            return;
        };
        if worker.loses_next_reply && matches!(message, ToWorker::Ack(_)) {
            worker.loses_next_reply = false;
            worker.connects_at = self.now + 1_000;
            self.breaks(number);
            return;
        }
        match message {
            ToWorker::Run(tasks) => {
                for run in tasks {
                    let is_new = !self.committed.contains(&run.task.task);
                    assert!(is_new, "{}: a completed task runs again", run.task);
                    self.counts.runs += 1;
                    worker.held.insert(run.task, end);
                }
            }
            ToWorker::Cancel(tasks) => {
                worker.held.retain(|task, _| !tasks.contains(task));
                worker.unacknowledged.retain(|task| !tasks.contains(task));
            }
            ToWorker::Ack(tasks) => worker.unacknowledged.retain(|task| !tasks.contains(task)),
            ToWorker::Welcome { .. } | ToWorker::Shutdown => {}
        }
    }

    // The coordinator.

    /// Delivers a message to the current coordinator.
    pub(super) fn receives(&mut self, event: Event) {
        if self.is_frozen_the_newest()
            && let Some(frozen) = &mut self.frozen
        {
            frozen.inbox.push(event);
        } else if self.now < self.stalled_until {
            self.inbox.push(event);
        } else {
            self.learns(event);
        }
    }

    /// Handles events one after another. The events that follow from an event are handled after all
    /// effects of that event.
    fn learns(&mut self, event: Event) {
        self.pending.push_back(event);
        if self.is_learning {
            return;
        }
        self.is_learning = true;
        while let Some(event) = self.pending.pop_front() {
            let effects = step(&mut self.state, event, Timestamp(self.now));
            self.carry_out(effects);
        }
        self.is_learning = false;
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { session, message } => self.obeys(session, message),
                Effect::Close { session, .. } => {
                    let number = self.sessions.remove(&session);
                    if let Some(worker) = number.and_then(|number| self.workers.get_mut(&number)) {
                        worker.session = None;
                        worker.connects_at = self.now + 1_000;
                    }
                }
                Effect::Append { records, .. } => self.append(records),
                Effect::Finalize { task, .. } => {
                    self.learns(Event::FileFinalized { task: task.task });
                }
                Effect::WriteManifest { .. } => self.learns(Event::ManifestWritten {
                    manifest: String::new(),
                }),
                Effect::PublishStage { stage, version, .. } => {
                    let outputs = format!("outputs/{stage}/{version}");
                    self.learns(Event::StagePublished {
                        stage,
                        version,
                        outputs,
                    });
                }
                Effect::Discard { .. } => self.counts.discarded += 1,
                Effect::AttemptsEnded(_) => {}
            }
        }
    }

    fn append(&mut self, records: Vec<LogRecord>) {
        for record in &records {
            match record {
                LogRecord::Done { task, .. } => {
                    assert!(
                        self.committed.insert(task.task),
                        "{task} is committed again"
                    );
                }
                LogRecord::Failed { .. } => self.counts.charged += 1,
                LogRecord::Revoked { .. }
                | LogRecord::StageFinished { .. }
                | LogRecord::Finalized { .. }
                | LogRecord::Result(_)
                | LogRecord::Restarted(_) => {}
            }
        }
        self.appended += records.len() as u64;
        self.ledger.extend(records);
        let through = self.appended - 1;
        self.learns(Event::Durable { through });
    }
}
