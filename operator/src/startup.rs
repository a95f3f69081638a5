//! From arguments to a running controller: the wiring, and what must hold before it starts. No decision about a job.
//!
//! [`run`] is the process: its arguments, key, signals and listener. [`serve`] is everything else, over any client, clock and
//! way to coordinators.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::api::{Api, ListParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Config as RunnerConfig, applier};
use kube::{Client, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;

use crate::admin::{self, Readiness};
use crate::calls::{CallError, Refusal, bounded};
use crate::clock::Clock;
use crate::config::Config;
use crate::controller::memory::Memory;
use crate::controller::plan::Installation;
use crate::controller::validate::JobIdentity;
use crate::controller::{Context, error_policy, reconcile};
use crate::metrics::Metrics;
use crate::progress::RunStreams;
use crate::progress::dial::{Dial, Grpc};
use crate::progress::token::{KeyTooShort, SigningKey};
use crate::watches::{self, Stores, Trigger};

/// Reconciles at the same time: they wait for the API server most of the time.
const CONCURRENCY: u16 = 16;
/// Questions that may wait; a watch that brings more waits itself. The runner keeps one for each job.
const TRIGGERS: usize = 4096;
/// How often what is kept for jobs that are gone is dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Why the operator does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the signing key {path}: {source}")]
    ReadKey {
        path: String,
        source: std::io::Error,
    },
    #[error("use the signing key {path}: {source}")]
    UseKey { path: String, source: KeyTooShort },
    #[error("find the cluster: {0}")]
    InferConfig(#[source] kube::config::InferConfigError),
    #[error("make a client: {0}")]
    Client(#[source] kube::Error),
    #[error("CRD zephyrjobs.zephyr.dev not found, install it first")]
    NoCrd,
    #[error("list ZephyrJobs: {0}")]
    ListJobs(#[source] CallError),
    #[error(transparent)]
    FillCaches(watches::Error),
    #[error(transparent)]
    Admin(admin::Error),
    #[error("{task} ended, which it never should")]
    TaskEnded { task: String },
    #[error("wait for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// What the operator works with besides its client.
pub struct Setup {
    pub installation: Installation,
    /// The only namespace whose jobs are run; all if absent.
    pub namespace: Option<String>,
    pub signing_key: SigningKey,
    pub clock: Clock,
    /// How coordinators are reached.
    pub dial: Arc<dyn Dial>,
    /// The name of the operator's pod, for events.
    pub instance: Option<String>,
    pub metrics: Metrics,
    pub readiness: Readiness,
}

/// Runs the operator with the arguments of its process, until a signal stops it.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let signing_key = read_key(&config)?;
    let client_config = kube::Config::infer().await.map_err(Error::InferConfig)?;
    let client = Client::try_from(client_config).map_err(Error::Client)?;
    let setup = Setup {
        installation: config.installation(),
        namespace: config.only_namespace().map(str::to_owned),
        signing_key,
        clock: Clock::system(),
        dial: Arc::new(Grpc),
        instance: std::env::var("POD_NAME").ok(),
        metrics: Metrics::default(),
        readiness: Readiness::default(),
    };
    let served = admin::serve(
        config.listen,
        setup.metrics.clone(),
        setup.readiness.clone(),
    );
    tokio::select! {
        // Every write is safe to repeat and to leave out: stopping at any point is fine.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = Box::pin(serve(client, setup)) => ended,
        ended = served => match ended {
            Err(error) => Err(Error::Admin(error)),
            Ok(()) => Err(Error::TaskEnded { task: "the admin server".to_owned() }),
        },
    }
}

/// Runs the operator until it fails. Dropping the future at any point is what a crash is: nothing goes on after it.
///
/// Listens on nothing, reads no file, argument or signal.
pub async fn serve(client: Client, setup: Setup) -> Result<(), Error> {
    let mut tasks = JoinSet::new();
    let namespace = setup.namespace.as_deref();
    require_crd(&client, namespace).await?;

    let (triggers, questions) = mpsc::channel::<Trigger>(TRIGGERS);
    let stores = Stores::start(&client, namespace, &triggers, &mut tasks);
    let (changed, progressed) = mpsc::channel(TRIGGERS);
    tasks.spawn(forward_progress(progressed, triggers));
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter(setup.instance)),
        client,
        stores: stores.clone(),
        streams: RunStreams::new(changed, setup.dial, setup.clock),
        installation: setup.installation,
        signing_key: setup.signing_key,
        metrics: setup.metrics,
        memory: Memory::default(),
        clock: setup.clock,
        started: Instant::now(),
    });
    // Only one task may wait for a store: a store wakes the last that asked, and no other.
    stores.wait_until_ready().await.map_err(Error::FillCaches)?;
    tasks.spawn(sweep(Arc::clone(&context)));
    setup.readiness.set();
    info!(worker_image = %context.installation.worker_image, "operator runs");

    let questions = ReceiverStream::new(questions).map(Ok::<_, std::convert::Infallible>);
    let runner = RunnerConfig::default().concurrency(CONCURRENCY);
    let reconciles = applier(
        |job, context| reconcile(job, context).boxed(),
        error_policy,
        context,
        stores.jobs,
        questions,
        runner,
    )
    .for_each(|outcome| async move {
        if let Err(error) = outcome {
            // A job that is gone, or a failed step that the error policy has told already.
            debug!(%error, "reconcile ended early");
        }
    });
    tokio::select! {
        () = reconciles => Err(Error::TaskEnded { task: "the controller".to_owned() }),
        ended = tasks.join_next() => Err(Error::TaskEnded { task: name_of(ended) }),
    }
}

/// Every report is a reason to look at its job.
async fn forward_progress(
    mut progressed: mpsc::Receiver<JobIdentity>,
    triggers: mpsc::Sender<Trigger>,
) -> &'static str {
    while let Some(job) = progressed.recv().await {
        let trigger = ObjectRef::new(&job.name).within(&job.namespace);
        if triggers.send(trigger).await.is_err() {
            break;
        }
    }
    "the forwarding of progress"
}

fn read_key(config: &Config) -> Result<SigningKey, Error> {
    let path = config.signing_key_file.display().to_string();
    let bytes = std::fs::read(&config.signing_key_file).map_err(|source| Error::ReadKey {
        path: path.clone(),
        source,
    })?;
    SigningKey::new(&bytes).map_err(|source| Error::UseKey { path, source })
}

/// Without the CRD every watch would fail for ever, and nobody would be told.
async fn require_crd(client: &Client, namespace: Option<&str>) -> Result<(), Error> {
    let jobs: Api<kube::core::PartialObjectMeta<ZephyrJob>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match bounded(jobs.list(&ListParams::default().limit(1))).await {
        Ok(_) => Ok(()),
        Err(error) if error.refusal() == Refusal::NotFound => Err(Error::NoCrd),
        Err(error) => Err(Error::ListJobs(error)),
    }
}

/// Drops what is kept for jobs that are gone, for ever.
async fn sweep(context: Arc<Context>) -> &'static str {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let alive: std::collections::BTreeSet<_> = context
            .stores
            .jobs
            .state()
            .iter()
            .filter_map(|job| job.uid())
            .collect();
        context.streams.retain(|uid| alive.contains(uid));
        context.memory.retain(|uid| alive.contains(uid));
        context.metrics.retain(|uid| alive.contains(uid));
    }
}

fn reporter(instance: Option<String>) -> Reporter {
    Reporter {
        controller: names::MANAGER.to_owned(),
        instance,
    }
}

fn name_of(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(name)) => name.to_owned(),
        Some(Err(error)) => format!("a task ({error})"),
        None => "every task".to_owned(),
    }
}
