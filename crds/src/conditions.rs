//! The names of conditions, their reasons, and the condition type. The operator decides which
//! conditions hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of a condition. The text of each variant is part of the API.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionType {
    /// The spec passed validation; `False` names what is wrong with it.
    Accepted,
    /// The current generation runs or makes progress.
    Progressing,
    /// The coordinator's pod is ready and its reports arrive.
    CoordinatorReady,
    /// At least one worker has a session with the coordinator.
    WorkersReady,
    /// The job is suspended, and none of its pods exists.
    Suspended,
    /// Something needs attention; the message says what.
    Degraded,
    /// The job has ended and its output is complete.
    Complete,
    /// The job has ended without its output.
    Failed,
    /// The job has ended, in either way.
    Finished,
    /// For tools (kstatus): the job has not ended.
    Reconciling,
    /// For tools (kstatus): the job is refused or has failed.
    Stalled,
}

impl ConditionType {
    /// Every condition type, in the order in which status shows them.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Progressing,
        Self::CoordinatorReady,
        Self::WorkersReady,
        Self::Suspended,
        Self::Degraded,
        Self::Complete,
        Self::Failed,
        Self::Finished,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The type as it is written in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Progressing => "Progressing",
            Self::CoordinatorReady => "CoordinatorReady",
            Self::WorkersReady => "WorkersReady",
            Self::Suspended => "Suspended",
            Self::Degraded => "Degraded",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Finished => "Finished",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// `True`, `False` or `Unknown`, as Kubernetes writes it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// It is not known whether the condition holds.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Why a condition has its status. The API defines every value, so that scripts can compare them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Reason {
    /// The spec was accepted.
    SpecValid,
    /// The spec is refused; the message names the field.
    SpecInvalid,
    /// The job waits for its turn. Either as many other jobs are starting as the operator allows,
    /// or this job gave its place back because no node had room for its pods.
    Queued,
    /// A generation's objects are being created.
    Starting,
    /// The coordinator is listing the input and making the plan.
    Planning,
    /// Tasks are running, or waiting for a free slot.
    Running,
    /// The plan exists, but no worker has connected yet.
    WaitingForWorkers,
    /// Pods cannot be placed: no node, no capacity.
    WaitingForCapacity,
    /// An object cannot be created because of a quota, a limit range, pod security, an admission
    /// policy or a failing API server. The message repeats the API server's text.
    Blocked,
    /// A Secret or `ConfigMap` that the pods name does not exist.
    ReferenceNotFound,
    /// An image cannot be pulled or started.
    ImageError,
    /// The object store does not answer, or refuses the request.
    StorageUnavailable,
    /// The operator is waiting before it starts the next generation.
    Backoff,
    /// The coordinator's pod is not ready.
    CoordinatorUnavailable,
    /// The coordinator's pod is ready.
    CoordinatorReady,
    /// At least one worker is alive.
    WorkersAlive,
    /// No worker is alive.
    NoWorkersAlive,
    /// Some workers failed.
    WorkersFailing,
    /// No problem is known.
    AsExpected,
    /// The plan could not be made because of an expression, a path or the input.
    PlanFailed,
    /// A task failed as often as the budget allows.
    TaskFailed,
    /// A task failed as often as the budget allows, the last time because it ran for longer than
    /// spec.retries.taskTimeout.
    TaskTimedOut,
    /// A task lost its worker as often as the budget allows.
    TaskDisrupted,
    /// Storage repeatedly lost or damaged the output of a task.
    OutputLost,
    /// The ledger in the bucket is damaged, or belongs to another job.
    LedgerDamaged,
    /// More records were skipped than the job allows.
    TooManySkipped,
    /// As many generations as `maxGenerations` allows have ended without a result.
    GenerationsExhausted,
    /// The same cause ended several generations without any progress between them.
    NoProgress,
    /// The job was cancelled: spec.cancel is set.
    Cancelled,
    /// Another controller runs the job: spec.managedBy names it.
    ManagedElsewhere,
    /// No coordinator was ready by the time that spec.startDeadlineSeconds sets.
    StartDeadlineExceeded,
    /// The job was active for longer than spec.activeDeadlineSeconds.
    DeadlineExceeded,
    /// The job is about to be cancelled: its coordinator ends it.
    Cancelling,
    /// The job is about to be suspended: running tasks may end, or pods still exist.
    Suspending,
    /// The job is suspended: spec.suspend is `true`.
    Suspended,
    /// The job is not suspended.
    NotSuspended,
    /// The output is complete.
    OutputComplete,
    /// The job has not ended.
    NotFinished,
    /// The API server refused the operator; the message names verb, resource and namespace.
    Forbidden,
    /// The job is being deleted, and a finalizer keeps the object; the message names it.
    Deleting,
    /// A fault of the operator itself interrupted its work on this job. The operator does not retry
    /// the job for a while; the message describes the fault.
    OperatorFault,
}

impl Reason {
    /// The reason as it is written in status and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpecValid => "SpecValid",
            Self::SpecInvalid => "SpecInvalid",
            Self::Queued => "Queued",
            Self::Starting => "Starting",
            Self::Planning => "Planning",
            Self::Running => "Running",
            Self::WaitingForWorkers => "WaitingForWorkers",
            Self::WaitingForCapacity => "WaitingForCapacity",
            Self::Blocked => "Blocked",
            Self::ReferenceNotFound => "ReferenceNotFound",
            Self::ImageError => "ImageError",
            Self::StorageUnavailable => "StorageUnavailable",
            Self::Backoff => "Backoff",
            Self::CoordinatorUnavailable => "CoordinatorUnavailable",
            Self::CoordinatorReady => "CoordinatorReady",
            Self::WorkersAlive => "WorkersAlive",
            Self::NoWorkersAlive => "NoWorkersAlive",
            Self::WorkersFailing => "WorkersFailing",
            Self::AsExpected => "AsExpected",
            Self::PlanFailed => "PlanFailed",
            Self::TaskFailed => "TaskFailed",
            Self::TaskTimedOut => "TaskTimedOut",
            Self::TaskDisrupted => "TaskDisrupted",
            Self::OutputLost => "OutputLost",
            Self::LedgerDamaged => "LedgerDamaged",
            Self::TooManySkipped => "TooManySkipped",
            Self::GenerationsExhausted => "GenerationsExhausted",
            Self::NoProgress => "NoProgress",
            Self::Cancelled => "Cancelled",
            Self::ManagedElsewhere => "ManagedElsewhere",
            Self::StartDeadlineExceeded => "StartDeadlineExceeded",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Cancelling => "Cancelling",
            Self::Suspending => "Suspending",
            Self::Suspended => "Suspended",
            Self::NotSuspended => "NotSuspended",
            Self::OutputComplete => "OutputComplete",
            Self::NotFinished => "NotFinished",
            Self::Forbidden => "Forbidden",
            Self::Deleting => "Deleting",
            Self::OperatorFault => "OperatorFault",
        }
    }
}

/// One condition, with the fields of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type of the condition.
    pub r#type: ConditionType,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// The reason as one word of a closed list.
    pub reason: Reason,
    /// The reason as one sentence for people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The `metadata.generation` that this condition was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}
