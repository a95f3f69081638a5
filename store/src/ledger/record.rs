//! The stored form of log records. It is separate from the engine's types, so that neither depends
//! on the other. This module only converts between the two.

use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::record::{
    FailureClass, FilePlace, FinalPlace, JobResult, LogRecord, OutputFile, TaskOutput,
};
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};

use crate::ownership::shuffle_place;
use crate::shuffle::shuffle_path;

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

/// An attempt of a task, such as `{"stage":0,"shard":1,"epoch":3,"number":1}`.
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

/// An output file.
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
                    file: StoredFile::of(*task, &output.file),
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
                reason: reason.to_string(),
                message: message.clone(),
            },
        }
    }
}

impl TryFrom<StoredRecord> for LogRecord {
    /// Names the part of the record that is not valid.
    type Error = String;

    fn try_from(stored: StoredRecord) -> Result<Self, String> {
        Ok(match stored {
            StoredRecord::Done { task, output } => {
                let task = task.into();
                let output = TaskOutput {
                    file: output.file.of_attempt(task)?,
                    records_in: output.records_in,
                    bytes_in: output.bytes_in,
                };
                Self::Done { task, output }
            }
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
            StoredRecord::JobFailed { reason, message } => Self::Result(JobResult::Failed {
                reason: reason.into(),
                message,
            }),
        })
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

impl StoredFile {
    /// Makes the stored form of an attempt's file.
    fn of(task: TaskAttempt, file: &OutputFile) -> Self {
        let place = match &file.place {
            FilePlace::Shuffle => StoredPlace::Shuffle {
                path: shuffle_path(task),
            },
            FilePlace::Final(place) => match &**place {
                FinalPlace::Multipart { uri, upload, parts } => StoredPlace::Multipart {
                    uri: uri.clone(),
                    upload: upload.clone(),
                    parts: parts.clone(),
                },
                FinalPlace::Staged { uri, staged } => StoredPlace::Staged {
                    uri: uri.clone(),
                    staged: staged.clone(),
                },
            },
        };
        Self {
            rows: file.rows,
            bytes: file.bytes,
            crc32c: file.crc32c,
            place,
        }
    }

    /// Returns the file, if its path is the one to which the attempt must write.
    fn of_attempt(self, task: TaskAttempt) -> Result<OutputFile, String> {
        let place = match self.place {
            StoredPlace::Shuffle { path } => {
                shuffle_place(task, &path).map_err(|error| error.to_string())?
            }
            StoredPlace::Multipart { uri, upload, parts } => {
                FinalPlace::Multipart { uri, upload, parts }.into()
            }
            StoredPlace::Staged { uri, staged } => FinalPlace::Staged { uri, staged }.into(),
        };
        Ok(OutputFile {
            rows: self.rows,
            bytes: self.bytes,
            crc32c: self.crc32c,
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_file_that_is_not_its_attempts_own_is_not_recorded() {
        let of = |path: &str| {
            let stored = serde_json::json!({
                "type": "done",
                "task": {"stage": 0, "shard": 7, "epoch": 1, "number": 1},
                "output": {
                    "file": {"rows": 1, "bytes": 2, "crc32c": 3, "place": {"shuffle": {"path": path}}},
                    "recordsIn": 4,
                    "bytesIn": 5,
                },
            });
            LogRecord::try_from(serde_json::from_value::<StoredRecord>(stored).unwrap())
        };
        assert!(of("data/0/7/e1a1/shuffle").is_ok());
        let error = of("data/0/7/e1a2/shuffle").unwrap_err();
        assert!(
            error.contains("its own is data/0/7/e1a1/shuffle"),
            "{error}"
        );
    }
}
