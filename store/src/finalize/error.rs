//! Why a job may not write where it is to write, in sentences. Decides nothing.

use crate::storage::{Cause, StorageError};

/// Why a job may not write there, or may not say that its output is finished.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Another job has finished there.
    #[error(
        "spec.pipeline.sink.files.path: {folder} holds the finished output of another job (got {manifest} of {owner}); {advice}"
    )]
    Taken {
        /// Where the files go.
        folder: String,
        /// The other job's manifest.
        manifest: String,
        /// The other job's name and uid.
        owner: String,
        /// What can be done.
        advice: &'static str,
    },
    /// There is something of the manifest's or the intent's name that no job wrote.
    #[error(
        "spec.pipeline.sink.files.path: nobody can tell whose output {folder} holds (got {object}, of which {problem}); write to another folder, or move that file away"
    )]
    Unknown {
        /// Where the files go.
        folder: String,
        /// What is there.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Files are there that belong to no job.
    #[error(
        "spec.pipeline.sink.files.path: files of the output's names are there already (got {found}); write to another folder, or set spec.pipeline.sink.files.mode: Overwrite to have all files of such names replaced"
    )]
    Exists {
        /// Some of them, and how many more.
        found: String,
    },
    /// Another job writes there.
    #[error(
        "spec.pipeline.sink.files.path: another job has begun to write to {folder} and has not ended (got {intent} of {owner}), and is not taken over because {reason}; wait for its end, write to another folder or, only if nothing of that job runs any more, remove that file: `{removal}`"
    )]
    Held {
        /// Where the files go.
        folder: String,
        /// What the other job said.
        intent: String,
        /// The other job's name and uid.
        owner: String,
        /// The command that removes what the other job said.
        removal: String,
        /// Why the other job may be alive.
        reason: String,
    },
    /// The job that holds the folder seems to be gone; it is watched for a while before the folder
    /// is taken over.
    #[error(
        "spec.pipeline.sink.files.path: {folder} is held by {owner}, {silence} (got {intent}); this job takes the folder over if none comes within {watched} min"
    )]
    Watched {
        /// Where the files go.
        folder: String,
        /// What the other job said.
        intent: String,
        /// The other job's name and uid.
        owner: String,
        /// Since when nothing has been seen of it.
        silence: String,
        /// For how long it is watched, in minutes.
        watched: u64,
    },
    /// A later job of another name has taken the folder while this one ran.
    #[error(
        "spec.pipeline.sink.files.path: another job has taken {folder} while this one ran (got {found} of {owner}); run one job at a time there, or write to another folder"
    )]
    Superseded {
        /// Where the files go.
        folder: String,
        /// What the other job wrote: that it has begun, or that it has finished.
        found: String,
        /// The other job's name and uid.
        owner: String,
    },
    /// A newer run of the job of this name has taken the folder while this one ran.
    #[error(
        "spec.pipeline.sink.files.path: a newer run of the job of this name owns {folder} (got {found} of {owner}); the output is the newer run's to write, and this run writes no further file: delete this one, or give it another name and folder"
    )]
    Renewed {
        /// Where the files go.
        folder: String,
        /// What the newer run wrote: that it has begun, or that it has finished.
        found: String,
        /// The newer run's name and uid.
        owner: String,
    },
    /// An earlier run had begun to replace what this one must not.
    #[error(
        "spec.pipeline.sink.files.mode: an earlier run of this job had begun to replace what {folder} holds (got Refuse, and {intent} of {owner}); set Overwrite to go on with that, or write to another folder"
    )]
    Overwriting {
        /// Where the files go.
        folder: String,
        /// What the earlier run said.
        intent: String,
        /// The earlier run's name and uid.
        owner: String,
    },
    /// What no mode replaces.
    #[error("spec.pipeline.sink.files.path: {problem} (got {found}); {allowed}")]
    InTheWay {
        /// What it is.
        found: String,
        /// Why it is in the way.
        problem: &'static str,
        /// What can be done.
        allowed: &'static str,
    },
    /// The folder cannot be listed.
    #[error(
        "spec.pipeline.sink.files.path: {0}; the credentials have to allow to list the folder, so that nothing in it is written over unseen"
    )]
    MayNotList(#[source] StorageError),
    /// The sink's store failed.
    #[error("spec.pipeline.sink.files.path: {0}")]
    Store(#[source] StorageError),
    /// The job's own storage failed.
    #[error("spec.storage.uri: {0}")]
    Storage(#[source] StorageError),
}

impl OutputError {
    /// Whether the same call may succeed later with nobody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Watched { .. } => true,
            Self::Store(error) | Self::Storage(error) => {
                error.is_transient() || error.cause == Cause::Changed
            }
            Self::Taken { .. }
            | Self::Unknown { .. }
            | Self::Exists { .. }
            | Self::Held { .. }
            | Self::Superseded { .. }
            | Self::Renewed { .. }
            | Self::Overwriting { .. }
            | Self::InTheWay { .. }
            | Self::MayNotList(_) => false,
        }
    }

    /// Whether a local disk is full: that does not pass while a run waits that may be what fills
    /// it.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Store(error) | Self::Storage(error) if error.is_full_disk())
    }

    /// The store's error that this is, if it is one: what the store does not do now it may do when
    /// somebody mends it.
    pub fn store_error(&self) -> Option<&StorageError> {
        match self {
            Self::Store(error) | Self::Storage(error) | Self::MayNotList(error) => Some(error),
            Self::Taken { .. }
            | Self::Unknown { .. }
            | Self::Exists { .. }
            | Self::Held { .. }
            | Self::Watched { .. }
            | Self::Superseded { .. }
            | Self::Renewed { .. }
            | Self::Overwriting { .. }
            | Self::InTheWay { .. } => None,
        }
    }
}
