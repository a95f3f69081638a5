//! Plans for a job that has ended: deletes its generation, and later the job itself. The
//! coordinator of a failed job may stay for a while.
//!
//! Pure.

use std::time::Duration;

use jiff::Timestamp;
use zephyr_crds::names;

use super::objects::{delete_roots, force_deletes, stuck_deadline};
use super::{Installation, Lifecycle, Plan, STUCK_REQUEUE, until};
use crate::controller::action::Action;
use crate::controller::kept::kept_until;
use crate::controller::observed::Observed;
use crate::controller::validate::{ValidatedJob, after};

/// Plans for a job that has ended according to status.
pub(super) fn plan_ended(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    let mut actions: Vec<_> = acknowledge(observed).into_iter().collect();
    let kept = kept_until(&job.spec, &job.status, now).zip(job.status.generation);
    let below = kept.map_or(u32::MAX, |(_, generation)| generation);
    actions.extend(delete_roots(job, observed, below));
    actions.extend(kept.and_then(|(_, generation)| dismiss_workers(job, observed, generation)));
    actions.extend(force_deletes(observed, installation, now));
    let looks = stuck_deadline(observed, installation, now)
        .map(|look| until(look, now).max(STUCK_REQUEUE))
        .into_iter()
        .chain(kept.map(|(kept, _)| until(kept, now)));
    let expires = job
        .spec
        .ttl_seconds_after_finished
        .and_then(|seconds| u64::try_from(seconds).ok())
        .zip(job.status.completion_time.as_ref())
        .map(|(seconds, ended)| after(ended.0, Duration::from_secs(seconds)));
    if expires.is_some_and(|expires| now >= expires) {
        actions.push(Action::DeleteJob {
            name: job.identity.name.clone(),
            uid: job.identity.uid.clone(),
            resource_version: job.resource_version.clone(),
        });
    }
    let expires = expires.filter(|expires| now < *expires);
    let requeue_after = looks
        .chain(expires.map(|expires| until(expires, now)))
        .min();
    Plan {
        actions,
        lifecycle: Lifecycle::Ended,
        requeue_after,
        ..Plan::default()
    }
}

/// If a coordinator reports its result, informs the coordinator that this result is in status.
fn acknowledge(observed: &Observed) -> Option<Action> {
    let report = observed.report.as_ref();
    let report = report.filter(|report| report.connected && report.result.is_some())?;
    let root = observed.generation(report.generation)?.root.as_ref()?;
    let epoch = report.epoch.filter(|_| !root.object.terminating)?;
    Some(Action::AcknowledgeResult {
        generation: report.generation,
        epoch,
    })
}

/// Deletes the workers of a generation whose coordinator stays.
fn dismiss_workers(job: &ValidatedJob, observed: &Observed, generation: u32) -> Option<Action> {
    let workers = observed.generation(generation)?.workers.as_ref()?;
    (workers.replicas > 0 && !workers.object.terminating).then(|| Action::ScaleWorkers {
        generation,
        name: names::workers(&job.identity.name, generation),
        uid: workers.object.uid.clone(),
        from: workers.replicas,
        to: 0,
    })
}
