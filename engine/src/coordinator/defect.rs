//! Mistakes that can be put in on purpose, so that the tests of the tests can show that random runs
//! find each of them. In a program there are none: outside of tests `is` is constantly false, and
//! nothing here decides anything.

use crate::coordinator::session::Claim;

/// One mistake, most of them once made by a real system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Workers that ever registered count as alive.
    CountsEverRegistered,
    /// A worker that comes back without an attempt is still taken to run it.
    NoRequeueOnReregister,
    /// What a replaced process was running is not queued again.
    NoRequeueOfReplaced,
    /// A worker that goes is believed to have handed back all that it had been given.
    NoRequeueOfDrained,
    /// A Hello forgets what went wrong before.
    ReregisterClearsFailures,
    /// A take-over forgets it.
    TakeOverClearsFailures,
    /// A stage that has not started is finished when it has no tasks.
    TotalZeroIsDone,
    /// Any result of any attempt is taken.
    ResultWithoutAttemptCheck,
    /// A second result of a task replaces the first.
    SecondCommitWins,
    /// A result of an older epoch is taken although its attempt was refused.
    OlderEpochAccepted,
    /// Silence counts while the coordinator itself stood still.
    ExpiryWhileStalled,
    /// A lost worker is charged to `taskFailures`.
    PreemptionChargedAsFailure,
    /// A container that ended by itself is charged to nobody.
    ContainerEndNotCharged,
    /// A result is acknowledged before it is durable.
    AckBeforeDurable,
    /// A beaten attempt's file is thrown away before the winner is durable.
    BeatenThrownAwayTooEarly,
    /// A final file is completed before its commit is durable.
    FinalizeBeforeDurable,
    /// The next stage starts before the record of the one before is durable.
    StageFinishNotAwaited,
    /// A stage stays finished when an output of it is lost.
    LostOutputKeepsStage,
    /// A worker that goes is given more tasks.
    DrainingTakesTasks,
    /// Workers are dismissed before the result is durable.
    DismissedBeforeTheEnd,
    /// What is not a task's own fault is never charged, however often it comes back.
    HeldUpForEver,
}

/// Whether a result is taken that must not be.
pub(crate) fn takes(claim: Claim, is_of_older_epoch: bool) -> bool {
    is(Defect::ResultWithoutAttemptCheck)
        || is(Defect::SecondCommitWins) && claim == Claim::Beaten
        || is(Defect::OlderEpochAccepted) && claim == Claim::Unknown && is_of_older_epoch
}

/// Whether this mistake is to be made.
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

    /// Makes the mistake in this thread for as long as `run` takes; `run` must not panic through.
    pub(crate) fn with<T>(defect: Defect, run: impl FnOnce() -> T) -> T {
        SEEDED.set(Some(defect));
        let result = run();
        SEEDED.set(None);
        result
    }
}
