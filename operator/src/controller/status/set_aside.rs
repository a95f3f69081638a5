//! The status of a job on which the operator itself failed.
//!
//! Pure, and simple on purpose: nothing here looks at what may have caused the failure.

use jiff::Timestamp;
use zephyr_crds::conditions::{ConditionStatus, ConditionType, Reason};
use zephyr_crds::status::ZephyrJobStatus;

use super::{Projection, WriteProblem, find};

/// The status with the condition that reports the failure; everything else is unchanged.
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

/// The status with a condition that says that the job's objects cannot be read; everything else is
/// unchanged.
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

/// Whether status says that the operator failed on the job.
fn is_set_aside(status: &ZephyrJobStatus) -> bool {
    find(status, ConditionType::Degraded).is_some_and(|condition| {
        condition.reason == Reason::OperatorFault && condition.status == ConditionStatus::True
    })
}

impl Projection {
    /// A job that has ended was reconciled again without a failure.
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
        assert_eq!(again, first, "the same fault is no second write");
        let mut next = Projection {
            status: again,
            spec_version: Some(7),
            now: later,
        };
        next.end_set_aside();
        assert!(!is_set_aside(&next.status));
    }
}
