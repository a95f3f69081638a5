//! A simulated worker: the real supervisor and the real session, with simulated slots. A slot runs
//! the real task at one moment of the task's simulated duration. This module decides nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zephyr_engine::id::TaskAttempt;
use zephyr_proto::task::Setup;
use zephyr_proto::worker::{Hello, RunTask, TaskProgress};
use zephyr_store::chance::Chance;

use super::cluster::World;
use super::job::in_generation;
use super::network::SimulatedLine;
use super::process::Process;
use super::rng::Rng;
use super::tasks::own_failure;
use crate::convert::identity::to_wire;
use crate::convert::wire::to_failed;
use crate::metrics::WorkerMetrics;
use crate::worker::{Leave, Readiness, Session, SlotCommand, SlotEvent, Supervisor};

/// The same value as in a real worker.
const EVENTS_QUEUED: usize = 256;
/// The same value as in a real worker.
const COMMANDS_QUEUED: usize = 4;
/// How long the worker itself retries calls to the store. It makes none; only its tasks do.
const NO_RETRY_TIME: Duration = Duration::ZERO;

/// A pod with its process.
pub(super) struct Worker {
    pub(super) pod: u64,
    /// Its ordinal, which its replacement also gets.
    pub(super) ordinal: u64,
    pub(super) process: Process,
    supervisor: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    terminate: Option<oneshot::Sender<Leave>>,
}

impl Worker {
    /// Starts a pod with a new identity.
    pub(super) fn start(world: &Arc<World>, generation: u32, pod: u64, ordinal: u64) -> Self {
        let process = Process::new(&format!("worker {pod}"));
        let chance = || Chance::from_seed(Rng::of(world.seed, process.name()).next());
        let job = world
            .job
            .on(&world.server, Some(&process), chance(), NO_RETRY_TIME);
        let job = in_generation(job, generation);
        let identity = job.identity.clone();
        let (events, slot_events) = mpsc::channel(EVENTS_QUEUED);
        let mut others = Vec::new();
        let mut slots = Vec::new();
        for number in 0..world.settings.slots {
            let (sender, commands) = mpsc::channel(COMMANDS_QUEUED);
            slots.push(sender);
            let slot = Slot {
                world: Arc::clone(world),
                number,
                commands,
                events: events.clone(),
            };
            others.push(tokio::spawn(process.run(slot.drive())));
        }
        let (session_events, session) = mpsc::channel(EVENTS_QUEUED);
        let line = SimulatedLine {
            network: Arc::clone(&world.network),
            process: process.clone(),
            pod,
        };
        let keep = Session::new(line, identity, chance(), session_events).keep();
        others.push(tokio::spawn(process.run(keep)));
        let (readiness, _) = watch::channel(Readiness::NoSession);
        let supervisor = Supervisor {
            job: Arc::new(job),
            hello: Hello {
                pod_uid: format!("pod-{pod}"),
                pod_name: format!("job-workers-g{generation}-{ordinal}"),
                incarnation: pod + 1,
                slots: world.settings.slots,
                memory_bytes: 0,
                running: Vec::new(),
            },
            setup: Setup::default(),
            session,
            slots,
            slot_events,
            readiness,
            metrics: WorkerMetrics::default(),
        };
        let (terminate, told) = oneshot::channel();
        let journal = world.journal.clone();
        let name = process.name().to_owned();
        let work = async move {
            if let Err(error) = supervisor.run(told).await {
                journal.violated(&format!("{name}: {error}"));
            }
        };
        Self {
            pod,
            ordinal,
            supervisor: tokio::spawn(process.run(work)),
            process,
            others,
            terminate: Some(terminate),
        }
    }

    /// Asks the worker to terminate.
    pub(super) fn terminate(&mut self) {
        if let Some(terminate) = self.terminate.take() {
            // The worker may have ended already.
            let _gone = terminate.send(Leave::Disrupted);
        }
    }

    /// Returns whether its process has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// Ends its process at once.
    pub(super) fn kill(&self) {
        self.supervisor.abort();
        for part in &self.others {
            part.abort();
        }
    }
}

/// A slot, in place of a child process.
struct Slot {
    world: Arc<World>,
    number: u32,
    commands: mpsc::Receiver<SlotCommand>,
    events: mpsc::Sender<(u32, SlotEvent)>,
}

impl Slot {
    async fn drive(mut self) {
        while let Some(command) = self.commands.recv().await {
            let event = match command {
                SlotCommand::Stop => SlotEvent::Stopped,
                SlotCommand::Run { task, run, .. } => self.run(task, run).await,
            };
            if self.events.send((self.number, event)).await.is_err() {
                return;
            }
        }
    }

    async fn run(&mut self, task: TaskAttempt, run: RunTask) -> SlotEvent {
        let settings = &self.world.settings;
        let mut rng = Rng::of(self.world.seed, &task.to_string());
        let mut part = || Duration::from_millis(rng.between(1, settings.task_ms_max));
        let (before, after) = (part(), part());
        let is_last_chance = self.world.is_healed();
        let fails = rng.percent(settings.failures) && !is_last_chance;
        if self.is_stopped_within(before).await {
            return SlotEvent::Stopped;
        }
        let progress = TaskProgress {
            task: Some(to_wire(task)),
            records: 1,
            bytes: 1,
            written: 1,
        };
        // The supervisor receives everything that its slots send.
        let _taken = self
            .events
            .send((self.number, SlotEvent::Progress(progress)))
            .await;
        let event = self.world.tasks.run(run);
        let outcome = match &event {
            SlotEvent::Done(done) => format!("is done: {:?}", done.file),
            SlotEvent::Failed(failed) => format!("failed: {}", failed.error),
            SlotEvent::Progress(_) | SlotEvent::Stopped => "is strange".to_owned(),
        };
        self.world.journal.note(&format!("{task} {outcome}"));
        if self.is_stopped_within(after).await {
            return SlotEvent::Stopped;
        }
        if fails {
            SlotEvent::Failed(to_failed(task, own_failure()))
        } else {
            event
        }
    }

    /// Works for this time, unless it is asked to stop. Returns whether it was asked to stop.
    async fn is_stopped_within(&mut self, time: Duration) -> bool {
        tokio::select! {
            biased;
            _ = self.commands.recv() => true,
            () = sleep(time) => false,
        }
    }
}
