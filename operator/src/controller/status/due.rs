//! When a new status is worth a write.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::status::{StageStatus, ZephyrJobStatus};

/// How long a status that differs in counters and wording only waits for its write.
pub const COUNTERS_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// When a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    At(Timestamp),
    Never,
}

/// When `next` is to be written over `before`, which was last written at `written`.
pub fn due(
    before: &ZephyrJobStatus,
    next: &ZephyrJobStatus,
    written: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    if before == next {
        return Due::Never;
    }
    if skeleton(before) != skeleton(next) {
        return Due::Now;
    }
    match written.and_then(|written| written.checked_add(COUNTERS_INTERVAL).ok()) {
        Some(at) if at > now => Due::At(at),
        Some(_) | None => Due::Now,
    }
}

/// The status without what changes all the time: counters and wording.
fn skeleton(status: &ZephyrJobStatus) -> ZephyrJobStatus {
    let mut bones = status.clone();
    bones.stage = bones.stage.map(|stage| StageStatus {
        name: stage.name,
        ..StageStatus::default()
    });
    bones.progress = None;
    bones.records = None;
    bones.workers = None;
    bones.generations_without_progress = None;
    for condition in &mut bones.conditions {
        condition.message.clear();
    }
    for record in &mut bones.generations {
        record.disruptions = 0;
    }
    if let Some(coordinator) = &mut bones.coordinator {
        coordinator.restarts = 0;
        coordinator.pod = None;
    }
    bones
}
