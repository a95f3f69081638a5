//! The table of all words by which Kubernetes reports how a pod or a container ended, and who is
//! responsible for each.
//!
//! Pure. The words are those of the kubelet, the scheduler and the controllers from 1.24 to 1.34,
//! and of the container runtimes. An unknown word is ignored; then the container's own end decides.

/// Who is responsible for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Somebody or something outside the job ended the pod, or never let it start.
    Cluster,
    /// The container ran out of its own memory.
    Memory,
    /// The job caused it, or the container exited by itself: the exit code has the details.
    Job,
}

use Account::{Cluster, Job, Memory};

/// `status.reason` of a pod.
const POD_REASONS: &[(&str, Account)] = &[
    // From the kubelet, to protect its node; `is_own_limit` recognizes evictions because of one of
    // the pod's own limits.
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
    // `activeDeadlineSeconds`, which only a policy of the cluster sets for one of our pods.
    ("DeadlineExceeded", Cluster),
];

/// Prefix of `status.reason` if a node had no room for a pod that the scheduler assigned to it:
/// `OutOfcpu`, `OutOfnvidia.com/gpu`.
const OUT_OF_NODE_RESOURCE: &str = "OutOf";

/// `reason` of a terminated container.
const CONTAINER_REASONS: &[(&str, Account)] = &[
    ("OOMKilled", Memory),
    // The kubelet found that the container was gone: its node was restarted, or its runtime lost
    // it. The exit code 137 is a placeholder.
    ("ContainerStatusUnknown", Cluster),
    ("Completed", Job),
    ("Error", Job),
    ("DeadlineExceeded", Cluster),
    // The program cannot be started: nothing of the job ran, and nothing ever will with this image.
    ("StartError", Job),
    ("ContainerCannotRun", Job),
];

/// Who is responsible for a pod's `status.reason` with its message; `None` for an unknown word.
pub(super) fn of_pod(reason: &str, message: &str) -> Option<Account> {
    if reason == "Evicted" && is_own_limit(message) {
        return Some(Job);
    }
    if reason.starts_with(OUT_OF_NODE_RESOURCE) {
        return Some(Cluster);
    }
    find(POD_REASONS, reason)
}

/// Who is responsible for a terminated container's `reason`; `None` for an unknown word.
pub(super) fn of_container(reason: &str) -> Option<Account> {
    find(CONTAINER_REASONS, reason)
}

fn find(table: &[(&str, Account)], word: &str) -> Option<Account> {
    table
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, account)| *account)
}

/// Whether an eviction's message mentions the pod's own limits and not its node's pressure.
fn is_own_limit(message: &str) -> bool {
    message.contains("exceeds the total limit")
        || message.contains("exceeds the limit")
        || message.contains("exceeded its local ephemeral storage limit")
}
