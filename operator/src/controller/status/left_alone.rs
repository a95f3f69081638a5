//! Computes the status of a job that another controller runs.
//!
//! Pure. `controller.rs` does nothing else for such a job.

use jiff::Timestamp;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::status::ZephyrJobStatus;

use super::Projection;

/// Returns the status with the condition that names the other controller. Returns `None` if status
/// is not empty, because the other controller may have written it.
pub fn left_alone(
    status: &ZephyrJobStatus,
    spec_version: Option<i64>,
    manager: &str,
    now: Timestamp,
) -> Option<ZephyrJobStatus> {
    if *status != ZephyrJobStatus::default() {
        return None;
    }
    let mut next = Projection {
        status: status.clone(),
        spec_version,
        now,
    };
    let message =
        format!("spec.managedBy: {manager} runs this job; this operator does nothing for it");
    next.status.observed_generation = spec_version;
    next.set(
        ConditionType::Progressing,
        false,
        Reason::ManagedElsewhere,
        &message,
    );
    Some(next.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_another_controller_has_one_condition_which_is_written_once() {
        let now = Timestamp::UNIX_EPOCH;
        let write = |status: &ZephyrJobStatus| left_alone(status, Some(3), "a.example/b", now);
        let written = write(&ZephyrJobStatus::default()).unwrap();
        let [condition] = written.conditions.as_slice() else {
            panic!("{written:?}");
        };
        assert_eq!(condition.reason, Reason::ManagedElsewhere);
        assert!(condition.message.contains("a.example/b"), "{condition:?}");
        assert_eq!(written.phase, None);
        assert_eq!(write(&written), None);
    }
}
