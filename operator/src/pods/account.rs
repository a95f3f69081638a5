//! Contains the table of all words by which Kubernetes reports how a pod or a container ended. For
//! each word, the table says who is responsible for such an end.
//!
//! Pure. The words are those of the kubelet, the scheduler and the controllers from 1.24 to 1.34,
//! and of the container runtimes. An unknown word is ignored; then the end of the container itself
//! decides.

/// Who is responsible for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Somebody or something outside the job ended the pod, or never let it start.
    Cluster,
    /// The container ran out of its own memory.
    Memory,
    /// The job caused the end, or the container exited by itself. The exit code has the details.
    Job,
}

use Account::{Cluster, Job, Memory};

/// The values of `status.reason` of a pod.
const POD_REASONS: &[(&str, Account)] = &[
    // The kubelet evicted the pod to protect its node. `is_own_limit` recognizes evictions because
    // of one of the pod's own limits.
    ("Evicted", Cluster),
    ("Preempting", Cluster),
    ("Preempted", Cluster),
    // The node shuts down: `Shutdown` before 1.22, `NodeShutdown` if the pod was no longer
    // admitted.
    ("NodeShutdown", Cluster),
    ("Shutdown", Cluster),
    ("Terminated", Cluster),
    ("NodeLost", Cluster),
    // The kubelet did not admit the pod, so nothing of the job ever ran in it. `OutOf…` is
    // recognized by its prefix.
    ("AppArmor", Cluster),
    ("InitContainerRestartPolicyForbidden", Cluster),
    ("InvalidNodeInfo", Cluster),
    ("MatchNodeSelector", Cluster),
    ("NodeAffinity", Cluster),
    ("NodeName", Cluster),
    ("NodePorts", Cluster),
    ("PodLevelResourcesNotSupported", Cluster),
    ("PodOSNotSupported", Cluster),
    ("PodOSSelectorNodeLabelDoesNotMatch", Cluster),
    ("ResourceAllocationFailed", Cluster),
    ("SMTAlignmentError", Cluster),
    ("SupplementalGroupsPolicyNotSupported", Cluster),
    ("SysctlForbidden", Cluster),
    ("TaintToleration", Cluster),
    ("TopologyAffinityError", Cluster),
    ("UnexpectedAdmissionError", Cluster),
    ("UnexpectedPredicateFailureType", Cluster),
    ("UnknownReason", Cluster),
    ("node(s) had taints that the pod didn't tolerate", Cluster),
    ("VolumeAttachmentLimitExceeded", Cluster),
    // The pod exceeded its `activeDeadlineSeconds`. Only a policy of the cluster sets that for our
    // pods.
    ("DeadlineExceeded", Cluster),
];

/// The prefix of `status.reason` if a node had no room for a pod that the scheduler assigned to it,
/// as in `OutOfcpu` and `OutOfnvidia.com/gpu`.
const OUT_OF_NODE_RESOURCE: &str = "OutOf";

/// The values of `reason` of a terminated container.
const CONTAINER_REASONS: &[(&str, Account)] = &[
    ("OOMKilled", Memory),
    // The kubelet could not find the container: its node was restarted, or its runtime lost it. The
    // exit code 137 is a placeholder.
    ("ContainerStatusUnknown", Cluster),
    ("Completed", Job),
    ("Error", Job),
    ("DeadlineExceeded", Cluster),
    // The program cannot be started, so nothing of the job ran, and nothing can run with this
    // image.
    ("StartError", Job),
    ("ContainerCannotRun", Job),
];

/// Returns who is responsible for an end with this `status.reason` and `status.message` of the pod.
/// Returns `None` for an unknown word.
pub(super) fn of_pod(reason: &str, message: &str) -> Option<Account> {
    if reason == "Evicted" && is_own_limit(message) {
        return Some(Job);
    }
    if reason.starts_with(OUT_OF_NODE_RESOURCE) {
        return Some(Cluster);
    }
    find(POD_REASONS, reason)
}

/// Returns who is responsible for an end with this `reason` of the terminated container. Returns
/// `None` for an unknown word.
pub(super) fn of_container(reason: &str) -> Option<Account> {
    find(CONTAINER_REASONS, reason)
}

fn find(table: &[(&str, Account)], word: &str) -> Option<Account> {
    table
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, account)| *account)
}

/// Returns whether an eviction's message mentions the pod's own limits and not its node's pressure.
fn is_own_limit(message: &str) -> bool {
    message.contains("exceeds the total limit")
        || message.contains("exceeds the limit")
        || message.contains("exceeded its local ephemeral storage limit")
}
