//! Decides when a new status is written.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::status::{Phase, StageStatus, ZephyrJobStatus};

use crate::defect::{self, Defect};

/// Least time between two writes of one job's status if its state changes: the phase, a condition,
/// a reason. Workers can change it many times a second; people and tools need it within seconds.
pub const STATE_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// Least time between two writes of one job's status if only counters and texts change.
pub const COUNTERS_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// When a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The status is written now.
    Now,
    /// The status is written at this time, unless it changes again before.
    At(Timestamp),
    /// The status is the one that was written last.
    Never,
}

/// When `next` is written over `before`, which was last written at `written`.
pub fn due(
    before: &ZephyrJobStatus,
    next: &ZephyrJobStatus,
    written: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    if before == next {
        return Due::Never;
    }
    if must_not_wait(before, next) || defect::is(Defect::NoWriteFloor) {
        return Due::Now;
    }
    let floor = if skeleton(before) == skeleton(next) {
        COUNTERS_INTERVAL
    } else {
        STATE_INTERVAL
    };
    match written.and_then(|written| written.checked_add(floor).ok()) {
        Some(at) if at > now => Due::At(at),
        Some(_) | None => Due::Now,
    }
}

/// Writes for which everything else waits. They are never delayed, because each happens a bounded
/// number of times:
///
/// - the number of a new generation, at most `maxGenerations` times. No object of it is created
///   before;
/// - that its turn to start has come, once for each place that the job gets;
/// - the end of the job, once. The coordinator keeps its result, and nothing is deleted, until it
///   is in status.
///
/// Actions wait for no other write, so a delayed write loses nothing: its content is computed again
/// from the current state. Timers in status begin at most one interval late.
fn must_not_wait(before: &ZephyrJobStatus, next: &ZephyrJobStatus) -> bool {
    let ends = |status: &ZephyrJobStatus| status.phase.is_some_and(Phase::is_final);
    let waits = |status: &ZephyrJobStatus| status.queued_since.is_some();
    before.generation != next.generation
        || ends(before) != ends(next)
        || waits(before) && !waits(next)
}

/// The status without frequently changing parts: counters and texts.
fn skeleton(status: &ZephyrJobStatus) -> ZephyrJobStatus {
    let mut reduced = status.clone();
    reduced.stage = reduced.stage.map(|stage| StageStatus {
        name: stage.name,
        ..StageStatus::default()
    });
    reduced.progress = None;
    reduced.records = None;
    reduced.workers = None;
    reduced.generations_without_progress = None;
    for condition in &mut reduced.conditions {
        condition.message.clear();
    }
    for record in &mut reduced.generations {
        record.disruptions = 0;
        record.lost_pods = 0;
        record.last_lost_pod = None;
    }
    if let Some(coordinator) = &mut reduced.coordinator {
        coordinator.restarts = 0;
        coordinator.pod = None;
    }
    reduced
}
