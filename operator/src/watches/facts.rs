//! Defines the facts that are kept about objects of each kind. They are compact, and are kept only
//! for objects that belong to a `ZephyrJob`.
//!
//! Labels alone prove nothing, because anybody may set them. An object belongs to a job if its
//! controller is the object that the operator sets as the controller. The controller of a root is
//! the job, with its uid. The controller of every other object is an object that has the name of
//! the generation's object. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Service};
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;
use zephyr_crds::job::{ZephyrJob, ZephyrJobSpec};
use zephyr_crds::names;
use zephyr_crds::status::ZephyrJobStatus;
use zephyr_crds::validate::LAST_APPLIED;

use super::decode::{Facts, Metadata, document};
use crate::children::service;
use crate::controller::observed::{CoordinatorFacts, ObjectFacts, ServiceFacts, WorkersFacts};
use crate::controller::turns::StartProgress;
use crate::identity::JobIdentity;
use crate::pods::{PodFacts, Role};

/// The job to which an object belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Name of the job, from the label.
    pub job_name: String,
    /// Uid of the job, from the label.
    pub job_uid: String,
    /// Number of the generation, from the label.
    pub generation: u32,
    /// The uid of its controller.
    pub owner_uid: String,
}

/// A `ZephyrJob`.
#[derive(Clone, Debug)]
pub struct SeenJob {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub version: String,
    start_progress: StartProgress,
    kept: KeptJob,
    /// Whether the status says completely how the job ended, and no edit of the spec can change
    /// that.
    is_whole_end: bool,
    /// The first generation since the latest restart. If the job's previous version has another
    /// one, the operator itself has removed the end from the status.
    restarted: Option<u32>,
    /// The job as JSON text, as it was when its status still contained its end. Present if somebody
    /// has removed the end from the status.
    ended: Option<Box<str>>,
}

/// The job, with the metadata that decisions use.
#[derive(Clone, Debug)]
enum KeptJob {
    Whole(Box<ZephyrJob>),
    /// The object as JSON text. This form is used for jobs that have ended: they are reconciled
    /// rarely, and the text needs much less memory.
    Text(Box<str>),
    /// Why it cannot be read.
    Unreadable(String),
}

/// The root of a generation; its frozen job is read separately.
#[derive(Clone, Debug)]
pub struct SeenRoot {
    /// The generation that it belongs to.
    pub mark: Mark,
    /// The facts that all objects have.
    pub object: ObjectFacts,
}

/// A generation's Service.
#[derive(Clone, Debug)]
pub struct SeenService {
    /// The generation that it belongs to.
    pub mark: Mark,
    /// The facts that decisions use.
    pub facts: ServiceFacts,
}

/// A coordinator's Deployment.
#[derive(Clone, Debug)]
pub struct SeenCoordinator {
    /// The generation that it belongs to.
    pub mark: Mark,
    /// The Deployment's state.
    pub facts: CoordinatorFacts,
}

/// The workers' `StatefulSet`.
#[derive(Clone, Debug)]
pub struct SeenWorkers {
    /// The generation that the set belongs to.
    pub mark: Mark,
    /// The set's state.
    pub facts: WorkersFacts,
}

impl SeenJob {
    /// Returns the job, or why it cannot be read.
    pub fn document(&self) -> Result<ZephyrJob, String> {
        match &self.kept {
            KeptJob::Whole(job) => Ok(ZephyrJob::clone(job)),
            KeptJob::Text(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
            KeptJob::Unreadable(why) => Err(why.clone()),
        }
    }

    /// Returns the status with the end of the job, if somebody has removed the end, or a part of
    /// it, from the job's status.
    pub fn lost_end(&self) -> Option<ZephyrJobStatus> {
        let text = self.ended.as_deref()?;
        serde_json::from_str::<ZephyrJob>(text).ok()?.status
    }

    /// Returns how far the job's start has come.
    pub fn start_progress(&self) -> StartProgress {
        self.start_progress
    }

    /// Returns the name, namespace and uid of the job.
    pub fn identity(&self) -> JobIdentity {
        JobIdentity {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Returns the reference to the job for an event.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(ZephyrJob::api_version(&()).into_owned()),
            kind: Some(ZephyrJob::kind(&()).into_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.version.clone()),
            ..ObjectReference::default()
        }
    }
}

/// Returns the first generation since the latest restart of the job.
fn restarted(job: &ZephyrJob) -> Option<u32> {
    let status = job.status.as_ref()?;
    status.restart.as_ref()?.generation
}

/// Returns whether the status says completely how the job ended, and an edit of the spec cannot
/// change that.
fn is_kept_end(status: &ZephyrJobStatus) -> bool {
    status.is_whole_end() && status.refusal().is_none()
}

impl KeptJob {
    fn of(document: Result<ZephyrJob, String>) -> Self {
        match document {
            Err(why) => Self::Unreadable(why),
            Ok(job) => {
                let has_ended = job.status.as_ref().is_some_and(ZephyrJobStatus::is_final);
                let text = has_ended
                    .then(|| serde_json::to_string(&job).ok())
                    .flatten();
                text.map_or_else(
                    || Self::Whole(Box::new(job)),
                    |text| Self::Text(text.into()),
                )
            }
        }
    }
}

#[derive(Deserialize)]
struct Annotated {
    annotations: Option<Annotations>,
}

/// The only annotation of a job that a decision uses.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubectl.kubernetes.io/last-applied-configuration")]
    last_applied: Option<String>,
}

impl Annotations {
    /// Returns the annotation if it contains a null. Otherwise it is not kept: it is as large as
    /// the job, and decisions only look for nulls in it.
    fn into_kept(self) -> Option<BTreeMap<String, String>> {
        let written = self.last_applied.filter(|text| text.contains("null"))?;
        Some([(LAST_APPLIED.to_owned(), written)].into())
    }
}

impl Facts for SeenJob {
    type Kind = ZephyrJob;
    const METADATA_ONLY: bool = false;

    fn read(metadata: &Metadata, text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            metadata: Annotated,
            spec: ZephyrJobSpec,
            status: Option<ZephyrJobStatus>,
        }
        let document = serde_json::from_str::<Document>(text)
            .map(|document| ZephyrJob {
                metadata: ObjectMeta {
                    annotations: document
                        .metadata
                        .annotations
                        .and_then(Annotations::into_kept),
                    ..metadata.to_object_meta()
                },
                spec: document.spec,
                status: document.status,
            })
            .map_err(|error| error.to_string());
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            version: metadata.resource_version.clone().unwrap_or_default(),
            start_progress: document
                .as_ref()
                .map_or(StartProgress::Aside, StartProgress::of),
            is_whole_end: document
                .as_ref()
                .is_ok_and(|job| job.status.as_ref().is_some_and(is_kept_end)),
            restarted: document.as_ref().ok().and_then(restarted),
            ended: None,
            kept: KeptJob::of(document),
        })
    }

    fn follow(&mut self, before: &Self) {
        let is_restarted = self.restarted > before.restarted;
        if self.uid != before.uid || self.is_whole_end || is_restarted {
            return;
        }
        self.restarted = before.restarted;
        self.ended = match &before.kept {
            KeptJob::Text(text) if before.is_whole_end => Some(text.clone()),
            KeptJob::Text(_) | KeptJob::Whole(_) | KeptJob::Unreadable(_) => before.ended.clone(),
        };
        if self.ended.is_some() {
            self.start_progress = StartProgress::Aside;
        }
    }

    fn job_name(&self) -> &str {
        &self.name
    }

    fn job_uid(&self) -> &str {
        &self.uid
    }
}

impl Facts for SeenRoot {
    type Kind = ConfigMap;
    const METADATA_ONLY: bool = true;

    fn read(metadata: &Metadata, _: &str) -> Option<Self> {
        let owner = metadata.controller(&ZephyrJob::api_version(&()), &ZephyrJob::kind(&()))?;
        let mark = Mark::read(metadata, &owner.uid)?;
        let is_named =
            metadata.name == Some(names::generation_root(&mark.job_name, mark.generation));
        (is_named && mark.owner_uid == mark.job_uid).then(|| Self {
            mark,
            object: ObjectFacts::read(metadata),
        })
    }

    fn job_name(&self) -> &str {
        &self.mark.job_name
    }

    fn job_uid(&self) -> &str {
        &self.mark.job_uid
    }
}

impl Facts for SeenService {
    type Kind = Service;
    const METADATA_ONLY: bool = false;

    fn read(metadata: &Metadata, text: &str) -> Option<Self> {
        let mark = Mark::of_child(metadata, names::coordinator)?;
        let spec = document::<Service>(text)?.spec.unwrap_or_default();
        Some(Self {
            facts: ServiceFacts {
                object: ObjectFacts::read(metadata),
                mend: service::mend(&spec, &mark.job_uid, mark.generation),
            },
            mark,
        })
    }

    fn job_name(&self) -> &str {
        &self.mark.job_name
    }

    fn job_uid(&self) -> &str {
        &self.mark.job_uid
    }
}

impl Facts for SeenCoordinator {
    type Kind = Deployment;
    const METADATA_ONLY: bool = false;

    fn read(metadata: &Metadata, text: &str) -> Option<Self> {
        Some(Self {
            mark: Mark::of_child(metadata, names::coordinator)?,
            facts: CoordinatorFacts::read(ObjectFacts::read(metadata), &document(text)?),
        })
    }

    fn job_name(&self) -> &str {
        &self.mark.job_name
    }

    fn job_uid(&self) -> &str {
        &self.mark.job_uid
    }
}

impl Facts for SeenWorkers {
    type Kind = StatefulSet;
    const METADATA_ONLY: bool = false;

    fn read(metadata: &Metadata, text: &str) -> Option<Self> {
        Some(Self {
            mark: Mark::of_child(metadata, names::workers)?,
            facts: WorkersFacts::read(ObjectFacts::read(metadata), &document(text)?),
        })
    }

    fn job_name(&self) -> &str {
        &self.mark.job_name
    }

    fn job_uid(&self) -> &str {
        &self.mark.job_uid
    }
}

/// A pod, with the name of its job.
#[derive(Clone, Debug)]
pub struct SeenPod {
    /// Name of the job, from the label.
    pub job_name: String,
    /// The pod's state.
    pub facts: std::sync::Arc<PodFacts>,
}

impl Facts for SeenPod {
    type Kind = Pod;
    const METADATA_ONLY: bool = false;

    fn read(metadata: &Metadata, text: &str) -> Option<Self> {
        let job_name = metadata.label(names::LABEL_JOB)?.to_owned();
        let generation = metadata.generation_label()?;
        metadata.label(names::LABEL_JOB_UID)?;
        let workers = metadata.controller("apps/v1", "StatefulSet");
        // A ReplicaSet has the name of its Deployment followed by a hash.
        let coordinator = metadata.controller("apps/v1", "ReplicaSet");
        let is_worker =
            workers.is_some_and(|owner| owner.name == names::workers(&job_name, generation));
        let is_coordinator = coordinator.is_some_and(|owner| {
            let deployment = names::coordinator(&job_name, generation);
            owner
                .name
                .strip_prefix(&deployment)
                .is_some_and(|rest| rest.starts_with('-'))
        });
        if !is_worker && !is_coordinator {
            return None;
        }
        let facts = PodFacts::read(&document(text)?)?;
        let is_consistent = match facts.role {
            Role::Worker => is_worker,
            Role::Coordinator => is_coordinator,
        };
        is_consistent.then(|| Self {
            job_name,
            facts: std::sync::Arc::new(facts),
        })
    }

    fn job_name(&self) -> &str {
        &self.job_name
    }

    fn job_uid(&self) -> &str {
        &self.facts.job_uid
    }
}

/// The metadata of an object that has a job's name in its label, whoever created it. Only its
/// generation number is used.
#[derive(Clone, Debug)]
pub struct Anybody<K>(std::marker::PhantomData<fn() -> K>);

impl<K> Facts for Anybody<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + 'static,
{
    type Kind = K;
    const METADATA_ONLY: bool = true;

    fn read(_: &Metadata, _: &str) -> Option<Self> {
        None
    }

    fn job_name(&self) -> &'static str {
        ""
    }

    fn job_uid(&self) -> &'static str {
        ""
    }
}

impl Mark {
    fn read(metadata: &Metadata, owner_uid: &str) -> Option<Self> {
        Some(Self {
            job_name: metadata.label(names::LABEL_JOB)?.to_owned(),
            job_uid: metadata.label(names::LABEL_JOB_UID)?.to_owned(),
            generation: metadata.generation_label()?,
            owner_uid: owner_uid.to_owned(),
        })
    }

    /// Returns the mark of an object that its generation's root owns, and that has the name that
    /// `name` returns.
    fn of_child(metadata: &Metadata, name: fn(&str, u32) -> String) -> Option<Self> {
        let owner = metadata.controller(&ConfigMap::api_version(&()), &ConfigMap::kind(&()))?;
        let mark = Self::read(metadata, &owner.uid)?;
        let is_owned = owner.name == names::generation_root(&mark.job_name, mark.generation);
        let is_named = metadata.name == Some(name(&mark.job_name, mark.generation));
        (is_owned && is_named).then_some(mark)
    }
}

impl ObjectFacts {
    fn read(metadata: &Metadata) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
        }
    }
}

impl CoordinatorFacts {
    fn read(object: ObjectFacts, deployment: &Deployment) -> Self {
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
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        Self {
            object,
            scaled_to: replicas
                .filter(|replicas| *replicas != 1)
                .and_then(|replicas| u32::try_from(replicas).ok()),
            available_since: is_available.then(|| {
                condition("Available")
                    .and_then(|condition| condition.last_transition_time.as_ref())
                    .map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0)
            }),
            refused: condition("ReplicaFailure").and_then(|condition| condition.message.clone()),
        }
    }
}

impl WorkersFacts {
    fn read(object: ObjectFacts, set: &StatefulSet) -> Self {
        let count = |number: Option<i32>| {
            number
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(0)
        };
        Self {
            object,
            replicas: count(set.spec.as_ref().and_then(|spec| spec.replicas)),
            scaled_to: set
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(names::ANNOTATION_SCALED_TO))
                .and_then(|number| number.parse().ok()),
            pods: count(set.status.as_ref().map(|status| status.replicas)),
        }
    }
}

#[cfg(test)]
mod tests;
