//! Runs the watches. They keep one cache of facts for each kind of object, and report which job a
//! change concerns.
//!
//! Children are found by the label of their job. Most of them are its grandchildren, so their owner
//! references do not name the job. The affected jobs are put into the queue, which never blocks.
//! This module writes nothing and decides nothing.

pub mod cache;
pub mod decode;
pub mod facts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::core::NamespaceResourceScope;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::warn;
use zephyr_crds::names;

use self::cache::{Cache, Caches, Touched};
use self::decode::{Facts, Seen};
use crate::calls::with_causes;
use crate::defect::{self, Defect};
use crate::driver::Jobs;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::queue::JobKey;

/// How long it may take to fill the caches. For 10,000 pods it takes seconds. After this time the
/// API server counts as not answering.
pub const FILL_DEADLINE: Duration = Duration::from_mins(3);
/// How many objects one page of a list contains. An object has at most a megabyte, so a page takes
/// at most 100 MB while it is read.
const PAGE: u32 = 100;
/// How many objects one page contains if only metadata is listed. With 256 KiB of annotations in
/// each, this is 64 MB.
const METADATA_PAGE: u32 = 250;
/// The first wait before a failed watch is started again. The waits double, up to `LONGEST_RETRY`.
const FIRST_RETRY: Duration = Duration::from_millis(800);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a watch must work before it counts as recovered.
const RECOVERED_AFTER: Duration = Duration::from_mins(2);

/// How many changes the channel of `Defect::StartupDeadlock` holds. Only this seeded mistake uses
/// the channel.
const SMALL_CHANNEL: usize = 1;

/// Waits until the caches are filled.
#[derive(Clone, Debug)]
pub struct Filling(Arc<FillingState>);

#[derive(Debug)]
struct FillingState {
    /// The kinds whose caches are not filled, with the last error of each.
    missing: Mutex<BTreeMap<&'static str, Option<String>>>,
    filled: Notify,
    health: Health,
}

/// The error if the caches were not filled in time.
#[derive(Debug, thiserror::Error)]
#[error("not ready after {} s: {what}", FILL_DEADLINE.as_secs())]
pub struct Error {
    what: String,
}

/// The kinds that are watched, by their names for people.
const KINDS: [&str; 6] = [
    "ZephyrJobs",
    "ConfigMaps",
    "Services",
    "Deployments",
    "StatefulSets",
    "Pods",
];

/// The dependencies of every watch.
#[derive(Clone)]
struct Watching {
    client: Client,
    namespace: Option<String>,
    caches: Arc<Caches>,
    jobs: Arc<Jobs>,
    filling: Filling,
    health: Health,
    metrics: Metrics,
}

/// Starts every watch, in `namespace` or in all namespaces. Affected jobs are put into `jobs`. The
/// watches run in `tasks`; none of them should ever end.
pub fn start(
    client: &Client,
    namespace: Option<&str>,
    caches: &Arc<Caches>,
    jobs: &Arc<Jobs>,
    (health, metrics): (&Health, &Metrics),
    tasks: &mut JoinSet<&'static str>,
) -> Filling {
    let filling = Filling::new(health.clone());
    let watching = Watching {
        client: client.clone(),
        namespace: namespace.map(str::to_owned),
        caches: Arc::clone(caches),
        jobs: Arc::clone(jobs),
        filling: filling.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
    };
    let [
        zephyr_jobs,
        config_maps,
        services,
        deployments,
        stateful_sets,
        pods,
    ] = KINDS;
    tasks.spawn(follow_jobs(watching.clone(), zephyr_jobs));
    tasks.spawn(follow(watching.clone(), config_maps, |caches| {
        &caches.roots
    }));
    tasks.spawn(follow(watching.clone(), services, |caches| {
        &caches.services
    }));
    tasks.spawn(follow(watching.clone(), deployments, |caches| {
        &caches.coordinators
    }));
    tasks.spawn(follow(watching.clone(), stateful_sets, |caches| {
        &caches.workers
    }));
    tasks.spawn(follow(watching, pods, |caches| &caches.pods));
    filling
}

/// Watches the jobs themselves, forever.
async fn follow_jobs(watching: Watching, kind: &'static str) -> &'static str {
    let jobs = Arc::clone(&watching.jobs);
    let caches = Arc::clone(&watching.caches);
    let on_touch = |touched: Touched| jobs.touch(&touched.key);
    let on_gone = |touched: Touched| jobs.forget(&touched.key);
    follow_kind(
        &watching,
        kind,
        &caches.jobs,
        watcher::Config::default(),
        on_touch,
        on_gone,
    )
    .await;
    kind
}

/// Watches one kind of children, forever.
async fn follow<F: Facts>(
    watching: Watching,
    kind: &'static str,
    cache: fn(&Caches) -> &Cache<F>,
) -> &'static str {
    let caches = Arc::clone(&watching.caches);
    let jobs = Arc::clone(&watching.jobs);
    // Only jobs that exist are put into the queue, because anybody may write any name into a label.
    let on_touch = |touched: Touched| {
        let JobKey { namespace, name } = &touched.key;
        let job = caches.jobs.get(namespace, name);
        if job.is_some_and(|job| job.uid == touched.uid) {
            jobs.touch(&touched.key);
        }
    };
    let config = watcher::Config::default().labels(names::LABEL_JOB);
    follow_kind(&watching, kind, cache(&caches), config, on_touch, on_touch).await;
    kind
}

/// Returns the API of a kind in one namespace, or in all.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn follow_kind<F: Facts>(
    watching: &Watching,
    kind: &'static str,
    cache: &Cache<F>,
    config: watcher::Config,
    on_touch: impl Fn(Touched),
    on_gone: impl Fn(Touched),
) {
    let api = scoped::<Seen<F>>(&watching.client, watching.namespace.as_deref());
    let page = if F::METADATA_ONLY {
        METADATA_PAGE
    } else {
        PAGE
    };
    let events = watcher(api, config.page_size(page)).backoff(WatchBackoff::default());
    let mut events = std::pin::pin!(events);
    let mut untaken = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => cache.begin_list(),
            Ok(watcher::Event::InitApply(seen) | watcher::Event::Apply(seen)) => {
                untaken += 1;
                if defect::is(Defect::StartupDeadlock)
                    && untaken > SMALL_CHANNEL
                    && watching.filling.sentence().is_some()
                {
                    std::future::pending::<()>().await;
                }
                watching.health.watch_works(kind);
                cache.put(seen).into_iter().for_each(&on_touch);
            }
            Ok(watcher::Event::Delete(seen)) => {
                watching.health.watch_works(kind);
                cache.remove(&seen).into_iter().for_each(&on_gone);
            }
            Ok(watcher::Event::InitDone) => {
                watching.health.watch_works(kind);
                cache.end_list().into_iter().for_each(&on_gone);
                watching.filling.set_filled(kind);
            }
            Err(error) => {
                warn!(kind, %error, "watch interrupted, it starts again");
                watching.metrics.count_watch_failure(kind);
                watching.health.watch_failed(kind, with_causes(&error));
                watching.filling.note(kind, &error);
            }
        }
    }
}

impl Filling {
    fn new(health: Health) -> Self {
        Self(Arc::new(FillingState {
            missing: Mutex::new(KINDS.map(|kind| (kind, None)).into()),
            filled: Notify::new(),
            health,
        }))
    }

    /// Waits until every cache is filled, for at most [`FILL_DEADLINE`].
    pub async fn wait(&self) -> Result<(), Error> {
        let filled = async {
            while self.sentence().is_some() {
                self.0.filled.notified().await;
            }
        };
        timeout(FILL_DEADLINE, filled).await.map_err(|_| Error {
            what: self.sentence().unwrap_or_default(),
        })
    }

    /// Returns a sentence about the caches that are not filled, and why. Returns `None` once all
    /// are filled.
    pub fn sentence(&self) -> Option<String> {
        let missing = self
            .0
            .missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if missing.is_empty() {
            return None;
        }
        let words = |(kind, error): (&&str, &Option<String>)| match error {
            Some(error) => format!("{kind} (last error: {error})"),
            None => (*kind).to_owned(),
        };
        let kinds: Vec<_> = missing.iter().map(words).collect();
        Some(format!("these caches are not filled: {}", kinds.join(", ")))
    }

    fn set_filled(&self, kind: &'static str) {
        let mut missing = self
            .0
            .missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        missing.remove(kind);
        drop(missing);
        self.show();
        self.0.filled.notify_one();
    }

    fn note(&self, kind: &'static str, error: &watcher::Error) {
        let mut missing = self
            .0
            .missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = missing.get_mut(kind) {
            *last = Some(with_causes(error));
        }
        drop(missing);
        self.show();
    }

    fn show(&self) {
        self.0
            .health
            .set_missing(self.sentence().unwrap_or_default());
    }
}

/// The waits between tries of a watch. They double while the watch fails, and start again from the
/// first wait after it has worked for a while. A successful list alone does not show that the watch
/// works.
#[derive(Debug, Default)]
struct WatchBackoff {
    failures: u32,
    failed_at: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(Instant::now());
        Some(FIRST_RETRY.saturating_mul(factor).min(LONGEST_RETRY))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        if self
            .failed_at
            .is_some_and(|at| at.elapsed() >= RECOVERED_AFTER)
        {
            *self = Self::default();
        }
    }
}
