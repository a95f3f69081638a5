//! What a pod says about itself: which state its worker is in, how it ended, what keeps it from starting.
//!
//! Pure: no client, no clock. A pod's phase alone is never believed; conditions and container statuses are.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use zephyr_crds::names;
use zephyr_crds::quantity::QuantityText;
use zephyr_crds::status::WorkerCounts;

use crate::children::CONTAINER_NAME;

/// How long a worker that was ready may be without a session before it counts as dead: the coordinator's own limit is
/// three heartbeat intervals of at most 20 s, and never less than 30 s.
pub const RECONNECT_SILENCE: SignedDuration = SignedDuration::from_secs(60);

/// How long after the end of its grace period a pod may stay Terminating before its node is taken for lost.
pub const STUCK_AFTER_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// Signal 15 as an exit code: somebody asked the container to stop.
const EXIT_CODE_SIGTERM: i32 = 143;

/// Which of the two roles a pod plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Coordinator,
    Worker,
}

/// What the decisions need to know of a pod, and no more.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub name: String,
    pub uid: String,
    pub role: Role,
    pub job_uid: String,
    pub generation: u32,
    pub created: Option<Timestamp>,
    /// When the grace period of its deletion ends or ended; set as soon as deletion is asked for.
    pub deletion: Option<Timestamp>,
    /// Why it is being disrupted, in Kubernetes' words, from the condition `DisruptionTarget`.
    pub disruption: Option<Told>,
    /// `status.reason` and `status.message`: how evictions and node shutdowns are told.
    pub verdict: Option<Told>,
    /// The pod's phase is `Failed` or `Succeeded`: none of its containers will run again.
    pub over: bool,
    pub ready: bool,
    /// When `Ready` last changed.
    pub ready_changed: Option<Timestamp>,
    /// When it was given a node.
    pub scheduled_since: Option<Timestamp>,
    /// Why it has no node, in the scheduler's words.
    pub unschedulable: Option<String>,
    pub container: ContainerFacts,
    pub memory_limit_bytes: u64,
    pub image: String,
}

/// A reason and a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub reason: String,
    pub message: String,
}

/// Our own container of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    pub restarts: i32,
    pub state: ContainerRun,
    /// How the run before the present one ended.
    pub last_end: Option<ContainerEnd>,
}

/// What our container does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerRun {
    #[default]
    Unknown,
    Waiting(Told),
    Running {
        since: Option<Timestamp>,
    },
    Ended(ContainerEnd),
}

/// How a run of our container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    pub exit_code: i32,
    pub reason: String,
}

/// What a worker counts as in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    Init,
    Ready,
    Busy,
    Reconnecting,
    Failed,
    Dead,
}

/// What the operator knows about the coordinator when it judges a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionView {
    /// Pods with at least one running task, as the coordinator reports them.
    pub busy: BTreeSet<String>,
    /// Since when the coordinator can be reached; absent while it cannot.
    pub coordinator_since: Option<Timestamp>,
}

/// How a worker pod, or one run of its container, ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodEnd {
    pub pod_uid: String,
    pub pod_name: String,
    pub cause: PodEndCause,
    pub reason: String,
    pub exit_code: i32,
    pub memory_limit_bytes: u64,
    pub container_restarts: u32,
}

/// On which account an end goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodEndCause {
    /// Preemption, eviction, node loss, deletion.
    Disruption,
    OutOfMemory,
    /// The container ended by itself, or went beyond a limit of its own.
    Exit,
}

/// What keeps a pod from running, or ends it again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodTrouble {
    Unschedulable {
        pod: String,
        message: String,
    },
    ImageError {
        pod: String,
        image: String,
        message: String,
    },
    ReferenceNotFound {
        pod: String,
        message: String,
    },
    Crashing {
        pod: String,
        exit_code: i32,
        reason: String,
        restarts: i32,
    },
}

impl PodFacts {
    /// Reads the facts off a pod that carries our labels; `None` for a pod that does not.
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
            generation: labels.get(names::LABEL_GENERATION)?.parse().ok()?,
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            disruption: condition("DisruptionTarget").filter(|c| holds(c)).map(told),
            verdict: status
                .and_then(|s| s.reason.as_ref().map(|reason| (reason, s.message.as_ref())))
                .map(|(reason, message)| Told {
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

    /// What its worker counts as.
    pub fn worker_state(&self, sessions: &SessionView, now: Timestamp) -> WorkerState {
        if self.deletion.is_some() || self.disruption.is_some() || self.verdict_is_disruption() {
            return WorkerState::Dead;
        }
        if self.over || self.verdict.is_some() {
            return WorkerState::Failed;
        }
        match &self.container.state {
            ContainerRun::Ended(end)
                if end.exit_code == 0 || end.exit_code == EXIT_CODE_SIGTERM =>
            {
                WorkerState::Dead
            }
            ContainerRun::Ended(_) => WorkerState::Failed,
            ContainerRun::Waiting(told) if is_failure_to_start(&told.reason) => WorkerState::Failed,
            ContainerRun::Waiting(_) | ContainerRun::Unknown => WorkerState::Init,
            ContainerRun::Running { .. } if self.ready && sessions.busy.contains(&self.uid) => {
                WorkerState::Busy
            }
            ContainerRun::Running { .. } if self.ready => WorkerState::Ready,
            ContainerRun::Running { since } => self.not_ready_state(*since, sessions, now),
        }
    }

    /// How the pod or its last container run ended; `None` while nothing has ended.
    pub fn end(&self) -> Option<PodEnd> {
        let last = self.container.last_end.as_ref();
        let ended_run = match &self.container.state {
            ContainerRun::Ended(end) => Some((end, self.container.restarts)),
            ContainerRun::Unknown | ContainerRun::Waiting(_) => {
                last.map(|end| (end, self.container.restarts))
            }
            // The number counts the run that goes on now, so the end before belongs to the number before.
            ContainerRun::Running { .. } => last.map(|end| (end, self.container.restarts - 1)),
        };
        let (exit_code, run) = ended_run.map_or((0, self.container.restarts), |(end, run)| {
            (end.exit_code, run)
        });
        let of = |cause, reason: &str| PodEnd {
            pod_uid: self.uid.clone(),
            pod_name: self.name.clone(),
            cause,
            reason: reason.to_owned(),
            exit_code,
            memory_limit_bytes: self.memory_limit_bytes,
            container_restarts: u32::try_from(run).unwrap_or(0),
        };
        // An OOM kill is one even when the pod is deleted a moment later.
        if let Some((end, _)) = ended_run.filter(|(end, _)| end.reason == "OOMKilled") {
            return Some(of(PodEndCause::OutOfMemory, &end.reason));
        }
        if let Some(disruption) = &self.disruption {
            return Some(of(PodEndCause::Disruption, &disruption.reason));
        }
        if let Some(verdict) = &self.verdict {
            let cause = if self.verdict_is_disruption() {
                PodEndCause::Disruption
            } else {
                PodEndCause::Exit
            };
            let reason = if cause == PodEndCause::Exit {
                &verdict.message
            } else {
                &verdict.reason
            };
            return Some(of(
                cause,
                if reason.is_empty() {
                    &verdict.reason
                } else {
                    reason
                },
            ));
        }
        if self.deletion.is_some() {
            return Some(of(PodEndCause::Disruption, "Deleted"));
        }
        let (end, _) = ended_run?;
        let cause = match end.exit_code {
            0 | EXIT_CODE_SIGTERM => PodEndCause::Disruption,
            _ => PodEndCause::Exit,
        };
        Some(of(cause, &end.reason))
    }

    /// What keeps the pod from running, if anything that people should know.
    pub fn trouble(&self) -> Option<PodTrouble> {
        if self.deletion.is_some() {
            return None;
        }
        let pod = self.name.clone();
        if let Some(message) = &self.unschedulable {
            return Some(PodTrouble::Unschedulable {
                pod,
                message: message.clone(),
            });
        }
        match &self.container.state {
            ContainerRun::Waiting(told) if told.reason == "CreateContainerConfigError" => {
                Some(PodTrouble::ReferenceNotFound {
                    pod,
                    message: told.message.clone(),
                })
            }
            ContainerRun::Waiting(told) if told.reason == "CrashLoopBackOff" => {
                Some(self.crashing())
            }
            ContainerRun::Waiting(told) if is_failure_to_start(&told.reason) => {
                Some(PodTrouble::ImageError {
                    pod,
                    image: self.image.clone(),
                    message: format!("{}: {}", told.reason, told.message),
                })
            }
            ContainerRun::Ended(end) if cannot_start(end) => Some(PodTrouble::ImageError {
                pod,
                image: self.image.clone(),
                message: format!(
                    "the container cannot be started ({}, exit code {})",
                    end.reason, end.exit_code
                ),
            }),
            ContainerRun::Ended(end)
                if end.exit_code != 0 && end.exit_code != EXIT_CODE_SIGTERM =>
            {
                Some(self.crashing())
            }
            ContainerRun::Ended(_)
            | ContainerRun::Waiting(_)
            | ContainerRun::Unknown
            | ContainerRun::Running { .. } => None,
        }
    }

    /// Whether the pod stays Terminating although its kubelet should long have ended it.
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.stuck_from().is_some_and(|from| now >= from)
    }

    /// From when on the pod counts as stuck, if it is being deleted.
    pub fn stuck_from(&self) -> Option<Timestamp> {
        self.deletion
            .and_then(|deletion| deletion.checked_add(STUCK_AFTER_GRACE).ok())
    }

    /// A running container that is not ready: it was ready before exactly when `Ready` changed after the container started.
    fn not_ready_state(
        &self,
        since: Option<Timestamp>,
        sessions: &SessionView,
        now: Timestamp,
    ) -> WorkerState {
        let (Some(started), Some(changed)) = (since, self.ready_changed) else {
            return WorkerState::Init;
        };
        if changed <= started {
            return WorkerState::Init;
        }
        // Nobody is silent towards a coordinator that is not there.
        let Some(coordinator_since) = sessions.coordinator_since else {
            return WorkerState::Reconnecting;
        };
        if now.duration_since(changed.max(coordinator_since)) > RECONNECT_SILENCE {
            WorkerState::Dead
        } else {
            WorkerState::Reconnecting
        }
    }

    /// Evicted for the node's sake, shut down with the node, or preempted; going beyond its own limits is not a disruption.
    fn verdict_is_disruption(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|told| match told.reason.as_str() {
                "Evicted" => !is_own_limit(&told.message),
                "NodeShutdown" | "Shutdown" | "Terminated" | "Preempting" | "Preempted"
                | "NodeLost" | "NodeAffinity" => true,
                _ => false,
            })
    }

    fn crashing(&self) -> PodTrouble {
        let end = match &self.container.state {
            ContainerRun::Ended(end) => Some(end),
            ContainerRun::Unknown | ContainerRun::Waiting(_) | ContainerRun::Running { .. } => {
                self.container.last_end.as_ref()
            }
        };
        if let Some(end) = end.filter(|end| cannot_start(end)) {
            return PodTrouble::ImageError {
                pod: self.name.clone(),
                image: self.image.clone(),
                message: format!(
                    "the container cannot be started ({}, exit code {})",
                    end.reason, end.exit_code
                ),
            };
        }
        PodTrouble::Crashing {
            pod: self.name.clone(),
            exit_code: end.map_or(0, |end| end.exit_code),
            reason: end.map_or_else(String::new, |end| end.reason.clone()),
            restarts: self.container.restarts,
        }
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
                .map(|end| ContainerEnd {
                    exit_code: end.exit_code,
                    reason: end.reason.clone().unwrap_or_default(),
                }),
        }
    }
}

impl ContainerRun {
    fn read(state: &ContainerState) -> Self {
        if let Some(end) = &state.terminated {
            return Self::Ended(ContainerEnd {
                exit_code: end.exit_code,
                reason: end.reason.clone().unwrap_or_default(),
            });
        }
        if let Some(running) = &state.running {
            return Self::Running {
                since: running.started_at.as_ref().map(|time| time.0),
            };
        }
        state.waiting.as_ref().map_or(Self::Unknown, |waiting| {
            Self::Waiting(Told {
                reason: waiting.reason.clone().unwrap_or_default(),
                message: waiting.message.clone().unwrap_or_default(),
            })
        })
    }
}

/// Counts workers by state. A worker that has no pod yet is INIT.
pub fn count_workers<'a>(
    workers: impl IntoIterator<Item = &'a PodFacts>,
    desired: u32,
    sessions: &SessionView,
    now: Timestamp,
) -> WorkerCounts {
    let mut counts = WorkerCounts {
        desired: i32::try_from(desired).unwrap_or(i32::MAX),
        ..WorkerCounts::default()
    };
    let mut pods = 0;
    for pod in workers {
        pods += 1;
        counts.restarts += i64::from(pod.container.restarts);
        match pod.worker_state(sessions, now) {
            WorkerState::Init => counts.init += 1,
            WorkerState::Ready => counts.ready += 1,
            WorkerState::Busy => counts.busy += 1,
            WorkerState::Reconnecting => counts.reconnecting += 1,
            WorkerState::Failed => counts.failed += 1,
            WorkerState::Dead => counts.dead += 1,
        }
    }
    counts.init += (counts.desired - pods).max(0);
    counts.with_summary()
}

fn holds(condition: &PodCondition) -> bool {
    condition.status == "True"
}

fn told(condition: &PodCondition) -> Told {
    Told {
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    }
}

/// Reasons of a waiting container that do not go away by waiting a moment.
fn is_failure_to_start(reason: &str) -> bool {
    matches!(
        reason,
        "CrashLoopBackOff"
            | "ImagePullBackOff"
            | "ErrImagePull"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
    )
}

/// The container's program is missing or made for another machine: containerd reports it as an end, not as waiting.
fn cannot_start(end: &ContainerEnd) -> bool {
    end.reason == "StartError" || end.reason == "ContainerCannotRun"
}

/// Whether an eviction's message speaks of the pod's own limits and not of its node's pressure.
fn is_own_limit(message: &str) -> bool {
    message.contains("exceeds the total limit")
        || message.contains("exceeds the limit")
        || message.contains("exceeded its local ephemeral storage limit")
}

#[cfg(test)]
#[path = "pods_tests.rs"]
pub mod tests;
