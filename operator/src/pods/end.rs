//! How a worker's pod, or one run of its container, ended, and on which account that goes.
//!
//! Pure. What the job did itself is its own; everything else is a disruption.

use super::{ContainerEnd, ContainerRun, PodFacts};

/// Signal 15 as an exit code: somebody asked the container to stop.
pub(super) const EXIT_CODE_SIGTERM: i32 = 143;

/// The kubelet's word for a container whose control group ran out of memory.
const OOM_KILLED: &str = "OOMKilled";

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

impl PodFacts {
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
        let is_oom_kill = |end: &ContainerEnd| end.reason == OOM_KILLED;
        // An OOM kill is one even when the pod is deleted a moment later; that of a run before says nothing of this one.
        let is_running = matches!(self.container.state, ContainerRun::Running { .. });
        if let Some((end, _)) = ended_run.filter(|(end, _)| is_oom_kill(end) && !is_running) {
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
            _ if is_oom_kill(end) => PodEndCause::OutOfMemory,
            0 | EXIT_CODE_SIGTERM => PodEndCause::Disruption,
            _ => PodEndCause::Exit,
        };
        Some(of(cause, &end.reason))
    }

    /// Evicted for the node's sake, shut down with the node, or preempted; going beyond its own limits is not a disruption.
    pub(super) fn verdict_is_disruption(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|told| match told.reason.as_str() {
                "Evicted" => !is_own_limit(&told.message),
                "NodeShutdown" | "Shutdown" | "Terminated" | "Preempting" | "Preempted"
                | "NodeLost" | "NodeAffinity" => true,
                _ => false,
            })
    }
}

/// Whether an eviction's message speaks of the pod's own limits and not of its node's pressure.
fn is_own_limit(message: &str) -> bool {
    message.contains("exceeds the total limit")
        || message.contains("exceeds the limit")
        || message.contains("exceeded its local ephemeral storage limit")
}
