//! Handles sessions that begin, are superseded or break, and workers that leave. Compares a
//! worker's own list of attempts with the coordinator's list, and keeps, cancels or requeues each
//! attempt exactly once. Chooses no tasks.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::coordinator::attempts::Ending;
use crate::coordinator::config::{
    ADOPTION_PREFERENCE_MS, EARLY_END_MS, MAX_PREDECESSORS, MAX_SLOTS,
};
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::liveness::Loss;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::state::{
    JobState, Link, RunningAttempt, State, Task, TaskState, Worker, WorkerNumber,
};
use crate::id::{Attempt, SessionId, TaskAttempt, TaskId, Timestamp, WorkerId};

/// The identity that a worker claims.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedIdentity {
    pub(crate) id: WorkerId,
    pub(crate) ordinal: Option<u32>,
    pub(crate) slots: u32,
}

/// The status of an attempt that a worker reports, in the coordinator's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// This worker is running it.
    Running,
    /// Another worker is running it.
    RunningElsewhere,
    /// It won.
    Winner {
        /// Whether its record is durable.
        durable: bool,
    },
    /// Another attempt of its task won.
    Superseded,
    /// It failed, or it won and its output was lost afterwards.
    DealtWith,
    /// Its task is not running anywhere, and the attempt may have been dispatched earlier.
    Adoptable,
    /// It must not run.
    Unknown,
}

impl State {
    pub(crate) fn on_hello(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        session: SessionId,
        claimed: ClaimedIdentity,
        running: &[TaskAttempt],
    ) {
        let ClaimedIdentity { id, ordinal, slots } = claimed;
        if self.sessions.contains_key(&session) {
            out.close(session, "the worker sent Hello twice in one session");
            return;
        }
        if defect::is(Defect::ReregisterClearsFailures) {
            self.histories.clear();
        }
        let known = self.pods.get(id.pod_uid()).copied();
        if known
            .and_then(|number| self.workers.get(&number))
            .is_some_and(|worker| worker.newest_session > session)
        {
            out.close(session, "a newer session of the same pod was here first");
            return;
        }
        let number = match known {
            Some(number)
                if self
                    .workers
                    .get(&number)
                    .is_some_and(|worker| worker.id == id) =>
            {
                if let Some(old) = self.session_of(number) {
                    self.sessions.remove(&old);
                    out.close(old, "the worker opened a newer session");
                }
                number
            }
            Some(number) if self.is_replaced(number, &id) => {
                out.close(session, "a newer process of the same pod replaced it");
                return;
            }
            Some(number) => {
                let predecessors = self.predecessors_after(number);
                let loss = self.by_early_end(now, number, Loss::Replaced);
                // The pod did not end when its earlier process handed its attempts back, so no
                // report about these attempts will arrive.
                self.unexplained.remove(id.pod_uid());
                self.lose(out, now, number, &loss);
                let successor = self.register(now, session, id, ordinal);
                self.with_worker(successor, |worker| worker.predecessors = predecessors);
                successor
            }
            None => {
                self.unexplained.remove(id.pod_uid());
                self.register(now, session, id, ordinal)
            }
        };
        self.sessions.insert(session, number);
        let interval_ms = self.config.heartbeat.interval_ms(self.workers.len());
        let silence_ms = self.config.heartbeat.silence_ms(interval_ms);
        self.with_worker(number, |worker| {
            worker.link = Link::Connected(session);
            worker.newest_session = session;
            worker.slots = slots.clamp(1, MAX_SLOTS);
            worker.last_seen = now;
            worker.silence_ms = silence_ms;
            worker.early_end = None;
        });
        out.welcome(session, interval_ms);
        self.compare_running(out, now, number, session, running);
        if matches!(self.job, JobState::Ended { .. }) {
            out.shutdown(session);
        }
    }

    /// Whether another process of the same pod has replaced this process before. Without this
    /// check, two processes that live at the same time would replace each other forever.
    fn is_replaced(&self, number: WorkerNumber, id: &WorkerId) -> bool {
        self.workers
            .get(&number)
            .is_some_and(|worker| worker.predecessors.contains(&id.incarnation()))
    }

    /// The processes that count as replaced once this worker has a successor.
    fn predecessors_after(&self, number: WorkerNumber) -> VecDeque<u64> {
        let Some(worker) = self.workers.get(&number) else {
            return VecDeque::new();
        };
        let mut predecessors = worker.predecessors.clone();
        if predecessors.len() >= MAX_PREDECESSORS {
            predecessors.pop_front();
        }
        predecessors.push_back(worker.id.incarnation());
        predecessors
    }

    /// Returns how a process ended. If an early report said so, that report decides; if there is
    /// none, the answer is `otherwise`.
    pub(crate) fn by_early_end(
        &mut self,
        now: Timestamp,
        number: WorkerNumber,
        otherwise: Loss,
    ) -> Loss {
        let early_end = self.with_worker(number, |worker| worker.early_end.take());
        match early_end.flatten() {
            Some((reported, reason)) if now.since_ms(reported) < EARLY_END_MS => {
                Loss::Ended { reason }
            }
            Some(_) | None => otherwise,
        }
    }

    /// Adds a worker that was not known.
    fn register(
        &mut self,
        now: Timestamp,
        session: SessionId,
        id: WorkerId,
        ordinal: Option<u32>,
    ) -> WorkerNumber {
        let number = self.next_worker;
        self.next_worker = WorkerNumber(number.0 + 1);
        self.pods.insert(id.pod_uid().to_owned(), number);
        let worker = Worker {
            id,
            ordinal,
            link: Link::Reconnecting,
            newest_session: session,
            slots: 1,
            slots_of_stages: Arc::clone(&self.slots_of_stages),
            draining: false,
            is_let_go: self.is_above_kept(ordinal),
            known_since: now,
            last_seen: now,
            silence_ms: self
                .config
                .heartbeat
                .silence_ms(self.config.heartbeat.interval_min_ms),
            running: BTreeSet::new(),
            unhealthy: 0,
            rests_until: None,
            early_end: None,
            predecessors: VecDeque::new(),
        };
        self.workers.insert(number, worker);
        self.no_worker_since = None;
        number
    }

    /// Compares the attempts that the worker reports with those that the coordinator has for it.
    /// After this, both lists are equal as soon as the worker has received its `Cancel`s.
    fn compare_running(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        number: WorkerNumber,
        session: SessionId,
        named: &[TaskAttempt],
    ) {
        let named: BTreeSet<TaskAttempt> = named.iter().copied().collect();
        let known = self
            .workers
            .get(&number)
            .map(|worker| worker.running.clone())
            .unwrap_or_default();
        for task in known.difference(&named) {
            if !defect::is(Defect::NoRequeueOnReregister) {
                self.detach(out, number, *task, Ending::NotReceived, "");
            }
        }
        for task in named {
            match self.claim(now, number, task) {
                Claim::Running => {}
                Claim::Winner { durable: true } => out.ack(session, task),
                Claim::Winner { durable: false } => self.set_reporter(task, number),
                Claim::Adoptable => self.adopt(out, now, number, task),
                // It is not known whether the attempt still runs or is finished. The worker stops a
                // running attempt. It reports a finished attempt again, and then its file is
                // deleted.
                Claim::Superseded | Claim::DealtWith | Claim::RunningElsewhere | Claim::Unknown => {
                    out.cancel(session, task);
                }
            }
        }
    }

    /// The status of an attempt that a worker reports, in the coordinator's view.
    pub(crate) fn claim(
        &self,
        now: Timestamp,
        number: WorkerNumber,
        spoken_of: TaskAttempt,
    ) -> Claim {
        let attempt = spoken_of.attempt;
        let Some(task) = self.task(spoken_of.task) else {
            return Claim::Unknown;
        };
        if self
            .histories
            .get(&spoken_of.task)
            .is_some_and(|history| history.has_dealt_with(attempt))
        {
            return Claim::DealtWith;
        }
        if let Some((winner, _)) = task.state.winner() {
            let durable = task.state.committed().is_some();
            return if winner == attempt {
                Claim::Winner { durable }
            } else {
                Claim::Superseded
            };
        }
        let possible = self.can_have_been_dispatched(spoken_of) && self.job == JobState::Running;
        match &task.state {
            TaskState::Running { attempts } => {
                match attempts.iter().find(|running| running.attempt == attempt) {
                    Some(running) if running.worker == number => Claim::Running,
                    Some(_) => Claim::RunningElsewhere,
                    // This attempt has made progress, so it replaces an attempt that was dispatched
                    // only a moment ago.
                    None if possible
                        && attempts
                            .iter()
                            .all(|running| self.is_fresh(now, running, attempt)) =>
                    {
                        Claim::Adoptable
                    }
                    None => Claim::Unknown,
                }
            }
            TaskState::Queued { .. } if possible => Claim::Adoptable,
            TaskState::Queued { .. } | TaskState::Waiting => Claim::Unknown,
            TaskState::Committing { .. } | TaskState::Done { .. } => Claim::Superseded,
        }
    }

    /// Whether this coordinator or an earlier one can have dispatched this attempt.
    pub(crate) fn can_have_been_dispatched(&self, spoken_of: TaskAttempt) -> bool {
        let attempt = spoken_of.attempt;
        let is_in_order = |task: &Task| attempt.number < task.next_number;
        attempt.number > 0
            && (attempt.epoch < self.epoch
                || attempt.epoch == self.epoch
                    && self.task(spoken_of.task).is_some_and(is_in_order))
    }

    /// Whether an attempt was dispatched after `other`, and so recently that stopping it loses no
    /// work.
    fn is_fresh(&self, now: Timestamp, running: &RunningAttempt, other: Attempt) -> bool {
        running.attempt.epoch == self.epoch
            && running.attempt > other
            && running.records == 0
            && now.since_ms(running.since) < ADOPTION_PREFERENCE_MS
    }

    /// Makes an attempt of a returning worker the running attempt of its task.
    fn adopt(&mut self, out: &mut Outbox, now: Timestamp, number: WorkerNumber, task: TaskAttempt) {
        if let TaskState::Running { attempts } = self.take(task.task) {
            for younger in attempts {
                self.relieve(out, task.task, &younger);
            }
        }
        let adopted = RunningAttempt {
            attempt: task.attempt,
            worker: number,
            since: now,
            is_adopted: true,
            records: 0,
        };
        self.put(
            task.task,
            TaskState::Running {
                attempts: vec![adopted],
            },
        );
        self.with_worker(number, |worker| worker.running.insert(task));
    }

    /// Asks a worker to stop an attempt that another attempt supersedes, and removes it from the
    /// worker's list; the caller has taken the task's state and changes it.
    pub(crate) fn relieve(&mut self, out: &mut Outbox, task: TaskId, running: &RunningAttempt) {
        let (number, attempt) = (running.worker, running.attempt);
        let task = TaskAttempt { task, attempt };
        self.note_superseded(out, task, running);
        self.with_worker(number, |worker| worker.running.remove(&task));
        if let Some(session) = self.session_of(number) {
            out.cancel(session, task);
        }
    }

    /// Removes an attempt from its worker. If no other attempt of the task runs, the task is queued
    /// again. Returns whether the worker had the attempt.
    pub(crate) fn detach(
        &mut self,
        out: &mut Outbox,
        number: WorkerNumber,
        task: TaskAttempt,
        ending: Ending,
        error: &str,
    ) -> bool {
        let had = self
            .with_worker(number, |worker| worker.running.remove(&task))
            .unwrap_or(false);
        if had {
            self.note_end(out, number, task, ending, error);
            self.requeue(task, None);
        }
        had
    }

    /// Ends an attempt of a running task; if it was the last one, the task is queued again.
    pub(crate) fn requeue(&mut self, task: TaskAttempt, not_before: Option<Timestamp>) {
        let next = match self.take(task.task) {
            TaskState::Running { mut attempts } => {
                attempts.retain(|running| running.attempt != task.attempt);
                if attempts.is_empty() {
                    TaskState::Queued { not_before }
                } else {
                    TaskState::Running { attempts }
                }
            }
            other @ (TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Committing { .. }
            | TaskState::Done { .. }) => other,
        };
        self.put(task.task, next);
    }

    /// The worker to inform when the commit of this attempt is durable.
    pub(crate) fn set_reporter(&mut self, task: TaskAttempt, number: WorkerNumber) {
        let stage = self.stage_mut(task.task.stage);
        if let TaskState::Committing { reporter, .. } =
            &mut stage.tasks[task.task.shard.0 as usize].state
        {
            *reporter = number;
        }
    }

    pub(crate) fn on_draining(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        session: SessionId,
        handed_back: &[TaskAttempt],
    ) {
        let Some(number) = self.touch_session(now, session) else {
            return;
        };
        let left = self.with_worker(number, |worker| {
            worker.draining = true;
            let ran = |task: &&TaskAttempt| worker.running.contains(task);
            let ran: Vec<TaskAttempt> = handed_back.iter().filter(ran).copied().collect();
            (
                worker.id.pod_uid().to_owned(),
                ran,
                worker.early_end.clone(),
            )
        });
        for task in handed_back {
            self.detach(out, number, *task, Ending::HandedBack, "");
        }
        let Some((pod_uid, ran, early_end)) = left else {
            return;
        };
        // The kubelet reports why it evicts a pod before it asks the pod's processes to terminate.
        match early_end {
            Some((reported, reason)) if now.since_ms(reported) < EARLY_END_MS => {
                self.charge_all(out, &ran, &reason);
            }
            Some(_) | None => self.await_explanation(now, &pod_uid, &ran),
        }
    }

    pub(crate) fn on_session_closed(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        session: SessionId,
    ) {
        let Some(number) = self.sessions.remove(&session) else {
            return;
        };
        let draining = self.with_worker(number, |worker| {
            worker.link = Link::Reconnecting;
            worker.draining
        });
        let loss = self.by_early_end(now, number, Loss::Drained);
        // A worker may come back if it did not announce that it terminates and no report says how
        // it ended.
        let comes_back = draining == Some(false) && loss == Loss::Drained;
        if !comes_back {
            self.lose(out, now, number, &loss);
        }
    }
}
