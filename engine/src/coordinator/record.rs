//! What the ledger remembers, in the engine's words. `zephyr-store` encodes it.
//!
//! Replaying the records of all epochs in order gives the state a coordinator resumes from. Only
//! facts are recorded, never intentions: that a task was dispatched is not in here.

use crate::coordinator::reason::FailureReason;
use crate::id::{StageId, TaskAttempt, TaskId};

/// One fact.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum LogRecord {
    /// The attempt's outputs are the task's outputs from here on.
    Done {
        /// The task and the attempt that won.
        task: TaskAttempt,
        /// What it made.
        output: TaskOutput,
    },
    /// An attempt failed and counts against a budget of its task.
    Failed {
        /// The task and the attempt.
        task: TaskAttempt,
        /// Whose fault it was.
        class: FailureClass,
        /// One sentence: file, record and error where there are such.
        error: String,
    },
    /// A completed task's output is lost: the task has to run again.
    Revoked {
        /// The task and the attempt whose output is lost.
        task: TaskAttempt,
    },
    /// All tasks of the stage were committed and what the next stage needs to find them was
    /// written.
    StageFinished {
        /// The stage.
        stage: StageId,
        /// Uri-relative path of the object that lists its outputs; empty for the last stage.
        outputs: String,
    },
    /// The final file of a sink task stands, whole, under its final name.
    Finalized {
        /// The sink's task.
        task: TaskId,
    },
    /// How the job ended. Nothing follows it.
    Result(JobResult),
}

/// Whose fault a failure was, which decides the budget it is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The data or the expression: the same again would fail the same way. Charged to
    /// `taskFailures`.
    Deterministic,
    /// The task's process died, hung or was killed for want of memory with no sign of a disruption.
    /// Charged to `taskFailures`.
    Application,
    /// The worker or its storage went away. Charged to `taskDisruptions`.
    Disruption,
}

/// What a committed attempt made.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct TaskOutput {
    /// Its one file.
    pub file: OutputFile,
    /// Records read from the task's input.
    pub records_in: u64,
    /// Bytes read from storage.
    pub bytes_in: u64,
}

/// One object, whole.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct OutputFile {
    /// Records in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
    /// Where it lies.
    pub place: FilePlace,
}

/// Where an attempt's file lies. Small, since a coordinator keeps one of each task.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum FilePlace {
    /// A shuffle file, complete, where its attempt has to write it: the path follows from the
    /// attempt.
    Shuffle,
    /// A final file, of which there are few beside shuffle files.
    Final(Box<FinalPlace>),
}

/// Where a final file lies until it is completed.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum FinalPlace {
    /// Parts of an uncompleted multipart upload to the final name.
    Multipart {
        /// The final uri.
        uri: String,
        /// The store's name of the upload; of a file without parts, the tag of what it is to
        /// replace.
        upload: String,
        /// The store's names of the parts, in order; none where the file is empty and the store
        /// takes no empty part.
        parts: Vec<String>,
    },
    /// A whole object under the attempt's own name beside the final one, to be renamed.
    Staged {
        /// The final uri.
        uri: String,
        /// Where it lies now.
        staged: String,
    },
}

impl FinalPlace {
    /// The final uri.
    pub fn uri(&self) -> &str {
        match self {
            Self::Multipart { uri, .. } | Self::Staged { uri, .. } => uri,
        }
    }
}

impl From<FinalPlace> for FilePlace {
    fn from(place: FinalPlace) -> Self {
        Self::Final(Box::new(place))
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum JobResult {
    /// All final files and the manifest stand.
    Succeeded {
        /// Final files.
        files: u64,
        /// Records in them.
        rows: u64,
        /// Their size.
        bytes: u64,
        /// Uri of `_SUCCESS.json`.
        manifest: String,
    },
    /// It cannot be done.
    Failed {
        /// As one word.
        reason: FailureReason,
        /// One sentence for people.
        message: String,
    },
}
