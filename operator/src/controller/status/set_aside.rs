//! Computes the status of a job whose processing was stopped by an internal error of the operator.
//!
//! Pure, and simple on purpose: this module does not read the data that may have caused the error.

use jiff::Timestamp;
use zephyr_crds::conditions::{ConditionStatus, ConditionType, Reason};
use zephyr_crds::status::ZephyrJobStatus;

use super::{Projection, WriteProblem, find};

/// Returns the status with the condition that reports the error. Everything else is unchanged.
pub fn set_aside(
    status: ZephyrJobStatus,
    spec_version: Option<i64>,
    panic: &str,
    now: Timestamp,
) -> ZephyrJobStatus {
    let mut next = Projection {
        status,
        spec_version,
        now,
    };
    let message = format!(
        "a fault of the operator interrupted its work on this job; it tries again later and continues with other jobs: {panic}"
    );
    next.set(
        ConditionType::Degraded,
        true,
        Reason::OperatorFault,
        &message,
    );
    next.status
}

/// Returns the status with a condition that says that the job's objects cannot be read. Everything
/// else is unchanged.
pub fn not_seen(
    status: ZephyrJobStatus,
    spec_version: Option<i64>,
    problem: &WriteProblem,
    now: Timestamp,
) -> ZephyrJobStatus {
    let mut next = Projection {
        status,
        spec_version,
        now,
    };
    let (reason, message) = (problem.reason, &problem.message);
    next.set(ConditionType::Degraded, true, reason, message);
    next.status
}

/// Returns whether status reports an internal error of the operator on this job.
fn is_set_aside(status: &ZephyrJobStatus) -> bool {
    find(status, ConditionType::Degraded).is_some_and(|condition| {
        condition.reason == Reason::OperatorFault && condition.status == ConditionStatus::True
    })
}

impl Projection {
    /// Removes the report from the status of a job that has ended, after a reconcile without an
    /// error.
    pub(super) fn end_set_aside(&mut self) {
        if is_set_aside(&self.status) {
            self.set(ConditionType::Degraded, false, Reason::AsExpected, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_job_that_is_set_aside_gains_the_fault_and_keeps_everything_else() {
        let before = ZephyrJobStatus {
            generation: Some(3),
            ..ZephyrJobStatus::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        let first = set_aside(before, Some(7), "index out of range", now);
        assert_eq!(first.generation, Some(3));
        let condition = find(&first, ConditionType::Degraded).unwrap();
        assert_eq!(condition.reason, Reason::OperatorFault);
        assert!(condition.message.ends_with("index out of range"));
        let later = Timestamp::from_second(60).unwrap();
        let again = set_aside(first.clone(), Some(7), "index out of range", later);
        assert_eq!(again, first, "the same fault is not written a second time");
        let mut next = Projection {
            status: again,
            spec_version: Some(7),
            now: later,
        };
        next.end_set_aside();
        assert!(!is_set_aside(&next.status));
    }
}
