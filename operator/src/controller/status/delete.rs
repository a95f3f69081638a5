//! Computes the status of a deleted job that a finalizer keeps.
//!
//! Pure.

use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::status::Phase;

use super::Projection;
use crate::controller::validate::ValidatedJob;

/// How many finalizers the sentence names at most.
const MAX_NAMED: usize = 4;

impl Projection {
    /// Sets the status of a deleted job: nothing of the job still runs, but somebody's finalizer
    /// keeps the object.
    pub(super) fn delete(&mut self, job: &ValidatedJob) {
        let message = sentence(&job.finalizers);
        let reason = Reason::Deleting;
        self.set(ConditionType::Progressing, false, reason, &message);
        self.set(ConditionType::Degraded, true, reason, &message);
        if self.status.is_final() {
            return;
        }
        for kind in [ConditionType::CoordinatorReady, ConditionType::WorkersReady] {
            self.set(kind, false, reason, "the job is being deleted");
        }
        self.set_not_suspended();
        self.forget_workers();
        self.stop_tasks();
        let status = &mut self.status;
        status.coordinator = None;
        status.all_workers_dead_since = None;
        status.backoff_until = None;
        status.queued_since = None;
        status.draining_since = None;
        status.suspended_since = None;
        self.enter(Phase::Pending, reason, &message);
    }
}

fn sentence(finalizers: &[String]) -> String {
    let named = finalizers.iter().take(MAX_NAMED).map(String::as_str);
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match finalizers.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!(
        "the job is being deleted, and nothing of it runs; the object stays until its finalizers are removed: {named}{more}"
    )
}
