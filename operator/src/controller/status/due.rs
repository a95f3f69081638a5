//! Decides when a new status is written.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::status::{Phase, StageStatus, ZephyrJobStatus};

use crate::defect::{self, Defect};

/// How much time passes at least between two writes of one job's status if its state changes: the
/// phase, a condition or a reason. The state can change many times a second, but people and tools
/// need it only within seconds.
pub const STATE_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// How much time passes at least between two writes of one job's status if only counters and texts
/// change.
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

/// Returns when `next` is to be written over `before`. `written` is the time of the last write.
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

/// Returns whether this is a write for which everything else waits. Such writes are never delayed,
/// because each happens a bounded number of times:
///
/// - the number of a new generation, at most `maxGenerations` times. No object of the generation is
///   created before this write;
/// - the information that the job's turn to start has come, once for each place that the job gets;
/// - the information that the job is suspended or resumed, once for each change of the spec;
/// - the end of the job, once. The coordinator keeps the result, and nothing is deleted, until the
///   result is in status.
///
/// Actions wait for no other write. So nothing is lost if another write is delayed, because its
/// content is computed again from the current state. Timers in status begin at most one interval
/// late.
fn must_not_wait(before: &ZephyrJobStatus, next: &ZephyrJobStatus) -> bool {
    let ends = |status: &ZephyrJobStatus| status.phase.is_some_and(Phase::is_final);
    let waits = |status: &ZephyrJobStatus| status.queued_since.is_some();
    let is_held = |status: &ZephyrJobStatus| status.suspended_since.is_some();
    before.generation != next.generation
        || is_held(before) != is_held(next)
        || ends(before) != ends(next)
        || waits(before) && !waits(next)
}

/// Returns the status without the parts that change often: counters and texts.
fn skeleton(status: &ZephyrJobStatus) -> ZephyrJobStatus {
    let mut reduced = status.clone();
    reduced.stage = reduced.stage.map(|stage| StageStatus {
        name: stage.name,
        ..StageStatus::default()
    });
    reduced.stages.clear();
    reduced.progress = None;
    reduced.records = None;
    reduced.counters.clear();
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
