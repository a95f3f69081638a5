//! From arguments to a running controller: the wiring, and what must hold before it starts. No decision about a job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::api::{Api, ListParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Config as RunnerConfig, applier};
use kube::{Client, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;

use crate::admin::{self, Readiness};
use crate::calls::{CallError, Refusal, bounded};
use crate::config::Config;
use crate::controller::memory::Memory;
use crate::controller::{Context, error_policy, reconcile};
use crate::metrics::Metrics;
use crate::progress::RunStreams;
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

/// Runs the operator until it is told to stop.
pub async fn run(config: Config) -> Result<(), Error> {
    let signing_key = read_key(&config)?;
    let client_config = kube::Config::infer().await.map_err(Error::InferConfig)?;
    let client = Client::try_from(client_config).map_err(Error::Client)?;
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    let mut tasks = JoinSet::new();
    let mut served = tokio::spawn(admin::serve(
        config.listen,
        metrics.clone(),
        readiness.clone(),
    ));
    require_crd(&client, config.only_namespace()).await?;

    let (triggers, questions) = mpsc::channel::<Trigger>(TRIGGERS);
    let stores = Stores::start(&client, config.only_namespace(), &triggers, &mut tasks);
    let (changed, mut progressed) = mpsc::channel(TRIGGERS);
    tasks.spawn(async move {
        while let Some(job) = progressed.recv().await {
            let crate::controller::validate::JobIdentity {
                namespace, name, ..
            } = job;
            if triggers
                .send(ObjectRef::new(&name).within(&namespace))
                .await
                .is_err()
            {
                break;
            }
        }
        "the forwarding of progress"
    });
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter()),
        client,
        stores: stores.clone(),
        streams: RunStreams::new(changed),
        installation: config.installation(),
        signing_key,
        metrics,
        memory: Memory::default(),
        started: Instant::now(),
    });
    // Only one task may wait for a store: a store wakes the last that asked, and no other.
    stores.wait_until_ready().await.map_err(Error::FillCaches)?;
    tasks.spawn(sweep(Arc::clone(&context)));
    readiness.set();
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
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    tokio::select! {
        // Every write is safe to repeat and to leave out: stopping at any point is fine.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = reconciles => Err(Error::TaskEnded { task: "the controller".to_owned() }),
        ended = tasks.join_next() => Err(Error::TaskEnded { task: name_of(ended) }),
        ended = &mut served => match ended {
            Ok(Err(error)) => Err(Error::Admin(error)),
            Ok(Ok(())) | Err(_) => Err(Error::TaskEnded { task: "the admin server".to_owned() }),
        },
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

fn reporter() -> Reporter {
    Reporter {
        controller: names::MANAGER.to_owned(),
        instance: std::env::var("POD_NAME").ok(),
    }
}

fn name_of(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(name)) => name.to_owned(),
        Some(Err(error)) => format!("a task ({error})"),
        None => "every task".to_owned(),
    }
}
