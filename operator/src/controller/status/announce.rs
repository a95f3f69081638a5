//! Makes the events that announce a new status to people.
//!
//! Pure: `controller.rs` publishes them.

use zephyr_crds::conditions::{Condition, ConditionStatus, ConditionType, Reason};
use zephyr_crds::status::{Phase, ZephyrJobStatus};

use super::find;

/// Something that happened, as an event for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whether the event is of type `Warning`. Otherwise it is of type `Normal`.
    pub is_warning: bool,
    /// The event's reason.
    pub reason: String,
    /// What the event says.
    pub note: String,
}

/// Returns the events for the step from `before` to `next`.
pub fn announcements(before: &ZephyrJobStatus, next: &ZephyrJobStatus) -> Vec<Announcement> {
    let mut all = Vec::new();
    if before.phase != next.phase
        && let Some(last) = next.history.last()
        // The end is announced a moment later, and may be a failure.
        && last.to != Phase::Succeeding
    {
        all.push(Announcement {
            is_warning: matches!(last.to, Phase::Failed | Phase::Restarting),
            reason: last.to.as_str().to_owned(),
            note: long_message(next, last.to).unwrap_or_else(|| last.message.clone()),
        });
    }
    if let Some(condition) = turn_came(before, next) {
        all.push(Announcement {
            is_warning: false,
            reason: condition.reason.as_str().to_owned(),
            note: condition.message.clone(),
        });
    }
    if let Some(refusal) = refused_again(before, next) {
        all.push(Announcement {
            is_warning: true,
            reason: Phase::Failed.as_str().to_owned(),
            note: refusal.message.clone(),
        });
    }
    for (kind, is_bad) in [
        (ConditionType::Accepted, ConditionStatus::False),
        (ConditionType::Degraded, ConditionStatus::True),
    ] {
        let known = find(before, kind)
            .filter(|condition| condition.status == is_bad)
            .map(|condition| condition.reason);
        if let Some(condition) = find(next, kind).filter(|condition| condition.status == is_bad)
            && known != Some(condition.reason)
            // The end of the job or the next generation is already announced.
            && condition.reason != Reason::Backoff
            && !next.phase.is_some_and(Phase::is_final)
        {
            all.push(Announcement {
                is_warning: true,
                reason: condition.reason.as_str().to_owned(),
                note: condition.message.clone(),
            });
        }
    }
    all
}

/// Returns the condition of a job that waited for its turn, if its generation begins now and its
/// phase is the same as before.
fn turn_came<'a>(before: &ZephyrJobStatus, next: &'a ZephyrJobStatus) -> Option<&'a Condition> {
    let begins = before.queued_since.is_some() && next.queued_since.is_none();
    let begins = begins && before.phase == next.phase;
    let condition = find(next, ConditionType::Progressing)?;
    (begins && condition.reason == Reason::Starting).then_some(condition)
}

/// Returns the refusal of a job that was refused before for another reason.
fn refused_again<'a>(before: &ZephyrJobStatus, next: &'a ZephyrJobStatus) -> Option<&'a Condition> {
    let last = &before.refusal()?.message;
    next.refusal().filter(|refusal| refusal.message != *last)
}

/// Returns the complete message of a transition, if a condition contains it.
fn long_message(status: &ZephyrJobStatus, phase: Phase) -> Option<String> {
    let kind = if phase.is_final() {
        ConditionType::Finished
    } else {
        ConditionType::Progressing
    };
    find(status, kind)
        .map(|condition| condition.message.clone())
        .filter(|message| !message.is_empty())
}
