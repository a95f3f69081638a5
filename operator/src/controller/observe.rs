//! Makes all reads of a reconcile: from the watches' caches, and from live lists if a cache is not
//! enough. This module decides nothing.

pub mod events;
pub mod made;
pub mod refusal;
#[cfg(test)]
mod release_0_1_0;
pub mod starting;
pub mod unmarked;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Client;
use kube::api::{Api, ListParams};
use tracing::debug;
use zephyr_crds::frozen::{FrozenJob, FrozenJobError, header, unknown_fields};
use zephyr_crds::names;

use super::forced::NodeView;
use super::observed::{
    Depth, Freshness, Frozen, GenerationObjects, Observed, RootFacts, RootFault,
};
use crate::calls::{CallError, bounded};
use crate::identity::JobIdentity;
use crate::watches::cache::Caches;
use crate::watches::decode::{Facts, Seen};
use crate::watches::facts::{
    Anybody, Mark, SeenCoordinator, SeenJob, SeenPod, SeenRoot, SeenService, SeenWorkers,
};

/// How many objects one page of a live list contains.
const PAGE: u32 = 500;
/// How many pages of one live list are read at most. This is enough for 100,000 objects that carry
/// the job's name in a label.
const MAX_PAGES: u32 = 200;
/// How often one live list may start again because the API server has dropped its position.
const MAX_RESTARTS: u32 = 3;
/// The HTTP code with which the API server refuses to continue a list that it has dropped.
const EXPIRED: u16 = 410;

/// The read that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not list objects.
    #[error("list {kind} of job {job}: {source}")]
    List {
        /// Their kind.
        kind: String,
        /// The job that they belong to.
        job: String,
        /// The cause.
        source: CallError,
    },
    /// More objects carry the job's name than the operator reads.
    #[error(
        "list {kind} of job {job}: more than {MAX_PAGES} pages of {PAGE} objects carry its name"
    )]
    TooMany {
        /// Their kind.
        kind: String,
        /// The job that they name.
        job: String,
    },
    /// The API server did not return the job.
    #[error("get job {job}: {source}")]
    GetJob {
        /// Its name.
        job: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not return a root.
    #[error("get ConfigMap {name}: {source}")]
    GetRoot {
        /// Its name.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The root differs from the one that the watch has shown.
    #[error("get ConfigMap {name}: it is not the object that the watch has shown")]
    OtherRoot {
        /// Its name.
        name: String,
    },
}

impl Error {
    /// Returns the call that caused the error, if there was one.
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::List { source, .. }
            | Self::GetJob { source, .. }
            | Self::GetRoot { source, .. } => Some(source),
            Self::TooMany { .. } | Self::OtherRoot { .. } => None,
        }
    }
}

/// The objects of a job, from the cache or from live lists.
#[derive(Default)]
struct Objects {
    roots: Vec<Arc<SeenRoot>>,
    services: Vec<Arc<SeenService>>,
    coordinators: Vec<Arc<SeenCoordinator>>,
    workers: Vec<Arc<SeenWorkers>>,
    pods: Vec<Arc<SeenPod>>,
    /// The generation numbers on all objects that carry the job's name.
    taken_numbers: BTreeSet<u32>,
}

/// Returns the watches' view of the job.
pub fn from_caches(caches: &Caches, job: &JobIdentity) -> Observed {
    let (namespace, uid) = (&job.namespace, &job.uid);
    let objects = Objects {
        roots: caches.roots.of_job(namespace, uid),
        services: caches.services.of_job(namespace, uid),
        coordinators: caches.coordinators.of_job(namespace, uid),
        workers: caches.workers.of_job(namespace, uid),
        pods: caches.pods.of_job(namespace, uid),
        taken_numbers: BTreeSet::new(),
    };
    objects.read(job, Freshness::Cached)
}

/// Reads the API server's current view of the job, page by page.
pub async fn live(
    client: &Client,
    caches: &Caches,
    job: &JobIdentity,
    depth: Depth,
) -> Result<Observed, Error> {
    let mut objects = Objects::default();
    let numbers = &mut BTreeSet::new();
    objects.roots = list(client, job, "", numbers).await?;
    objects.services = list(client, job, "", numbers).await?;
    objects.coordinators = list(client, job, "", numbers).await?;
    objects.workers = list(client, job, "", numbers).await?;
    let freshness = match depth {
        Depth::Pods => {
            objects.pods = list(client, job, "", numbers).await?;
            Freshness::LivePods
        }
        Depth::Objects => {
            let coordinator = format!(
                ",{}={}",
                names::LABEL_COMPONENT,
                names::COMPONENT_COORDINATOR
            );
            objects.pods = list(client, job, &coordinator, numbers).await?;
            list::<Anybody<Pod>>(client, job, "", numbers).await?;
            let is_worker = |pod: &Arc<SeenPod>| pod.facts.role == crate::pods::Role::Worker;
            let known = caches.pods.of_job(&job.namespace, &job.uid);
            objects.pods.extend(known.into_iter().filter(is_worker));
            Freshness::Live
        }
    };
    objects.taken_numbers = std::mem::take(numbers);
    Ok(objects.read(job, freshness))
}

/// Reads the job itself. Returns `None` if the job no longer exists or can no longer be read; the
/// watch reports both cases too.
pub async fn live_job(client: &Client, job: &JobIdentity) -> Result<Option<SeenJob>, Error> {
    let api: Api<Seen<SeenJob>> = Api::namespaced(client.clone(), &job.namespace);
    let seen = bounded(api.get_opt(&job.name))
        .await
        .map_err(|source| Error::GetJob {
            job: job.name.clone(),
            source,
        })?;
    Ok(seen.and_then(|seen| seen.facts))
}

/// Reads a node. If the operator may not read nodes, only the pods' own conditions are used.
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

/// Reads the frozen job in the root of a generation. The root must be the one with `root_uid`.
pub async fn frozen(
    client: &Client,
    job: &JobIdentity,
    generation: u32,
    root_uid: &str,
) -> Result<Frozen, Error> {
    let name = names::generation_root(&job.name, generation);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &job.namespace);
    let root = match bounded(api.get_opt(&name)).await {
        Ok(Some(root)) if root.metadata.uid.as_deref() == Some(root_uid) => root,
        Ok(_) => return Err(Error::OtherRoot { name }),
        Err(source) => return Err(Error::GetRoot { name, source }),
    };
    Ok(match read_frozen(&root, job) {
        Ok(frozen) => Frozen::Read(Arc::from(frozen)),
        Err(reason) => Frozen::Unreadable(reason),
    })
}

/// Lists the objects of one kind with the label of the job's name, and records the generation
/// numbers that they use.
async fn list<F: Facts>(
    client: &Client,
    job: &JobIdentity,
    more: &str,
    numbers: &mut BTreeSet<u32>,
) -> Result<Vec<Arc<F>>, Error> {
    let api: Api<Seen<F>> = Api::namespaced(client.clone(), &job.namespace);
    let kind = || <F::Kind as kube::Resource>::kind(&()).into_owned();
    let failed = |source| Error::List {
        kind: kind(),
        job: job.name.clone(),
        source,
    };
    let selector = format!("{}={}{more}", names::LABEL_JOB, job.name);
    let first = ListParams::default().labels(&selector).limit(PAGE);
    let mut restarts = 0;
    let mut page = first.clone();
    let mut found = Vec::new();
    for _ in 0..MAX_PAGES {
        let seen = match bounded(api.list(&page)).await {
            Ok(seen) => seen,
            Err(error) if error.code() == Some(EXPIRED) && restarts < MAX_RESTARTS => {
                restarts += 1;
                page = first.clone();
                found.clear();
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        for one in seen.items {
            numbers.extend(one.number);
            found.extend(
                one.facts
                    .filter(|facts| facts.job_uid() == job.uid)
                    .map(Arc::new),
            );
        }
        match seen.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = first.clone().continue_token(&token),
            None => return Ok(found),
        }
    }
    Err(Error::TooMany {
        kind: kind(),
        job: job.name.clone(),
    })
}

impl Objects {
    fn read(self, job: &JobIdentity, freshness: Freshness) -> Observed {
        let mut observed = Observed {
            freshness,
            taken_numbers: self.taken_numbers,
            ..Observed::default()
        };
        for root in &self.roots {
            entry(&mut observed, &root.mark, job).root = Some(RootFacts {
                object: root.object.clone(),
                needs_mark: false,
                frozen: Frozen::Unread,
            });
        }
        for service in &self.services {
            let objects = entry(&mut observed, &service.mark, job);
            if is_of_root(objects, &service.mark) {
                objects.service = Some(service.facts.clone());
            }
        }
        for coordinator in &self.coordinators {
            let objects = entry(&mut observed, &coordinator.mark, job);
            if is_of_root(objects, &coordinator.mark) {
                objects.coordinator = Some(coordinator.facts.clone());
            }
        }
        for workers in &self.workers {
            let objects = entry(&mut observed, &workers.mark, job);
            if is_of_root(objects, &workers.mark) {
                objects.workers = Some(workers.facts.clone());
            }
        }
        for pod in &self.pods {
            observed.pods.push(Arc::clone(&pod.facts));
        }
        // The order does not depend on the order of the lists, so the same facts give the same
        // plan.
        observed
            .pods
            .sort_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
        observed
    }
}

/// Returns the generation that an object of this job belongs to.
fn entry<'a>(
    observed: &'a mut Observed,
    mark: &Mark,
    job: &JobIdentity,
) -> &'a mut GenerationObjects {
    debug_assert_eq!(mark.job_uid, job.uid);
    observed.generations.entry(mark.generation).or_default()
}

/// Returns whether an object belongs to the existing root. If no root is known, the answer is yes:
/// the object belongs to a root that was deleted or that no watch shows.
fn is_of_root(objects: &mut GenerationObjects, mark: &Mark) -> bool {
    let is_of_root = objects
        .root
        .as_ref()
        .is_none_or(|root| root.object.uid == mark.owner_uid);
    if is_of_root {
        objects.root_uid = Some(mark.owner_uid.clone());
    }
    is_of_root
}

/// Returns the frozen job in a root. It must belong to this job.
fn read_frozen(root: &ConfigMap, job: &JobIdentity) -> Result<Box<FrozenJob>, RootFault> {
    let text = root
        .data
        .as_ref()
        .and_then(|data| data.get(names::FROZEN_JOB_KEY))
        .ok_or_else(|| RootFault::Damaged(format!("key {} is missing", names::FROZEN_JOB_KEY)))?;
    read_document(text, &job.uid)
}

/// Reads the document in a root. An error says whether the document is from another release, or is
/// damaged.
fn read_document(text: &str, job_uid: &str) -> Result<Box<FrozenJob>, RootFault> {
    let header = header(text).map_err(|error| RootFault::Damaged(error.to_string()))?;
    if header.uid != job_uid {
        let reason = format!("it belongs to the job with uid {}", header.uid);
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
        // The document contains an enum value that only a newer release knows.
        Err(error) if error.to_string().contains("unknown variant") => {
            Err(other_release(error.to_string()))
        }
        Err(error) => Err(RootFault::Damaged(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Reads a document after `change` was applied to it.
    fn read(change: impl FnOnce(&mut Value)) -> Result<Box<FrozenJob>, RootFault> {
        let frozen = crate::children::tests::frozen(json!({}));
        let uid = frozen.uid.clone();
        let mut document = json!(frozen);
        change(&mut document);
        read_document(&document.to_string(), &uid)
    }

    #[test]
    fn a_frozen_job_of_another_release_is_not_damaged() {
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

    /// Returns the requests of one observation: path and query, and whether only metadata is
    /// requested.
    async fn asked_for(depth: Depth) -> Vec<(String, bool)> {
        use axum::body::Body;
        use axum::http::{Request, Response, header};

        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let accept = request.headers().get(header::ACCEPT);
            let is_partial = accept.is_some_and(|accept| {
                accept
                    .to_str()
                    .is_ok_and(|accept| accept.contains("PartialObjectMetadata"))
            });
            seen.lock()
                .unwrap()
                .push((request.uri().to_string(), is_partial));
            let kind = if is_partial {
                "PartialObjectMetadataList"
            } else {
                "List"
            };
            let list = json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": []});
            async move { Ok::<_, std::convert::Infallible>(Response::new(Body::from(list.to_string()))) }
        });
        let client = Client::new(service, "team");
        let job = JobIdentity {
            namespace: "team".to_owned(),
            name: "count".to_owned(),
            uid: "uid".to_owned(),
        };
        live(&client, &Caches::default(), &job, depth)
            .await
            .unwrap();
        asked.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn fault_f11_a_next_generation_lists_worker_pods_as_metadata_page_by_page() {
        let asked = asked_for(Depth::Objects).await;
        assert!(
            asked.iter().all(|(path, _)| path.contains("limit=500")),
            "{asked:?}"
        );
        let pods: Vec<_> = asked
            .iter()
            .filter(|(path, _)| path.contains("/pods?"))
            .collect();
        let whole = pods.iter().filter(|(_, is_partial)| !is_partial);
        for (path, _) in whole {
            assert!(path.contains("component%3Dcoordinator"), "{path}");
        }
        assert!(pods.iter().any(|(_, is_partial)| *is_partial), "{pods:?}");
    }
}
