//! Mistakes that can be put in on purpose, so that the tests of the tests can show that the
//! simulation finds each of them. In a program there are none: outside of tests `is` is constantly
//! false, and nothing here decides anything. Those of the ledger and of reads are made by the
//! client of the simulated store, those of the state machine by the engine.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A take-over reads the older logs and does not seal them.
    #[cfg(test)]
    NoSeal,
    /// Records are acknowledged before their object is put.
    #[cfg(test)]
    AckBeforeThePut,
    /// A snapshot is put before the merged objects that it names: a process that dies in between
    /// leaves half of it.
    #[cfg(test)]
    SnapshotHalfWritten,
    /// A worker completes its upload to the final name by itself.
    FinalFileCompletedByTheWorker,
    /// A read that ends too early is taken for an object that has changed.
    #[cfg(test)]
    ShortReadNotRepeated,
}

/// Whether this mistake is to be made.
#[cfg(not(test))]
pub(crate) const fn is(_: Defect) -> bool {
    false
}

#[cfg(test)]
pub(crate) use seeded::{inherited, is, with};

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

    /// Makes this thread's mistake in another one, too.
    pub(crate) fn inherited<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let seeded = SEEDED.get();
        move || {
            SEEDED.set(seeded);
            work()
        }
    }
}
