//! Runs the only loop that owns the state. Heartbeats are handled before everything else. The loop
//! never waits for anything but the next event.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Status as CallStatus;
use zephyr_engine::coordinator::record::{JobResult, LogRecord, OutputFile};
use zephyr_engine::coordinator::{Dispatch, Effect, Event, FailureReason, State, ToWorker, step};
use zephyr_engine::id::{Epoch, SessionId, Timestamp};
use zephyr_engine::plan::{Plan, PlannedSource};
use zephyr_proto::run::Phase;
use zephyr_proto::worker::{
    Ack, Cancel, CoordinatorMessage, Run, RunTask, Shutdown, Welcome, coordinator_message,
};
use zephyr_store::ledger::TableFiles;
use zephyr_store::ownership;

use super::attempts::Attempts;
use super::cleanup::{self, Removed, Unwanted};
use super::dispatch::{DispatchError, SourceShards, in_messages, run_task};
use super::effects::{Call, EffectError, Effects, readers};
use super::offenders::Offenders;
use super::sessions::{Input, ReceivedHeartbeat, WorkerSender};
use super::status::{Outages, Status, show};
use crate::convert::identity::{RunIdentity, to_wire};
use crate::convert::report;
use crate::convert::wire::tables_to_wire;
use crate::job::RunJob;
use crate::metrics::CoordinatorMetrics;

/// How often the engine gets a tick, and how often the shown status is updated.
const TICK: Duration = Duration::from_millis(200);
/// How many heartbeats are handled at most before the next other event: as many as 10,000 workers
/// send in a second.
const HEARTBEATS_AT_ONCE: usize = 10_000;
/// How many attempts one `Ack` or `Cancel` contains at most.
const TASKS_PER_ANSWER: usize = 4096;

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// See [`EffectError`].
    #[error(transparent)]
    Effect(EffectError),
    /// See [`DispatchError`].
    #[error(transparent)]
    Dispatch(DispatchError),
    /// Its thread could not be started.
    #[error("start the coordinator's loop: {0}")]
    Start(#[source] io::Error),
    /// It panicked.
    #[error("the coordinator's loop died")]
    Died,
    /// All senders of events were dropped.
    #[error("no sender of events is left")]
    NoInput,
}

/// The loop with its state.
pub(crate) struct EventLoop {
    /// The job.
    pub(super) job: Arc<RunJob>,
    /// The runtime for all storage calls.
    pub(super) runtime: Handle,
    /// Asynchronous tasks that are cancelled when the loop ends.
    pub(super) _storage_watch: JoinSet<()>,
    /// The removal of intermediate data after the job's end.
    pub(super) cleanup: JoinSet<Option<Removed>>,
    /// Whether the complete files of a cancelled job are removed.
    pub(super) removes_output: bool,
    /// How many files were removed, if they had to be.
    pub(super) removed: Option<Removed>,
    /// Whether the removal is done. The result is shown only after the removal, because the reader
    /// of the result may stop this process.
    pub(super) is_clean: bool,
    /// The run.
    pub(super) identity: RunIdentity,
    /// This coordinator's epoch.
    pub(super) epoch: Epoch,
    /// The engine's state.
    pub(super) state: State,
    /// The plan.
    pub(super) plan: Arc<Plan>,
    /// Its digest.
    pub(super) digest: String,
    /// The input of the first stage.
    pub(super) source: SourceShards,
    /// The part of the input that the plan depends on.
    pub(super) planned: PlannedSource,
    /// The files of the tables.
    pub(super) tables: TableFiles,
    /// `spec.pipeline.sink.files.path`.
    pub(super) sink_path: String,
    /// Workers that reported files of other attempts.
    pub(super) offenders: Offenders,
    /// Storage calls.
    pub(super) effects: Effects,
    /// Ended attempts that are not written yet.
    pub(super) attempts: Attempts,
    /// The storage calls that currently fail.
    pub(super) outages: Outages,
    /// Heartbeats.
    pub(super) heartbeats: mpsc::Receiver<ReceivedHeartbeat>,
    /// All other events from outside.
    pub(super) inputs: mpsc::Receiver<Input>,
    /// The status for readers.
    pub(super) status: watch::Sender<Status>,
    /// Counters for `/metrics`.
    pub(super) metrics: CoordinatorMetrics,
    /// The start of the state's clock.
    pub(super) began: Instant,
}

impl EventLoop {
    /// Like `run`, but on a separate thread, which ends when this future is dropped. On the
    /// server's threads the loop would have to wait while thousands of connections are served.
    pub(super) async fn run_on_a_thread(self) -> Result<Infallible, LoopError> {
        let (mut ended, outcome) = oneshot::channel();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(LoopError::Start)?;
        let run = async move {
            let outcome = tokio::select! {
                outcome = self.run() => outcome,
                () = ended.closed() => return,
            };
            let _nobody_waits = ended.send(outcome);
        };
        thread::Builder::new()
            .name("coordinator".to_owned())
            .spawn(move || runtime.block_on(run))
            .map_err(LoopError::Start)?;
        outcome.await.map_err(|_| LoopError::Died)?
    }

    /// Runs until there is an error. After the job has ended, its result stays visible.
    pub(crate) async fn run(mut self) -> Result<Infallible, LoopError> {
        let mut senders = BTreeMap::new();
        let first = self.state.start(self.now());
        self.carry_out(first, &mut senders)?;
        self.show();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                Some(heartbeat) = self.heartbeats.recv() => Some(self.heartbeat_event(&heartbeat)),
                _ = tick.tick() => None,
                Some(ended) = self.cleanup.join_next() => {
                    match ended {
                        Ok(removed) => self.removed = removed,
                        Err(error) => {
                            tracing::warn!(%error, "the removal of intermediate data died");
                        }
                    }
                    self.is_clean = true;
                    self.show();
                    continue;
                }
                () = self.attempts.written() => continue,
                event = self.effects.next() => Some(event.map_err(LoopError::Effect)?),
                input = self.inputs.recv() => match input.ok_or(LoopError::NoInput)? {
                    Input::ForeignFile(session) => {
                        self.close_offender(session, &mut senders);
                        continue;
                    }
                    Input::RemoveOutput => {
                        self.removes_output = true;
                        continue;
                    }
                    Input::Happened(event) => Some(self.without_foreign_files(event, &mut senders)),
                    Input::Opened(event, session, sender) => {
                        senders.insert(session, sender);
                        Some(event)
                    }
                },
            };
            match event {
                Some(event) => self.take_in(event, &mut senders)?,
                None => self.on_tick(&mut senders)?,
            }
        }
    }

    /// Removes the tasks whose reported file belongs to another attempt, and closes the session of
    /// the worker that reported them. The worker may reconnect after its first two such reports.
    fn without_foreign_files(
        &self,
        event: Event,
        senders: &mut BTreeMap<SessionId, WorkerSender>,
    ) -> Event {
        let Event::Done { session, mut tasks } = event else {
            return event;
        };
        let reported = tasks.len();
        tasks.retain(|(task, output)| {
            match ownership::check(&self.plan, &self.sink_path, *task, output) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%session, %error, "a report is refused");
                    false
                }
            }
        });
        if tasks.len() < reported {
            self.close_offender(session, senders);
        }
        Event::Done { session, tasks }
    }

    fn close_offender(&self, session: SessionId, senders: &mut BTreeMap<SessionId, WorkerSender>) {
        self.metrics.reports_refused.inc();
        if let Some(sender) = senders.get(&session) {
            self.offenders.note(&sender.worker);
        }
        close(senders, session, "it reported a file that is not its own");
    }

    fn heartbeat_event(&self, heartbeat: &ReceivedHeartbeat) -> Event {
        let waited = heartbeat.received.elapsed();
        self.metrics
            .heartbeat_wait_seconds
            .observe(waited.as_secs_f64());
        Event::Heartbeat {
            session: heartbeat.session,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Handles a tick, and advances the engine's time. This happens only after all earlier
    /// heartbeats were handled, so that a worker never counts as silent by mistake.
    fn on_tick(
        &mut self,
        senders: &mut BTreeMap<SessionId, WorkerSender>,
    ) -> Result<(), LoopError> {
        for _ in 0..HEARTBEATS_AT_ONCE {
            let Ok(heartbeat) = self.heartbeats.try_recv() else {
                break;
            };
            let event = self.heartbeat_event(&heartbeat);
            self.take_in(event, senders)?;
        }
        self.take_in(Event::Tick, senders)?;
        self.attempts.write_if_due();
        self.metrics
            .sessions
            .set(i64::try_from(senders.len()).unwrap_or(i64::MAX));
        self.show();
        Ok(())
    }

    fn take_in(
        &mut self,
        event: Event,
        senders: &mut BTreeMap<SessionId, WorkerSender>,
    ) -> Result<(), LoopError> {
        self.metrics.events.inc();
        if let Event::Drain { drains } = &event {
            self.attempts.hurry(*drains);
        }
        let closed = if let Event::SessionClosed { session } = &event {
            Some(*session)
        } else {
            None
        };
        let had_result = self.state.result().is_some();
        let now = self.now();
        let effects = step(&mut self.state, event, now);
        self.carry_out(effects, senders)?;
        if let Some(session) = closed {
            close(senders, session, "it is over");
        }
        if !had_result && let Some(result) = self.state.result() {
            tracing::info!(?result, "the job has ended");
            if let Some(report) = self.state.report().failed_task {
                let (task, worker) = (report.failed.task, report.failed.worker);
                tracing::warn!(%task, ?worker, log = report.failed.log, "this attempt failed last");
            }
            let (job, result) = (Arc::clone(&self.job), result.clone());
            let uploads = self.state.uncompleted_files();
            let unwanted = self.unwanted_files(&result);
            let shards = self.plan.stages.last().map_or(0, |stage| stage.shards);
            let completions = self.effects.stop_completing();
            let last_attempts = self.attempts.close();
            let clean_up = async move {
                let clean = async {
                    // Until then, the folder must belong to this job.
                    let late = completions.settle().await;
                    let unwanted = unwanted.map(|files| Unwanted { files, late });
                    cleanup::clean_up(&job, &result, &uploads, unwanted, shards).await
                };
                tokio::join!(clean, last_attempts).0
            };
            self.cleanup.spawn_on(clean_up, &self.runtime);
            self.show();
        }
        Ok(())
    }

    /// Returns the complete files that are removed, if the operator has ended the job and wants
    /// that.
    fn unwanted_files(&self, result: &JobResult) -> Option<Vec<OutputFile>> {
        let JobResult::Failed { reason, message: _ } = result else {
            return None;
        };
        let is_due = self.removes_output && *reason == FailureReason::Cancelled;
        is_due.then(|| self.state.completed_files())
    }

    fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        senders: &mut BTreeMap<SessionId, WorkerSender>,
    ) -> Result<(), LoopError> {
        for effect in effects {
            match effect {
                Effect::Send { session, message } => self.send(session, message, senders)?,
                Effect::Close { session, reason } => close(senders, session, reason),
                Effect::Append {
                    first_index: _,
                    records,
                } => {
                    log_failures(&records);
                    self.effects.append(records);
                }
                Effect::PublishStage {
                    stage,
                    version,
                    outputs,
                } => {
                    self.effects.call(Call::Publish {
                        readers: readers(&self.plan, stage),
                        stage,
                        version,
                        outputs,
                    });
                }
                Effect::Finalize { task, files } => {
                    self.effects.call(Call::Finalize(task, files));
                }
                Effect::Discard { task, file } => self.effects.call(Call::Discard(task, file)),
                Effect::WriteManifest { files, more } => {
                    self.effects.call(Call::WriteManifest { files, more });
                }
                Effect::AttemptsEnded(ended) => self.attempts.add(ended),
            }
        }
        Ok(())
    }

    fn send(
        &self,
        session: SessionId,
        message: ToWorker,
        senders: &mut BTreeMap<SessionId, WorkerSender>,
    ) -> Result<(), LoopError> {
        let Some(sender) = senders.get(&session) else {
            return Ok(());
        };
        let mut full = false;
        for message in self.messages(message)? {
            let message = CoordinatorMessage {
                job_uid: self.identity.job.to_string(),
                generation: self.identity.generation.0,
                epoch: self.epoch.0,
                message: Some(message),
            };
            full |= sender.messages.try_send(Box::new(Ok(message))).is_err();
        }
        if full {
            close(senders, session, "the worker does not read its messages");
        }
        Ok(())
    }

    fn messages(&self, message: ToWorker) -> Result<Vec<coordinator_message::Message>, LoopError> {
        use coordinator_message::Message;
        Ok(match message {
            ToWorker::Welcome {
                heartbeat_interval_ms,
            } => vec![Message::Welcome(Welcome {
                heartbeat_interval_ms,
                plan_digest: self.digest.clone(),
                source_shards: self.planned.shards,
                tables: tables_to_wire(&self.tables),
                shuffle_shards: self.planned.shuffle_shards.unwrap_or_default(),
                source_parts: self.planned.parts.clone().unwrap_or_default(),
                gather: self.planned.gather.unwrap_or_default(),
            })],
            ToWorker::Run(tasks) => {
                let tasks = self.run_tasks(tasks)?;
                let run = |tasks| Message::Run(Run { tasks });
                in_messages(tasks).into_iter().map(run).collect()
            }
            ToWorker::Cancel(tasks) => {
                let cancel = |tasks: &[_]| {
                    Message::Cancel(Cancel {
                        tasks: tasks.iter().copied().map(to_wire).collect(),
                    })
                };
                tasks.chunks(TASKS_PER_ANSWER).map(cancel).collect()
            }
            ToWorker::Ack(tasks) => {
                let ack = |tasks: &[_]| {
                    Message::Ack(Ack {
                        tasks: tasks.iter().copied().map(to_wire).collect(),
                    })
                };
                tasks.chunks(TASKS_PER_ANSWER).map(ack).collect()
            }
            ToWorker::Shutdown => vec![Message::Shutdown(Shutdown {})],
        })
    }

    fn run_tasks(&self, tasks: Vec<Dispatch>) -> Result<Vec<RunTask>, LoopError> {
        let one =
            |dispatch| run_task(dispatch, &self.plan, &self.source).map_err(LoopError::Dispatch);
        tasks.into_iter().map(one).collect()
    }

    fn show(&self) {
        let report = self.state.report();
        self.metrics
            .tasks_done
            .set(i64::try_from(report.tasks_done).unwrap_or(i64::MAX));
        self.metrics
            .tasks_total
            .set(i64::try_from(report.tasks_total).unwrap_or(i64::MAX));
        self.metrics
            .speculations
            .set(i64::try_from(report.speculations).unwrap_or(i64::MAX));
        let skipped: u64 = report.skipped.iter().map(|skipped| skipped.records).sum();
        self.metrics
            .records_skipped
            .set(i64::try_from(skipped).unwrap_or(i64::MAX));
        let mut snapshot = report::snapshot(report, &self.digest);
        if let (Some(result), Some(removed)) = (&mut snapshot.result, &self.removed) {
            result.message = format!("{}; {removed}", result.message);
            result.removed_output = true;
        }
        let result = self.state.result().filter(|_| self.is_clean).cloned();
        if self.state.result().is_some() && !self.is_clean {
            snapshot.phase = Phase::Finishing.into();
            snapshot.result = None;
            cleanup::MESSAGE.clone_into(&mut snapshot.message);
        } else if result.is_none()
            && let Some(sentence) = self.outages.sentence()
        {
            snapshot.phase = Phase::StorageUnavailable.into();
            snapshot.message = sentence;
        }
        show(
            &self.status,
            Status {
                epoch: self.epoch,
                snapshot,
                result,
            },
        );
    }
}

/// Logs the failures that are charged to a task. `taskFailures` limits their number.
fn log_failures(records: &[LogRecord]) {
    for record in records {
        if let LogRecord::Failed { task, class, error } = record {
            tracing::warn!(%task, ?class, error, "an attempt has failed");
        }
    }
}

/// Closes a session. The worker reconnects by itself if it needs a session.
fn close(senders: &mut BTreeMap<SessionId, WorkerSender>, session: SessionId, reason: &str) {
    if let Some(sender) = senders.remove(&session) {
        tracing::info!(%session, reason, "a session is closed");
        // If its queue is full, the worker notices the end of the stream instead.
        let end = Box::new(Err(CallStatus::aborted(reason)));
        let _full = sender.messages.try_send(end);
        sender.close.cancel();
    }
}
