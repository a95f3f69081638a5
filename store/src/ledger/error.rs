//! Errors of the ledger.

use zephyr_engine::id::Epoch;

use crate::storage::{LocationError, StorageError};

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A newer coordinator has sealed the log of this one. The last call had no effect; this
    /// process has to end.
    #[error("the coordinator of epoch {by} has taken over: this one is fenced")]
    Fenced {
        /// The epoch that took over.
        by: Epoch,
    },
    /// The store did not answer in time. It is not known whether the last call had an effect;
    /// repeating the same call determines it.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(#[source] StorageError),
    /// The store refused, and will refuse again: credentials, bucket, configuration.
    #[error("the ledger cannot be used: {0}")]
    Store(#[source] StorageError),
    /// An object in the ledger is damaged or was written by something else.
    #[error("{object}: not a part of this job's ledger: {problem}")]
    Refused {
        /// The object's uri.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The job's folder has no valid address.
    #[error("the ledger's address: {0}")]
    Address(#[source] LocationError),
    /// After `Unavailable`, other records were appended than those of the unfinished call.
    #[error("the result of an earlier append is unknown: append the same records again first")]
    InDoubt,
}

impl LedgerError {
    /// Whether the same call may succeed later without any action by a person.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(crate) fn from_storage(error: StorageError) -> Self {
        if error.is_transient() {
            Self::Unavailable(error)
        } else {
            Self::Store(error)
        }
    }
}
