//! Defines the records of the ledger as types of the engine. `zephyr-store` encodes them.
//!
//! Replaying the records of all epochs in order gives the state from which a coordinator resumes.
//! Only facts are recorded, never intentions: the dispatch of a task is not recorded.

use std::collections::BTreeSet;

use crate::coordinator::counters::CounterName;
use crate::coordinator::reason::FailureReason;
use crate::id::{StageId, TaskAttempt, TaskId};
use crate::pipeline::Origin;
use crate::plan::Plan;

/// One fact.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum LogRecord {
    /// This attempt is the result of its task: its outputs are the task's outputs.
    Done {
        /// The task and the attempt that won.
        task: TaskAttempt,
        /// Its output.
        output: TaskOutput,
    },
    /// An attempt failed and counts against a budget of its task.
    Failed {
        /// The task and the attempt.
        task: TaskAttempt,
        /// The class, which decides what the failure is charged to.
        class: FailureClass,
        /// One sentence with file, record and error, as far as they are known.
        error: String,
    },
    /// A completed task's output is lost: the task has to run again.
    Revoked {
        /// The task and the attempt whose output is lost.
        task: TaskAttempt,
    },
    /// All tasks of the stage were committed, and the list that the next stage needs to find their
    /// outputs was written.
    StageFinished {
        /// The stage.
        stage: StageId,
        /// The path of the object that lists its outputs, relative to the job's storage prefix.
        /// Empty for the last stage.
        outputs: String,
    },
    /// The final file of a sink task exists under its final name and is complete.
    Finalized {
        /// The sink's task.
        task: TaskId,
    },
    /// How the job ended. Only [`Self::Restarted`] can follow it.
    Result(JobResult),
    /// The job runs again: a failure that was recorded before is no longer its result, and all
    /// budgets for failures begin anew.
    Restarted(Restart),
}

/// A request to run a failed job again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restart {
    /// `spec.restart`, for people.
    pub token: String,
    /// The first generation of the job that runs because of this request. It identifies the
    /// request: a later request has a greater number.
    pub generation: u32,
}

/// Returns how the job ended. `None` if it has not ended, or if it was restarted after its end.
pub fn result_of(records: &[LogRecord]) -> Option<&JobResult> {
    records.iter().rev().find_map(|record| match record {
        LogRecord::Result(result) => Some(Some(result)),
        LogRecord::Restarted(_) => Some(None),
        LogRecord::Done { .. }
        | LogRecord::Failed { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::StageFinished { .. }
        | LogRecord::Finalized { .. } => None,
    })?
}

/// Returns the latest request to run the job again.
pub fn restart_of(records: &[LogRecord]) -> Option<&Restart> {
    records.iter().rev().find_map(|record| match record {
        LogRecord::Restarted(restart) => Some(restart),
        LogRecord::Done { .. }
        | LogRecord::Failed { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::StageFinished { .. }
        | LogRecord::Finalized { .. }
        | LogRecord::Result(_) => None,
    })
}

/// Whether a task of the job was recorded. If not, nothing depends on the plan yet.
pub fn has_tasks(records: &[LogRecord]) -> bool {
    records
        .iter()
        .any(|record| !matches!(record, LogRecord::Result(_) | LogRecord::Restarted(_)))
}

/// The stages of which a task was complete at some time. Their work stays as it is.
pub fn committed_stages(records: &[LogRecord]) -> BTreeSet<StageId> {
    let stage = |record: &LogRecord| match record {
        LogRecord::Done { task, .. } | LogRecord::Revoked { task } => Some(task.task.stage),
        LogRecord::Finalized { task } => Some(task.stage),
        LogRecord::StageFinished { stage, .. } => Some(*stage),
        LogRecord::Failed { .. } | LogRecord::Result(_) | LogRecord::Restarted(_) => None,
    };
    records.iter().filter_map(stage).collect()
}

/// Leaves out the failures of tasks that `plan` does not have. Such tasks are from before a restart
/// that edited the pipeline, and a restart forgives failures in any case. Failures after the latest
/// restart all stay, because they are of this plan.
pub fn without_forgotten_failures(records: Vec<LogRecord>, plan: &Plan) -> Vec<LogRecord> {
    let is_restart = |record: &LogRecord| matches!(record, LogRecord::Restarted(_));
    let forgiven = records.iter().rposition(is_restart).unwrap_or(0);
    let has = |task: TaskId| {
        let stage = plan.stages.get(task.stage.0 as usize);
        stage.is_some_and(|stage| task.shard.0 < stage.shards)
    };
    let stays = |position: usize, record: &LogRecord| match record {
        LogRecord::Failed { task, .. } => position > forgiven || has(task.task),
        LogRecord::Done { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::StageFinished { .. }
        | LogRecord::Finalized { .. }
        | LogRecord::Result(_)
        | LogRecord::Restarted(_) => true,
    };
    let all = records.into_iter().enumerate();
    all.filter(|(position, record)| stays(*position, record))
        .map(|(_, record)| record)
        .collect()
}

/// The class of a failure. It decides to which budget the failure is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The data or the expression: another try would fail in the same way. Charged to
    /// `taskFailures`.
    Deterministic,
    /// There is no sign of a disruption, and another try may succeed: the task's process died, hung
    /// or ran out of memory, a command failed, or a store refused a call. Charged to
    /// `taskFailures`.
    Application,
    /// The attempt ran for longer than `taskTimeout` allows. Charged to `taskFailures`.
    TimedOut,
    /// The worker or its storage became unavailable. Charged to `taskDisruptions`.
    Disruption,
}

/// The output of a committed attempt.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct TaskOutput {
    /// The file of its records.
    pub file: OutputFile,
    /// Records read from the task's input.
    pub records_in: u64,
    /// Bytes read from storage.
    pub bytes_in: u64,
    /// Other results, which few tasks have. They are behind a pointer, because a coordinator keeps
    /// this struct for each task.
    pub more: Option<Box<MoreOutput>>,
}

/// What a task produced besides the file of its records.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct MoreOutput {
    /// The bad records that it skipped: at most one entry for each place of its stage that skips
    /// bad records.
    pub bad: Vec<BadRecords>,
    /// Final files besides that of its records, such as dead letters. The coordinator completes
    /// them after the commit.
    pub files: Vec<OutputFile>,
    /// What its commands counted, each name once, sorted by name.
    pub counters: Vec<(CounterName, u64)>,
}

impl MoreOutput {
    /// Returns this as the field `more` of a task's output: `None` if there is nothing in it.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

impl TaskOutput {
    /// The bad records that the task skipped.
    pub fn bad_records(&self) -> &[BadRecords] {
        self.more.as_ref().map_or(&[], |more| &more.bad)
    }

    /// The final files besides that of its records.
    pub fn more_files(&self) -> &[OutputFile] {
        self.more.as_ref().map_or(&[], |more| &more.files)
    }

    /// What its commands counted.
    pub fn counters(&self) -> &[(CounterName, u64)] {
        self.more.as_ref().map_or(&[], |more| &more.counters)
    }

    /// All its files.
    pub fn files(&self) -> impl Iterator<Item = &OutputFile> {
        std::iter::once(&self.file).chain(self.more_files())
    }

    /// All files that the coordinator completes after the commit. The file of the records is
    /// completed last: if another file is lost, the task runs again, and then the file of its
    /// records must not exist yet.
    pub fn final_files(&self) -> impl Iterator<Item = &OutputFile> {
        let own = std::iter::once(&self.file).filter(|file| file.place != FilePlace::Shuffle);
        self.more_files().iter().chain(own)
    }

    /// Whether the coordinator has something to complete.
    pub fn has_final_files(&self) -> bool {
        self.final_files().next().is_some()
    }
}

/// How many records of a task arrived at a place, and how many of them it skipped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BadRecords {
    /// The place.
    pub origin: Origin,
    /// Records that arrived there.
    pub arrived: u64,
    /// How many of them were bad.
    pub skipped: u64,
    /// The first bad record: its file and line, and the message if it may be shown.
    pub first: Option<String>,
}

/// One complete object.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct OutputFile {
    /// Records in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
    /// Its location.
    pub place: FilePlace,
}

/// The location of an attempt's file. Small, because a coordinator keeps one for each task.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum FilePlace {
    /// A complete shuffle file at the path that follows from the attempt.
    Shuffle,
    /// A final file. There are few of these compared with shuffle files.
    Final(Box<FinalPlace>),
}

/// The location of a final file until it is completed.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum FinalPlace {
    /// Parts of an uncompleted multipart upload to the final name.
    Multipart {
        /// The final uri.
        uri: String,
        /// The store's name of the upload. For a file without parts, this is the tag of the object
        /// that the file replaces.
        upload: String,
        /// The store's names of the parts, in order. There are none if the file is empty and the
        /// store accepts no empty part.
        parts: Vec<String>,
    },
    /// A complete file beside the final one, under a name of the attempt. It is renamed later.
    Staged {
        /// The final uri.
        uri: String,
        /// Its current location.
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
    /// All final files and the manifest exist.
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
    /// The job failed.
    Failed {
        /// The reason as one word.
        reason: FailureReason,
        /// One sentence for people.
        message: String,
    },
}
