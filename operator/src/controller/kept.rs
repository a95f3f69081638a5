//! Decides until when the coordinator's pod of a failed job stays, so that people can read its log.
//!
//! Pure. Only a job that its coordinator ended keeps the pod: such a coordinator dispatches nothing
//! and serves its result until it is deleted.

use std::time::Duration;

use jiff::Timestamp;
use zephyr_crds::conditions::{ConditionStatus, ConditionType, Reason};
use zephyr_crds::job::ZephyrJobSpec;
use zephyr_crds::status::{Phase, ZephyrJobStatus};

use super::validate::after;

/// How long the pod stays if `spec.failedPodsTTL` is not set.
const USUAL: Duration = Duration::from_mins(15);

/// Returns until when the pod stays, or `None` if it does not stay, or no longer.
pub fn kept_until(
    spec: &ZephyrJobSpec,
    status: &ZephyrJobStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    if status.phase != Some(Phase::Failed) || status.generation.is_none() {
        return None;
    }
    let mut conditions = status.conditions.iter();
    let failed = conditions.find(|condition| condition.r#type == ConditionType::Failed)?;
    if failed.status != ConditionStatus::True || !has_log(failed.reason) {
        return None;
    }
    // A time in the future was written with a wrong clock.
    let ended = status.completion_time.as_ref()?.0.min(now);
    // Admission has checked that this is a duration.
    let time = spec.failed_pods_ttl.as_ref();
    let time = time.map_or(USUAL, |text| text.parse().unwrap_or(USUAL));
    let until = after(ended, time);
    (now < until).then_some(until)
}

/// Whether the coordinator ended the job for a reason that its log may explain. A plan that cannot
/// be made is explained by its message, and a job that the user ended needs no explanation.
fn has_log(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TaskFailed
            | Reason::TaskTimedOut
            | Reason::TaskDisrupted
            | Reason::TooManySkipped
            | Reason::OutputLost
            | Reason::LedgerDamaged
    )
}
