//! Starts the operator: connects its parts, and checks the preconditions. This module makes no
//! decisions about jobs.
//!
//! [`run`] handles the parts that a process has: arguments, key, signals and the HTTP server.
//! [`serve`] does everything else, with any client, clock and connection to coordinators.

mod definition;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::client::ClientBuilder;
use kube::runtime::events::{Recorder, Reporter};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;
use zephyr_crds::names;

use crate::admin;
use crate::calls::CallError;
use crate::calls::retry_after::KeepRetryAfter;
use crate::clock::Clock;
use crate::config::Config;
use crate::controller::Context;
use crate::controller::memory::Memory;
use crate::controller::plan::Installation;
use crate::driver::{Jobs, drive};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::progress::RunStreams;
use crate::progress::dial::{Dial, Grpc};
use crate::progress::token::{KeyTooShort, SigningKey};
use crate::turns::Turns;
use crate::watches;
use crate::watches::cache::Caches;

/// How often the data of deleted jobs is removed from memory.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Why the operator does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the signing key cannot be read.
    #[error("read the signing key {path}: {source}")]
    ReadKey {
        /// Its path.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The signing key is too short.
    #[error("use the signing key {path}: {source}")]
    UseKey {
        /// Path of its file.
        path: String,
        /// How short it is.
        source: KeyTooShort,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error("find the cluster: {0}")]
    InferConfig(#[source] kube::config::InferConfigError),
    /// The client cannot be made from the configuration.
    #[error("make a client: {0}")]
    Client(#[source] kube::Error),
    /// The cluster has no definition of `ZephyrJob`.
    #[error("CRD zephyrjobs.zephyr.dev not found, install it first")]
    NoCrd,
    /// The cluster serves another version of `ZephyrJob`.
    #[error(
        "CRD zephyrjobs.zephyr.dev: serves {served} only; this operator needs {needed}, apply the CRD of its release"
    )]
    OtherVersion {
        /// The versions that are served.
        served: String,
        /// The version that this release needs.
        needed: String,
    },
    /// The definition in the cluster lacks something that this release needs.
    #[error("{sentence}")]
    OldCrd {
        /// What it lacks, and what to do.
        sentence: String,
    },
    /// The jobs cannot be listed.
    #[error("list ZephyrJobs: {0}")]
    ListJobs(#[source] CallError),
    /// See [`watches::Error`].
    #[error(transparent)]
    FillCaches(watches::Error),
    /// See [`admin::Error`].
    #[error(transparent)]
    Admin(admin::Error),
    /// A part of the operator ended although it must run as long as the process.
    #[error("{task} ended unexpectedly")]
    TaskEnded {
        /// The name of the part.
        task: String,
    },
    /// The process cannot listen for signals.
    #[error("wait for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// The dependencies of the operator, besides its client.
pub struct Setup {
    /// The settings of the installation.
    pub installation: Installation,
    /// The only namespace whose jobs are run; all if absent.
    pub namespace: Option<String>,
    /// The key that tokens of generations are derived from.
    pub signing_key: SigningKey,
    /// The source of the time of day.
    pub clock: Clock,
    /// The way to connect to coordinators.
    pub dial: Arc<dyn Dial>,
    /// How many jobs may start at the same time.
    pub max_starting_jobs: usize,
    /// The name of the operator's pod, for events.
    pub instance: Option<String>,
    /// Counters for `/metrics`.
    pub metrics: Metrics,
    /// What `/readyz` and `/healthz` answer.
    pub health: Health,
}

/// Runs the operator with the arguments of its process, until a signal stops it.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let signing_key = read_key(&config)?;
    let mut client_config = kube::Config::infer().await.map_err(Error::InferConfig)?;
    // The operator controls every retry itself. If the client retried too, one call would become
    // several.
    client_config.default_retry = false;
    let client = ClientBuilder::try_from(client_config)
        .map_err(Error::Client)?
        .with_layer(&KeepRetryAfter)
        .build();
    let setup = Setup {
        installation: config.installation(),
        namespace: config.only_namespace().map(str::to_owned),
        signing_key,
        clock: Clock::system(),
        dial: Arc::new(Grpc),
        max_starting_jobs: config.max_starting_jobs(),
        instance: std::env::var("POD_NAME").ok(),
        metrics: Metrics::default(),
        health: Health::default(),
    };
    let served = admin::serve(config.listen, setup.metrics.clone(), setup.health.clone());
    tokio::select! {
        // Every write can be repeated or lost without harm. So the process may stop at any point.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = Box::pin(serve(client, setup)) => ended,
        ended = served => match ended {
            Err(error) => Err(Error::Admin(error)),
            Ok(()) => Err(Error::TaskEnded { task: "the admin server".to_owned() }),
        },
    }
}

/// Makes the dependencies of a reconcile, after the caches are filled.
fn context(client: Client, caches: Arc<Caches>, jobs: Arc<Jobs>, setup: Setup) -> Context {
    Context {
        recorder: Recorder::new(client.clone(), reporter(setup.instance)),
        client,
        caches,
        streams: RunStreams::new(Arc::clone(&jobs), setup.dial, setup.clock),
        jobs,
        turns: Arc::new(Turns::new(setup.max_starting_jobs)),
        installation: setup.installation,
        signing_key: setup.signing_key,
        metrics: setup.metrics,
        memory: Memory::default(),
        clock: setup.clock,
        started: Instant::now(),
    }
}

/// Runs the operator until it fails. Dropping the future at any point is equivalent to a crash:
/// nothing continues after it.
///
/// It listens on no port, and reads no file, argument or signal.
pub async fn serve(client: Client, setup: Setup) -> Result<(), Error> {
    let mut tasks = JoinSet::new();
    let namespace = setup.namespace.as_deref();
    definition::check(&client, namespace, &setup.health).await?;

    let caches = Arc::new(Caches::default());
    let jobs = Arc::new(Jobs::default());
    let filling = watches::start(
        &client,
        namespace,
        &caches,
        &jobs,
        (&setup.health, &setup.metrics),
        &mut tasks,
    );
    tokio::select! {
        biased;
        filled = filling.wait() => filled.map_err(Error::FillCaches)?,
        ended = tasks.join_next() => return Err(Error::TaskEnded { task: name_of(ended) }),
    }
    let health = setup.health.clone();
    let context = Arc::new(context(client, caches, Arc::clone(&jobs), setup));
    tasks.spawn(sweep(Arc::clone(&context)));
    tasks.spawn(Arc::clone(&context.turns).follow(
        Arc::clone(&context.caches),
        Arc::clone(&jobs),
        context.clock,
    ));
    health.set_ready();
    info!(worker_image = %context.installation.worker_image, jobs = context.caches.jobs.len(), "operator runs");
    tokio::select! {
        never = drive(jobs, context, health) => match never {},
        ended = tasks.join_next() => Err(Error::TaskEnded { task: name_of(ended) }),
    }
}

fn read_key(config: &Config) -> Result<SigningKey, Error> {
    let path = config.signing_key_file.display().to_string();
    let bytes = std::fs::read(&config.signing_key_file).map_err(|source| Error::ReadKey {
        path: path.clone(),
        source,
    })?;
    SigningKey::new(&bytes).map_err(|source| Error::UseKey { path, source })
}

/// Removes the data of deleted jobs from memory again and again, forever.
async fn sweep(context: Arc<Context>) -> &'static str {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let alive = context.caches.jobs.job_uids();
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

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
