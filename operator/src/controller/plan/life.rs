//! Plans what a job does if its user suspends, resumes or cancels it. `controller/life.rs` has the
//! table of what follows from what.
//!
//! Pure.

use std::time::Duration;

use jiff::Timestamp;
use zephyr_crds::conditions::Reason;
use zephyr_crds::life::{CancelMode, SuspendMode};
use zephyr_crds::status::GenerationEnd;

use super::objects::{delete_roots, force_deletes, stuck_deadline};
use super::{
    EndedGeneration, Finish, Installation, Lifecycle, Plan, STUCK_REQUEUE, Start,
    UNSETTLED_REQUEUE, can_end, ends_by, next_number, old_roots, plan_first, plan_queued,
    tasks_done, until, with_what_stays,
};
use crate::controller::action::Action;
use crate::controller::diagnose::Diagnosis;
use crate::controller::observed::{Depth, Observed};
use crate::controller::validate::{ValidatedJob, Verdict, after};

/// Plans for a job without a running generation that is suspended: its old objects are deleted.
/// When the last pod is gone, the job counts as suspended.
pub(super) fn plan_held(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    let (actions, wait) = clear_away(job, observed, installation, now);
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
    let plan = plan_queued(job, observed, installation, generation, now);
    if verdict.is_refusal() {
        let why = format!(
            "the job was suspended, and resumes when the spec is corrected: {}",
            verdict.in_words()
        );
        return Plan {
            lifecycle: Lifecycle::Block(why),
            ..plan
        };
    }
    plan
}

/// Deletes what is left of earlier generations. Returns also after how long to look again.
fn clear_away(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> (Vec<Action>, Duration) {
    let mut actions: Vec<_> = force_deletes(observed, installation, now).collect();
    let below = job.status.generation.unwrap_or(u32::MAX);
    let (roots, roots_held) = old_roots(job, observed, below, now);
    let stuck = stuck_deadline(observed, installation, now);
    let wait = stuck
        .map(|look| until(look, now).max(STUCK_REQUEUE))
        .into_iter()
        .chain(roots_held.map(|allowed| until(allowed, now)))
        .fold(UNSETTLED_REQUEUE, Duration::min);
    actions.extend(roots);
    (actions, wait)
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
    /// Nothing is lost if the generation is stopped now, or the time for it is over.
    IsOver {
        /// Why the generation ends, as a sentence.
        why: String,
    },
}

/// Returns whether the running generation may still finish tasks before it is stopped. Without a
/// coordinator that has made a plan there are no tasks.
pub(super) fn draining(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> Draining {
    let over = |why: &str| Draining::IsOver {
        why: format!("the job was suspended; {why}"),
    };
    let policy = &job.spec.suspend_policy;
    if policy.mode == SuspendMode::Immediate {
        return over("running tasks were stopped, because spec.suspendPolicy.mode is Immediate");
    }
    let since = job.status.draining_since.as_ref().map(|since| since.0);
    // A time in the future was written with a wrong clock.
    let since = since.unwrap_or(now).min(now);
    // A timeout that cannot be read belongs to a spec that is refused.
    let allowed = policy.drain_timeout.parse().unwrap_or_default();
    let deadline = after(since, allowed);
    if now >= deadline {
        return over("running tasks were stopped after spec.suspendPolicy.drainTimeout");
    }
    let report = observed.report.as_ref();
    let report = report.filter(|report| report.generation == generation);
    let has_tasks = report.is_some_and(|report| report.planned.is_some());
    if !has_tasks && !observed.warming_up {
        return over("no task had begun");
    }
    if report.is_some_and(|report| report.connected && report.tasks_to_drain == Some(0)) {
        return over("all running tasks had ended");
    }
    Draining::GoesOn { deadline }
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
        Ok(number) => Lifecycle::Start(Start {
            generation: number,
            ended: Some(EndedGeneration {
                cause: GenerationEnd::Suspended,
                message: why,
            }),
            not_before: None,
            without_progress: job.status.generations_without_progress.unwrap_or(0),
            tasks_before: tasks_done(job, observed),
        }),
    };
    Plan {
        lifecycle,
        diagnosis,
        ..Plan::default()
    }
}

/// Plans for a cancelled job with a running generation. The coordinator ends the job, if it can.
pub(super) fn plan_to_cancel(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: Diagnosis,
    now: Timestamp,
) -> Plan {
    let mode = job.spec.cancel.as_ref().map(|cancel| cancel.mode);
    let is_over = ends_by(observed).is_some_and(|end| now >= end);
    let may_end = mode != Some(CancelMode::Immediate) && !is_over;
    let wait = |actions| Plan {
        actions,
        lifecycle: Lifecycle::Cancel,
        diagnosis: diagnosis.clone(),
        requeue_after: Some(UNSETTLED_REQUEUE),
        ..Plan::default()
    };
    if may_end && can_end(job, observed, generation, &diagnosis) {
        let end = Action::EndRun {
            generation,
            reason: Reason::Cancelled,
            message: sentence(job),
        };
        let is_asked = observed.end_requested_at.is_some();
        return wait(if is_asked { Vec::new() } else { vec![end] });
    }
    // An operator that started a moment ago has no stream yet, and a coordinator that was asked may
    // be on its way to the end.
    if may_end && (observed.warming_up || observed.end_requested_at.is_some()) {
        return wait(Vec::new());
    }
    plan_cancelled(job, observed, diagnosis)
}

/// Plans the end of a cancelled job without its coordinator.
pub(super) fn plan_cancelled(
    job: &ValidatedJob,
    observed: &Observed,
    diagnosis: Diagnosis,
) -> Plan {
    let has_begun = job.status.has_begun();
    let message = if has_begun {
        with_what_stays(job, sentence(job))
    } else {
        sentence(job)
    };
    let finish = Finish {
        cause: GenerationEnd::Failed,
        reason: Reason::Cancelled,
        message,
        outputs: None,
    };
    Plan {
        // The result is in status before anything is deleted.
        actions: Vec::new(),
        lifecycle: Lifecycle::Finish(finish),
        diagnosis,
        requeue_after: (delete_roots(job, observed, u32::MAX).next().is_some())
            .then_some(UNSETTLED_REQUEUE),
        ..Plan::default()
    }
}

/// Returns why a cancelled job ends.
fn sentence(job: &ValidatedJob) -> String {
    let reason = job.spec.cancel.as_ref().map_or("", |cancel| &cancel.reason);
    if reason.is_empty() {
        "the job was cancelled by spec.cancel".to_owned()
    } else {
        format!("the job was cancelled by spec.cancel: {reason}")
    }
}
