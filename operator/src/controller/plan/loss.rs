//! Decides when a generation is lost: its root was deleted, or its coordinator or all its workers
//! were absent for too long.
//!
//! Pure. `plan.rs` decides what follows from a loss.

use jiff::Timestamp;
use zephyr_crds::status::GenerationEnd;

use super::EndedGeneration;
use crate::controller::diagnose::{Diagnosis, TroubleKind};
use crate::controller::observed::{Frozen, GenerationObjects, Observed, RootFacts, RootFault};
use crate::controller::validate::{Timeout, ValidatedJob, after};

/// Returns the end of a generation that is lost because somebody deleted its root or restored an
/// older status. Its objects are being collected, or belong to a later generation.
pub(super) fn generation_lost(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
) -> Option<EndedGeneration> {
    let lost = |message: String| {
        Some(EndedGeneration {
            cause: GenerationEnd::CoordinatorLost,
            message,
        })
    };
    if let Some(later) = observed
        .generations
        .keys()
        .next_back()
        .filter(|later| **later > generation)
    {
        return lost(format!(
            "status names generation {generation}, but objects of generation {later} exist"
        ));
    }
    let nothing = GenerationObjects::default();
    let objects = observed.generation(generation).unwrap_or(&nothing);
    match &objects.root {
        // If there are no children either, they were collected before this operator saw them.
        None if objects.has_children() || job.had_coordinator() => {
            lost(format!("the root of generation {generation} was deleted"))
        }
        Some(root) if root.object.terminating => lost(format!(
            "the root of generation {generation} is being deleted"
        )),
        Some(RootFacts {
            frozen: Frozen::Unreadable(RootFault::Damaged(reason)),
            ..
        }) => lost(format!(
            "the root of generation {generation} cannot be read: {reason}"
        )),
        None | Some(_) => None,
    }
}

/// Returns the end of a generation whose coordinator does not become ready again in time, if
/// nothing outside the job explains that.
pub(super) fn coordinator_lost(
    job: &ValidatedJob,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> Option<EndedGeneration> {
    let deadline = coordinator_deadline(job, diagnosis)?;
    let trouble = diagnosis.coordinator.trouble.as_ref();
    (now >= deadline).then(|| EndedGeneration {
        cause: GenerationEnd::CoordinatorLost,
        message: format!(
            "the coordinator was not available for {}: {}",
            allowed_absence(job, diagnosis).text.as_str(),
            trouble.map_or("its pod is not ready", |trouble| &trouble.message)
        ),
    })
}

/// Returns when the generation ends because it has no coordinator, or `None` if it does not have to
/// end.
pub(super) fn coordinator_deadline(job: &ValidatedJob, diagnosis: &Diagnosis) -> Option<Timestamp> {
    let health = &diagnosis.coordinator;
    let waits = health
        .trouble
        .as_ref()
        .is_some_and(|trouble| match trouble.kind {
            TroubleKind::Blocked | TroubleKind::ReferenceNotFound => true,
            // A coordinator that was running and now finds no node is lost. A coordinator that
            // never had a node would find none in the next generation either.
            TroubleKind::Capacity => !health.was_ready,
            TroubleKind::Image
            | TroubleKind::Crashing
            | TroubleKind::Starting
            | TroubleKind::Held
            | TroubleKind::Unreachable => false,
        });
    health
        .silent_since
        .filter(|_| !waits)
        .map(|since| after(since, allowed_absence(job, diagnosis).length))
}

/// Returns how long a coordinator may be absent.
fn allowed_absence<'a>(job: &'a ValidatedJob, diagnosis: &Diagnosis) -> &'a Timeout {
    if works_without_stream(diagnosis) {
        &job.timing.no_workers_timeout
    } else {
        &job.timing.coordinator_timeout
    }
}

/// Returns whether workers have sessions with a coordinator that the operator cannot reach. Then
/// the operator's own network may be the cause, and ending all generations soon would be wrong.
fn works_without_stream(diagnosis: &Diagnosis) -> bool {
    diagnosis.coordinator.ready && diagnosis.workers.counts.alive() > 0
}

/// Returns the end of a generation in which no worker was alive for too long, although the pods had
/// nodes.
pub(super) fn workers_lost(
    job: &ValidatedJob,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> Option<EndedGeneration> {
    let deadline = workers_deadline(job, diagnosis)?;
    let trouble = diagnosis
        .workers
        .trouble
        .as_ref()
        .filter(|trouble| !trouble.kind.is_outside());
    (now >= deadline).then(|| EndedGeneration {
        cause: GenerationEnd::NoWorkers,
        message: format!(
            "no worker was alive for {}: {}",
            job.timing.no_workers_timeout.text.as_str(),
            trouble.map_or(
                "worker pods have nodes but do not become ready",
                |trouble| &trouble.message
            )
        ),
    })
}

/// Returns when the generation ends because no worker is alive, or `None` while the wait has a
/// cause outside the job. While the coordinator is absent or has no stream, only its own timer
/// decides, because the coordinator may have ended the job and released its workers.
pub(super) fn workers_deadline(job: &ValidatedJob, diagnosis: &Diagnosis) -> Option<Timestamp> {
    let health = &diagnosis.workers;
    let since = health.dead_since?.max(health.failing_since?);
    let coordinator = &diagnosis.coordinator;
    (coordinator.ready && coordinator.silent_since.is_none())
        .then(|| after(since, job.timing.no_workers_timeout.length))
}
