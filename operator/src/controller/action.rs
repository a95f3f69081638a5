//! What the operator can do to the cluster: the closed list. Says nothing of when; does nothing itself.

use std::fmt;
use std::sync::Arc;

use zephyr_crds::conditions::Reason;
use zephyr_crds::frozen::FrozenJob;

use crate::pods::PodEnd;

/// One write. Each is safe to repeat, and safe to leave out when the operator is killed before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates the root of a generation that status already names.
    CreateRoot { frozen: Arc<FrozenJob> },
    CreateTokenSecret {
        frozen: Arc<FrozenJob>,
        root_uid: String,
    },
    CreateService {
        frozen: Arc<FrozenJob>,
        root_uid: String,
    },
    CreateCoordinator {
        frozen: Arc<FrozenJob>,
        root_uid: String,
    },
    CreateWorkers {
        frozen: Arc<FrozenJob>,
        root_uid: String,
    },
    /// Changes `replicas`, and nothing else, of the `StatefulSet` with this uid.
    ScaleWorkers {
        name: String,
        uid: String,
        from: u32,
        to: u32,
    },
    /// Ends a pod whose node does not answer, so that the `StatefulSet` makes another.
    ForceDeletePod { name: String, uid: String },
    /// Tells the coordinator how pods ended.
    TellPodEnds { generation: u32, ends: Vec<PodEnd> },
    /// Tells the coordinator that its result is in status.
    AcknowledgeResult { generation: u32, epoch: u64 },
    /// Has the coordinator end the job, because no further generation follows.
    EndRun {
        generation: u32,
        reason: Reason,
        message: String,
    },
    /// Deletes a generation with everything it owns.
    DeleteRoot { name: String, uid: String },
    /// Deletes the job itself, some time after its end.
    DeleteJob {
        name: String,
        uid: String,
        resource_version: String,
    },
}

impl Action {
    /// Its name, for metrics and logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::CreateRoot { .. } => "create_root",
            Self::CreateTokenSecret { .. } => "create_token_secret",
            Self::CreateService { .. } => "create_service",
            Self::CreateCoordinator { .. } => "create_coordinator",
            Self::CreateWorkers { .. } => "create_workers",
            Self::ScaleWorkers { .. } => "scale_workers",
            Self::ForceDeletePod { .. } => "force_delete_pod",
            Self::TellPodEnds { .. } => "tell_pod_ends",
            Self::AcknowledgeResult { .. } => "acknowledge_result",
            Self::EndRun { .. } => "end_run",
            Self::DeleteRoot { .. } => "delete_root",
            Self::DeleteJob { .. } => "delete_job",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRoot { frozen } => {
                write!(formatter, "create root of generation {}", frozen.generation)
            }
            Self::CreateTokenSecret { frozen, .. } => write!(
                formatter,
                "create token of generation {}",
                frozen.generation
            ),
            Self::CreateService { frozen, .. } => write!(
                formatter,
                "create service of generation {}",
                frozen.generation
            ),
            Self::CreateCoordinator { frozen, .. } => {
                write!(
                    formatter,
                    "create coordinator of generation {}",
                    frozen.generation
                )
            }
            Self::CreateWorkers { frozen, .. } => write!(
                formatter,
                "create workers of generation {}",
                frozen.generation
            ),
            Self::ScaleWorkers { name, from, to, .. } => {
                write!(formatter, "scale {name} from {from} to {to}")
            }
            Self::ForceDeletePod { name, .. } => write!(formatter, "force-delete pod {name}"),
            Self::TellPodEnds { generation, ends } => {
                write!(
                    formatter,
                    "report {} pod ends to generation {generation}",
                    ends.len()
                )
            }
            Self::AcknowledgeResult { generation, .. } => {
                write!(formatter, "acknowledge result of generation {generation}")
            }
            Self::EndRun { generation, .. } => {
                write!(formatter, "end run of generation {generation}")
            }
            Self::DeleteRoot { name, .. } => write!(formatter, "delete root {name}"),
            Self::DeleteJob { name, .. } => write!(formatter, "delete job {name}"),
        }
    }
}
