//! Defines mistakes that tests can turn on, to show that the simulation finds each of them. They
//! cannot be turned on in a built program, because outside of tests `is` always returns false. The
//! client of the simulated store makes the mistakes of the ledger and of reads. The mistakes of the
//! state machine are defined in the engine.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A take-over reads the older logs and does not seal them.
    #[cfg(test)]
    NoSeal,
    /// Records are acknowledged before their object is put.
    #[cfg(test)]
    AckBeforeThePut,
    /// A snapshot is put before the merged objects to which it refers. If the process dies after
    /// the snapshot and before these objects, the snapshot is incomplete.
    #[cfg(test)]
    SnapshotHalfWritten,
    /// A worker completes the upload of a final file, which only the coordinator may do.
    FinalFileCompletedByTheWorker,
    /// A read that ends too early counts as a changed object.
    #[cfg(test)]
    ShortReadNotRepeated,
}

/// Whether this mistake is turned on.
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

    /// Turns the mistake on in this thread while `run` executes; `run` must not panic.
    pub(crate) fn with<T>(defect: Defect, run: impl FnOnce() -> T) -> T {
        SEEDED.set(Some(defect));
        let result = run();
        SEEDED.set(None);
        result
    }

    /// Turns this thread's mistake on in another thread, too.
    pub(crate) fn inherited<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let seeded = SEEDED.get();
        move || {
            SEEDED.set(seeded);
            work()
        }
    }
}
