//! Defines mistakes that tests can turn on, to show that the simulation finds each of them. They
//! cannot be turned on in the released program, because outside of tests `is` always returns false.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Deletions identify an object by name only and not by uid.
    DeleteWithoutUid,
    /// Objects of different generations have the same names.
    #[cfg(test)]
    NameWithoutGeneration,
    /// After a conflict with another writer, the job is not reconciled again.
    ConflictIsFatal,
    /// Events of a job end its back-off early.
    BackoffBypassed,
    /// The start deadlocks: changes wait in a full channel, whose reader waits until all changes
    /// are read.
    StartupDeadlock,
    /// Every new status is written immediately, without a least time between two writes.
    NoWriteFloor,
    /// A job is deleted because of an earlier state from the watch, although its state may have
    /// changed.
    StaleDelete,
}

/// Returns whether this mistake is turned on.
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
    pub(crate) fn with<T>(defect: Option<Defect>, run: impl FnOnce() -> T) -> T {
        SEEDED.set(defect);
        let result = run();
        SEEDED.set(None);
        result
    }
}
