//! Log records as they are stored, apart from the engine's own so that neither leaks into the other. Conversion only.

use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::record::{
    FailureClass, FilePlace, JobResult, LogRecord, OutputFile, TaskOutput,
};
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum StoredRecord {
    Done {
        task: StoredAttempt,
        output: StoredOutput,
    },
    Failed {
        task: StoredAttempt,
        class: StoredClass,
        error: String,
    },
    Revoked {
        task: StoredAttempt,
    },
    StageFinished {
        stage: u32,
        outputs: String,
    },
    Finalized {
        stage: u32,
        shard: u32,
    },
    Succeeded {
        files: u64,
        rows: u64,
        bytes: u64,
        manifest: String,
    },
    JobFailed {
        reason: String,
        message: String,
    },
}

/// A task's attempt: `{"stage":0,"shard":1,"epoch":3,"number":1}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredAttempt {
    stage: u32,
    shard: u32,
    epoch: u64,
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StoredClass {
    Deterministic,
    Application,
    Disruption,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredOutput {
    file: StoredFile,
    records_in: u64,
    bytes_in: u64,
}

/// An output file. Also what the object that lists a stage's outputs holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredFile {
    rows: u64,
    bytes: u64,
    crc32c: u32,
    place: StoredPlace,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum StoredPlace {
    Shuffle {
        path: String,
    },
    Multipart {
        uri: String,
        upload: String,
        parts: Vec<String>,
    },
    Staged {
        uri: String,
        staged: String,
    },
}

impl From<&LogRecord> for StoredRecord {
    fn from(record: &LogRecord) -> Self {
        match record {
            LogRecord::Done { task, output } => Self::Done {
                task: (*task).into(),
                output: StoredOutput {
                    file: (&output.file).into(),
                    records_in: output.records_in,
                    bytes_in: output.bytes_in,
                },
            },
            LogRecord::Failed { task, class, error } => Self::Failed {
                task: (*task).into(),
                class: (*class).into(),
                error: error.clone(),
            },
            LogRecord::Revoked { task } => Self::Revoked {
                task: (*task).into(),
            },
            LogRecord::StageFinished { stage, outputs } => Self::StageFinished {
                stage: stage.0,
                outputs: outputs.clone(),
            },
            LogRecord::Finalized { task } => Self::Finalized {
                stage: task.stage.0,
                shard: task.shard.0,
            },
            LogRecord::Result(JobResult::Succeeded {
                files,
                rows,
                bytes,
                manifest,
            }) => Self::Succeeded {
                files: *files,
                rows: *rows,
                bytes: *bytes,
                manifest: manifest.clone(),
            },
            LogRecord::Result(JobResult::Failed { reason, message }) => Self::JobFailed {
                reason: reason.clone(),
                message: message.clone(),
            },
        }
    }
}

impl From<StoredRecord> for LogRecord {
    fn from(stored: StoredRecord) -> Self {
        match stored {
            StoredRecord::Done { task, output } => Self::Done {
                task: task.into(),
                output: TaskOutput {
                    file: output.file.into(),
                    records_in: output.records_in,
                    bytes_in: output.bytes_in,
                },
            },
            StoredRecord::Failed { task, class, error } => Self::Failed {
                task: task.into(),
                class: class.into(),
                error,
            },
            StoredRecord::Revoked { task } => Self::Revoked { task: task.into() },
            StoredRecord::StageFinished { stage, outputs } => Self::StageFinished {
                stage: StageId(stage),
                outputs,
            },
            StoredRecord::Finalized { stage, shard } => Self::Finalized {
                task: TaskId {
                    stage: StageId(stage),
                    shard: ShardId(shard),
                },
            },
            StoredRecord::Succeeded {
                files,
                rows,
                bytes,
                manifest,
            } => Self::Result(JobResult::Succeeded {
                files,
                rows,
                bytes,
                manifest,
            }),
            StoredRecord::JobFailed { reason, message } => {
                Self::Result(JobResult::Failed { reason, message })
            }
        }
    }
}

impl From<TaskAttempt> for StoredAttempt {
    fn from(task: TaskAttempt) -> Self {
        Self {
            stage: task.task.stage.0,
            shard: task.task.shard.0,
            epoch: task.attempt.epoch.0,
            number: task.attempt.number,
        }
    }
}

impl From<StoredAttempt> for TaskAttempt {
    fn from(stored: StoredAttempt) -> Self {
        Self {
            task: TaskId {
                stage: StageId(stored.stage),
                shard: ShardId(stored.shard),
            },
            attempt: Attempt {
                epoch: Epoch(stored.epoch),
                number: stored.number,
            },
        }
    }
}

impl From<FailureClass> for StoredClass {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Deterministic => Self::Deterministic,
            FailureClass::Application => Self::Application,
            FailureClass::Disruption => Self::Disruption,
        }
    }
}

impl From<StoredClass> for FailureClass {
    fn from(stored: StoredClass) -> Self {
        match stored {
            StoredClass::Deterministic => Self::Deterministic,
            StoredClass::Application => Self::Application,
            StoredClass::Disruption => Self::Disruption,
        }
    }
}

impl From<&OutputFile> for StoredFile {
    fn from(file: &OutputFile) -> Self {
        let place = match &file.place {
            FilePlace::Shuffle { path } => StoredPlace::Shuffle { path: path.clone() },
            FilePlace::Multipart { uri, upload, parts } => StoredPlace::Multipart {
                uri: uri.clone(),
                upload: upload.clone(),
                parts: parts.clone(),
            },
            FilePlace::Staged { uri, staged } => StoredPlace::Staged {
                uri: uri.clone(),
                staged: staged.clone(),
            },
        };
        Self {
            rows: file.rows,
            bytes: file.bytes,
            crc32c: file.crc32c,
            place,
        }
    }
}

impl From<StoredFile> for OutputFile {
    fn from(stored: StoredFile) -> Self {
        let place = match stored.place {
            StoredPlace::Shuffle { path } => FilePlace::Shuffle { path },
            StoredPlace::Multipart { uri, upload, parts } => {
                FilePlace::Multipart { uri, upload, parts }
            }
            StoredPlace::Staged { uri, staged } => FilePlace::Staged { uri, staged },
        };
        Self {
            rows: stored.rows,
            bytes: stored.bytes,
            crc32c: stored.crc32c,
            place,
        }
    }
}
