//! A simulated coordinator: the real planning, loop, effects and ledger in a process that can die,
//! pause and resume. This module decides nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zephyr_engine::coordinator::{Event, FailureReason};
use zephyr_store::chance::Chance;

use super::cluster::World;
use super::job::in_generation;
use super::network::Endpoint;
use super::process::Process;
use super::rng::Rng;
use crate::coordinator::{
    EventLoop, Input, Offenders, Registrations, Status, WorkerSessions, work,
};
use crate::metrics::CoordinatorMetrics;

/// The same value as in a real coordinator.
const STORAGE_RETRY_TIME: Duration = Duration::from_secs(10);

/// A coordinator's process.
pub(super) struct Coordinator {
    endpoint: Arc<Endpoint>,
    /// Whether Kubernetes has started another process in its place.
    pub(super) is_replaced: bool,
    task: JoinHandle<()>,
    status: watch::Receiver<Status>,
}

impl Coordinator {
    pub(super) fn start(world: &World, generation: u32, number: u64) -> Self {
        let process = Process::new(&format!("coordinator {number}"));
        let chance = Chance::from_seed(Rng::of(world.seed, process.name()).next());
        let job = world
            .job
            .on(&world.server, Some(&process), chance, STORAGE_RETRY_TIME);
        let job = in_generation(job, generation);
        let (handle, watched) = watch::channel(None);
        let offenders = Offenders::default();
        let sessions = WorkerSessions {
            identity: job.identity.clone(),
            handle: watched,
            offenders: offenders.clone(),
            registrations: Registrations::default(),
            last_session: AtomicU64::new(0),
        };
        let endpoint = Arc::new(Endpoint {
            process: process.clone(),
            sessions,
            gone: CancellationToken::new(),
        });
        let (sender, status) = watch::channel(Status::planning("it starts"));
        let (journal, gone) = (world.journal.clone(), endpoint.gone.clone());
        let name = process.name().to_owned();
        let work = async move {
            let metrics = CoordinatorMetrics::default();
            let ended = work(
                Arc::new(job),
                metrics,
                offenders,
                handle,
                sender,
                || SystemTime::UNIX_EPOCH,
                EventLoop::run,
            )
            .await;
            let why = ended.err().map(|error| error.to_string());
            journal.note(&format!("{name} ends: {why:?}"));
            gone.cancel();
        };
        world.network.add(Arc::clone(&endpoint));
        Self {
            endpoint,
            is_replaced: false,
            task: tokio::spawn(process.run(work)),
            status,
        }
    }

    pub(super) fn process(&self) -> &Process {
        &self.endpoint.process
    }

    /// Returns whether its process has ended.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Returns whether it shows how the job ended.
    pub(super) fn shows_result(&self) -> bool {
        self.status.borrow().result.is_some()
    }

    /// Asks it to end the job, as the operator does if the job is cancelled.
    pub(super) fn cancel(&self) {
        let handle = self.endpoint.sessions.handle.borrow().clone();
        if let Some(handle) = handle {
            // If the queue is full, the operator asks again.
            let _ = handle
                .inputs
                .try_send(Input::Happened(Event::EndedByOperator {
                    reason: FailureReason::Cancelled,
                    message: "the job was cancelled".to_owned(),
                }));
        }
    }

    /// Ends its process at once.
    pub(super) fn kill(&self) {
        self.task.abort();
        self.endpoint.gone.cancel();
    }
}
