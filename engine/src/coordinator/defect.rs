//! Defines mistakes that tests can turn on, to show that random runs find each of them. They cannot
//! be turned on in a built program, because outside of tests `is` always returns false.

use crate::coordinator::session::Claim;

/// A mistake. A real system once made most of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// All workers that registered at some time count as alive.
    CountsEverRegistered,
    /// A returning worker that does not report an attempt still counts as running it.
    NoRequeueOnReregister,
    /// Attempts of a replaced process are not queued again.
    NoRequeueOfReplaced,
    /// A draining worker counts as having handed back all its attempts.
    NoRequeueOfDrained,
    /// A Hello clears the earlier failures.
    ReregisterClearsFailures,
    /// A take-over clears the earlier failures.
    TakeOverClearsFailures,
    /// A stage without tasks counts as finished although it has not started.
    TotalZeroIsDone,
    /// A result is accepted without a check whether its attempt was dispatched and is still valid.
    ResultWithoutAttemptCheck,
    /// A second result of a task replaces the first.
    SecondCommitWins,
    /// A result of an older epoch is accepted although its attempt was refused.
    OlderEpochAccepted,
    /// Silence counts even while the coordinator itself was stalled.
    ExpiryWhileStalled,
    /// A lost worker is charged to `taskFailures`.
    PreemptionChargedAsFailure,
    /// A container that exited by itself is not charged to any task.
    ContainerEndNotCharged,
    /// A result is acknowledged before it is durable.
    AckBeforeDurable,
    /// The file of a superseded attempt is deleted before the winner is durable.
    SupersededDiscardedTooEarly,
    /// A final file is completed before its commit is durable.
    FinalizeBeforeDurable,
    /// A stage starts when one of the stages that it reads is complete.
    OneInputIsEnough,
    /// A stage that reads another one starts before the record that it is complete is durable.
    StageFinishNotAwaited,
    /// A stage stays finished although one of its outputs is lost.
    LostOutputKeepsStage,
    /// A draining worker is given more tasks.
    DrainingTakesTasks,
    /// Workers are dismissed before the result is durable.
    DismissedBeforeTheEnd,
    /// The failures before a restart still count.
    RestartKeepsFailures,
    /// A setback that is not the task's own fault is never charged, however often it occurs.
    HeldUpForEver,
}

/// Whether a result is accepted although it must not be.
pub(crate) fn takes(claim: Claim, is_of_older_epoch: bool) -> bool {
    is(Defect::ResultWithoutAttemptCheck)
        || is(Defect::SecondCommitWins) && claim == Claim::Superseded
        || is(Defect::OlderEpochAccepted) && claim == Claim::Unknown && is_of_older_epoch
}

/// Whether this mistake is turned on.
#[cfg(not(test))]
pub(crate) const fn is(_: Defect) -> bool {
    false
}

#[cfg(test)]
pub(crate) use seeded::{is, with};

#[cfg(test)]
mod seeded {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        static SEEDED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    pub(crate) fn is(defect: Defect) -> bool {
        SEEDED.get() == Some(defect)
    }

    /// Turns the mistake on in this thread while `run` executes; `run` must not panic.
    pub(crate) fn with<T>(defect: Defect, run: impl FnOnce() -> T) -> T {
        SEEDED.set(Some(defect));
        let result = run();
        SEEDED.set(None);
        result
    }
}
