//! The watches: one cache for each kind, and for every change the question which job it concerns.
//!
//! Children are found by the label of their job: they are its grandchildren, so owner references do not lead to it. Writes
//! nothing, decides nothing.

use std::fmt::Debug;
use std::hash::Hash;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;

use crate::controller::validate::JobIdentity;

/// A job as the watch brings it: one that cannot be read must not stop the others.
pub type GuardedJob = DeserializeGuard<ZephyrJob>;
/// A question to look at one job.
pub type Trigger = ObjectRef<GuardedJob>;

/// The caches.
#[derive(Clone)]
pub struct Stores {
    pub jobs: Store<GuardedJob>,
    pub config_maps: Store<ConfigMap>,
    pub services: Store<PartialObjectMeta<Service>>,
    pub deployments: Store<Deployment>,
    pub stateful_sets: Store<StatefulSet>,
    pub pods: Store<Pod>,
}

/// A cache that ended before it was filled.
#[derive(Debug, thiserror::Error)]
#[error("fill the cache of {kind}: the watch ended")]
pub struct Error {
    kind: &'static str,
}

impl Stores {
    /// Starts every watch, in `namespace` or everywhere; changes go to `triggers`. A task of `tasks` that ends is a fault.
    pub fn start(
        client: &Client,
        namespace: Option<&str>,
        triggers: &mpsc::Sender<Trigger>,
        tasks: &mut JoinSet<&'static str>,
    ) -> Self {
        let children = watcher::Config::default().labels(names::LABEL_JOB);
        Self {
            jobs: watch(
                scoped(client, namespace),
                watcher::Config::default(),
                triggers,
                tasks,
                job_itself,
                drop_fields,
            ),
            config_maps: watch(
                scoped(client, namespace),
                children.clone(),
                triggers,
                tasks,
                job_of,
                drop_fields,
            ),
            services: watch(
                scoped(client, namespace),
                children.clone(),
                triggers,
                tasks,
                job_of,
                drop_fields,
            ),
            deployments: watch(
                scoped(client, namespace),
                children.clone(),
                triggers,
                tasks,
                job_of,
                drop_fields,
            ),
            stateful_sets: watch(
                scoped(client, namespace),
                children.clone(),
                triggers,
                tasks,
                job_of,
                drop_fields,
            ),
            pods: watch(
                scoped(client, namespace),
                children,
                triggers,
                tasks,
                job_of,
                drop_pod_fields,
            ),
        }
    }

    /// Waits until every cache holds what is there.
    pub async fn wait_until_ready(&self) -> Result<(), Error> {
        let ended = |kind| move |_| Error { kind };
        self.jobs
            .wait_until_ready()
            .await
            .map_err(ended("ZephyrJobs"))?;
        self.config_maps
            .wait_until_ready()
            .await
            .map_err(ended("ConfigMaps"))?;
        self.services
            .wait_until_ready()
            .await
            .map_err(ended("Services"))?;
        self.deployments
            .wait_until_ready()
            .await
            .map_err(ended("Deployments"))?;
        self.stateful_sets
            .wait_until_ready()
            .await
            .map_err(ended("StatefulSets"))?;
        self.pods.wait_until_ready().await.map_err(ended("Pods"))
    }
}

/// Whether an object carries the name of the job, in the job's namespace.
pub fn belongs_to<K: Resource>(object: &K, job: &JobIdentity) -> bool {
    object.meta().namespace.as_deref() == Some(job.namespace.as_str())
        && object
            .meta()
            .labels
            .as_ref()
            .and_then(|labels| labels.get(names::LABEL_JOB))
            == Some(&job.name)
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    triggers: &mpsc::Sender<Trigger>,
    tasks: &mut JoinSet<&'static str>,
    job: fn(&K) -> Option<Trigger>,
    trim: fn(&mut K),
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    (): Eq + Hash,
{
    let (reader, writer) = store();
    let changes = watcher(api, config)
        .default_backoff()
        .modify(trim)
        .reflect(writer)
        .touched_objects();
    tasks.spawn(forward(changes, triggers.clone(), job));
    reader
}

/// Drives one watch for ever, and asks for a look at the job of everything that changes.
async fn forward<K: Resource<DynamicType = ()>>(
    changes: impl Stream<Item = Result<K, watcher::Error>>,
    triggers: mpsc::Sender<Trigger>,
    job: fn(&K) -> Option<Trigger>,
) -> &'static str {
    let kind = std::any::type_name::<K>();
    let mut changes = std::pin::pin!(changes.into_stream());
    while let Some(change) = changes.next().await {
        match change {
            Ok(object) => {
                if let Some(trigger) = job(&object)
                    && triggers.send(trigger).await.is_err()
                {
                    break;
                }
            }
            Err(error) => warn!(kind = %K::kind(&()), %error, "watch interrupted, it starts again"),
        }
    }
    kind
}

fn job_itself(job: &GuardedJob) -> Option<Trigger> {
    Some(ObjectRef::new(&job.name_any()).within(&job.namespace()?))
}

fn job_of<K: Resource>(object: &K) -> Option<Trigger> {
    let name = object.meta().labels.as_ref()?.get(names::LABEL_JOB)?;
    Some(ObjectRef::new(name).within(object.meta().namespace.as_deref()?))
}

/// What no decision looks at is not kept.
fn drop_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Ten thousand pods are kept for their conditions, container states, image and limits.
fn drop_pod_fields(pod: &mut Pod) {
    drop_fields(pod);
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        spec.affinity = None;
        spec.tolerations = None;
        for container in &mut spec.containers {
            container.env = None;
            container.env_from = None;
            container.volume_mounts = None;
        }
    }
}
