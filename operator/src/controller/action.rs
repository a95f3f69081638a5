//! The closed list of actions that the operator can perform on the cluster. This module does not
//! decide when to perform an action, and performs none.

use std::fmt;
use std::sync::Arc;

use zephyr_crds::conditions::Reason;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::preemptible::SpotProvider;

use crate::pods::PodEnd;

/// One write to the API server, or one call to a coordinator. It is safe to repeat it, and it is
/// safe if the operator is killed before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates the root of a generation that status already names.
    CreateRoot {
        /// The job as this generation runs it.
        frozen: Arc<FrozenJob>,
    },
    /// Restores the labels and the owner of a generation's root after somebody removed some of
    /// them.
    MarkRoot {
        /// The generation.
        generation: u32,
        /// Uid of that root.
        uid: String,
    },
    /// Creates the Secret with the generation's bearer token.
    CreateTokenSecret {
        /// The job as this generation runs it.
        frozen: Arc<FrozenJob>,
        /// Uid of the root, which becomes the owner.
        root_uid: String,
    },
    /// Creates the Service in front of the coordinator.
    CreateService {
        /// The job as this generation runs it.
        frozen: Arc<FrozenJob>,
        /// Uid of the root, which becomes the owner.
        root_uid: String,
    },
    /// Creates the coordinator's Deployment.
    CreateCoordinator {
        /// The job as this generation runs it.
        frozen: Arc<FrozenJob>,
        /// Uid of the root, which becomes the owner.
        root_uid: String,
        /// The provider of the installation's preemptible nodes.
        spot_provider: SpotProvider,
    },
    /// Creates the `StatefulSet` of workers.
    CreateWorkers {
        /// The job as this generation runs it.
        frozen: Arc<FrozenJob>,
        /// Uid of the root, which becomes the owner.
        root_uid: String,
        /// The number of workers: 0 before the plan is known.
        replicas: u32,
    },
    /// Makes the Service of a generation select the coordinator again after somebody edited it.
    MendService {
        /// Name of the Service.
        name: String,
        /// Uid of that Service.
        uid: String,
        /// The patch of its spec.
        patch: serde_json::Value,
    },
    /// Scales the coordinator's Deployment back to one replica after somebody scaled it.
    ScaleCoordinator {
        /// Name of the Deployment.
        name: String,
        /// Its uid; another object of the same name is not scaled.
        uid: String,
        /// How many replicas it has.
        from: u32,
    },
    /// Changes `replicas`, and nothing else, of the `StatefulSet` with this uid. Before that, the
    /// coordinator of the generation is informed of the new number.
    ScaleWorkers {
        /// The generation of the workers.
        generation: u32,
        /// Name of the `StatefulSet`.
        name: String,
        /// Its uid; another object of the same name is not scaled.
        uid: String,
        /// The replicas that it has.
        from: u32,
        /// The replicas that it gets.
        to: u32,
    },
    /// Deletes a pod whose node does not answer, so that the `StatefulSet` creates another.
    ForceDeletePod {
        /// Name of the pod.
        name: String,
        /// Its uid; another object of the same name is not deleted.
        uid: String,
    },
    /// Reports to the coordinator how pods ended.
    ReportPodEnds {
        /// The generation whose coordinator receives the report.
        generation: u32,
        /// How and why its worker pods ended.
        ends: Vec<PodEnd>,
    },
    /// Informs the coordinator that its result is in status.
    AcknowledgeResult {
        /// The generation whose coordinator may exit.
        generation: u32,
        /// The epoch that reported the result.
        epoch: u64,
    },
    /// Lets the coordinator end the job, because no further generation follows.
    EndRun {
        /// The generation whose coordinator ends the job.
        generation: u32,
        /// The reason that the job's result gets.
        reason: Reason,
        /// The sentence that the job's result gets.
        message: String,
        /// Whether the coordinator removes the files of the output that are complete.
        removes_output: bool,
    },
    /// Deletes a generation with everything it owns.
    DeleteRoot {
        /// Name of the root.
        name: String,
        /// Its uid; another object of the same name is not deleted.
        uid: String,
    },
    /// Deletes the job itself, some time after its end.
    DeleteJob {
        /// Name of the job.
        name: String,
        /// Its uid; another object of the same name is not deleted.
        uid: String,
        /// The version on which the decision is based; the job is not deleted if it has changed
        /// since.
        resource_version: String,
    },
}

impl Action {
    /// Returns the name of the action, for metrics and logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::CreateRoot { .. } => "create_root",
            Self::MarkRoot { .. } => "mark_root",
            Self::CreateTokenSecret { .. } => "create_token_secret",
            Self::CreateService { .. } => "create_service",
            Self::CreateCoordinator { .. } => "create_coordinator",
            Self::CreateWorkers { .. } => "create_workers",
            Self::MendService { .. } => "mend_service",
            Self::ScaleCoordinator { .. } => "scale_coordinator",
            Self::ScaleWorkers { .. } => "scale_workers",
            Self::ForceDeletePod { .. } => "force_delete_pod",
            Self::ReportPodEnds { .. } => "report_pod_ends",
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
            Self::MarkRoot { generation, .. } => {
                write!(formatter, "mark root of generation {generation} again")
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
            Self::MendService { name, .. } => write!(formatter, "mend service {name}"),
            Self::ScaleCoordinator { name, from, .. } => {
                write!(formatter, "scale {name} from {from} back to 1")
            }
            Self::ScaleWorkers { name, from, to, .. } => {
                write!(formatter, "scale {name} from {from} to {to}")
            }
            Self::ForceDeletePod { name, .. } => write!(formatter, "force-delete pod {name}"),
            Self::ReportPodEnds { generation, ends } => {
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
