//! Extracts the facts from a pod: the state of its worker, how it ended, and what keeps it from
//! starting.
//!
//! Pure: no client, no clock. A pod's phase alone is not reliable, so its conditions and container
//! statuses are used.

mod account;
mod end;
mod state;
mod trouble;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};
use zephyr_crds::names;
use zephyr_crds::quantity::QuantityText;

pub use self::end::{PodEnd, PodEndCause};
pub use self::state::{RECONNECT_SILENCE, SessionView, Sessions, WorkerState, count_workers};
pub use self::trouble::PodTrouble;
use crate::children::CONTAINER_NAME;

/// How long after the end of its grace period a pod may stay Terminating before its node counts as
/// lost.
pub const STUCK_AFTER_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// How long a pod must be stuck before it counts as held by something else than a lost node. A pod
/// on a lost node would have been deleted by force long before.
const HELD_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// The role of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A coordinator's pod.
    Coordinator,
    /// A worker's pod.
    Worker,
}

/// The facts about a pod that decisions need.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The role: coordinator or worker.
    pub role: Role,
    /// The uid of its job, from its label.
    pub job_uid: String,
    /// The number of its generation, from its label.
    pub generation: u32,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When the grace period of its deletion ends or ended. Present as soon as deletion is
    /// requested.
    pub deletion: Option<Timestamp>,
    /// When its deletion was requested, or when its disruption was reported, whichever was earlier.
    /// The time is that of the API server's clock.
    pub taken_at: Option<Timestamp>,
    /// Why it is being disrupted, in Kubernetes' words, from the condition `DisruptionTarget`.
    pub disruption: Option<Explanation>,
    /// `status.reason` and `status.message`, which report evictions and node shutdowns.
    pub verdict: Option<Explanation>,
    /// Whether the pod's phase is `Failed` or `Succeeded`, so that none of its containers will run
    /// again.
    pub over: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// When the condition `Ready` last changed.
    pub ready_changed: Option<Timestamp>,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// Whether the pod's conditions show that the cluster's own controllers consider its node lost.
    pub is_on_lost_node: bool,
    /// When it was assigned to its node.
    pub scheduled_since: Option<Timestamp>,
    /// Why it has no node, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// The state of its main container.
    pub container: ContainerFacts,
    /// The name of an init container that does not finish, and the reason. Only a policy of the
    /// cluster adds init containers to our pods.
    pub init_trouble: Option<(String, Explanation)>,
    /// The memory limit of its main container, in bytes; 0 if there is none.
    pub memory_limit_bytes: u64,
    /// The image of its main container.
    pub image: String,
}

/// A reason and a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The reason, one word.
    pub reason: String,
    /// The sentence for people; may be empty.
    pub message: String,
}

/// The facts about our own container of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// How often the kubelet restarted it.
    pub restarts: i32,
    /// Whether it waits, runs or has ended.
    pub state: ContainerRun,
    /// How the previous run ended.
    pub last_end: Option<ContainerEnd>,
}

/// The state of our container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerRun {
    /// The kubelet has reported nothing yet.
    #[default]
    Unknown,
    /// It has not started, and why.
    Waiting(Explanation),
    /// It runs.
    Running {
        /// When it started.
        since: Option<Timestamp>,
    },
    /// It ended, and how.
    Ended(ContainerEnd),
}

/// How a run of our container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    /// Exit code of its process.
    pub exit_code: i32,
    /// The kubelet's reason, such as `OOMKilled`.
    pub reason: String,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

impl PodFacts {
    /// Extracts the facts from a pod that has our labels. Returns `None` for other pods.
    pub fn read(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let role = match labels.get(names::LABEL_COMPONENT)?.as_str() {
            names::COMPONENT_COORDINATOR => Role::Coordinator,
            names::COMPONENT_WORKER => Role::Worker,
            _ => return None,
        };
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let container =
            spec.and_then(|spec| spec.containers.iter().find(|c| c.name == CONTAINER_NAME));
        let condition = |name: &str| {
            status
                .and_then(|s| s.conditions.as_ref())
                .and_then(|all| all.iter().find(|c| c.type_ == name))
        };
        let scheduled = condition("PodScheduled");
        let ready = condition("Ready");
        let statuses = status.and_then(|s| s.container_statuses.as_ref());
        Some(Self {
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            role,
            job_uid: labels.get(names::LABEL_JOB_UID)?.clone(),
            generation: names::parse_generation(labels.get(names::LABEL_GENERATION)?)?,
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            taken_at: taken_at(pod, condition("DisruptionTarget").filter(|c| holds(c))),
            disruption: condition("DisruptionTarget")
                .filter(|c| holds(c))
                .map(explanation),
            verdict: status
                .and_then(|s| s.reason.as_ref().map(|reason| (reason, s.message.as_ref())))
                .map(|(reason, message)| Explanation {
                    reason: reason.clone(),
                    message: message.cloned().unwrap_or_default(),
                }),
            over: status
                .and_then(|s| s.phase.as_deref())
                .is_some_and(|phase| phase == "Failed" || phase == "Succeeded"),
            ready: ready.is_some_and(holds),
            ready_changed: ready
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|time| time.0),
            node: spec.and_then(|spec| spec.node_name.clone()),
            is_on_lost_node: is_on_lost_node(pod),
            scheduled_since: scheduled
                .filter(|c| holds(c))
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|time| time.0),
            unschedulable: scheduled
                .filter(|c| !holds(c))
                .map(|c| c.message.clone().unwrap_or_default()),
            container: statuses
                .and_then(|all| all.iter().find(|c| c.name == CONTAINER_NAME))
                .map(ContainerFacts::read)
                .unwrap_or_default(),
            init_trouble: status.and_then(init_trouble),
            memory_limit_bytes: container
                .and_then(|c| c.resources.as_ref())
                .and_then(|r| r.limits.as_ref())
                .and_then(|limits| limits.get("memory"))
                .and_then(|quantity| QuantityText::new(&quantity.0).parse().ok())
                .and_then(|quantity| u64::try_from(quantity.units()).ok())
                .unwrap_or(0),
            image: container.and_then(|c| c.image.clone()).unwrap_or_default(),
        })
    }

    /// Returns whether the pod itself is ending or has ended, and not only a run of its container.
    pub fn is_taken(&self) -> bool {
        self.deletion.is_some() || self.disruption.is_some() || self.verdict.is_some()
    }

    /// Returns the time since which the node has been starting our container. Returns `None` if the
    /// pod has no node or is ending, or if the container has started or failed to start.
    pub fn starting_since(&self) -> Option<Timestamp> {
        let is_starting = match &self.container.state {
            ContainerRun::Unknown => true,
            ContainerRun::Waiting(explanation) => {
                matches!(
                    explanation.reason.as_str(),
                    "" | "ContainerCreating" | "PodInitializing"
                )
            }
            ContainerRun::Running { .. } | ContainerRun::Ended(_) => false,
        };
        let last_end = self
            .container
            .last_end
            .as_ref()
            .and_then(|end| end.finished);
        self.scheduled_since
            .filter(|_| is_starting && !self.over && !self.is_taken())
            .map(|since| last_end.map_or(since, |end| end.max(since)))
    }

    /// Returns whether the pod stays Terminating although its kubelet should have ended it long
    /// ago.
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.stuck_from().is_some_and(|from| now >= from)
    }

    /// Returns whether something keeps the pod although it was deleted: a finalizer, a volume, the
    /// container runtime of its node. No other pod replaces it while it exists.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.stuck_from()
            .and_then(|from| from.checked_add(HELD_AFTER).ok())
            .is_some_and(|from| now >= from)
    }

    /// Returns the time from which the pod counts as stuck, if it is being deleted.
    pub fn stuck_from(&self) -> Option<Timestamp> {
        self.deletion
            .and_then(|deletion| deletion.checked_add(STUCK_AFTER_GRACE).ok())
    }
}

impl ContainerFacts {
    fn read(status: &ContainerStatus) -> Self {
        Self {
            restarts: status.restart_count,
            state: status
                .state
                .as_ref()
                .map(ContainerRun::read)
                .unwrap_or_default(),
            last_end: status
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref())
                .map(ContainerEnd::read),
        }
    }
}

impl ContainerRun {
    fn read(state: &ContainerState) -> Self {
        if let Some(end) = &state.terminated {
            return Self::Ended(ContainerEnd::read(end));
        }
        if let Some(running) = &state.running {
            return Self::Running {
                since: running.started_at.as_ref().map(|time| time.0),
            };
        }
        state.waiting.as_ref().map_or(Self::Unknown, |waiting| {
            Self::Waiting(Explanation {
                reason: waiting.reason.clone().unwrap_or_default(),
                message: waiting.message.clone().unwrap_or_default(),
            })
        })
    }
}

/// Returns the value of [`PodFacts::taken_at`]. `deletionTimestamp` is the end of the grace period,
/// so the grace period is subtracted.
fn taken_at(pod: &Pod, disruption: Option<&PodCondition>) -> Option<Timestamp> {
    let metadata = &pod.metadata;
    let grace = SignedDuration::from_secs(metadata.deletion_grace_period_seconds.unwrap_or(0));
    let deletion = metadata
        .deletion_timestamp
        .as_ref()
        .and_then(|time| time.0.checked_sub(grace).ok());
    let disruption = disruption
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map(|time| time.0);
    deletion.into_iter().chain(disruption).min()
}

impl ContainerEnd {
    fn read(end: &ContainerStateTerminated) -> Self {
        Self {
            exit_code: end.exit_code,
            reason: end.reason.clone().unwrap_or_default(),
            finished: end.finished_at.as_ref().map(|time| time.0),
        }
    }
}

/// Returns whether the pod's conditions show that its node is lost. The node controller sets
/// `Ready` to `False` without a reason and leaves `ContainersReady` unchanged, which no kubelet
/// does. A pod that was not ready is marked when it is deleted because of a taint of the node.
fn is_on_lost_node(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let find = |name: &str| {
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == name)
    };
    let ready = find("Ready");
    let is_ready = ready.is_some_and(holds);
    let is_set_from_outside = ready.is_some_and(|ready| {
        ready.status == "False" && ready.reason.as_deref().unwrap_or_default().is_empty()
    }) && find("ContainersReady").is_some_and(holds);
    let is_tainted = find("DisruptionTarget").is_some_and(|condition| {
        holds(condition) && condition.reason.as_deref() == Some("DeletionByTaintManager")
    });
    let is_told = status.and_then(|status| status.reason.as_deref()) == Some("NodeLost");
    is_set_from_outside || is_told || (is_tainted && !is_ready)
}

/// Returns the init container that does not finish, and the reason.
fn init_trouble(status: &PodStatus) -> Option<(String, Explanation)> {
    let containers = status.init_container_statuses.iter().flatten();
    let trouble = |container: &ContainerStatus| match ContainerFacts::read(container).state {
        ContainerRun::Waiting(explanation) if trouble::is_failure_to_start(&explanation.reason) => {
            Some(explanation)
        }
        ContainerRun::Ended(end) if end.exit_code != 0 => Some(Explanation {
            message: format!("exit code {}", end.exit_code),
            reason: end.reason,
        }),
        ContainerRun::Waiting(_)
        | ContainerRun::Ended(_)
        | ContainerRun::Unknown
        | ContainerRun::Running { .. } => None,
    };
    containers
        .into_iter()
        .find_map(|container| Some((container.name.clone(), trouble(container)?)))
}

fn holds(condition: &PodCondition) -> bool {
    condition.status == "True"
}

fn explanation(condition: &PodCondition) -> Explanation {
    Explanation {
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
