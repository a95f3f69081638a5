//! The cluster's state for one job, as plain values. The function `plan` decides from it what the
//! operator does next. This module reads nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use zephyr_crds::frozen::FrozenJob;

use super::diagnose::Diagnosis;
use super::forced::ForcedDeletes;
use super::observe::made::Part;
use super::observe::starting::StartEvent;
use super::turns::{Placing, Turn};
use crate::pods::{PodEnd, PodFacts, Role};
use crate::progress::Lost;
use crate::run_report::{NoStream, RunReport};

/// Everything that the plan may use besides the job itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Whether the objects were just listed, or come from the watch's cache.
    pub freshness: Freshness,
    /// The objects that have this job's uid. The key is the generation.
    pub generations: BTreeMap<u32, GenerationObjects>,
    /// The generation numbers on all objects that carry the job's name, even if the objects belong
    /// to another job. These numbers are taken.
    pub taken_numbers: BTreeSet<u32>,
    /// Objects of the current generation that this operator made and that no watch has had a chance
    /// to show. They count as existing.
    pub unseen: BTreeSet<Part>,
    /// The pods of this job's generations.
    pub pods: Vec<Arc<PodFacts>>,
    /// The latest report of the current generation's coordinator.
    pub report: Option<RunReport>,
    /// Why there is no stream to that coordinator. Absent while there is one.
    pub no_stream: Option<NoStream>,
    /// Whether the operator started a moment ago, so a coordinator without a report may still be
    /// fine.
    pub warming_up: bool,
    /// Why the current generation's worker pods are refused, in the API server's words.
    pub workers_refused: Option<String>,
    /// Why pods of the current generation do not start. The key is the pod's uid. A pod is in this
    /// map if its events were listed, and its value is `None` if they do not explain it.
    pub start_events: BTreeMap<String, Option<StartEvent>>,
    /// Workers that the current generation lost to disruptions.
    pub lost: Option<Lost>,
    /// The ends of worker pods that were not yet reported to the coordinator on its current stream.
    pub unreported_ends: Vec<PodEnd>,
    /// When the coordinator was first asked to end the job.
    pub end_requested_at: Option<Timestamp>,
    /// When this operator last changed the number of workers.
    pub scaled_at: Option<Timestamp>,
    /// When this operator last mended the Service.
    pub mended_at: Option<Timestamp>,
    /// The roots of earlier generations are not deleted before this time, because the last deletion
    /// failed.
    pub old_roots_held: Option<Timestamp>,
    /// The tries to delete pods by force, and what is known about their nodes.
    pub forced: ForcedDeletes,
    /// When the state was last good, even if status does not show it yet.
    pub last_well: LastWell,
    /// Whether the job may start, given the other jobs that start.
    pub turn: Turn,
}

/// When this operator last saw the running generation in a good state. Status does not always show
/// it, because writes of status are delayed. For example, a worker may be alive for a shorter time
/// than that delay. It must still restart the timer that `all_workers_dead_since` begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastWell {
    /// A worker was alive.
    pub worker_alive: Option<Timestamp>,
    /// The coordinator was ready.
    pub coordinator_ready: Option<Timestamp>,
}

impl LastWell {
    /// Records which facts are true at `now` according to `diagnosis`.
    pub fn note(&mut self, diagnosis: &Diagnosis, now: Timestamp) {
        if diagnosis.workers.counts.alive() > 0 {
            self.worker_alive = Some(now);
        }
        if diagnosis.coordinator.ready {
            self.coordinator_ready = Some(now);
        }
    }
}

/// Where the objects come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// The objects are from the watches' caches, which may be out of date.
    #[default]
    Cached,
    /// The objects were just listed, except worker pods.
    Live,
    /// All objects were just listed.
    LivePods,
}

/// The objects of one generation. The token's Secret is not included, because the operator never
/// reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationObjects {
    /// The `ConfigMap` with the frozen job.
    pub root: Option<RootFacts>,
    /// The Service in front of the coordinator.
    pub service: Option<ServiceFacts>,
    /// The coordinator's Deployment.
    pub coordinator: Option<CoordinatorFacts>,
    /// The `StatefulSet` of workers.
    pub workers: Option<WorkersFacts>,
    /// The uid of the root, according to the owner references of its children.
    pub root_uid: Option<String>,
}

/// The root `ConfigMap`.
#[derive(Clone, Debug, PartialEq)]
pub struct RootFacts {
    /// The facts that all objects have.
    pub object: ObjectFacts,
    /// Whether the watches do not show it, because somebody removed its labels or its owner; both
    /// have to be restored.
    pub needs_mark: bool,
    /// The frozen job in it.
    pub frozen: Frozen,
}

/// Why the frozen job in a root cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFault {
    /// Unusable for every release: the generation is lost.
    Damaged(String),
    /// Another release wrote it, and this one does not understand all of it. The generation
    /// continues. This operator creates nothing from the document and starts no other generation,
    /// because that generation could compute something else.
    OtherRelease {
        /// The version, field or value that this release does not know.
        reason: String,
        /// The address of its coordinator, which can still be used.
        coordinator_address: String,
    },
}

/// The frozen job in a root. Only that of the running generation is read, and only once.
#[derive(Clone, Debug, PartialEq)]
pub enum Frozen {
    /// It was not read, because it is not needed.
    Unread,
    /// It was read.
    Read(Arc<FrozenJob>),
    /// Why it cannot be used.
    Unreadable(RootFault),
}

impl Frozen {
    /// Returns the job, if it was read.
    pub fn job(&self) -> Option<&FrozenJob> {
        match self {
            Self::Read(job) => Some(job),
            Self::Unread | Self::Unreadable(_) => None,
        }
    }
}

/// An existing object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its uid.
    pub uid: String,
    /// Whether its deletion was requested.
    pub terminating: bool,
}

/// The coordinator's Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFacts {
    /// The facts that all objects have.
    pub object: ObjectFacts,
    /// The patch of its spec that makes it select the coordinator again, if somebody edited it.
    pub mend: Option<serde_json::Value>,
}

/// The coordinator's Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoordinatorFacts {
    /// The facts that all objects have.
    pub object: ObjectFacts,
    /// The time since which one pod is available; absent while none is.
    pub available_since: Option<Timestamp>,
    /// Why its pods are refused, in the API server's words.
    pub refused: Option<String>,
    /// The number of replicas that somebody gave it instead of 1.
    pub scaled_to: Option<u32>,
}

/// The workers' `StatefulSet`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkersFacts {
    /// The facts that all objects have.
    pub object: ObjectFacts,
    /// The number of requested replicas.
    pub replicas: u32,
    /// The number of replicas that the operator requested; absent if an older release created the
    /// set.
    pub scaled_to: Option<u32>,
    /// The number of existing pods, in any state.
    pub pods: u32,
}

impl WorkersFacts {
    /// Returns whether fewer pods exist than requested.
    pub fn is_short(&self) -> bool {
        self.pods < self.replicas
    }
}

/// Which objects a live list covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The objects and the coordinator's pods. Worker pods come from the cache.
    Objects,
    /// Worker pods as well.
    Pods,
}

impl Freshness {
    /// Returns whether the objects are fresh enough for a decision that needs a live list of
    /// `depth`.
    pub fn covers(self, depth: Depth) -> bool {
        match (self, depth) {
            (Self::Cached, _) | (Self::Live, Depth::Pods) => false,
            (Self::Live, Depth::Objects) | (Self::LivePods, _) => true,
        }
    }
}

impl Observed {
    /// Returns the objects of a generation, if there are any.
    pub fn generation(&self, generation: u32) -> Option<&GenerationObjects> {
        self.generations.get(&generation)
    }

    /// Returns why this release cannot handle the root of `generation`, if another release wrote
    /// the root. Otherwise returns `None`, also if the root is absent, damaged or not read.
    pub fn other_release(&self, generation: u32) -> Option<&str> {
        let root = self.generation(generation)?.root.as_ref()?;
        match &root.frozen {
            Frozen::Unreadable(RootFault::OtherRelease { reason, .. }) => Some(reason),
            Frozen::Unread | Frozen::Read(_) | Frozen::Unreadable(RootFault::Damaged(_)) => None,
        }
    }

    /// Returns the highest generation of which an object or a pod with this job's uid was seen.
    pub fn highest_generation(&self) -> u32 {
        let of_pods = self.pods.iter().map(|pod| pod.generation);
        let of_objects = self.generations.keys().next_back().copied();
        of_pods.chain(of_objects).max().unwrap_or(0)
    }

    /// Returns the worker pods of one generation.
    pub fn workers(&self, generation: u32) -> impl Iterator<Item = &PodFacts> {
        self.pods
            .iter()
            .map(Arc::as_ref)
            .filter(move |pod| pod.role == Role::Worker && pod.generation == generation)
    }

    /// Returns whether the pods of a generation that began at `begun` have room.
    pub fn placing(&self, generation: u32, begun: Timestamp) -> Placing {
        let objects = self.generation(generation);
        let all = self.pods.iter().map(Arc::as_ref);
        let pods: Vec<_> = all.filter(|pod| pod.generation == generation).collect();
        Placing::of(
            objects.and_then(|objects| objects.coordinator.as_ref()),
            objects.and_then(|objects| objects.workers.as_ref()),
            &pods,
            begun,
        )
    }

    /// Returns the coordinator's pod. If there are several, this is the newest of those that are
    /// not being deleted, or else the newest of all.
    pub fn coordinator_pod(&self, generation: u32) -> Option<&PodFacts> {
        self.pods
            .iter()
            .map(Arc::as_ref)
            .filter(|pod| pod.role == Role::Coordinator && pod.generation == generation)
            .max_by_key(|pod| (pod.deletion.is_none(), pod.created))
    }
}

impl GenerationObjects {
    /// Returns whether any object besides the root exists.
    pub fn has_children(&self) -> bool {
        self.service.is_some() || self.coordinator.is_some() || self.workers.is_some()
    }
}
