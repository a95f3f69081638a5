//! Determines how a worker's pod, or one run of its container, ended, and who is responsible.
//!
//! Pure. The job is responsible for ends that it caused; everything else is a disruption. The table
//! of words is in `account.rs`.

use jiff::SignedDuration;

use super::account::{self, Account};
use super::{ContainerEnd, ContainerRun, PodFacts};

/// The exit code after signal 15 (SIGTERM), with which the kubelet asks a container to stop.
pub(super) const EXIT_CODE_SIGTERM: i32 = 143;

/// The exit code after signal 9 (SIGKILL).
const EXIT_CODE_SIGKILL: i32 = 137;

/// The text for people about a container that its liveness probe ended.
const LIVENESS_KILL: &str = "killed by its liveness probe";

/// How long a container is unready at least before its liveness probe ends it. First two readiness
/// probes 3 s apart fail, then three liveness probes 20 s apart fail, and then the grace period of
/// 15 s passes.
const UNREADY_BEFORE_LIVENESS_KILL: SignedDuration = SignedDuration::from_secs(30);

/// How a worker pod, or one run of its container, ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodEnd {
    /// Uid of the pod.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod_name: String,
    /// What ended it.
    pub cause: PodEndCause,
    /// The reason that Kubernetes gives, for people.
    pub reason: String,
    /// Exit code of its main container; 0 if it has none.
    pub exit_code: i32,
    /// The memory limit of its main container, in bytes; 0 if there is none.
    pub memory_limit_bytes: u64,
    /// How often its main container was restarted before.
    pub container_restarts: u32,
}

/// Who is responsible for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodEndCause {
    /// Preemption, eviction, node loss, deletion.
    Disruption,
    /// The kernel ended its main container at the memory limit.
    OutOfMemory,
    /// The container exited by itself, or exceeded one of its own limits.
    Exit,
}

impl PodFacts {
    /// Returns how the pod or its last container run ended, or `None` if neither has ended.
    pub fn end(&self) -> Option<PodEnd> {
        let (run_end, run) = self.ended_run();
        let exit_code = run_end.map_or(0, |end| end.exit_code);
        let (cause, reason) = self.judge(run_end)?;
        Some(PodEnd {
            pod_uid: self.uid.clone(),
            pod_name: self.name.clone(),
            cause,
            reason,
            exit_code,
            memory_limit_bytes: self.memory_limit_bytes,
            container_restarts: u32::try_from(run).unwrap_or(0),
        })
    }

    /// Returns the end of the last ended run of our container, if there is one, and the number of
    /// that run.
    fn ended_run(&self) -> (Option<&ContainerEnd>, i32) {
        let restarts = self.container.restarts;
        let last = self.container.last_end.as_ref();
        match &self.container.state {
            ContainerRun::Ended(end) => (Some(end), restarts),
            // `restarts` is the number of the current run, so the earlier end belongs to the run
            // before.
            ContainerRun::Running { .. } if last.is_some() => (last, restarts - 1),
            ContainerRun::Unknown | ContainerRun::Waiting(_) | ContainerRun::Running { .. } => {
                (last, restarts)
            }
        }
    }

    /// Returns who is responsible for the end, and its reason in Kubernetes' words. The most
    /// specific information about this pod decides.
    fn judge(&self, run_end: Option<&ContainerEnd>) -> Option<(PodEndCause, String)> {
        // An OOM kill is the cause of the end even if the pod is deleted a moment later. But an OOM
        // kill of an earlier run does not explain the end of the current run.
        let is_running = matches!(self.container.state, ContainerRun::Running { .. });
        let of_container = |end: &ContainerEnd| account::of_container(&end.reason);
        if let Some(end) =
            run_end.filter(|end| of_container(end) == Some(Account::Memory) && !is_running)
        {
            return Some((PodEndCause::OutOfMemory, end.reason.clone()));
        }
        let verdict = self.verdict.as_ref();
        let of_verdict = verdict
            .and_then(|explanation| account::of_pod(&explanation.reason, &explanation.message));
        if let Some(explanation) = verdict.filter(|_| of_verdict == Some(Account::Job)) {
            return Some((PodEndCause::Exit, explanation.message.clone()));
        }
        if let Some(disruption) = &self.disruption {
            return Some((PodEndCause::Disruption, disruption.reason.clone()));
        }
        if let Some(explanation) = verdict.filter(|_| of_verdict.is_some() || run_end.is_none()) {
            return Some((PodEndCause::Disruption, explanation.reason.clone()));
        }
        if self.deletion.is_some() {
            return Some((PodEndCause::Disruption, "Deleted".to_owned()));
        }
        let end = run_end?;
        let cause = match (of_container(end), end.exit_code) {
            (Some(Account::Memory), _) => PodEndCause::OutOfMemory,
            (Some(Account::Cluster), _) | (_, 0 | EXIT_CODE_SIGTERM) => PodEndCause::Disruption,
            (Some(Account::Job) | None, _) if self.was_killed_by_liveness(end) => {
                return Some((PodEndCause::Disruption, LIVENESS_KILL.to_owned()));
            }
            (Some(Account::Job) | None, _) => PodEndCause::Exit,
        };
        Some((cause, end.reason.clone()))
    }

    /// Returns whether the kubelet killed the container because its liveness probe failed. Status
    /// does not report that. Such a container has been unready for some time, because its readiness
    /// probe failed before. A container that exits by itself is ready until it exits.
    fn was_killed_by_liveness(&self, end: &ContainerEnd) -> bool {
        end.exit_code == EXIT_CODE_SIGKILL
            && !self.ready
            && self
                .ready_changed
                .zip(end.finished)
                .is_some_and(|(unready_since, finished)| {
                    finished.duration_since(unready_since) >= UNREADY_BEFORE_LIVENESS_KILL
                })
    }

    /// Returns whether the pod was evicted to protect the node, shut down with the node, preempted,
    /// or not admitted by its node. If the pod exceeded its own limits, this is not a disruption.
    pub(super) fn verdict_is_disruption(&self) -> bool {
        self.verdict.as_ref().is_some_and(|explanation| {
            account::of_pod(&explanation.reason, &explanation.message) == Some(Account::Cluster)
        })
    }
}
