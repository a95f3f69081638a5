//! The program `zephyr-worker coordinator|worker|install`. Handles arguments, signals and exit
//! codes, and contains no logic of the roles.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use zephyr_store::install_crypto_provider;
use zephyr_worker::admin::{self, Ready};
use zephyr_worker::coordinator::{self, CoordinatorError, CoordinatorOptions, Status};
use zephyr_worker::install::{InstallError, install};
use zephyr_worker::job::{RunJob, RunJobError};
use zephyr_worker::metrics::{CoordinatorMetrics, WorkerMetrics};
use zephyr_worker::open_files::raise_open_files_limit;
use zephyr_worker::transport::token::{Token, TokenError};
use zephyr_worker::worker::{self, Readiness, WorkerError, WorkerOptions, task_slots};
use zephyr_worker::{child_main_if_requested, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many connections wait to be accepted at most. The system may allow fewer. The usual limit is
/// 128, and a connection beyond the limit is tried again only after seconds. So with the usual
/// limit, most of 10,000 workers that connect at once would have to wait.
const CONNECTIONS_WAITING: u32 = 4_096;

/// Runs one role of a job's generation. Started by the operator's pods.
#[derive(Parser)]
#[command(name = "zephyr-worker", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Plans the job, gives tasks to workers, keeps the ledger.
    Coordinator(CoordinatorArguments),
    /// Runs tasks.
    Worker(WorkerArguments),
    /// Copies this program and the certificate authorities that it trusts into a folder, so that a
    /// container of another image can run it.
    Install {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Args)]
struct CommonArguments {
    /// The frozen job.
    #[arg(long, env = "ZEPHYR_JOB", default_value = "/etc/zephyr/job.json")]
    job: PathBuf,
    /// File with the token of the generation.
    #[arg(
        long,
        env = "ZEPHYR_TOKEN_FILE",
        default_value = "/var/run/zephyr/token/token"
    )]
    token_file: PathBuf,
    /// Address at which /healthz, /readyz and /metrics are served.
    #[arg(long, env = "ZEPHYR_ADMIN_LISTEN", default_value = "0.0.0.0:8081")]
    admin_listen: SocketAddr,
}

#[derive(Args)]
struct CoordinatorArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Address at which workers and the operator are served.
    #[arg(long, env = "ZEPHYR_GRPC_LISTEN", default_value = "0.0.0.0:7070")]
    grpc_listen: SocketAddr,
}

#[derive(Args)]
struct WorkerArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Address of the coordinator; default: that in the frozen job.
    #[arg(long, env = "ZEPHYR_COORDINATOR")]
    coordinator: Option<String>,
    /// Tasks at the same time; default: the number in the frozen job; 0 = one for each CPU.
    #[arg(long, env = "ZEPHYR_SLOTS")]
    slots: Option<u32>,
    /// CPUs of this container.
    #[arg(long, env = "ZEPHYR_CPU_LIMIT", default_value_t = 0)]
    cpu_limit: u32,
    /// Memory limit of this container; 0 if there is none.
    #[arg(long, env = "ZEPHYR_MEMORY_LIMIT_BYTES", default_value_t = 0)]
    memory_limit_bytes: u64,
    /// How much of its node's disk this pod may use; 0 if there is no limit.
    #[arg(long, env = "ZEPHYR_DISK_LIMIT_BYTES", default_value_t = 0)]
    disk_limit_bytes: u64,
    /// Uid of this pod.
    #[arg(long, env = "POD_UID")]
    pod_uid: String,
    /// Name of this pod.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod_name: String,
}

/// Why a role ended.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error("start the runtime: {source}")]
    Runtime {
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Job(RunJobError),
    #[error(transparent)]
    Token(TokenError),
    #[error("listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("listen for signals: {source}")]
    Signal {
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Coordinator(CoordinatorError),
    #[error(transparent)]
    Worker(WorkerError),
    #[error(transparent)]
    Install(InstallError),
}

fn main() -> ExitCode {
    if let Some(code) = child_main_if_requested() {
        return code;
    }
    let arguments = Arguments::parse();
    telemetry::start_json("info");
    install_crypto_provider();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ends");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), MainError> {
    match arguments.role {
        Role::Coordinator(arguments) => {
            runtime(&mut Builder::new_multi_thread())?.block_on(coordinate(arguments))
        }
        Role::Install { folder } => install(&folder).map_err(MainError::Install),
        // Supervisor and slots only pass messages on. One thread does this with the least overhead.
        Role::Worker(arguments) => {
            runtime(&mut Builder::new_current_thread())?.block_on(work(arguments))
        }
    }
}

fn runtime(builder: &mut Builder) -> Result<Runtime, MainError> {
    let built = builder.enable_all().build();
    built.map_err(|source| MainError::Runtime { source })
}

async fn coordinate(arguments: CoordinatorArguments) -> Result<(), MainError> {
    let CoordinatorArguments {
        common,
        grpc_listen,
    } = arguments;
    let job = Arc::new(RunJob::read(&common.job).map_err(MainError::Job)?);
    let token = Token::read(&common.token_file).map_err(MainError::Token)?;
    raise_open_files_limit();
    let listener = listen(grpc_listen)?;
    tracing::info!(job = job.frozen.name, uid = job.frozen.uid, generation = job.frozen.generation, %grpc_listen, "coordinator");
    let metrics = CoordinatorMetrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    serve_admin(common.admin_listen, Arc::new(|| Ok(())), registry)?;
    let (status, _watched) = watch::channel(Status::planning("opening the storage"));
    let options = CoordinatorOptions {
        job,
        token,
        listener,
        metrics,
    };
    let mut sigterm =
        signal(SignalKind::terminate()).map_err(|source| MainError::Signal { source })?;
    tokio::select! {
        ended = coordinator::run(options, status) => match ended {
            Ok(never) => match never {},
            Err(error) => Err(MainError::Coordinator(error)),
        },
        _ = sigterm.recv() => {
            tracing::info!("asked to terminate; another coordinator resumes from the ledger");
            Ok(())
        }
    }
}

async fn work(arguments: WorkerArguments) -> Result<(), MainError> {
    let WorkerArguments {
        common,
        coordinator,
        slots,
        cpu_limit,
        memory_limit_bytes,
        disk_limit_bytes,
        pod_uid,
        pod_name,
    } = arguments;
    let job = Arc::new(RunJob::read(&common.job).map_err(MainError::Job)?);
    let token = Token::read(&common.token_file).map_err(MainError::Token)?;
    let address = coordinator.unwrap_or_else(|| job.frozen.coordinator_address.clone());
    let slots = task_slots(slots.unwrap_or(job.frozen.spec.workers.slots), cpu_limit);
    tracing::info!(
        job = job.frozen.name,
        uid = job.frozen.uid,
        generation = job.frozen.generation,
        address,
        slots,
        "worker"
    );
    let metrics = WorkerMetrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let (readiness, watched) = watch::channel(Readiness::NoSession);
    serve_admin(common.admin_listen, readiness_probe(watched), registry)?;
    let options = WorkerOptions {
        job,
        token,
        address,
        pod_uid,
        pod_name,
        slots,
        memory_bytes: memory_limit_bytes,
        memory_is_limited: true,
        disk_limit_bytes,
        executable: None,
        spill_directory: std::env::temp_dir(),
        metrics,
    };
    let (terminate, terminated) = oneshot::channel();
    let mut sigterm =
        signal(SignalKind::terminate()).map_err(|source| MainError::Signal { source })?;
    tokio::spawn(async move {
        sigterm.recv().await;
        if terminate.send(()).is_err() {
            tracing::debug!("the worker exited before the request");
        }
    });
    worker::run(options, readiness, terminated)
        .await
        .map_err(MainError::Worker)
}

fn readiness_probe(watched: watch::Receiver<Readiness>) -> Ready {
    Arc::new(move || match &*watched.borrow() {
        Readiness::Ready => Ok(()),
        Readiness::NoSession => Err("no session with the coordinator".to_owned()),
        Readiness::Draining => Err("asked to terminate".to_owned()),
        Readiness::Refused(why) => Err(why.clone()),
    })
}

fn listen(address: SocketAddr) -> Result<TcpListener, MainError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A successor on the same address does not wait until the system has forgotten the
        // connections of its predecessor.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(CONNECTIONS_WAITING)
    };
    listen().map_err(|source| MainError::Listen { address, source })
}

/// Answers the probes in a separate asynchronous task. If that task ends, no probe is answered any
/// more, and Kubernetes restarts the container.
fn serve_admin(address: SocketAddr, ready: Ready, registry: Registry) -> Result<(), MainError> {
    let listener = listen(address)?;
    tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, ready, registry, std::future::pending()).await {
            tracing::error!(%error, "the probes are not answered any more");
        }
    });
    Ok(())
}
