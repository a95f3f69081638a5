//! The table of every word by which Kubernetes says how a pod or a container ended, and on whose account that goes.
//!
//! Pure. The words are those of the kubelet, the scheduler and the controllers from 1.24 to 1.34, and of the container
//! runtimes. A word that is not in the table says nothing; then the container's own end decides.

/// On whose account a word goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Somebody or something outside the job ended the pod, or never let it begin.
    Cluster,
    /// The container ran out of its own memory.
    Memory,
    /// The job did it, or it ended by itself: the exit code says more.
    Job,
}

use Account::{Cluster, Job, Memory};

/// `status.reason` of a pod.
const POD_REASONS: &[(&str, Account)] = &[
    // The kubelet, for its node's sake; `is_own_limit` tells evictions for a limit of the pod's own apart.
    ("Evicted", Cluster),
    ("Preempting", Cluster),
    ("Preempted", Cluster),
    // The node goes: `Shutdown` before 1.22, `NodeShutdown` where the pod was not admitted any more.
    ("NodeShutdown", Cluster),
    ("Shutdown", Cluster),
    ("Terminated", Cluster),
    ("NodeLost", Cluster),
    // The kubelet did not admit the pod: nothing of the job ever ran in it. `OutOf…` is told by its prefix.
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
    // `activeDeadlineSeconds`, which only a policy of the cluster gives to a pod of ours.
    ("DeadlineExceeded", Cluster),
];

/// Prefix of `status.reason` where a node had no room for what the scheduler gave it: `OutOfcpu`, `OutOfnvidia.com/gpu`.
const OUT_OF_NODE_RESOURCE: &str = "OutOf";

/// `reason` of a terminated container.
const CONTAINER_REASONS: &[(&str, Account)] = &[
    ("OOMKilled", Memory),
    // The kubelet found the container gone: its node was restarted, or its runtime lost it. The exit code 137 is made up.
    ("ContainerStatusUnknown", Cluster),
    ("Completed", Job),
    ("Error", Job),
    ("DeadlineExceeded", Cluster),
    // The program cannot be started: nothing of the job ran, and it never will by this image.
    ("StartError", Job),
    ("ContainerCannotRun", Job),
];

/// The account of a pod's `status.reason` with its message; `None` for a word that is not known.
pub(super) fn of_pod(reason: &str, message: &str) -> Option<Account> {
    if reason == "Evicted" && is_own_limit(message) {
        return Some(Job);
    }
    if reason.starts_with(OUT_OF_NODE_RESOURCE) {
        return Some(Cluster);
    }
    find(POD_REASONS, reason)
}

/// The account of a terminated container's `reason`; `None` for a word that is not known.
pub(super) fn of_container(reason: &str) -> Option<Account> {
    find(CONTAINER_REASONS, reason)
}

fn find(table: &[(&str, Account)], word: &str) -> Option<Account> {
    table
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, account)| *account)
}

/// Whether an eviction's message speaks of the pod's own limits and not of its node's pressure.
fn is_own_limit(message: &str) -> bool {
    message.contains("exceeds the total limit")
        || message.contains("exceeds the limit")
        || message.contains("exceeded its local ephemeral storage limit")
}
