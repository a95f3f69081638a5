//! Runs a whole job on this machine, for `kubectl-zephyr run`. Coordinator, supervisors and child
//! processes are the same as in a cluster, and communicate over loopback. Needs no cluster. Prints
//! nothing.

mod scratch;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use zephyr_crds::frozen::FrozenJob;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_proto::run::Snapshot;
use zephyr_store::install_crypto_provider;
use zephyr_store::ledger::{PlanFile, load_plan};
use zephyr_store::storage::list_inputs;

use self::scratch::Scratch;
use crate::coordinator::{
    self, CoordinatorError, CoordinatorOptions, PlacesError, Status, check_storage,
};
use crate::job::{RunJob, RunJobError};
use crate::metrics::{CoordinatorMetrics, WorkerMetrics};
use crate::transport::token::{Token, TokenError};
use crate::worker::{self, Readiness, WorkerError, WorkerOptions};

/// Settings of stores from a person's environment, in the form of frozen jobs. Credentials are not
/// included, because the stores read those from the environment themselves.
const STORAGE_SETTINGS: [&str; 7] = [
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
];

/// The environment's settings for stores, for [`FrozenJob::storage_options`].
pub fn storage_options_from_environment() -> BTreeMap<String, String> {
    let set = |name: &&str| Some((name.to_ascii_lowercase(), std::env::var(name).ok()?));
    STORAGE_SETTINGS.iter().filter_map(set).collect()
}

/// A listener for the progress of the run.
pub type ProgressListener = Arc<dyn Fn(&Snapshot) + Send + Sync>;

/// A listener for the plan of the run.
pub type PlanListener = Arc<dyn Fn(&PlanFile) + Send + Sync>;

/// The least time between two calls of the listener.
const PROGRESS_SPACING: Duration = Duration::from_millis(200);
/// How long workers may take to end their children after the result.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of a local run.
pub struct LocalOptions {
    /// Number of supervisors; at least 1.
    pub workers: u32,
    /// Number of child processes of each supervisor; at least 1.
    pub slots: u32,
    /// Memory for all children together; 0 if it is not known.
    pub memory_bytes: u64,
    /// The executable of child processes; default: this executable. Its `main` must begin with
    /// [`child_main_if_requested`](crate::child_main_if_requested).
    pub child_executable: Option<PathBuf>,
    /// Whether the run with this uid is resumed. Otherwise a new run begins.
    pub resumes: bool,
    /// Called once with the stored plan.
    pub planned: PlanListener,
    /// Called with the progress of the run: on change, at most five times a second, and once at the
    /// end.
    pub progress: ProgressListener,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The job cannot be run.
    #[error(transparent)]
    Job(RunJobError),
    /// Its storage is among its inputs.
    #[error(transparent)]
    Places(PlacesError),
    /// No run with this uid exists there, or it has stored no plan yet.
    #[error(
        "no run with the uid {uid} has kept a plan under {storage}; leave --resume out to begin a new one"
    )]
    NothingToResume {
        /// The requested uid.
        uid: String,
        /// The storage URI.
        storage: String,
    },
    /// The run with this uid was begun from another pipeline.
    #[error(
        "the run {uid} was begun from another pipeline, and a run keeps the pipeline with which it began; resume it with the manifest from which it was begun, or leave --resume out to begin a new one"
    )]
    OtherPipeline {
        /// The requested uid.
        uid: String,
    },
    /// There is no token.
    #[error(transparent)]
    Token(TokenError),
    /// The folder for temporary data cannot be made.
    #[error("make a temporary folder (TMPDIR chooses where): {source}")]
    Scratch {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No port on loopback is available.
    #[error("listen on 127.0.0.1: {source}")]
    Listen {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The coordinator ended.
    #[error(transparent)]
    Coordinator(CoordinatorError),
    /// A worker ended.
    #[error(transparent)]
    Worker(WorkerError),
    /// A part of the run panicked.
    #[error("a part of the run died: {source}")]
    Died {
        /// How it died.
        #[source]
        source: JoinError,
    },
    /// The connection to the coordinator's status was lost.
    #[error("the run ended without a result")]
    NoResult,
}

/// Runs a job to its result. A job that failed is a result too. Dropping the future ends all
/// processes.
pub async fn run_local(job: FrozenJob, options: LocalOptions) -> Result<JobResult, LocalError> {
    install_crypto_provider();
    let job = Arc::new(RunJob {
        is_local: true,
        ..RunJob::new(job).map_err(LocalError::Job)?
    });
    ledger_is_apart(&job).await.map_err(LocalError::Places)?;
    if options.resumes {
        can_resume(&job).await?;
    }
    let token = Token::random().map_err(LocalError::Token)?;
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|source| LocalError::Listen { source })?;
    let address = listener
        .local_addr()
        .map_err(|source| LocalError::Listen { source })?;
    let (status, watched) = watch::channel(Status::planning("opening the storage"));
    let mut parts = JoinSet::new();
    let metrics = CoordinatorMetrics::default();
    let coordinator = CoordinatorOptions {
        job: Arc::clone(&job),
        token: token.clone(),
        listener,
        metrics,
    };
    parts.spawn(async move {
        match coordinator::run(coordinator, status).await {
            Ok(never) => match never {},
            Err(error) => LocalError::Coordinator(error),
        }
    });
    let scratch = Scratch::make().map_err(|source| LocalError::Scratch { source })?;
    let mut supervisors = JoinSet::new();
    let address = format!("http://{address}");
    let stops = start_workers(
        &job,
        &token,
        &address,
        &options,
        &scratch.path(),
        &mut supervisors,
    );
    let result = tokio::select! {
        never = show_plan(watched.clone(), &job, &options.planned) => match never {},
        result = follow(watched, &options.progress) => result,
        Some(ended) = parts.join_next() => Err(ended.unwrap_or_else(|source| LocalError::Died { source })),
        Some(ended) = supervisors.join_next() => Err(worker_ended(ended)),
    };
    let result = match result {
        // The coordinator closes its status a moment before it ends. Its own error says why it
        // ends.
        Err(LocalError::NoResult) => match timeout(STOP_TIMEOUT, parts.join_next()).await {
            Ok(Some(ended)) => Err(ended.unwrap_or_else(|source| LocalError::Died { source })),
            Ok(None) | Err(_) => Err(LocalError::NoResult),
        },
        result => result,
    };
    for stop in stops {
        // A worker that has ended does not need the message.
        let _gone = stop.send(());
    }
    let all_gone = async { while supervisors.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, all_gone).await.is_err() {
        tracing::warn!("workers did not stop in time; they are ended");
    }
    result
}

/// Checks that the ledger is not in a folder from which the job reads. On a local disk, links can
/// have this effect. In this case nothing may be written, because the next run would read the
/// ledger as input. The check is made here because the ledger is opened before the inputs are
/// listed for the plan.
async fn ledger_is_apart(job: &RunJob) -> Result<(), PlacesError> {
    let spec = &job.frozen.spec;
    let mut inputs = Vec::new();
    if spec.storage.uri.starts_with("file:") {
        let all = spec
            .pipeline
            .files_read()
            .flat_map(|(_, files)| &files.paths);
        let local = all.filter(|path| path.starts_with("file:"));
        let paths: Vec<String> = local.cloned().collect();
        // If the inputs cannot be listed, planning reports it.
        let listed = list_inputs(&job.stores, &paths, true).await;
        inputs.extend(
            listed
                .unwrap_or_default()
                .into_iter()
                .map(|input| input.uri),
        );
    }
    check_storage(spec, inputs).await
}

/// Starts the workers of a run; returns the handles that end them.
fn start_workers(
    job: &Arc<RunJob>,
    token: &Token,
    address: &str,
    options: &LocalOptions,
    spill_directory: &Path,
    supervisors: &mut JoinSet<Result<(), WorkerError>>,
) -> Vec<oneshot::Sender<()>> {
    let workers = options.workers.max(1);
    // Other runs on this machine have their own workers.
    let run: u32 = rand::random();
    let mut stops = Vec::new();
    for number in 0..workers {
        let (stop, stopped) = oneshot::channel();
        stops.push(stop);
        let worker = WorkerOptions {
            job: Arc::clone(job),
            token: token.clone(),
            address: address.to_owned(),
            pod_uid: format!("local-{run:08x}-{number}"),
            pod_name: format!("local-{run:08x}-{number}"),
            slots: options.slots.max(1),
            memory_bytes: options.memory_bytes / u64::from(workers),
            memory_is_limited: false,
            disk_limit_bytes: 0,
            executable: options.child_executable.clone(),
            spill_directory: spill_directory.to_owned(),
            metrics: WorkerMetrics::default(),
        };
        let (readiness, _) = watch::channel(Readiness::NoSession);
        supervisors.spawn(worker::run(worker, readiness, stopped));
    }
    stops
}

fn worker_ended(ended: Result<Result<(), WorkerError>, JoinError>) -> LocalError {
    match ended {
        Ok(Ok(())) => LocalError::NoResult,
        Ok(Err(error)) => LocalError::Worker(error),
        Err(source) => LocalError::Died { source },
    }
}

/// Calls the listener once there is a plan. If the plan cannot be read, the listener is not called.
async fn show_plan(
    mut status: watch::Receiver<Status>,
    job: &RunJob,
    listener: &PlanListener,
) -> Infallible {
    // The value that `wait_for` returns holds a lock, and the status cannot change while it is
    // held.
    let wait = status.wait_for(|now| now.snapshot.planned.is_some());
    let is_planned = wait.await.is_ok();
    if is_planned && let Ok(Some(plan)) = load_plan(&job.storage, false).await {
        listener(&plan);
    }
    std::future::pending().await
}

/// Calls the listener for each change until there is a result.
async fn follow(
    mut status: watch::Receiver<Status>,
    progress: &ProgressListener,
) -> Result<JobResult, LocalError> {
    loop {
        let now = status.borrow_and_update().clone();
        progress(&now.snapshot);
        if let Some(result) = now.result {
            return Ok(result);
        }
        // Waits on a separate receiver, because waiting marks later changes as seen.
        let mut other = status.clone();
        let ended = async { other.wait_for(|now| now.result.is_some()).await.is_err() };
        let is_gone = match timeout(PROGRESS_SPACING, ended).await {
            Ok(is_gone) => is_gone,
            Err(_) => status.changed().await.is_err(),
        };
        if is_gone {
            return Err(LocalError::NoResult);
        }
    }
}

/// Fails if the job is not the one that began the run, before anything is written to the run's
/// ledger. If the plan cannot be read, the run itself retries and reports the error.
async fn can_resume(job: &RunJob) -> Result<(), LocalError> {
    let uid = || job.frozen.uid.clone();
    match load_plan(&job.storage, false).await {
        Ok(None) => Err(LocalError::NothingToResume {
            uid: uid(),
            storage: job.frozen.spec.storage.uri.clone(),
        }),
        Ok(Some(kept)) => {
            let own = serde_json::to_value(&job.frozen.spec.pipeline);
            let is_same = own.is_ok_and(|own| own == kept.pipeline);
            if is_same {
                Ok(())
            } else {
                Err(LocalError::OtherPipeline { uid: uid() })
            }
        }
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn a_change_right_after_another_is_shown_and_the_coordinators_end_ends_it() {
        let (sender, status) = watch::channel(Status::planning("first"));
        let shown: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&shown);
        let listener: ProgressListener = Arc::new(move |snapshot| {
            told.lock().unwrap().push(snapshot.message.clone());
        });
        let following = tokio::spawn(async move { follow(status, &listener).await });
        // This change comes soon after the first one, and no further change follows for a long
        // time.
        tokio::time::sleep(PROGRESS_SPACING / 4).await;
        sender.send_replace(Status::storage_unavailable("denied"));
        tokio::time::sleep(PROGRESS_SPACING * 10).await;
        assert_eq!(*shown.lock().unwrap(), ["first", "denied"]);
        drop(sender);
        let ended = following.await.unwrap();
        assert!(matches!(ended, Err(LocalError::NoResult)));
    }

    #[tokio::test]
    async fn nothing_is_written_to_a_storage_that_links_bring_among_the_inputs() {
        let disk = tempfile::tempdir().unwrap();
        let root = disk.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir_all(root.join("scratch/old")).unwrap();
        std::fs::write(root.join("scratch/old/plan.json"), "{}").unwrap();
        std::os::unix::fs::symlink(root.join("scratch"), root.join("in/link")).unwrap();
        let uri = |name: &str| format!("file://{}/{name}", root.display());
        let frozen = json!({
            "version": 1, "namespace": "local", "name": "name", "uid": "uid", "generation": 1,
            "coordinatorAddress": "http://127.0.0.1",
            "spec": {
                "pipeline": {
                    "source": {"files": {"paths": [uri("in/**")], "format": "text"}},
                    "sink": {"files": {"path": uri("out/{shard}.txt")}},
                },
                "storage": {"uri": uri("scratch")},
                "workers": {"replicas": 1},
            },
        });
        let options = LocalOptions {
            workers: 1,
            slots: 1,
            memory_bytes: 0,
            child_executable: None,
            resumes: false,
            planned: Arc::new(|_| {}),
            progress: Arc::new(|_| {}),
        };
        let job = FrozenJob::from_json(&frozen.to_string()).unwrap();
        let error = run_local(job, options).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/scratch/old/plan.json, inside spec.storage.uri"),
            "{error}"
        );
        let left: Vec<_> = std::fs::read_dir(root.join("scratch")).unwrap().collect();
        assert_eq!(left.len(), 1, "a ledger was opened");
    }
}
