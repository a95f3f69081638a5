//! The stored form of log records. It is separate from the engine's types, so that neither depends
//! on the other. This module only converts between the two.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::counters::CounterName;
use zephyr_engine::coordinator::record::{
    BadRecords, FailureClass, FilePlace, FinalPlace, JobResult, LogRecord, MoreOutput, OutputFile,
    Restart, TaskOutput,
};
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_engine::pipeline::Origin;

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
    Restarted {
        token: String,
        generation: u32,
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
    /// Written only if `spec.retries.taskTimeout` is set. So a release without this field can read
    /// the ledgers of jobs that do not use it.
    TimedOut,
    Disruption,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredOutput {
    file: StoredFile,
    records_in: u64,
    bytes_in: u64,
    /// Not written if no place of the task's stage skips bad records. So a release without this
    /// feature can read the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bad: Vec<StoredBad>,
    /// Other final files. Not written if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more_files: Vec<StoredFile>,
    /// What the task's commands counted, by name. Not written if they counted nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    counters: BTreeMap<String, u64>,
}

/// The bad records that one place skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredBad {
    /// 0 is the source, 1 the first step.
    place: u32,
    arrived: u64,
    skipped: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<String>,
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
                    bad: output.bad_records().iter().map(StoredBad::of).collect(),
                    more_files: output
                        .more_files()
                        .iter()
                        .map(|file| StoredFile::of(*task, file))
                        .collect(),
                    counters: output
                        .counters()
                        .iter()
                        .map(|(name, count)| (name.to_string(), *count))
                        .collect(),
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
            LogRecord::Restarted(Restart { token, generation }) => Self::Restarted {
                token: token.clone(),
                generation: *generation,
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
                    more: MoreOutput {
                        bad: output.bad.into_iter().map(StoredBad::read).collect(),
                        files: read_more(task, output.more_files)?,
                        counters: read_counters(output.counters)?,
                    }
                    .boxed(),
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
            StoredRecord::Restarted { token, generation } => {
                Self::Restarted(Restart { token, generation })
            }
        })
    }
}

impl StoredBad {
    fn of(bad: &BadRecords) -> Self {
        Self {
            place: bad.origin.number(),
            arrived: bad.arrived,
            skipped: bad.skipped,
            first: bad.first.clone(),
        }
    }

    fn read(self) -> BadRecords {
        BadRecords {
            origin: Origin::of_number(self.place),
            arrived: self.arrived,
            skipped: self.skipped,
            first: self.first,
        }
    }
}

fn read_counters(stored: BTreeMap<String, u64>) -> Result<Vec<(CounterName, u64)>, String> {
    let read = |(name, count): (String, u64)| {
        let name = CounterName::parse(&name).map_err(|error| error.to_string())?;
        Ok((name, count))
    };
    stored.into_iter().map(read).collect()
}

/// Reads the other final files of an attempt. There must be no shuffle file among them.
fn read_more(task: TaskAttempt, stored: Vec<StoredFile>) -> Result<Vec<OutputFile>, String> {
    let read = |stored: StoredFile| {
        let file = stored.of_attempt(task)?;
        if file.place == FilePlace::Shuffle {
            return Err(format!("{task} has a second shuffle file"));
        }
        Ok(file)
    };
    stored.into_iter().map(read).collect()
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
            FailureClass::TimedOut => Self::TimedOut,
            FailureClass::Disruption => Self::Disruption,
        }
    }
}

impl From<StoredClass> for FailureClass {
    fn from(stored: StoredClass) -> Self {
        match stored {
            StoredClass::Deterministic => Self::Deterministic,
            StoredClass::Application => Self::Application,
            StoredClass::TimedOut => Self::TimedOut,
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
    fn what_a_task_skipped_is_recorded_and_nothing_is_written_if_it_could_skip_nothing() {
        let stored = serde_json::json!({
            "type": "done",
            "task": {"stage": 0, "shard": 7, "epoch": 1, "number": 1},
            "output": {
                "file": {"rows": 1, "bytes": 2, "crc32c": 3, "place": {"shuffle": {"path": "data/0/7/e1a1/shuffle"}}},
                "recordsIn": 4,
                "bytesIn": 5,
            },
        });
        let written =
            |record: &LogRecord| serde_json::to_value(StoredRecord::from(record)).unwrap();
        let read = |value: &serde_json::Value| {
            LogRecord::try_from(serde_json::from_value::<StoredRecord>(value.clone()).unwrap())
                .unwrap()
        };
        assert_eq!(written(&read(&stored)), stored);
        let mut skipping = stored;
        skipping["output"]["bad"] = serde_json::json!([
            {"place": 0, "arrived": 9, "skipped": 2, "first": "a.jsonl: line 3: no"},
            {"place": 2, "arrived": 7, "skipped": 0},
        ]);
        let record = read(&skipping);
        assert_eq!(written(&record), skipping);
        let LogRecord::Done { output, .. } = record else {
            panic!("{record:?}");
        };
        let origins: Vec<Origin> = output.bad_records().iter().map(|bad| bad.origin).collect();
        assert_eq!(origins, [Origin::Source, Origin::Step(1)]);
    }

    #[test]
    fn counters_are_recorded_by_name_and_a_name_that_is_not_valid_is_refused() {
        let stored = |name: &str| {
            serde_json::json!({
                "type": "done",
                "task": {"stage": 0, "shard": 7, "epoch": 1, "number": 1},
                "output": {
                    "file": {"rows": 1, "bytes": 2, "crc32c": 3, "place": {"shuffle": {"path": "data/0/7/e1a1/shuffle"}}},
                    "recordsIn": 4,
                    "bytesIn": 5,
                    "counters": {"empty": 0, name: 9_007_199_254_740_991_u64},
                },
            })
        };
        let read = |value: serde_json::Value| {
            LogRecord::try_from(serde_json::from_value::<StoredRecord>(value).unwrap())
        };
        let record = read(stored("rows")).unwrap();
        let written = serde_json::to_value(StoredRecord::from(&record)).unwrap();
        assert_eq!(written, stored("rows"));
        let error = read(stored("two words")).unwrap_err();
        assert!(error.contains("is not the name of a counter"), "{error}");
    }

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
