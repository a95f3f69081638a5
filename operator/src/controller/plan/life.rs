//! Plans what a job does if its user suspends, resumes or cancels it. `controller/life.rs` has the
//! table of what follows from what.
//!
//! Pure.

use std::time::Duration;

use jiff::Timestamp;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::life::{CancelMode, SuspendMode};
use zephyr_crds::status::GenerationEnd;

use super::turn::{clear_away, plan_waiting};
use super::{
    END_TIMEOUT, Finish, Installation, Lifecycle, Plan, Restart, Start, UNSETTLED_REQUEUE, can_end,
    ends_by, next_number, plan_ended, plan_first, tasks_done, with_what_stays,
};
use crate::controller::action::Action;
use crate::controller::diagnose::Diagnosis;
use crate::controller::observed::{Depth, Observed};
use crate::controller::plan::loss::{coordinator_lost, generation_lost};
use crate::controller::validate::{ValidatedJob, Verdict, after};
use crate::pods::Role;
use crate::run_report::RunPhase;

/// Plans for a job without a running generation that is suspended: its old objects are deleted.
/// When the last pod is gone, the job counts as suspended.
pub(super) fn plan_held(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    let (actions, wait) = clear_away(job, observed, installation, UNSETTLED_REQUEUE, now);
    let remains = remaining(observed);
    if remains.is_none() && !job.is_suspended() && !observed.freshness.covers(Depth::Pods) {
        return Plan::look(Depth::Pods);
    }
    let wait = remains.is_some().then_some(wait);
    Plan {
        actions,
        lifecycle: Lifecycle::Hold { remains },
        requeue_after: wait,
        ..Plan::default()
    }
}

/// Plans for a suspended job that is to run again: it continues when its turn has come.
pub(super) fn plan_to_resume(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    let Some(generation) = job.status.generation else {
        return plan_first(job, verdict, observed);
    };
    if job.is_first_again(generation) {
        return plan_restarted(job, verdict, observed, installation, generation, now);
    }
    let what = "the job was suspended, and resumes";
    plan_waiting(job, verdict, observed, installation, what, now)
}

/// Plans the restart of a failed job. The number of the next generation is in status before
/// anything is deleted or created because of it.
pub(super) fn plan_to_restart(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    if !observed.freshness.covers(Depth::Objects) {
        return Plan::look(Depth::Objects);
    }
    let (token, current) = (job.spec.restart.clone(), job.status.generation);
    let (Some(token), Some(current)) = (token, current) else {
        return plan_ended(job, observed, installation, now);
    };
    let lifecycle = match next_number(job, observed, current) {
        Err(message) => Lifecycle::Block(message),
        Ok(generation) => Lifecycle::Restart(Restart {
            token,
            generation,
            tasks_before: tasks_done(job, observed),
        }),
    };
    Plan {
        lifecycle,
        ..Plan::default()
    }
}

/// Plans for a restarted job whose generation has not begun: it begins when its turn has come, the
/// spec is valid, and no coordinator of an earlier generation exists. An earlier coordinator may
/// still remove what failed attempts left, which could be files of this generation.
pub(super) fn plan_restarted(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    installation: &Installation,
    generation: u32,
    now: Timestamp,
) -> Plan {
    let what = "the job is restarted";
    let plan = plan_waiting(job, verdict, observed, installation, what, now);
    if plan.lifecycle != Lifecycle::TakeTurn {
        return plan;
    }
    let mut pods = observed.pods.iter();
    let earlier = pods.find(|pod| pod.role == Role::Coordinator && pod.generation < generation);
    match earlier {
        Some(pod) => Plan {
            lifecycle: Lifecycle::AwaitPods(format!(
                "the job is restarted when pod {} of generation {} is gone",
                pod.name, pod.generation
            )),
            ..plan
        },
        None if !observed.freshness.covers(Depth::Objects) => Plan::look(Depth::Objects),
        None => plan,
    }
}

/// Returns what still exists of the job's generations, in words.
fn remaining(observed: &Observed) -> Option<String> {
    match observed.pods.as_slice() {
        [] => {}
        [pod] => return Some(format!("pod {} still exists", pod.name)),
        [pod, others @ ..] => {
            let count = others.len();
            return Some(format!("pod {} and {count} more still exist", pod.name));
        }
    }
    let mut all = observed.generations.iter();
    let (generation, _) =
        all.find(|(_, objects)| objects.root.is_some() || objects.has_children())?;
    Some(format!("objects of generation {generation} still exist"))
}

/// How far the suspension of a running generation has come.
pub(super) enum Draining {
    /// Running tasks may still end.
    GoesOn {
        /// When it is stopped in any case.
        deadline: Timestamp,
    },
    /// Nothing is lost if the generation is stopped now, or its tasks had enough time to end.
    IsOver {
        /// Why the generation ends, as a sentence.
        why: String,
    },
}

/// How long a coordinator has to write into the job's storage that the job is suspended, if running
/// tasks get no time to end. It is one small write.
const NOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns whether the running generation may still finish tasks before it is stopped. Without a
/// coordinator that has made a plan there are no tasks. A coordinator whose tasks are all complete
/// may finish the job.
pub(super) fn draining(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> Draining {
    let over = |why: &str| Draining::IsOver {
        why: format!("the job was suspended; {why}"),
    };
    let policy = &job.spec.suspend_policy;
    let stops_tasks = policy.mode == SuspendMode::Immediate && !finishes(observed, generation);
    let since = job.status.draining_since.as_ref().map(|since| since.0);
    // A time in the future was written with a wrong clock.
    let since = since.unwrap_or(now).min(now);
    let allowed = if stops_tasks {
        NOTE_TIMEOUT
    } else {
        // A timeout that cannot be read belongs to a spec that is refused.
        policy.drain_timeout.parse().unwrap_or_default()
    };
    let deadline = after(since, allowed);
    let stopped = "running tasks were stopped, because spec.suspendPolicy.mode is Immediate";
    if now >= deadline {
        return over(if stops_tasks {
            stopped
        } else {
            "running tasks were stopped after spec.suspendPolicy.drainTimeout"
        });
    }
    let report = observed.report.as_ref();
    let report = report.filter(|report| report.generation == generation);
    // A coordinator that took over a moment ago has no plan yet. Tasks of the one before still run.
    let is_planned = report.is_some_and(|report| report.planned.is_some());
    let mut pods = observed.pods.iter();
    let works =
        pods.any(|pod| pod.role == Role::Worker && pod.generation == generation && pod.ready);
    let has_tasks = is_planned || works;
    if !has_tasks && !observed.warming_up {
        return over("no task had begun");
    }
    let lost = || coordinator_lost(job, diagnosis, now).filter(|_| !observed.warming_up);
    if let Some(lost) = generation_lost(job, observed, generation).or_else(lost) {
        return over(&format!("running tasks were stopped: {}", lost.message));
    }
    // The coordinator reports this number after its storage shows that the job is suspended.
    let to_drain = report.filter(|report| report.connected);
    match to_drain.and_then(|report| report.tasks_to_drain) {
        _ if finishes(observed, generation) => Draining::GoesOn { deadline },
        Some(0) => over("all running tasks had ended"),
        Some(_) if stops_tasks => over(stopped),
        Some(_) | None => Draining::GoesOn { deadline },
    }
}

/// Returns whether all tasks are complete and the coordinator writes the end of the job, so that
/// its output may be complete at any moment.
fn finishes(observed: &Observed, generation: u32) -> bool {
    observed.report.as_ref().is_some_and(|report| {
        report.generation == generation && report.connected && report.phase == RunPhase::Finishing
    })
}

/// Plans the end of a generation whose job is suspended. The next generation gets its number now,
/// and begins when the job is resumed.
pub(super) fn plan_to_stop(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: Diagnosis,
    why: String,
) -> Plan {
    if !observed.freshness.covers(Depth::Objects) {
        return Plan::look(Depth::Objects);
    }
    let lifecycle = match next_number(job, observed, generation) {
        Err(message) => Lifecycle::Block(message),
        Ok(number) => {
            let start = Start::later(job, observed, number, GenerationEnd::Suspended, why);
            Lifecycle::Start(start)
        }
    };
    Plan {
        lifecycle,
        diagnosis,
        ..Plan::default()
    }
}

/// Why the operator ends a job that could go on.
pub(super) struct Ending {
    reason: Reason,
    message: String,
    /// Whether the coordinator ends the job, if it can.
    is_graceful: bool,
    /// Whether the coordinator removes the files of the output that are complete.
    removes_output: bool,
    /// The reason while it does so.
    meanwhile: Reason,
}

impl Ending {
    /// Returns why a cancelled job ends.
    pub(super) fn cancelled(job: &ValidatedJob) -> Self {
        let cancel = job.spec.cancel.as_ref();
        let why = cancel.map_or("", |cancel| &cancel.reason);
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        Self {
            reason: Reason::Cancelled,
            message: format!("the job was cancelled by spec.cancel{why}"),
            is_graceful: cancel.is_none_or(|cancel| cancel.mode == CancelMode::Graceful),
            removes_output: cancel.is_some_and(|cancel| !cancel.keep_output),
            meanwhile: Reason::Cancelling,
        }
    }

    /// Returns why the job ends now if no coordinator was ready in time, or `None` if it does not
    /// end. An operator that started a moment ago does not know whether a coordinator was ready.
    pub(super) fn not_started(
        job: &ValidatedJob,
        observed: &Observed,
        diagnosis: &Diagnosis,
        now: Timestamp,
    ) -> Option<Self> {
        let deadline = start_deadline(job)?;
        let allowed = job.spec.start_deadline_seconds?;
        let health = &diagnosis.coordinator;
        let has_started = health.ready || health.was_ready;
        if now < deadline || has_started || observed.warming_up {
            return None;
        }
        let why = match &health.trouble {
            Some(trouble) => trouble.message.clone(),
            None if health.pod.is_some() => "the coordinator's pod is not ready".to_owned(),
            None => "the coordinator has no pod".to_owned(),
        };
        Some(Self {
            reason: Reason::StartDeadlineExceeded,
            message: format!(
                "no coordinator was ready within spec.startDeadlineSeconds ({allowed} s): {why}"
            ),
            is_graceful: false,
            removes_output: false,
            meanwhile: Reason::StartDeadlineExceeded,
        })
    }

    /// Returns why the job ends now if it has been active for too long, or `None` if it has not.
    pub(super) fn too_late(job: &ValidatedJob, now: Timestamp) -> Option<Self> {
        let deadline = active_deadline(job)?;
        let allowed = job.spec.active_deadline_seconds?;
        (now >= deadline).then(|| Self {
            reason: Reason::DeadlineExceeded,
            message: format!(
                "the job was active for longer than spec.activeDeadlineSeconds allows ({allowed} s)"
            ),
            is_graceful: true,
            removes_output: false,
            meanwhile: Reason::DeadlineExceeded,
        })
    }
}

/// Returns by when a coordinator of the job must be ready for the first time, if nothing interrupts
/// the start. `None` if there is no limit, or the job has started or does not start now.
pub(super) fn start_deadline(job: &ValidatedJob) -> Option<Timestamp> {
    let allowed = job.spec.start_deadline_seconds.map(i64::from)?;
    let since = job.status.starting_since.as_ref()?.0;
    let left = allowed.saturating_sub(job.status.starting_seconds).max(0);
    Some(after(since, Duration::from_secs(left.unsigned_abs())))
}

/// Returns the time at which the job will have been active for as long as it may, if nothing
/// interrupts it. Returns `None` if it may be active for any time, or is not active now.
pub(super) fn active_deadline(job: &ValidatedJob) -> Option<Timestamp> {
    let allowed = job.spec.active_deadline_seconds.map(i64::from)?;
    let since = job.status.active_since.as_ref()?.0;
    let left = allowed.saturating_sub(job.status.active_seconds).max(0);
    Some(after(since, Duration::from_secs(left.unsigned_abs())))
}

/// Plans for a job that ends early and has a running generation. The coordinator ends the job, if
/// it can.
pub(super) fn plan_to_end(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: Diagnosis,
    ending: Ending,
    now: Timestamp,
) -> Plan {
    // An operator that starts again asks again. So the time in status bounds all tries together.
    let at_last = asking_since(job, &ending).map(|since| after(since, 2 * END_TIMEOUT));
    let is_over = (ends_by(observed).into_iter().chain(at_last)).any(|end| now >= end);
    // A job whose output may be complete is ended by its coordinator, which knows whether it is.
    let may_wait = (ending.is_graceful || finishes(observed, generation)) && !is_over;
    let is_asked = observed.end_requested_at.is_some();
    let can_end = can_end(job, observed, generation, &diagnosis);
    let asks = may_wait && !is_asked && can_end;
    let comes = may_come(job, observed, generation, &diagnosis)
        && now < after(asking_since(job, &ending).unwrap_or(now), END_TIMEOUT);
    // An operator that started a moment ago has no stream yet, and a coordinator that was asked to
    // end the job needs some time for that.
    if asks || may_wait && (observed.warming_up || is_asked || comes) {
        let end = Action::EndRun {
            generation,
            reason: ending.reason,
            message: ending.message.clone(),
            removes_output: ending.removes_output,
        };
        let when = if asks || is_asked {
            ""
        } else {
            " as soon as the operator reaches it"
        };
        return Plan {
            actions: if asks { vec![end] } else { Vec::new() },
            lifecycle: Lifecycle::EndByCoordinator {
                reason: ending.meanwhile,
                message: format!("{}; its coordinator ends it{when}", ending.message),
            },
            diagnosis,
            requeue_after: Some(UNSETTLED_REQUEUE),
            ..Plan::default()
        };
    }
    plan_ended_early(job, ending, diagnosis)
}

/// Returns whether the operator may soon reach a coordinator that it cannot reach now: its pod
/// starts, or the stream to it is interrupted. Such a coordinator may claim the output's folder at
/// any moment, and only a coordinator releases it.
fn may_come(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: &Diagnosis,
) -> bool {
    let coordinator = &diagnosis.coordinator;
    coordinator.pod.is_some()
        && coordinator.trouble.is_none()
        && generation_lost(job, observed, generation).is_none()
}

/// Returns the time since which status says that the coordinator is to end the job.
fn asking_since(job: &ValidatedJob, ending: &Ending) -> Option<Timestamp> {
    let mut conditions = job.status.conditions.iter();
    let asks = conditions.find(|condition| {
        condition.r#type == ConditionType::Progressing && condition.reason == ending.meanwhile
    })?;
    Some(asks.last_transition_time.0)
}

/// Plans the end of a job without its coordinator. The end is in status before anything is deleted.
pub(super) fn plan_ended_early(job: &ValidatedJob, ending: Ending, diagnosis: Diagnosis) -> Plan {
    let Ending {
        reason,
        message,
        removes_output,
        ..
    } = ending;
    // A coordinator may have removed them without a word.
    let kept = if removes_output {
        "it is not known whether its files were removed, and it"
    } else {
        "it"
    };
    let message = if job.status.has_begun() {
        with_what_stays(
            job,
            format!(
                "{message}; no coordinator ended it, so the folder of the output may keep its _STARTED.json, and the output: {kept} is \
                 complete only if it has _SUCCESS.json"
            ),
        )
    } else {
        message
    };
    let finish = Finish {
        cause: GenerationEnd::Failed,
        reason,
        message,
        outputs: None,
        failed_task: None,
    };
    Plan {
        lifecycle: Lifecycle::Finish(finish),
        diagnosis,
        ..Plan::default()
    }
}
