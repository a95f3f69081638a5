//! Mistakes that can be put in on purpose, so that the tests of the tests can show that the simulation finds each of them.
//! In a program there are none: outside of tests `is` is constantly false, and nothing here decides anything.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Deletions say a name and not which object.
    DeleteWithoutUid,
    /// Objects of a generation are called like those of any other.
    #[cfg(test)]
    NameWithoutGeneration,
    /// After "another writer was first" the job is not looked at again.
    ConflictIsFatal,
    /// What happens at a job ends its back-off.
    BackoffBypassed,
    /// Changes wait for somebody to take them while somebody waits for all changes to be taken.
    StartupDeadlock,
    /// Every new status is written at once.
    NoWriteFloor,
    /// A job is deleted because of what a watch said of it, whatever it is by now.
    StaleDelete,
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
    pub(crate) fn with<T>(defect: Option<Defect>, run: impl FnOnce() -> T) -> T {
        SEEDED.set(defect);
        let result = run();
        SEEDED.set(None);
        result
    }
}
