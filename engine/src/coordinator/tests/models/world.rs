//! Model of everything except the coordinator: streams, workers, ledger and object store. It lists
//! the events that can happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Shared;
use super::coordinator::{Call, Coordinator};
use super::setting::{Faults, Rule, Setting};
use super::worker::Worker;
use crate::coordinator::record::{JobResult, LogRecord};
use crate::coordinator::{Event, ToWorker};
use crate::id::{SessionId, TaskAttempt, TaskId};

/// A message of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Up {
    Hello {
        /// The newest epoch that it has seen.
        newest: u64,
        running: Vec<TaskAttempt>,
    },
    Done(Vec<TaskAttempt>),
    Draining(Vec<TaskAttempt>),
    Bye,
}

/// A stream. Its messages arrive in order. It may break at any point, and then no further message
/// arrives.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Link {
    pub(super) worker: usize,
    pub(super) epoch: u64,
    pub(super) session: SessionId,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<ToWorker>,
    /// Whether the worker's end is gone. Its earlier messages can still be read.
    pub(super) is_broken: bool,
}

impl Link {
    pub(super) fn new(worker: usize, epoch: u64, session: SessionId, hello: Up) -> Self {
        Self {
            worker,
            epoch,
            session,
            up: VecDeque::from([hello]),
            down: VecDeque::new(),
            is_broken: false,
        }
    }

    pub(super) fn breaks(&mut self) {
        self.is_broken = true;
        self.down.clear();
    }
}

/// The final files and uploads in the object store.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct Store {
    /// Uploads that were not turned into files yet. Each has all of its parts.
    pub(super) uploads: BTreeSet<TaskAttempt>,
    /// The attempt whose bytes are stored under each task's final name. The bytes of different
    /// attempts differ.
    pub(super) files: BTreeMap<TaskId, TaskAttempt>,
    pub(super) has_manifest: bool,
}

impl Store {
    /// Turns an upload into the file; returns whether there was such an upload.
    pub(super) fn complete(&mut self, task: TaskAttempt) -> bool {
        let is_there = self.uploads.remove(&task);
        if is_there {
            self.files.insert(task.task, task);
        }
        is_there
    }
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct World {
    /// Milliseconds.
    pub(super) now: u64,
    pub(super) newest_epoch: u64,
    pub(super) ledger: Shared<Vec<LogRecord>>,
    pub(super) store: Store,
    /// The coordinators, the newest last. Those of older epochs have not noticed yet that they were
    /// replaced.
    pub(super) coordinators: Vec<Coordinator>,
    /// Calls that outlived their coordinator.
    pub(super) strays: BTreeSet<Call>,
    pub(super) links: Vec<Link>,
    pub(super) workers: Vec<Worker>,
    /// Workers whose end the operator has not reported yet.
    pub(super) pod_ends: BTreeSet<usize>,
    /// Faults that can still happen.
    pub(super) left: Faults,
    /// The rule that was violated.
    pub(super) broken: Option<Rule>,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Starts,
    /// The coordinator dies. Its put into the ledger has arrived before that, or never arrives.
    Crashes {
        put_arrives: bool,
    },
    /// Another coordinator takes over, and the process of the old one continues to run.
    IsReplaced {
        put_arrives: bool,
    },
    /// A superseded coordinator is ended.
    IsEnded(u64),
    PutEnds(u64),
    CallEnds(u64, Call),
    CallLosesItsReply(u64, Call),
    StrayArrives(Call),
    Reads(u64, SessionId),
    StreamEnds(u64, SessionId),
    Breaks(usize),
    Connects(usize),
    Receives(usize),
    Finishes(usize, TaskAttempt),
    ReceivesSigterm(usize),
    Ends(usize),
    IsKilled(usize),
    PodEndReported(usize),
    FallsSilent(usize),
    Speculates,
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let mut world = Self {
            now: 0,
            newest_epoch: 0,
            ledger: Shared::new(Vec::new()),
            store: Store::default(),
            coordinators: Vec::new(),
            strays: BTreeSet::new(),
            links: Vec::new(),
            workers: vec![Worker::default(); setting.workers],
            pod_ends: BTreeSet::new(),
            left: setting.faults,
            broken: None,
        };
        world.starts(setting);
        world
    }

    pub(super) fn link_mut(&mut self, epoch: u64, session: SessionId) -> Option<&mut Link> {
        let mut links = self.links.iter_mut();
        links.find(|link| link.epoch == epoch && link.session == session)
    }

    /// The coordinator's end of a stream is gone.
    pub(super) fn cuts(&mut self, epoch: u64, session: SessionId) {
        let is_this = |link: &Link| link.epoch == epoch && link.session == session;
        let Some(position) = self.links.iter().position(is_this) else {
            return;
        };
        let link = self.links.remove(position);
        if !link.is_broken {
            self.loses_its_stream(link.worker);
        }
    }

    /// The newest coordinator, if it exists.
    pub(super) fn newest(&self) -> Option<&Coordinator> {
        self.coordinator(self.newest_epoch)
    }

    /// How the job ended, according to the ledger.
    pub(super) fn result(&self) -> Option<&JobResult> {
        match self.ledger.last() {
            Some(LogRecord::Result(result)) => Some(result),
            Some(_) | None => None,
        }
    }

    /// The attempt whose commit is in the ledger.
    pub(super) fn winner(&self, task: TaskId) -> Option<TaskAttempt> {
        let mut winner = None;
        for record in self.ledger.iter() {
            if let LogRecord::Done { task: done, .. } = record
                && done.task == task
            {
                winner = Some(*done);
            } else if let LogRecord::Revoked { task: revoked } = record
                && revoked.task == task
            {
                winner = None;
            }
        }
        winner
    }

    /// Events that happen by themselves. If none of them is left, the run is over.
    pub(super) fn progress(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.newest().is_none() && self.broken.is_none() {
            actions.push(Action::Starts);
        }
        for coordinator in &self.coordinators {
            let epoch = coordinator.epoch;
            if epoch < self.newest_epoch {
                actions.push(Action::IsEnded(epoch));
            }
            if coordinator.put.is_some() {
                actions.push(Action::PutEnds(epoch));
            }
            actions.extend(
                coordinator
                    .calls
                    .iter()
                    .map(|call| Action::CallEnds(epoch, *call)),
            );
        }
        actions.extend(self.strays.iter().map(|call| Action::StrayArrives(*call)));
        for link in &self.links {
            if !link.up.is_empty() {
                actions.push(Action::Reads(link.epoch, link.session));
            }
            if link.is_broken {
                actions.push(Action::StreamEnds(link.epoch, link.session));
            }
            if !link.down.is_empty() {
                actions.push(Action::Receives(link.worker));
            }
        }
        for (number, worker) in self.workers.iter().enumerate() {
            let is_away = worker.link.is_none() && !worker.has_ended;
            if is_away && !worker.is_draining && self.newest().is_some() {
                actions.push(Action::Connects(number));
            }
            actions.extend(
                worker
                    .running
                    .iter()
                    .map(|task| Action::Finishes(number, *task)),
            );
            if worker.is_draining {
                actions.push(Action::Ends(number));
            }
            if self.pod_ends.contains(&number) {
                if self.newest().is_some() {
                    actions.push(Action::PodEndReported(number));
                }
            } else if worker.has_ended && self.knows(self.newest_epoch, number) {
                actions.push(Action::FallsSilent(number));
            }
        }
        actions
    }

    /// Faults.
    pub(super) fn faults(&self, setting: &Setting) -> Vec<Action> {
        let mut actions = Vec::new();
        let left = self.left;
        if let Some(newest) = self.newest() {
            let fates = |fate: fn(bool) -> Action| {
                let arrives = newest.put.as_ref().map(|_| fate(true));
                arrives.into_iter().chain([fate(false)])
            };
            if left.crashes > 0 {
                actions.extend(fates(|put_arrives| Action::Crashes { put_arrives }));
            }
            if left.rivals > 0 {
                actions.extend(fates(|put_arrives| Action::IsReplaced { put_arrives }));
            }
        }
        if left.lost_replies > 0 {
            for coordinator in &self.coordinators {
                let completing = coordinator.calls.iter().filter(|call| match call {
                    Call::Complete(task) => self.store.uploads.contains(task),
                    Call::Look(_) | Call::Abort(_) | Call::WriteManifest => false,
                });
                let epoch = coordinator.epoch;
                actions.extend(completing.map(|call| Action::CallLosesItsReply(epoch, *call)));
            }
        }
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.has_ended {
                continue;
            }
            if left.breaks > 0 && worker.link.is_some() {
                actions.push(Action::Breaks(number));
            }
            if left.silences > 0 && self.knows(self.newest_epoch, number) {
                actions.push(Action::FallsSilent(number));
            }
            // One worker stays, because otherwise nobody could end the job.
            if number == 0 {
                if left.drains > 0 && !worker.is_draining {
                    actions.push(Action::ReceivesSigterm(number));
                }
                if left.deaths > 0 {
                    actions.push(Action::IsKilled(number));
                }
            }
        }
        if left.speculations > 0 && self.would_speculate(setting) {
            actions.push(Action::Speculates);
        }
        actions
    }

    pub(super) fn take(&mut self, setting: &Setting, action: Action) {
        match action {
            Action::Starts => self.starts(setting),
            Action::Crashes { put_arrives } => {
                self.left.crashes -= 1;
                self.put_is_decided(put_arrives);
                self.coordinator_ends(setting, self.newest_epoch);
            }
            Action::IsReplaced { put_arrives } => {
                self.left.rivals -= 1;
                self.put_is_decided(put_arrives);
                self.starts(setting);
            }
            Action::IsEnded(epoch) => self.coordinator_ends(setting, epoch),
            Action::PutEnds(epoch) => self.put_ends(setting, epoch),
            Action::CallEnds(epoch, call) => self.call_ends(setting, epoch, call),
            Action::CallLosesItsReply(_, call) => {
                self.left.lost_replies -= 1;
                self.call_arrives(setting, call);
            }
            Action::StrayArrives(call) => {
                self.strays.remove(&call);
                self.call_arrives(setting, call);
            }
            Action::Reads(epoch, session) => self.reads(setting, epoch, session),
            Action::StreamEnds(epoch, session) => self.stream_ends(setting, epoch, session),
            Action::Breaks(worker) => {
                self.left.breaks -= 1;
                if let Some((epoch, session)) = self.workers[worker].link
                    && let Some(link) = self.link_mut(epoch, session)
                {
                    link.breaks();
                }
                self.loses_its_stream(worker);
            }
            Action::Connects(worker) => self.connects(worker),
            Action::Receives(worker) => self.receives(worker),
            Action::Finishes(worker, task) => self.finishes(setting, worker, task),
            Action::ReceivesSigterm(worker) => {
                self.left.drains -= 1;
                self.receives_sigterm(worker);
            }
            Action::Ends(worker) => self.process_ends(worker),
            Action::IsKilled(worker) => {
                self.left.deaths -= 1;
                self.pod_ends.insert(worker);
                self.process_ends(worker);
            }
            Action::PodEndReported(worker) => self.pod_end_reported(setting, worker),
            Action::FallsSilent(worker) => {
                if !self.workers[worker].has_ended {
                    self.left.silences -= 1;
                }
                self.falls_silent(setting, worker);
            }
            Action::Speculates => {
                self.left.speculations -= 1;
                self.takes_in(setting, self.newest_epoch, Event::Tick);
            }
        }
    }

    /// Called before the log of the newest coordinator is sealed. If `arrives`, its put arrives
    /// before the seal. Otherwise the put will find the log sealed.
    fn put_is_decided(&mut self, arrives: bool) {
        let epoch = self.newest_epoch;
        let newest = self
            .coordinators
            .iter_mut()
            .find(|known| known.epoch == epoch);
        if arrives && let Some(put) = newest.and_then(|newest| newest.put.as_mut()) {
            put.is_applied = true;
            let records = put.records.clone();
            self.commit(records);
        }
    }
}
