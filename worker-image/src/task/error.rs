//! Defines why an attempt failed, and decides the class of the failure. The coordinator decides
//! what the failure is charged to.

use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::failed_task::last_lines;
use zephyr_engine::coordinator::record::FailureClass;
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::OperatorError;

use zephyr_store::formats::{ReadError, WriteError};
use zephyr_store::shuffle::ShuffleError;
use zephyr_store::storage::StorageError;

use crate::task::exec::ExecError;
use crate::task::tables::TableError;

/// How many characters a reported sentence has at most. It becomes part of the ledger and of a
/// Kubernetes event.
const MAX_ERROR_CHARS: usize = 1000;
/// The same limit for the failure of a command. Its sentence contains the end of the command's
/// standard error.
const MAX_COMMAND_ERROR_CHARS: usize = MAX_ERROR_CHARS + 4096;

/// Why an attempt failed, as reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// Its class.
    pub class: FailureClass,
    /// For a disruption: its cause.
    pub setback: Option<Setback>,
    /// One sentence with file, record and error, as far as they are known.
    pub error: String,
    /// If the cause is a lost output of an earlier stage: that output.
    pub lost_input: Option<TaskAttempt>,
    /// The end of what the attempt logged; may be empty.
    pub log: String,
}

/// Why an attempt failed, as it was found.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    /// A step failed on a record.
    #[error("{place}: {source}")]
    ApplyStep {
        place: String,
        source: OperatorError,
    },
    /// A step failed outside of any record.
    #[error("{0}")]
    Operate(#[source] OperatorError),
    /// The input file cannot be read.
    #[error("{0}")]
    ReadInput(#[source] ReadError),
    /// The output file cannot be written.
    #[error("{0}")]
    WriteOutput(#[source] WriteError),
    /// A shuffle cannot be written or read.
    #[error("{0}")]
    Shuffle(#[source] ShuffleError),
    /// Another call to the store failed.
    #[error("{0}")]
    Store(#[source] StorageError),
    /// A table cannot be used.
    #[error("{0}")]
    Table(#[source] TableError),
    /// A command failed.
    #[error("{0}")]
    Exec(#[source] Box<ExecError>),
    /// The assignment contradicts the plan.
    #[error("the assignment does not fit the plan: {0}")]
    FollowAssignment(String),
    /// It panicked, or an impossible state was reached.
    #[error("{0}")]
    Bug(String),
}

impl From<OperatorError> for TaskError {
    fn from(error: OperatorError) -> Self {
        Self::Operate(error)
    }
}

impl From<TableError> for TaskError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl From<ShuffleError> for TaskError {
    fn from(error: ShuffleError) -> Self {
        Self::Shuffle(error)
    }
}

impl From<TaskError> for TaskFailure {
    fn from(error: TaskError) -> Self {
        let mut lost_input = None;
        if let TaskError::Shuffle(ShuffleError::LoseInput { producer, .. }) = &error {
            lost_input = Some(*producer);
        }
        let most = if matches!(error, TaskError::Exec(_)) {
            MAX_COMMAND_ERROR_CHARS
        } else {
            MAX_ERROR_CHARS
        };
        let class = class(&error);
        let is_disruption = class == FailureClass::Disruption && lost_input.is_none();
        Self {
            class,
            setback: is_disruption.then(|| setback(&error)),
            error: error.to_string().chars().take(most).collect(),
            lost_input,
            log: error.log(),
        }
    }
}

fn class(error: &TaskError) -> FailureClass {
    match error {
        TaskError::ApplyStep { source, .. }
        | TaskError::Operate(source)
        | TaskError::Shuffle(ShuffleError::Merge(source)) => of_operator(source),
        TaskError::ReadInput(ReadError::Store(error))
        | TaskError::WriteOutput(WriteError::Store(error))
        | TaskError::Shuffle(ShuffleError::Store(error))
        | TaskError::Store(error) => of_store(error),
        TaskError::ReadInput(
            ReadError::Decompress { .. }
            | ReadError::NotText { .. }
            | ReadError::ParseRecord { .. }
            | ReadError::UnknownFormat { .. },
        )
        | TaskError::WriteOutput(WriteError::LineBreak { .. } | WriteError::ByteOrderMark { .. })
        | TaskError::Table(_) => FailureClass::Deterministic,
        TaskError::Exec(error) => error.class(),
        TaskError::WriteOutput(WriteError::Compress { .. })
        | TaskError::FollowAssignment(_)
        | TaskError::Bug(_) => FailureClass::Application,
        // The task that wrote the shuffle file runs again, and so does this task. Neither of them
        // is at fault.
        TaskError::Shuffle(ShuffleError::LoseInput { .. } | ShuffleError::Spill(_)) => {
            FailureClass::Disruption
        }
    }
}

impl TaskError {
    /// The end of what a command wrote to its standard error, if one failed.
    fn log(&self) -> String {
        if let Self::Exec(error) = self {
            last_lines(error.stderr())
        } else {
            String::new()
        }
    }

    /// The error of a store or a disk, if that is the cause.
    pub(super) fn of_storage(&self) -> Option<&StorageError> {
        match self {
            Self::ReadInput(ReadError::Store(error))
            | Self::WriteOutput(WriteError::Store(error))
            | Self::Shuffle(ShuffleError::Store(error) | ShuffleError::Spill(error))
            | Self::Store(error) => Some(error),
            Self::ApplyStep { .. }
            | Self::Operate(_)
            | Self::ReadInput(_)
            | Self::WriteOutput(_)
            | Self::Shuffle(_)
            | Self::Table(_)
            | Self::Exec(_)
            | Self::FollowAssignment(_)
            | Self::Bug(_) => None,
        }
    }
}

/// Returns the cause of a disruption. This function does not know whether the store answers other
/// calls; `run` finds that out.
fn setback(error: &TaskError) -> Setback {
    match error.of_storage() {
        Some(error) if error.is_full_disk() => Setback::DiskFull,
        Some(_) if matches!(error, TaskError::Shuffle(ShuffleError::Spill(_))) => {
            Setback::WorkerUnhealthy
        }
        Some(_) => Setback::StoreAway,
        None => Setback::WorkerUnhealthy,
    }
}

fn of_operator(error: &OperatorError) -> FailureClass {
    if error.damaged {
        FailureClass::Application
    } else {
        FailureClass::Deterministic
    }
}

/// Returns the class of an error of the store. If the error may disappear, the infrastructure is at
/// fault. A permanent error (no such object, access denied, an object that changed since it was
/// listed) must not be retried forever.
fn of_store(error: &StorageError) -> FailureClass {
    if error.is_transient() {
        FailureClass::Disruption
    } else {
        FailureClass::Application
    }
}
