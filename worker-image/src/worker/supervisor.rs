//! The supervisor's loop. Only this loop knows which attempt runs in which slot, which finished
//! attempts are not acknowledged, and which attempts the coordinator wants. It runs no task itself
//! and uses no storage.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::record::FailureClass;
use zephyr_engine::id::{Epoch, TaskAttempt};
use zephyr_engine::plan::{Stage, plan};
use zephyr_proto::task::Setup;
use zephyr_proto::worker::{
    Bye, Done, Draining, Hello, Progress, RunTask, TaskDone, TaskProgress, Welcome,
    coordinator_message, worker_message,
};

use super::disk::Leave;
use super::options::Readiness;
use super::session::{FromSession, Opening};
use super::slot::{SlotCommand, SlotEvent};
use crate::convert::identity::{WireError, task_attempt, task_attempts, to_wire};
use crate::convert::wire::{planned_source, to_failed};
use crate::job::RunJob;
use crate::metrics::WorkerMetrics;
use crate::task::TaskFailure;

/// How many tasks a worker holds at most, in addition to those in its slots. The coordinator sends
/// only a few tasks for each slot; more would be a bug.
const MAX_QUEUE: usize = 4096;
/// How many messages wait for the session. Further messages stay in the supervisor, and are sent at
/// the next tick.
const OUTBOUND_QUEUED: usize = 64;
/// How many finished tasks one message contains. With the parts of their uploads, the message is
/// still much smaller than allowed.
const DONE_PER_MESSAGE: usize = 64;
/// How much time passes at least between two messages with reports. In between, reports are
/// collected, because each message costs the coordinator and this process several switches between
/// threads.
const REPORT_INTERVAL: Duration = Duration::from_millis(1);
/// How often progress is reported, and unsent messages are tried again.
const TICK: Duration = Duration::from_millis(500);
/// How long a worker that was asked to terminate waits at most until the coordinator has received
/// its last messages.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The dependencies of the supervisor.
pub(crate) struct Supervisor {
    /// The job.
    pub job: Arc<RunJob>,
    /// The `Hello` of this worker. `running` is set for each session.
    pub hello: Hello,
    /// The setup for a child, without the number of source shards.
    pub setup: Setup,
    /// Events from the session's thread.
    pub session: mpsc::Receiver<FromSession>,
    /// Channels to the slots.
    pub slots: Vec<mpsc::Sender<SlotCommand>>,
    /// Reports of all slots.
    pub slot_events: mpsc::Receiver<(u32, SlotEvent)>,
    /// The readiness, which the readiness probe returns.
    pub readiness: watch::Sender<Readiness>,
    /// Counters for `/metrics`.
    pub metrics: WorkerMetrics,
}

/// The state of a slot, as far as the supervisor knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupation {
    Idle,
    Running(TaskAttempt),
    /// The slot was asked to stop this attempt. Its reports before `Stopped` are ignored.
    Stopping(TaskAttempt),
}

/// A finished attempt that the coordinator has not acknowledged yet.
struct Report {
    message: ReportMessage,
    /// Whether it was reported in the current session.
    sent: bool,
}

enum ReportMessage {
    Done(TaskDone),
    Failed(zephyr_proto::worker::Failed),
}

/// The state of the loop.
struct State {
    occupations: Vec<Occupation>,
    queue: VecDeque<(TaskAttempt, RunTask)>,
    reports: BTreeMap<TaskAttempt, Report>,
    progress: BTreeMap<TaskAttempt, TaskProgress>,
    /// The channel into the current session. Present as soon as the session is being opened.
    outbound: Option<mpsc::Sender<worker_message::Message>>,
    welcomed: bool,
    setup: Option<Arc<Setup>>,
    /// How many slots a task of each stage takes.
    slots_of_stages: Vec<u32>,
    /// When the worker stops waiting for its last messages. Present after this worker was asked to
    /// terminate.
    draining: Option<Instant>,
    /// No further reports are sent before this time.
    report_not_before: Instant,
    /// Whether reports wait for that time.
    reports_wait: bool,
}

/// Why a supervisor ended without a request.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A part of this process died.
    #[error("the worker's {part} ended unexpectedly")]
    PartDied {
        /// The part.
        part: &'static str,
    },
}

impl Supervisor {
    /// Works until `terminate` asks this worker to terminate and its last messages are sent.
    pub(crate) async fn run(
        mut self,
        terminate: oneshot::Receiver<Leave>,
    ) -> Result<(), SupervisorError> {
        let mut state = State {
            occupations: vec![Occupation::Idle; self.slots.len()],
            queue: VecDeque::new(),
            reports: BTreeMap::new(),
            progress: BTreeMap::new(),
            outbound: None,
            welcomed: false,
            setup: None,
            slots_of_stages: Vec::new(),
            draining: None,
            report_not_before: Instant::now(),
            reports_wait: false,
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminate = Some(terminate);
        loop {
            let draining = state.draining;
            tokio::select! {
                biased;
                how = told(&mut terminate) => self.drain(&mut state, how),
                () = at(draining) => return Ok(()),
                event = self.slot_events.recv() => {
                    let (slot, event) = event.ok_or(SupervisorError::PartDied { part: "task slots" })?;
                    self.on_slot(&mut state, slot, event);
                }
                event = self.session.recv() => {
                    let event = event.ok_or(SupervisorError::PartDied { part: "session" })?;
                    if self.on_session(&mut state, event) {
                        return Ok(());
                    }
                }
                () = sleep_until(state.report_not_before), if state.reports_wait => state.say_reports(),
                _ = tick.tick() => state.say_what_waits(),
            }
            self.fill_slots(&mut state);
        }
    }

    /// Handles an event of the session. Returns `true` if this worker is terminating and has
    /// nothing left to wait for.
    fn on_session(&self, state: &mut State, event: FromSession) -> bool {
        match event {
            FromSession::Connected(answer) => {
                if state.draining.is_none() {
                    self.open(state, answer);
                }
                state.draining.is_some()
            }
            FromSession::Over => {
                state.outbound = None;
                state.welcomed = false;
                self.set_ready(state, Readiness::NoSession);
                state.draining.is_some()
            }
            FromSession::Received(epoch, message) => {
                if let Err(error) = self.on_message(state, epoch, message) {
                    tracing::error!(%error, "a message of the coordinator cannot be accepted; the session is closed");
                    state.outbound = None;
                }
                false
            }
        }
    }

    fn open(&self, state: &mut State, answer: oneshot::Sender<Opening>) {
        let (sender, outbound) = mpsc::channel(OUTBOUND_QUEUED);
        for report in state.reports.values_mut() {
            report.sent = false;
        }
        let hello = Hello {
            running: state.held().into_iter().map(to_wire).collect(),
            ..self.hello.clone()
        };
        if answer.send(Opening { hello, outbound }).is_ok() {
            state.outbound = Some(sender);
            state.welcomed = false;
        }
    }

    fn on_message(
        &self,
        state: &mut State,
        epoch: Epoch,
        message: coordinator_message::Message,
    ) -> Result<(), WireError> {
        match message {
            coordinator_message::Message::Welcome(welcome) => {
                self.on_welcome(state, epoch, &welcome);
            }
            coordinator_message::Message::Run(run) => state.take_tasks(run.tasks)?,
            coordinator_message::Message::Cancel(cancel) => {
                for task in task_attempts("Cancel", &cancel.tasks)? {
                    self.forget(state, task);
                }
            }
            coordinator_message::Message::Ack(ack) => {
                for task in task_attempts("Ack", &ack.tasks)? {
                    state.reports.remove(&task);
                }
            }
            coordinator_message::Message::Shutdown(_) => {
                tracing::info!("nothing is left to do; idle from now on");
                for task in state.held() {
                    self.forget(state, task);
                }
            }
        }
        Ok(())
    }

    fn on_welcome(&self, state: &mut State, epoch: Epoch, welcome: &Welcome) {
        let source = planned_source(
            welcome.source_shards,
            welcome.shuffle_shards,
            &welcome.source_parts,
            welcome.gather,
        );
        let plan = plan(&self.job.pipeline, source);
        let ours = plan.digest();
        if ours != welcome.plan_digest {
            let why = format!(
                "plan digest is {ours} here and {} at the coordinator: the two run different releases of this image",
                welcome.plan_digest
            );
            tracing::error!(why, "no work can be taken; the session is closed");
            self.set_ready(state, Readiness::Refused(why));
            state.say(worker_message::Message::Bye(Bye {}));
            state.outbound = None;
            return;
        }
        tracing::info!(%epoch, heartbeat_interval_ms = welcome.heartbeat_interval_ms, "the session is up");
        let setup = Setup {
            source_shards: welcome.source_shards,
            shuffle_shards: welcome.shuffle_shards,
            source_parts: welcome.source_parts.clone(),
            gather: welcome.gather,
            tables: welcome.tables.clone(),
            ..self.setup.clone()
        };
        state.setup = Some(Arc::new(setup));
        state.slots_of_stages = plan.stages.iter().map(Stage::slots).collect();
        state.welcomed = true;
        self.set_ready(state, Readiness::Ready);
        state.say_reports();
    }

    /// Stops a running attempt, and forgets it. A finished attempt is still reported, because the
    /// coordinator has to delete its file.
    fn forget(&self, state: &mut State, task: TaskAttempt) {
        state.queue.retain(|(queued, _)| *queued != task);
        state.progress.remove(&task);
        for (occupation, slot) in state.occupations.iter_mut().zip(&self.slots) {
            if *occupation == Occupation::Running(task) {
                *occupation = Occupation::Stopping(task);
                // A slot's queue has room for a `Run` and a `Stop`, so it is never full, even if
                // the slot has not received the `Run` yet.
                if slot.try_send(SlotCommand::Stop).is_err() {
                    tracing::error!(%task, "the slot accepts no command; the superseded attempt continues");
                }
            }
        }
    }

    fn on_slot(&self, state: &mut State, slot: u32, event: SlotEvent) {
        let Some(occupation) = state.occupations.get_mut(slot as usize) else {
            return;
        };
        match (event, *occupation) {
            (SlotEvent::Stopped, _) => *occupation = Occupation::Idle,
            (SlotEvent::Progress(progress), Occupation::Running(task)) => {
                state.progress.insert(task, progress);
            }
            (SlotEvent::Done(done), Occupation::Running(task)) => {
                *occupation = Occupation::Idle;
                self.metrics.tasks_done.inc();
                state.finish(task, ReportMessage::Done(done));
            }
            (SlotEvent::Failed(failed), Occupation::Running(task)) => {
                *occupation = Occupation::Idle;
                self.metrics.tasks_failed.inc();
                state.finish(task, ReportMessage::Failed(failed));
            }
            (
                SlotEvent::Progress(_) | SlotEvent::Done(_) | SlotEvent::Failed(_),
                Occupation::Stopping(_) | Occupation::Idle,
            ) => {}
        }
        state.say_reports_soon();
    }

    fn fill_slots(&self, state: &mut State) {
        let Some(setup) = state.setup.clone() else {
            return;
        };
        let all = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let mut free = all.saturating_sub(state.slots_taken(all));
        for (occupation, slot) in state.occupations.iter_mut().zip(&self.slots) {
            if *occupation != Occupation::Idle {
                continue;
            }
            let Some((task, run)) = state.queue.pop_front() else {
                break;
            };
            // No later task overtakes one that waits for several slots, or it could wait forever.
            let needed = slots_for(&state.slots_of_stages, task, all);
            if needed > free {
                state.queue.push_front((task, run));
                break;
            }
            free -= needed;
            if slot
                .try_send(SlotCommand::Run {
                    task,
                    run: run.clone(),
                    setup: Arc::clone(&setup),
                })
                .is_err()
            {
                state.queue.push_front((task, run));
                break;
            }
            *occupation = Occupation::Running(task);
        }
        let busy = state
            .occupations
            .iter()
            .filter(|occupation| **occupation != Occupation::Idle)
            .count();
        self.metrics
            .slots_busy
            .set(i64::try_from(busy).unwrap_or(i64::MAX));
    }

    /// Hands all tasks back, so that they run on another worker within a second while this process
    /// terminates. Tasks that used too much of the disk are handed back as failed.
    fn drain(&self, state: &mut State, how: Leave) {
        if state.draining.is_some() {
            return;
        }
        if let Leave::OverDiskLimit(error) = how {
            tracing::warn!(error, "asked to terminate; running tasks have failed");
            for task in state.in_slots() {
                let failure = TaskFailure {
                    class: FailureClass::Application,
                    setback: None,
                    error: error.clone(),
                    lost_input: None,
                    log: String::new(),
                };
                self.forget(state, task);
                self.metrics.tasks_failed.inc();
                state.finish(task, ReportMessage::Failed(to_failed(task, failure)));
            }
        }
        let handed_back: Vec<_> = state.running();
        tracing::info!(
            tasks = handed_back.len(),
            "asked to terminate; running tasks are handed back"
        );
        state.draining = Some(Instant::now() + DRAIN_TIMEOUT);
        self.readiness.send_replace(Readiness::Draining);
        for task in &handed_back {
            self.forget(state, *task);
        }
        if !state.welcomed {
            state.draining = Some(Instant::now());
            return;
        }
        state.say_reports();
        let deadline_ms = u64::try_from(DRAIN_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let handed_back = handed_back.into_iter().map(to_wire).collect();
        state.say(worker_message::Message::Draining(Draining {
            deadline_ms,
            handed_back,
        }));
        state.say(worker_message::Message::Bye(Bye {}));
        // When this channel closes, the worker's side of the stream ends. The coordinator closes
        // the stream after it has read everything, and the worker waits for that.
        state.outbound = None;
    }

    /// Publishes the readiness. A worker that terminates stays `Draining`, and a refusal stays
    /// valid after the end of its session.
    fn set_ready(&self, state: &State, readiness: Readiness) {
        let refused = matches!(*self.readiness.borrow(), Readiness::Refused(_));
        if state.draining.is_none() && !(refused && readiness == Readiness::NoSession) {
            self.readiness.send_replace(readiness);
        }
    }
}

/// Returns how many slots an attempt takes. It is at most the number of this worker's slots.
fn slots_for(of_stages: &[u32], task: TaskAttempt, all: u32) -> u32 {
    let asked_for = of_stages.get(task.task.stage.0 as usize).copied();
    asked_for.unwrap_or(1).clamp(1, all.max(1))
}

impl State {
    /// Returns how many slots are taken by attempts that run or are being stopped.
    fn slots_taken(&self, all: u32) -> u32 {
        let taken = self.occupations.iter().map(|occupation| match occupation {
            Occupation::Idle => 0,
            Occupation::Running(task) | Occupation::Stopping(task) => {
                slots_for(&self.slots_of_stages, *task, all)
            }
        });
        taken.fold(0, u32::saturating_add)
    }

    /// Returns the attempts in slots.
    fn in_slots(&self) -> Vec<TaskAttempt> {
        let running = |occupation: &Occupation| match occupation {
            Occupation::Running(task) => Some(*task),
            Occupation::Idle | Occupation::Stopping(_) => None,
        };
        self.occupations.iter().filter_map(running).collect()
    }

    /// Returns the attempts in slots and in the queue.
    fn running(&self) -> Vec<TaskAttempt> {
        let mut running = self.in_slots();
        running.extend(self.queue.iter().map(|(task, _)| *task));
        running
    }

    /// Returns the attempts for which this worker is responsible: those that run, and those that
    /// are finished but not acknowledged.
    fn held(&self) -> Vec<TaskAttempt> {
        let mut held = self.running();
        held.extend(self.reports.keys());
        held
    }

    fn take_tasks(&mut self, tasks: Vec<RunTask>) -> Result<(), WireError> {
        let held: BTreeSet<_> = self.held().into_iter().collect();
        for run in tasks {
            let task = task_attempt("Run", run.task.as_ref())?;
            if self.draining.is_some() || held.contains(&task) {
                continue;
            }
            if self.queue.len() >= MAX_QUEUE {
                let error =
                    format!("the worker holds {MAX_QUEUE} tasks already and accepts no more");
                let failure = TaskFailure {
                    class: FailureClass::Disruption,
                    setback: Some(Setback::WorkerUnhealthy),
                    error,
                    lost_input: None,
                    log: String::new(),
                };
                self.finish(task, ReportMessage::Failed(to_failed(task, failure)));
                continue;
            }
            self.queue.push_back((task, run));
        }
        Ok(())
    }

    fn say_what_waits(&mut self) {
        self.say_reports();
        if self.welcomed && !self.progress.is_empty() {
            let tasks = std::mem::take(&mut self.progress).into_values().collect();
            self.say(worker_message::Message::Progress(Progress { tasks }));
        }
    }

    fn finish(&mut self, task: TaskAttempt, message: ReportMessage) {
        self.progress.remove(&task);
        self.reports.insert(
            task,
            Report {
                message,
                sent: false,
            },
        );
    }

    /// Sends unsent reports at once, unless reports were sent a moment ago.
    fn say_reports_soon(&mut self) {
        if Instant::now() < self.report_not_before {
            self.reports_wait = true;
        } else {
            self.say_reports();
        }
    }

    /// Sends the reports that were not sent in this session, as many as fit into the session's
    /// queue.
    fn say_reports(&mut self) {
        self.reports_wait = false;
        let (Some(outbound), true) = (&self.outbound, self.welcomed) else {
            return;
        };
        while outbound.capacity() > 0 {
            let mut tasks = Vec::new();
            for report in self.reports.values_mut().filter(|report| !report.sent) {
                match &report.message {
                    ReportMessage::Done(done) if tasks.len() < DONE_PER_MESSAGE => {
                        tasks.push(done.clone());
                        report.sent = true;
                    }
                    ReportMessage::Failed(failed) if outbound.capacity() > 1 => {
                        let message = worker_message::Message::Failed(failed.clone());
                        report.sent = outbound.try_send(message).is_ok();
                    }
                    ReportMessage::Done(_) | ReportMessage::Failed(_) => {}
                }
            }
            if tasks.is_empty() {
                return;
            }
            self.report_not_before = Instant::now() + REPORT_INTERVAL;
            if outbound
                .try_send(worker_message::Message::Done(Done { tasks }))
                .is_err()
            {
                return;
            }
        }
    }

    /// Sends a message that may get lost.
    fn say(&self, message: worker_message::Message) {
        if let Some(outbound) = &self.outbound
            && outbound.try_send(message).is_err()
        {
            tracing::debug!("the session takes no more messages now");
        }
    }
}

async fn told(terminate: &mut Option<oneshot::Receiver<Leave>>) -> Leave {
    if let Some(receiver) = terminate {
        let told = receiver.await;
        *terminate = None;
        if let Ok(how) = told {
            return how;
        }
    }
    // The sender was dropped, so there will be no request. This never counts as a request.
    std::future::pending().await
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending::<()>().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::attempts::first_attempt;

    fn sent(session: &mut mpsc::Receiver<worker_message::Message>) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Ok(message) = session.try_recv() {
            let worker_message::Message::Done(done) = message else {
                panic!("{message:?}");
            };
            sizes.push(done.tasks.len());
        }
        sizes
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_report_is_sent_at_once_and_quickly_following_reports_together() {
        let (sender, mut session) = mpsc::channel(OUTBOUND_QUEUED);
        let mut state = State {
            occupations: Vec::new(),
            queue: VecDeque::new(),
            reports: BTreeMap::new(),
            progress: BTreeMap::new(),
            outbound: Some(sender),
            welcomed: true,
            setup: None,
            slots_of_stages: Vec::new(),
            draining: None,
            report_not_before: Instant::now(),
            reports_wait: false,
        };
        let finish = |state: &mut State, shard| {
            state.finish(
                first_attempt(0, shard),
                ReportMessage::Done(TaskDone::default()),
            );
            state.say_reports_soon();
        };
        finish(&mut state, 0);
        assert_eq!(sent(&mut session), [1]);
        finish(&mut state, 1);
        finish(&mut state, 2);
        assert!(sent(&mut session).is_empty());
        assert!(state.reports_wait);
        sleep_until(state.report_not_before).await;
        state.say_reports();
        assert_eq!(sent(&mut session), [2]);
        assert!(!state.reports_wait);
        tokio::time::advance(REPORT_INTERVAL).await;
        finish(&mut state, 3);
        assert_eq!(sent(&mut session), [1]);
    }
}
