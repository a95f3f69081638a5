//! Plans what a job does if its turn to start has not come, or if it must give its place back.
//!
//! Pure. `controller/turns.rs` decides which job's turn it is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::status::GenerationEnd;

use super::objects::{force_deletes, stuck_deadline};
use super::{
    Installation, Lifecycle, Plan, STUCK_REQUEUE, Start, UNSETTLED_REQUEUE, next_number, old_roots,
    until,
};
use crate::controller::action::Action;
use crate::controller::diagnose::Diagnosis;
use crate::controller::observed::{Depth, Observed};
use crate::controller::turns::{Turn, Waiting};
use crate::controller::validate::{ValidatedJob, Verdict};

/// How long Kubernetes may take to create requested pods and, if there is room, to assign them to
/// nodes.
const SETTLES: SignedDuration = SignedDuration::from_secs(30);

/// Plans for a job whose generation waits for its turn. While the spec is refused, the job takes no
/// place, because the generation could not create its objects. Then `what` begins the sentence that
/// says what happens when the spec is corrected.
pub(super) fn plan_waiting(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    installation: &Installation,
    what: &str,
    now: Timestamp,
) -> Plan {
    let plan = plan_queued(job, observed, installation, now);
    if !verdict.is_refusal() {
        return plan;
    }
    let why = format!("{what} when the spec is corrected: {}", verdict.in_words());
    Plan {
        lifecycle: Lifecycle::Block(why),
        ..plan
    }
}

/// Plans for a generation that has a number but no objects, because the job gave its place back or
/// was resumed. If its turn has come, the generation begins; otherwise the job continues to wait.
pub(super) fn plan_queued(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    let (lifecycle, wait) = match observed.turn {
        Turn::Wait(waiting) => (Lifecycle::Wait(waiting), waiting.look_again()),
        Turn::Free => (Lifecycle::TakeTurn, UNSETTLED_REQUEUE),
        // The job has already given its place back.
        Turn::GiveWay => (Lifecycle::Wait(Waiting::default()), UNSETTLED_REQUEUE),
    };
    let (actions, wait) = clear_away(job, observed, installation, wait, now);
    Plan {
        actions,
        lifecycle,
        requeue_after: Some(wait),
        ..Plan::default()
    }
}

/// Deletes what is left of the generations before the one that has not begun. Also returns the time
/// until the next look: `usual`, or less if something is left.
pub(super) fn clear_away(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    usual: Duration,
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
        .chain((!roots.is_empty()).then_some(UNSETTLED_REQUEUE))
        .fold(usual, Duration::min);
    actions.extend(roots);
    (actions, wait)
}

/// Returns whether the job must give its place back and still has no room for its pods. Pods that
/// were requested a moment ago do not count yet, because they may not be visible.
pub(super) fn may_give_way(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> bool {
    let begun = job
        .status
        .generations
        .last()
        .map_or(Timestamp::UNIX_EPOCH, |record| record.start_time.0);
    let was_scaled = observed
        .scaled_at
        .is_some_and(|at| now.duration_since(at) < SETTLES);
    observed.turn == Turn::GiveWay
        && job.backoff_until(now).is_none()
        && job.status.working_since.is_none()
        && diagnosis.workers.counts.alive() == 0
        && !was_scaled
        && observed.other_release(generation).is_none()
        && !observed.placing(generation, begun).has_room
}

/// Plans for a job that gives its place back. Its generation ends without counting towards
/// `maxGenerations`, and the next one waits for its turn.
pub(super) fn plan_to_give_way(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: &Diagnosis,
) -> Option<Plan> {
    if !observed.freshness.covers(Depth::Pods) {
        return Some(Plan::look(Depth::Pods));
    }
    let number = next_number(job, observed, generation).ok()?;
    let trouble = diagnosis
        .workers
        .trouble
        .as_ref()
        .filter(|_| diagnosis.coordinator.ready)
        .or(diagnosis.coordinator.trouble.as_ref());
    let why = trouble.map_or("no pod was made", |trouble| &trouble.message);
    let message = format!("its pods found no room beside those of other jobs that start: {why}");
    let start = Start::later(job, observed, number, GenerationEnd::GaveWay, message);
    Some(Plan {
        lifecycle: Lifecycle::Start(start),
        diagnosis: diagnosis.clone(),
        ..Plan::default()
    })
}
