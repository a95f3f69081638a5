//! The only reads: the watches' caches, and live lists where a cache is not enough. Decides nothing.

pub mod refusal;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use kube::api::{Api, ListParams, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::debug;
use zephyr_crds::frozen::{FrozenJob, FrozenJobError, header, unknown_fields};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;

use super::forced::NodeView;
use super::observed::{
    CoordinatorFacts, Freshness, GenerationObjects, ObjectFacts, Observed, RootFacts, RootFault,
    WorkersFacts,
};
use super::validate::JobIdentity;
use crate::calls::{CallError, bounded};
use crate::pods::PodFacts;
use crate::watches::{Stores, belongs_to};

/// Which read failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("list {kind} of job {job}: {source}")]
    List {
        kind: &'static str,
        job: String,
        source: CallError,
    },
    #[error("get job {job}: {source}")]
    GetJob { job: String, source: CallError },
}

impl Error {
    /// The call behind it.
    pub fn call(&self) -> &CallError {
        match self {
            Self::List { source, .. } | Self::GetJob { source, .. } => source,
        }
    }
}

/// The objects of a job, wherever they were read.
struct Objects {
    roots: Vec<Arc<ConfigMap>>,
    services: Vec<Arc<PartialObjectMeta<Service>>>,
    deployments: Vec<Arc<Deployment>>,
    stateful_sets: Vec<Arc<StatefulSet>>,
    pods: Vec<Arc<Pod>>,
}

/// What the watches know of the job.
pub fn from_caches(stores: &Stores, job: &JobIdentity) -> Observed {
    let objects = Objects {
        roots: stores
            .config_maps
            .state_filter(|object| belongs_to(object, job)),
        services: stores
            .services
            .state_filter(|object| belongs_to(object, job)),
        deployments: stores
            .deployments
            .state_filter(|object| belongs_to(object, job)),
        stateful_sets: stores
            .stateful_sets
            .state_filter(|object| belongs_to(object, job)),
        pods: stores.pods.state_filter(|object| belongs_to(object, job)),
    };
    objects.read(job, Freshness::Cached)
}

/// What the API server knows of the job now.
pub async fn live(client: &Client, job: &JobIdentity) -> Result<Observed, Error> {
    let objects = Objects {
        roots: list(client, job, "ConfigMaps").await?,
        services: list(client, job, "Services").await?,
        deployments: list(client, job, "Deployments").await?,
        stateful_sets: list(client, job, "StatefulSets").await?,
        pods: list(client, job, "Pods").await?,
    };
    Ok(objects.read(job, Freshness::Live))
}

/// The job itself, now; `None` when it is gone.
pub async fn live_job(client: &Client, job: &JobIdentity) -> Result<Option<ZephyrJob>, Error> {
    let api: Api<ZephyrJob> = Api::namespaced(client.clone(), &job.namespace);
    bounded(api.get_opt(&job.name))
        .await
        .map_err(|source| Error::GetJob {
            job: job.name.clone(),
            source,
        })
}

/// What the API server says of a node. If it may not be read, the pods' own conditions have to do.
pub async fn node(client: &Client, name: &str) -> NodeView {
    let api: Api<Node> = Api::all(client.clone());
    match bounded(api.get_opt(name)).await {
        Ok(None) => NodeView::Lost,
        Ok(Some(node)) => {
            let conditions = node.status.and_then(|status| status.conditions);
            let is_ready = conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            if is_ready {
                NodeView::Ready
            } else {
                NodeView::Lost
            }
        }
        Err(error) => {
            debug!(node = name, %error, "node not read");
            NodeView::Unknown
        }
    }
}

async fn list<K>(
    client: &Client,
    job: &JobIdentity,
    kind: &'static str,
) -> Result<Vec<Arc<K>>, Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &job.namespace);
    let parameters = ListParams::default().labels(&format!("{}={}", names::LABEL_JOB, job.name));
    let found = bounded(api.list(&parameters))
        .await
        .map_err(|source| Error::List {
            kind,
            job: job.name.clone(),
            source,
        })?;
    Ok(found.items.into_iter().map(Arc::new).collect())
}

impl Objects {
    fn read(&self, job: &JobIdentity, freshness: Freshness) -> Observed {
        let mut observed = Observed {
            freshness,
            ..Observed::default()
        };
        for root in &self.roots {
            let is_ours = root
                .metadata
                .owner_references
                .iter()
                .flatten()
                .any(|owner| owner.uid == job.uid && owner.controller == Some(true));
            if let Some(objects) = entry(&mut observed, &root.metadata, job).filter(|_| is_ours) {
                objects.root = Some(RootFacts {
                    object: object(&root.metadata),
                    frozen: read_frozen(root, job),
                });
            }
        }
        for service in &self.services {
            if let Some(objects) = entry(&mut observed, &service.metadata, job) {
                objects.service = Some(object(&service.metadata));
            }
        }
        for deployment in &self.deployments {
            if let Some(objects) = entry(&mut observed, &deployment.metadata, job) {
                objects.coordinator = Some(coordinator(deployment));
            }
        }
        for set in &self.stateful_sets {
            if let Some(objects) = entry(&mut observed, &set.metadata, job) {
                objects.workers = Some(workers(set));
            }
        }
        for pod in &self.pods {
            observed.highest_generation = observed
                .highest_generation
                .max(generation(&pod.metadata).unwrap_or(0));
            observed
                .pods
                .extend(PodFacts::read(pod).filter(|facts| facts.job_uid == job.uid));
        }
        // One order, whatever the caches' order: the same facts make the same plan.
        observed
            .pods
            .sort_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
        observed
    }
}

/// The generation an object belongs to, if it is this job's; every number seen is noted as taken.
fn entry<'a>(
    observed: &'a mut Observed,
    metadata: &ObjectMeta,
    job: &JobIdentity,
) -> Option<&'a mut GenerationObjects> {
    let generation = generation(metadata)?;
    observed.highest_generation = observed.highest_generation.max(generation);
    let uid = metadata.labels.as_ref()?.get(names::LABEL_JOB_UID)?;
    (*uid == job.uid).then(|| observed.generations.entry(generation).or_default())
}

fn generation(metadata: &ObjectMeta) -> Option<u32> {
    metadata
        .labels
        .as_ref()?
        .get(names::LABEL_GENERATION)
        .and_then(|label| names::parse_generation(label))
}

fn object(metadata: &ObjectMeta) -> ObjectFacts {
    ObjectFacts {
        uid: metadata.uid.clone().unwrap_or_default(),
        terminating: metadata.deletion_timestamp.is_some(),
    }
}

/// The frozen job in a root; it must be of this job.
fn read_frozen(root: &ConfigMap, job: &JobIdentity) -> Result<Box<FrozenJob>, RootFault> {
    let text = root
        .data
        .as_ref()
        .and_then(|data| data.get(names::FROZEN_JOB_KEY))
        .ok_or_else(|| RootFault::Damaged(format!("key {} is missing", names::FROZEN_JOB_KEY)))?;
    read_document(text, &job.uid)
}

/// Reads the document in a root. What another release wrote is told from what nobody can read.
fn read_document(text: &str, job_uid: &str) -> Result<Box<FrozenJob>, RootFault> {
    let header = header(text).map_err(|error| RootFault::Damaged(error.to_string()))?;
    if header.uid != job_uid {
        let reason = format!("it is of the job with uid {}", header.uid);
        return Err(RootFault::Damaged(reason));
    }
    let other_release = |reason: String| RootFault::OtherRelease {
        reason,
        coordinator_address: header.coordinator_address.clone(),
    };
    if let Some(field) = unknown_fields(text).first() {
        let reason = format!("job.json: {field}: this release does not know the field");
        return Err(other_release(reason));
    }
    match FrozenJob::from_json(text) {
        Ok(frozen) => Ok(Box::new(frozen)),
        Err(error @ (FrozenJobError::Version { .. } | FrozenJobError::Unknown { .. })) => {
            Err(other_release(error.to_string()))
        }
        // A value of an enum that a newer release has.
        Err(error) if error.to_string().contains("unknown variant") => {
            Err(other_release(error.to_string()))
        }
        Err(error) => Err(RootFault::Damaged(error.to_string())),
    }
}

fn coordinator(deployment: &Deployment) -> CoordinatorFacts {
    let status = deployment.status.as_ref();
    let condition = |name: &str| {
        status
            .and_then(|status| status.conditions.as_ref())
            .and_then(|all| {
                all.iter()
                    .find(|condition| condition.type_ == name && condition.status == "True")
            })
    };
    let is_available = status
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
        > 0;
    CoordinatorFacts {
        object: object(&deployment.metadata),
        available_since: is_available.then(|| {
            condition("Available")
                .and_then(|condition| condition.last_transition_time.as_ref())
                .map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0)
        }),
        refused: condition("ReplicaFailure").and_then(|condition| condition.message.clone()),
    }
}

fn workers(set: &StatefulSet) -> WorkersFacts {
    let count = |number: Option<i32>| {
        number
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0)
    };
    WorkersFacts {
        object: object(&set.metadata),
        replicas: count(set.spec.as_ref().and_then(|spec| spec.replicas)),
        pods: count(set.status.as_ref().map(|status| status.replicas)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is made of a document with one change in it.
    fn read(change: impl FnOnce(&mut Value)) -> Result<Box<FrozenJob>, RootFault> {
        let frozen = crate::children::tests::frozen(json!({}));
        let uid = frozen.uid.clone();
        let mut document = json!(frozen);
        change(&mut document);
        read_document(&document.to_string(), &uid)
    }

    #[test]
    fn a_frozen_job_of_another_release_is_no_damage() {
        assert!(read(|document| document["tracing"] = json!(true)).is_ok());
        let foreign: [fn(&mut Value); 4] = [
            |document| document["version"] = json!(2),
            |document| document["spec"]["pipeline"]["sorted"] = json!(true),
            |document| document["spec"]["workers"]["template"]["volumes"] = json!([]),
            |document| document["spec"]["storage"]["retain"] = json!("Sometimes"),
        ];
        for change in foreign {
            match read(change) {
                Err(RootFault::OtherRelease {
                    coordinator_address,
                    ..
                }) => assert!(coordinator_address.starts_with("http://")),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_frozen_job_that_nobody_can_read_is_damaged() {
        let damaged: [fn(&mut Value); 3] = [
            |document| document["uid"] = json!("another"),
            |document| document["spec"] = json!("text"),
            |document| *document = json!({}),
        ];
        for change in damaged {
            assert!(matches!(read(change), Err(RootFault::Damaged(_))));
        }
    }
}
