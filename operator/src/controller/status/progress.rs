//! Computes the progress of the work as one reason and one sentence, for the conditions
//! `Progressing` and `Degraded` and for the phase.
//!
//! Pure. This module only computes; `status.rs` sets the conditions.

use zephyr_crds::conditions::Reason;
use zephyr_crds::status::Phase;

use super::WriteProblem;
use crate::controller::diagnose::{Diagnosis, Trouble, TroubleKind};
use crate::controller::plan::MAX_GENERATIONS_WITHOUT_PROGRESS;
use crate::run_report::{RunPhase, RunReport};

/// The state of the work, for the condition `Progressing`.
pub(super) struct Progress {
    pub(super) goes_on: bool,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Progress {
    /// Returns what the user can do before the job fails, if the cause is in the spec and the job
    /// does not wait for a change.
    pub(super) fn advice(&self) -> Option<String> {
        (self.reason == Reason::ImageError).then(|| {
            format!(
                "the next generation uses a corrected image; if that takes longer, suspend the job, because it fails after at \
                 most {MAX_GENERATIONS_WITHOUT_PROGRESS} generations that cannot start"
            )
        })
    }
}

/// Returns the phase of a running generation.
pub(super) fn follow_phase(
    before: Option<Phase>,
    report: Option<&RunReport>,
    diagnosis: &Diagnosis,
) -> Phase {
    let before = before.unwrap_or(Phase::Pending);
    let Some(report) = report else { return before };
    match report.phase {
        RunPhase::Planning | RunPhase::StorageUnavailable if report.planned.is_none() => {
            match before {
                Phase::Pending => Phase::Pending,
                Phase::WaitingForWorkers
                | Phase::Running
                | Phase::Restarting
                | Phase::Suspending
                | Phase::Suspended
                | Phase::Succeeding
                | Phase::Succeeded
                | Phase::Failed => Phase::Restarting,
            }
        }
        // A job that fails is finishing too, but not all of its tasks are done.
        RunPhase::Finishing | RunPhase::Ended if report.tasks_done >= report.tasks_total => {
            Phase::Succeeding
        }
        RunPhase::Planning
        | RunPhase::Running
        | RunPhase::StorageUnavailable
        | RunPhase::Finishing
        | RunPhase::Ended => {
            let waits = report
                .planned
                .as_ref()
                .is_none_or(|planned| planned.max_shards > 0);
            if diagnosis.workers.counts.alive() == 0 && waits {
                Phase::WaitingForWorkers
            } else {
                Phase::Running
            }
        }
    }
}

/// Returns whether and how the work progresses. If several prerequisites are missing, the earliest
/// is reported, because the others depend on it.
pub(super) fn progress(
    report: Option<&RunReport>,
    diagnosis: &Diagnosis,
    problem: Option<&WriteProblem>,
) -> Progress {
    let stopped = |reason, message: &str| Progress {
        goes_on: false,
        reason,
        message: message.to_owned(),
    };
    let going = |reason, message: &str| Progress {
        goes_on: true,
        reason,
        message: message.to_owned(),
    };
    let health = &diagnosis.coordinator;
    if let Some(problem) = problem {
        return stopped(problem.reason, &problem.message);
    }
    if let Some(trouble) = health.trouble.as_ref().filter(|_| health.ready) {
        return stopped(coordinator_reason(trouble), &trouble.message);
    }
    if !health.ready {
        return match &health.trouble {
            Some(trouble) => stopped(coordinator_reason(trouble), &trouble.message),
            None if health.was_ready => stopped(
                Reason::CoordinatorUnavailable,
                "waiting for the coordinator to come back",
            ),
            None => going(Reason::Starting, "waiting for the coordinator's pod"),
        };
    }
    let Some(report) = report else {
        return going(
            Reason::Starting,
            "waiting for the coordinator's first report",
        );
    };
    if report.phase == RunPhase::StorageUnavailable {
        return stopped(Reason::StorageUnavailable, &report.message);
    }
    let Some(planned) = &report.planned else {
        let message = if report.message.is_empty() {
            "making the plan"
        } else {
            &report.message
        };
        return going(Reason::Planning, message);
    };
    if planned.max_shards > 0
        && diagnosis.workers.counts.alive() == 0
        && report.phase == RunPhase::Running
    {
        return match &diagnosis.workers.trouble {
            Some(trouble) => stopped(trouble.kind.reason(), &trouble.message),
            None => stopped(Reason::WaitingForWorkers, "no worker is alive"),
        };
    }
    let doing = match (&report.stage, report.message.as_str()) {
        (_, message) if !message.is_empty() => message.to_owned(),
        (Some(stage), _) => format!("stage {}/{} {}", stage.index, planned.stages, stage.name),
        (None, _) => "tasks are running".to_owned(),
    };
    going(Reason::Running, &doing)
}

/// Returns the problem of a job that may continue, if there is one.
pub(super) fn degradation(
    report: Option<&RunReport>,
    diagnosis: &Diagnosis,
    problem: Option<&WriteProblem>,
    stuck: Option<&WriteProblem>,
) -> (bool, Reason, String) {
    if let Some(problem) = problem {
        return (true, problem.reason, problem.message.clone());
    }
    if let Some(trouble) = &diagnosis.coordinator.trouble {
        return (true, coordinator_reason(trouble), trouble.message.clone());
    }
    if let Some(report) = report.filter(|report| report.phase == RunPhase::StorageUnavailable) {
        return (true, Reason::StorageUnavailable, report.message.clone());
    }
    if let Some(stuck) = stuck {
        return (true, stuck.reason, stuck.message.clone());
    }
    if let Some(trouble) = &diagnosis.workers.trouble {
        return (true, trouble.kind.reason(), trouble.message.clone());
    }
    if diagnosis.coordinator.was_ready && !diagnosis.coordinator.ready {
        return (
            true,
            Reason::CoordinatorUnavailable,
            "the coordinator's pod is no longer ready".to_owned(),
        );
    }
    (false, Reason::AsExpected, String::new())
}

/// Returns the reason for a problem of the coordinator.
pub(super) fn coordinator_reason(trouble: &Trouble) -> Reason {
    match trouble.kind {
        TroubleKind::Crashing
        | TroubleKind::Starting
        | TroubleKind::Held
        | TroubleKind::Unreachable => Reason::CoordinatorUnavailable,
        TroubleKind::Blocked
        | TroubleKind::ReferenceNotFound
        | TroubleKind::Capacity
        | TroubleKind::Image => trouble.kind.reason(),
    }
}
