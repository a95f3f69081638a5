//! Decides which workers are alive, from heartbeats, from the silence that this process itself has
//! observed, and from reports about pods that ended. The tasks of a lost worker are queued again,
//! exactly once. Decides nothing about budgets; `retry` does.

use crate::coordinator::config::LATE_END_MS;
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::event::PodEndCause;
use crate::coordinator::losses::{LostWorker, PodIdentity};
use crate::coordinator::outbox::Outbox;
use crate::coordinator::record::FailureClass;
use crate::coordinator::state::{State, TaskState, Worker, WorkerNumber};
use crate::id::{SessionId, TaskAttempt, Timestamp};

/// Why a worker is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It was silent for too long.
    Silent,
    /// Its pod was preempted, evicted or deleted, or its node is gone.
    Disrupted,
    /// It had announced that it terminates, and its stream ended.
    Drained,
    /// Another process of the same pod replaced it. `PodEnded` reports the cause, before or after
    /// this.
    Replaced,
    /// Its container exited by itself or ran out of memory.
    Ended {
        /// For people.
        reason: String,
    },
}

impl Loss {
    /// Whether it is counted as a disruption.
    fn is_disruption(&self) -> bool {
        match self {
            Self::Silent | Self::Disrupted | Self::Drained => true,
            Self::Replaced | Self::Ended { .. } => false,
        }
    }

    /// For the log, if a session is still open.
    pub(crate) fn closing_reason(&self) -> &'static str {
        match self {
            Self::Silent => "the worker was silent for too long",
            Self::Disrupted => "the worker's pod was disrupted",
            Self::Drained => "the worker has drained",
            Self::Replaced => "another process of the same pod replaced it",
            Self::Ended { .. } => "the worker's container ended",
        }
    }

    /// Whether Kubernetes has ended or lost the pod: it reported that, or it had asked the worker
    /// to terminate. If so, no task is the cause.
    fn is_explained(&self) -> bool {
        match self {
            Self::Disrupted | Self::Drained => true,
            Self::Silent | Self::Replaced | Self::Ended { .. } => false,
        }
    }

    /// Whether a task is known to have ended the worker.
    fn is_by_a_task(&self) -> bool {
        match self {
            Self::Ended { .. } => true,
            Self::Silent | Self::Disrupted | Self::Drained | Self::Replaced => false,
        }
    }

    /// Whether the worker was lost without having announced its end, and without a task that is
    /// known to be the cause.
    fn is_sudden(&self) -> bool {
        match self {
            Self::Silent | Self::Disrupted | Self::Replaced => true,
            Self::Drained | Self::Ended { .. } => false,
        }
    }
}

impl State {
    pub(crate) fn begin_watch(&mut self, now: Timestamp) {
        self.last_tick = now;
        self.observing_since = now;
        self.no_worker_since = Some(now);
        let takes_over = self.epoch.0 > 1;
        self.dispatch_from = if takes_over {
            now.after_ms(self.config.adoption_grace_ms)
        } else {
            now
        };
    }

    /// Records that a message has arrived in this session. Returns the worker of the session, if
    /// the session is open.
    pub(crate) fn touch_session(
        &mut self,
        now: Timestamp,
        session: SessionId,
    ) -> Option<WorkerNumber> {
        let number = *self.sessions.get(&session)?;
        self.workers.get_mut(&number)?.last_seen = now;
        Some(number)
    }

    pub(crate) fn on_heartbeat(&mut self, now: Timestamp, session: SessionId) {
        self.touch_session(now, session);
    }

    pub(crate) fn on_progress(
        &mut self,
        now: Timestamp,
        session: SessionId,
        reports: &[(TaskAttempt, u64)],
    ) {
        let Some(number) = self.touch_session(now, session) else {
            return;
        };
        for (task, read) in reports {
            let known = self
                .workers
                .get(&number)
                .is_some_and(|worker| worker.running.contains(task));
            if !known {
                continue;
            }
            let stage = self.stage_mut(task.task.stage);
            if let TaskState::Running { attempts } =
                &mut stage.tasks[task.task.shard.0 as usize].state
            {
                for running in attempts
                    .iter_mut()
                    .filter(|running| running.attempt == task.attempt)
                {
                    running.records = running.records.max(*read);
                }
            }
        }
    }

    /// Expires silent workers. If a tick comes more than a heartbeat interval after the one before,
    /// this process itself was stalled. Then the silence proves nothing, and the silence of every
    /// worker is counted from now on.
    pub(crate) fn on_tick(&mut self, out: &mut Outbox, now: Timestamp) {
        let passed_ms = now.since_ms(self.last_tick);
        let stood_still = passed_ms > self.config.heartbeat.interval_min_ms;
        if stood_still && !defect::is(Defect::ExpiryWhileStalled) {
            self.observing_since = now;
        }
        if !stood_still {
            self.fleet_losses.expose(passed_ms, self.workers.len());
        }
        self.last_tick = now;
        self.end_rests(now);
        self.unexplained
            .retain(|_, (at, _)| now.since_ms(*at) < LATE_END_MS);
        let observing_since = self.observing_since;
        let is_silent = |worker: &&Worker| {
            now.since_ms(worker.last_seen.max(observing_since)) >= worker.silence_ms
        };
        let silent: Vec<WorkerNumber> = self
            .workers
            .iter()
            .filter(|(_, worker)| is_silent(worker))
            .map(|(number, _)| *number)
            .collect();
        for number in silent {
            self.lose(out, now, number, &Loss::Silent);
        }
        self.conclude_failure(out, now);
    }

    pub(crate) fn on_pod_ended(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        pod_uid: &str,
        cause: PodEndCause,
        reason: &str,
    ) {
        let cause_is_the_tasks = match cause {
            PodEndCause::Disruption => false,
            PodEndCause::OutOfMemory | PodEndCause::Exit => true,
        };
        if !cause_is_the_tasks {
            if let Some(number) = self.pods.get(pod_uid).copied() {
                let otherwise = self.disruption(now, number);
                let loss = self.by_early_end(now, number, otherwise);
                self.lose(out, now, number, &loss);
            }
            return;
        }
        // A container's end concerns one process of the pod, and the report may arrive before or
        // after the break of that process's stream. There are three cases: the process counts as
        // lost already; its stream is broken; or its stream is still open and is about to break. A
        // repeated old report matches none of these cases and changes nothing.
        if let Some((gone_at, tasks)) = self.unexplained.remove(pod_uid)
            && now.since_ms(gone_at) < LATE_END_MS
        {
            self.charge_all(out, &tasks, reason);
            return;
        }
        let Some(number) = self.pods.get(pod_uid).copied() else {
            return;
        };
        let Some(worker) = self.workers.get_mut(&number) else {
            return;
        };
        if worker.session().is_none() {
            self.lose(
                out,
                now,
                number,
                &Loss::Ended {
                    reason: reason.to_owned(),
                },
            );
        } else {
            worker.early_end = Some((now, reason.to_owned()));
        }
    }

    /// Returns the kind of loss after a report that a worker's pod was disrupted. If the worker had
    /// been silent for long before the report, it was lost earlier, and Kubernetes has only noticed
    /// that now. In large fleets such a report can arrive before the silence is long enough to
    /// count as a loss.
    fn disruption(&self, now: Timestamp, number: WorkerNumber) -> Loss {
        let silence_ms = self.config.heartbeat.silence_min_ms;
        let is_silent = |worker: &Worker| {
            now.since_ms(worker.last_seen.max(self.observing_since)) >= silence_ms
        };
        if self.workers.get(&number).is_some_and(is_silent) {
            Loss::Silent
        } else {
            Loss::Disrupted
        }
    }

    /// Removes a worker and queues its tasks again.
    pub(crate) fn lose(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        number: WorkerNumber,
        loss: &Loss,
    ) {
        let known = self.workers.get(&number);
        let is_needed = |known: &Worker| !known.is_let_go && !self.is_dispensable(known);
        let is_a_loss = loss.is_disruption() && known.is_some_and(is_needed);
        let Some(worker) = self.workers.remove(&number) else {
            return;
        };
        if let Some(place) = worker.place() {
            self.by_load.remove(&(place, number));
        }
        if let Some(session) = worker.session() {
            self.sessions.remove(&session);
            out.close(session, loss.closing_reason());
        }
        self.pods.remove(worker.id.pod_uid());
        if self.workers.is_empty() && !defect::is(Defect::CountsEverRegistered) {
            self.no_worker_since = Some(now);
        }
        if is_a_loss {
            self.disruptions += 1;
        }
        let tasks: Vec<TaskAttempt> = worker.running.iter().copied().collect();
        self.blame(out, now, &worker, loss, &tasks);
        for task in &tasks {
            self.note_loss(out, &worker, *task, loss);
        }
        match loss {
            Loss::Disrupted | Loss::Drained | Loss::Replaced => {
                self.await_explanation(now, worker.id.pod_uid(), &tasks);
            }
            Loss::Silent | Loss::Ended { .. } => {}
        }
        match loss {
            Loss::Replaced if defect::is(Defect::NoRequeueOfReplaced) => {}
            Loss::Drained if defect::is(Defect::NoRequeueOfDrained) => {}
            Loss::Replaced => tasks.iter().for_each(|task| self.requeue(*task, None)),
            Loss::Silent | Loss::Disrupted | Loss::Drained => {
                for task in &tasks {
                    self.requeue(*task, None);
                    let error = format!("worker {} was lost: {}", worker.id, loss.closing_reason());
                    let class = if defect::is(Defect::PreemptionChargedAsFailure) {
                        FailureClass::Application
                    } else {
                        FailureClass::Disruption
                    };
                    self.charge(out, *task, class, &error, None);
                }
            }
            Loss::Ended { reason } => {
                for task in &tasks {
                    let not_before = self.next_try(task.task, now);
                    self.requeue(*task, Some(not_before));
                }
                self.charge_all(out, &tasks, reason);
            }
        }
        self.judge(out, tasks.iter().map(|task| task.task));
    }

    /// Counts a lost worker, and charges those of its tasks that count as the cause. This happens
    /// before any other charge, because an attempt is charged only once, and this charge has
    /// priority over a disruption.
    fn blame(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        worker: &Worker,
        loss: &Loss,
        tasks: &[TaskAttempt],
    ) {
        let gone = LostWorker {
            pod: PodIdentity::of(worker),
            known_since: worker.known_since,
            is_explained: loss.is_explained(),
        };
        if !loss.is_by_a_task() {
            self.fleet_losses.note(&gone.pod, loss.is_sudden());
        }
        if !loss.is_sudden() {
            return;
        }
        for task in tasks {
            if let Some(sentence) = self.lose_under(now, &gone, *task) {
                self.charge_setback(out, *task, &sentence, None);
            }
        }
    }

    /// Remembers the tasks that a process of this pod was running, or handed back, when it ended.
    /// The kubelet may report only later that the pod exceeded one of its own limits. Until that
    /// report, a pod that filled its disk looks like a preempted pod.
    pub(crate) fn await_explanation(
        &mut self,
        now: Timestamp,
        pod_uid: &str,
        tasks: &[TaskAttempt],
    ) {
        if tasks.is_empty() {
            return;
        }
        let awaited = self.unexplained.entry(pod_uid.to_owned());
        let (at, known) = awaited.or_insert_with(|| (now, Vec::new()));
        *at = now;
        known.extend(tasks);
    }

    /// Charges tasks whose worker process ended while running them, without any sign of a
    /// disruption.
    pub(crate) fn charge_all(&mut self, out: &mut Outbox, tasks: &[TaskAttempt], reason: &str) {
        if defect::is(Defect::ContainerEndNotCharged) {
            return;
        }
        let error = format!("the worker's container ended while it ran this task: {reason}");
        for task in tasks {
            self.charge(out, *task, FailureClass::Application, &error, None);
        }
        self.judge(out, tasks.iter().map(|task| task.task));
    }
}
