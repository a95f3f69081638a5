//! Errors that say why a job may not write to its output folder. This module decides nothing.

use crate::storage::{Cause, StorageError};

/// Why a job may not write to its output folder, or may not mark its output as finished.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Another job has finished in the folder.
    #[error(
        "spec.pipeline.sink.files.path: {folder} holds the finished output of {whose} (got {manifest} of {owner}); {advice}"
    )]
    Taken {
        /// Where the files go.
        folder: String,
        /// Another job, or an earlier run of the job of this name.
        whose: &'static str,
        /// The other job's manifest.
        manifest: String,
        /// The other job's name and uid.
        owner: String,
        /// What the user can do.
        advice: &'static str,
    },
    /// A file with the name of the manifest or of the claim exists, and no job wrote it.
    #[error(
        "spec.pipeline.sink.files.path: it is not known whose output {folder} holds (got {object}, of which {problem}); write to another folder, or move that file away"
    )]
    Unknown {
        /// Where the files go.
        folder: String,
        /// The file.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Files exist that belong to no job.
    #[error(
        "spec.pipeline.sink.files.path: files with names of output files exist already (got {found}); write to another folder, or set spec.pipeline.sink.files.mode: Overwrite to replace all files with such names"
    )]
    Exists {
        /// The names of some of the files, and the number of the others.
        found: String,
    },
    /// Another job writes to the folder.
    #[error(
        "spec.pipeline.sink.files.path: another job has begun to write to {folder} and has not ended (got {intent} of {owner}), and its folder is not taken over because {reason}; wait for its end, write to another folder or, only if nothing of that job runs any more, remove that file: `{removal}`"
    )]
    Held {
        /// Where the files go.
        folder: String,
        /// The claim of the other job.
        intent: String,
        /// The other job's name and uid.
        owner: String,
        /// The command that removes the claim of the other job.
        removal: String,
        /// Why the other job may still be running.
        reason: String,
    },
    /// The job that holds the folder seems to have no running process any more. This job watches it
    /// for a while before it takes the folder.
    #[error(
        "spec.pipeline.sink.files.path: {folder} is held by {owner}, {silence} (got {intent}); this job takes the folder over if there is no new sign of life within {watched} min"
    )]
    Watched {
        /// Where the files go.
        folder: String,
        /// The claim of the other job.
        intent: String,
        /// The other job's name and uid.
        owner: String,
        /// How long the other job has not written its probe object.
        silence: String,
        /// How long the other job is watched, in minutes.
        watched: u64,
    },
    /// A later job with another name has taken the folder while this job ran.
    #[error(
        "spec.pipeline.sink.files.path: another job has taken {folder} since this one claimed it (got {found} of {owner}); run one job at a time there, or write to another folder"
    )]
    Superseded {
        /// Where the files go.
        folder: String,
        /// The marker that the other job wrote: that it has begun, or that it has finished.
        found: String,
        /// The other job's name and uid.
        owner: String,
    },
    /// A newer run of the job with this name has claimed the folder while this job ran.
    #[error(
        "spec.pipeline.sink.files.path: a newer run of the job with this name owns {folder} (got {found} of {owner}); only the newer run writes the output, and this run writes no further file: delete this job, or give it another name and folder"
    )]
    Renewed {
        /// Where the files go.
        folder: String,
        /// The marker that the newer run wrote: that it has begun, or that it has finished.
        found: String,
        /// The newer run's name and uid.
        owner: String,
    },
    /// An earlier run had begun to replace output, but this job may not replace any output.
    #[error(
        "spec.pipeline.sink.files.mode: an earlier run of this job had begun to replace the output in {folder} (got Refuse, and {intent} of {owner}); set Overwrite to continue with that, or write to another folder"
    )]
    Overwriting {
        /// Where the files go.
        folder: String,
        /// The claim of the earlier run.
        intent: String,
        /// The earlier run's name and uid.
        owner: String,
    },
    /// Something is in the folder that no mode replaces.
    #[error("spec.pipeline.sink.files.path: {problem} (got {found}); {allowed}")]
    InTheWay {
        /// The obstacle.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
        /// What the user can do.
        allowed: &'static str,
    },
    /// The folder cannot be listed.
    #[error(
        "spec.pipeline.sink.files.path: {0}; the credentials must allow listing the folder, so that nothing in it is overwritten unnoticed"
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
    /// Whether the same call may succeed later without any action by a person.
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

    /// Whether a local disk is full. Waiting does not help if the waiting run itself fills the
    /// disk.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Store(error) | Self::Storage(error) if error.is_full_disk())
    }

    /// Returns the error of the store, if this is one. A store that refuses a call now may accept
    /// it after somebody has repaired the cause.
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
