//! Defines the errors of the ledger.

use zephyr_engine::id::Epoch;

use crate::storage::{LocationError, StorageError};

/// Why a call of the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A newer coordinator has sealed the log of this one. The last call had no effect. This
    /// process must end.
    #[error("the coordinator of epoch {by} has taken over: this one is fenced")]
    Fenced {
        /// The epoch that took over.
        by: Epoch,
    },
    /// The store did not answer in time. It is not known whether the last call had an effect;
    /// repeating the same call determines it.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(#[source] StorageError),
    /// The store refused the call, and will refuse it again. The credentials, the bucket or the
    /// configuration are wrong.
    #[error("the ledger cannot be used: {0}")]
    Store(#[source] StorageError),
    /// An object in the ledger is damaged, or another program wrote it.
    #[error("{object}: not a part of this job's ledger: {problem}")]
    Refused {
        /// The uri of the object.
        object: String,
        /// What is wrong with the object.
        problem: String,
    },
    /// The address of an object in the job's folder is not valid.
    #[error("the ledger's address: {0}")]
    Address(#[source] LocationError),
    /// After `Unavailable`, the caller appended other records than those of the call with the
    /// unknown result.
    #[error("the result of an earlier append is unknown: append the same records again first")]
    InDoubt,
}

impl LedgerError {
    /// Whether the same call may succeed later without any action by a person.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The error of a call on the job's folder.
    pub fn from_storage(error: StorageError) -> Self {
        if error.is_transient() {
            Self::Unavailable(error)
        } else {
            Self::Store(error)
        }
    }
}
