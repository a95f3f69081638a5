//! Defines the errors of a shuffle, on the mapper's side and on the reducer's side.

use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::OperatorError;

use crate::storage::StorageError;

/// Why a shuffle file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ShuffleError {
    /// The store failed. The file may be intact.
    #[error("{0}")]
    Store(#[source] StorageError),
    /// The local disk failed.
    #[error("spilling to local disk: {0}")]
    Spill(#[source] StorageError),
    /// The output of an attempt is missing or damaged, so its task has to run again.
    #[error("the output of {producer} is lost: {problem}")]
    LoseInput {
        /// The attempt that wrote the output.
        producer: TaskAttempt,
        /// What is wrong with the output.
        problem: StorageError,
    },
    /// The step that groups or merges failed.
    #[error("{0}")]
    Merge(#[source] OperatorError),
}

impl ShuffleError {
    /// The error if the thread that reads for this task has died.
    pub(crate) fn died(error: &tokio::task::JoinError) -> Self {
        Self::Store(StorageError {
            call: "reading",
            object: "the files of a shuffle".to_owned(),
            cause: crate::storage::Cause::Other(error.to_string()),
        })
    }
}

impl From<OperatorError> for ShuffleError {
    fn from(error: OperatorError) -> Self {
        Self::Merge(error)
    }
}
