//! `zephyr-worker coordinator`: the shell around the engine's state machine. It starts serving at
//! once, plans, then runs the loop, and continues serving after the result.
//!
//! The engine makes all decisions. An error or a panic anywhere in this module ends the process;
//! the next process resumes from the ledger.

mod attempts;
mod cleanup;
mod dispatch;
mod effects;
mod event_loop;
mod offenders;
mod operators;
mod planning;
mod registrations;
#[cfg(test)]
mod release_0_1_0;
mod retry;
mod sessions;
mod status;
mod storage_watch;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use zephyr_crds::job::Speculation;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::coordinator::{Config, ReplayError, State};
use zephyr_engine::id::Epoch;

pub use effects::EffectError;
pub(crate) use event_loop::EventLoop;
pub use event_loop::LoopError;
pub(crate) use offenders::Offenders;
pub use planning::PlanningError;
pub use planning::places::{
    DeadLetterNames, PlacesError, check_places, check_storage, dead_letters_of, literal_inputs,
};
pub use planning::preview::{PreviewError, check_output};
pub(crate) use registrations::Registrations;
#[cfg(test)]
pub(crate) use sessions::Input;
#[cfg(test)]
pub(crate) use sessions::OutboundMessages;
pub(crate) use sessions::{LoopHandle, WorkerSessions};
pub use status::Status;
use zephyr_proto::run::{Phase, Snapshot};

use self::attempts::Attempts;
use self::effects::Effects;
use self::operators::OperatorStreams;
use self::planning::{Planned, Runnable, damaged, prepare};
use self::retry::Retries;
use self::status::{Outages, show};
use crate::convert::report;
use crate::job::{RunJob, RunJobError};
use crate::metrics::CoordinatorMetrics;
use crate::transport::server::serve;
use crate::transport::token::{Token, TokenCheck, TokenError};

/// How many events wait for the loop at most. A sender waits while the queue is full, which limits
/// the rate.
const INPUTS_QUEUED: usize = 1024;
/// How many heartbeats wait for the loop at most: several for each of 10,000 workers.
const HEARTBEATS_QUEUED: usize = 65_536;

/// How long a failing storage call is retried before status shows the failure. After that the call
/// is still retried, forever.
const STORAGE_RETRY_TIME: Duration = Duration::from_secs(10);

/// Settings of a coordinator.
pub struct CoordinatorOptions {
    /// The job.
    pub job: Arc<RunJob>,
    /// The token that opens sessions.
    pub token: Token,
    /// The socket on which its server accepts connections.
    pub listener: TcpListener,
    /// Counters for `/metrics`.
    pub metrics: CoordinatorMetrics,
}

/// Why a coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The job's storage address is invalid.
    #[error(transparent)]
    Job(RunJobError),
    /// There is no token for checking calls.
    #[error(transparent)]
    Token(TokenError),
    /// The server ended.
    #[error("serve gRPC: {cause}")]
    Serve {
        /// The cause.
        cause: String,
    },
    /// The job cannot be taken over.
    #[error(transparent)]
    Planning(PlanningError),
    /// The loop ended.
    #[error(transparent)]
    Loop(LoopError),
    /// Planning panicked.
    #[error("the coordinator died: {source}")]
    Died {
        /// How it died.
        #[source]
        source: JoinError,
    },
}

/// Runs a coordinator. Ends only with an error.
pub async fn run(
    options: CoordinatorOptions,
    status: watch::Sender<Status>,
) -> Result<Infallible, CoordinatorError> {
    let CoordinatorOptions {
        job,
        token,
        listener,
        metrics,
    } = options;
    let job = Arc::unwrap_or_clone(job)
        .with_retry_time(STORAGE_RETRY_TIME)
        .map_err(CoordinatorError::Job)?;
    let job = Arc::new(job);
    let check = TokenCheck::new(&token).map_err(CoordinatorError::Token)?;
    let (handle, watched_handle) = watch::channel(None);
    let identity = job.identity.clone();
    let offenders = Offenders::default();
    let workers = WorkerSessions {
        identity: identity.clone(),
        handle: watched_handle.clone(),
        offenders: offenders.clone(),
        registrations: Registrations::default(),
        last_session: AtomicU64::new(0),
    };
    let operators = OperatorStreams {
        identity,
        status: status.subscribe(),
        handle: watched_handle,
    };
    let refused = metrics.calls_refused.clone();
    let server = serve(listener, check, refused, workers, operators, pending());
    let mut parts = JoinSet::new();
    parts.spawn(work(
        job,
        metrics,
        offenders,
        handle,
        status,
        SystemTime::now,
        EventLoop::run_on_a_thread,
    ));
    tokio::select! {
        stopped = server => {
            let cause = stopped.err().map_or_else(|| "the server stopped".to_owned(), |error| error.to_string());
            Err(CoordinatorError::Serve { cause })
        }
        Some(ended) = parts.join_next() => ended.map_err(|source| CoordinatorError::Died { source })?,
    }
}

/// Does the work of a coordinator without a server: plans, and then calls `run` with the loop. From
/// then on `handle` contains the channels to the loop. `clock` has the time of the calendar, which
/// only the history of attempts needs.
pub(crate) async fn work(
    job: Arc<RunJob>,
    metrics: CoordinatorMetrics,
    offenders: Offenders,
    handle: watch::Sender<Option<LoopHandle>>,
    status: watch::Sender<Status>,
    clock: fn() -> SystemTime,
    run: impl AsyncFnOnce(EventLoop) -> Result<Infallible, LoopError>,
) -> Result<Infallible, CoordinatorError> {
    match prepare(&job, &status)
        .await
        .map_err(CoordinatorError::Planning)?
    {
        Planned::Ended {
            epoch,
            result,
            uploads,
        } => {
            let shards = cleanup::files_of(&result);
            cleanup::clean_up(&job, &result, &uploads, None, shards).await;
            show_for_ever(&job, &status, epoch, result).await
        }
        Planned::Refused { epoch, result } => {
            show_result(&status, epoch, result);
            pending().await
        }
        Planned::Runnable(runnable) => {
            let epoch = runnable.epoch;
            let shown = Arc::clone(&job);
            match event_loop(
                shown,
                *runnable,
                metrics,
                offenders,
                &handle,
                status.clone(),
                clock,
            ) {
                Ok(event_loop) => run(event_loop).await.map_err(CoordinatorError::Loop),
                Err(source) => {
                    let message =
                        format!("spec.storage.uri: the ledger contradicts the plan: {source}");
                    tracing::error!(message, "the ledger cannot be used");
                    show_for_ever(&job, &status, epoch, damaged(&message)).await
                }
            }
        }
    }
}

async fn show_for_ever(
    job: &RunJob,
    status: &watch::Sender<Status>,
    epoch: Epoch,
    result: JobResult,
) -> Result<Infallible, CoordinatorError> {
    show_result(status, epoch, result);
    Ok(storage_watch::show_signs_of_life(job).await)
}

fn show_result(status: &watch::Sender<Status>, epoch: Epoch, result: JobResult) {
    let wire = report::result(&result);
    let snapshot = Snapshot {
        phase: Phase::Ended.into(),
        message: wire.message.clone(),
        result: Some(wire),
        ..Snapshot::default()
    };
    let result = Some(result);
    show(
        status,
        Status {
            epoch,
            snapshot,
            result,
        },
    );
}

fn event_loop(
    job: Arc<RunJob>,
    runnable: Runnable,
    metrics: CoordinatorMetrics,
    offenders: Offenders,
    handle: &watch::Sender<Option<LoopHandle>>,
    status: watch::Sender<Status>,
    clock: fn() -> SystemTime,
) -> Result<EventLoop, ReplayError> {
    let Runnable {
        epoch,
        ledger,
        records,
        plan,
        digest,
        source,
        planned,
        tables,
    } = runnable;
    let retries = &job.frozen.spec.retries;
    let mut config = Config::new(retries.task_failures, retries.task_disruptions);
    if retries.speculation == Speculation::Never {
        config.speculation = None;
    }
    let state = State::new(config, &plan, epoch, records)?;
    let outages = Outages::default();
    let identity = job.identity.clone();
    let sink_path = job.frozen.spec.pipeline.sink.files.path.clone();
    let retries = Retries::new(outages.clone(), metrics.clone(), job.stores.chance());
    let mut storage_watch = JoinSet::new();
    storage_watch.spawn({
        let (job, retries) = (Arc::clone(&job), retries.clone());
        async move { storage_watch::watch_storage(&job, epoch, &retries).await }
    });
    let effects = Effects::new(
        Arc::clone(&job),
        digest.clone(),
        epoch,
        ledger,
        retries,
        metrics.clone(),
    );
    let (inputs, received_inputs) = mpsc::channel(INPUTS_QUEUED);
    let (heartbeats, received_heartbeats) = mpsc::channel(HEARTBEATS_QUEUED);
    let (drains, received_drains) = watch::channel(false);
    storage_watch.spawn({
        let (job, inputs) = (Arc::clone(&job), inputs.downgrade());
        async move { storage_watch::show_signs_and_drain(&job, received_drains, inputs).await }
    });
    handle.send_replace(Some(LoopHandle {
        epoch,
        inputs,
        heartbeats,
        drains,
    }));
    Ok(EventLoop {
        attempts: Attempts::new(Arc::clone(&job), epoch, clock()),
        job,
        _storage_watch: storage_watch,
        runtime: Handle::current(),
        cleanup: JoinSet::new(),
        removes_output: false,
        removed: None,
        is_clean: false,
        identity,
        epoch,
        state,
        plan: Arc::new(plan),
        digest,
        source,
        planned,
        tables,
        sink_path,
        offenders,
        effects,
        outages,
        heartbeats: received_heartbeats,
        inputs: received_inputs,
        status,
        metrics,
        began: Instant::now(),
    })
}
