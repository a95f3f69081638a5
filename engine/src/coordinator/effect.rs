//! Defines all actions that a coordinator can request. The shell executes effects in the given
//! order and answers with events; it makes no decisions.

use std::fmt;

use crate::coordinator::attempts::EndedAttempt;
use crate::coordinator::event::list;
use crate::coordinator::record::{LogRecord, OutputFile};
use crate::id::{SessionId, StageId, TaskAttempt};

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this message to a worker. If the session is gone, nothing happens: `SessionClosed`
    /// follows or has already arrived.
    Send {
        /// The session through which the message is sent.
        session: SessionId,
        /// The message.
        message: ToWorker,
    },
    /// End a session, for example because its worker is lost, or because a newer session of the
    /// same worker superseded it.
    Close {
        /// The session.
        session: SessionId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Append these records to the ledger, after all earlier ones; answered by `Event::Durable`.
    /// Records that arrive while a put is in flight go into the next log object.
    Append {
        /// Index of the first record; the others have consecutive indexes. Indexes begin at 0 in
        /// each epoch.
        first_index: u64,
        /// The records.
        records: Vec<LogRecord>,
    },
    /// Write the object that lists the winning outputs of a finished shuffle stage; answered by
    /// `StagePublished`.
    PublishStage {
        /// The stage.
        stage: StageId,
        /// How often it was published before in this epoch. The number is part of the object's
        /// name, so no object is overwritten.
        version: u32,
        /// The outputs in shard order.
        outputs: Vec<(TaskAttempt, OutputFile)>,
    },
    /// Complete the final files of this committed attempt; answered by `FileFinalized`, `FileLost`
    /// or `OutputTaken`. Sent again after a take-over until `LogRecord::Finalized` is in the
    /// ledger.
    Finalize {
        /// The attempt that won.
        task: TaskAttempt,
        /// Its final files.
        files: Vec<OutputFile>,
    },
    /// Delete the uncommitted file of an attempt that lost.
    Discard {
        /// The attempt.
        task: TaskAttempt,
        /// Its file.
        file: OutputFile,
    },
    /// Write `_SUCCESS.json`; answered by `ManifestWritten` or `OutputTaken`.
    WriteManifest {
        /// The sink's files in shard order.
        files: Vec<(TaskAttempt, OutputFile)>,
        /// All other final files in the order of their tasks.
        more: Vec<(TaskAttempt, OutputFile)>,
    },
    /// These attempts have ended. Only people need that, so nothing waits for it, and it may be
    /// lost.
    AttemptsEnded(Vec<EndedAttempt>),
}

/// A message from the coordinator to a worker.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum ToWorker {
    /// The session is accepted.
    Welcome {
        /// How often to send a heartbeat.
        heartbeat_interval_ms: u64,
    },
    /// Run these attempts.
    Run(Vec<Dispatch>),
    /// Stop these attempts, which are superseded.
    Cancel(Vec<TaskAttempt>),
    /// The reports about these attempts are processed, so the worker may forget the attempts.
    Ack(Vec<TaskAttempt>),
    /// There is no work left: stay idle until the next message.
    Shutdown,
}

/// One attempt to run.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Dispatch {
    /// The task and the attempt.
    pub task: TaskAttempt,
    /// For each stage that the task reads, in the order of its stage's inputs: the object that
    /// lists the outputs of that stage. Empty if it reads a source.
    pub input_outputs: Vec<String>,
    /// Whether the worker must report each record before it processes the record. This is set if an
    /// earlier attempt of the task may have ended together with its process, so that the error
    /// message can name the record.
    pub trace_records: bool,
}

impl fmt::Display for Effect {
    /// One line for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { session, message } => write!(f, "session {session}: {message}"),
            Self::Close { session, reason } => write!(f, "session {session}: close, {reason}"),
            Self::Append {
                first_index,
                records,
            } => {
                write!(f, "append {} records from {first_index}", records.len())
            }
            Self::PublishStage {
                stage,
                version,
                outputs,
            } => {
                write!(
                    f,
                    "publish {} outputs of stage {stage} (version {version})",
                    outputs.len()
                )
            }
            Self::Finalize { task, files } => {
                let rows: u64 = files.iter().map(|file| file.rows).sum();
                write!(f, "finalize {task}: {rows} rows")
            }
            Self::Discard { task, file: _ } => write!(f, "discard {task}"),
            Self::WriteManifest { files, more } => {
                let files = files.len() + more.len();
                write!(f, "write the manifest of {files} files")
            }
            Self::AttemptsEnded(ended) => {
                f.write_str("ended: ")?;
                list(f, ended.iter().map(|one| &one.task))
            }
        }
    }
}

impl fmt::Display for ToWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome {
                heartbeat_interval_ms,
            } => write!(f, "welcome, heartbeat every {heartbeat_interval_ms} ms"),
            Self::Run(tasks) => {
                f.write_str("run ")?;
                list(f, tasks.iter().map(|dispatch| &dispatch.task))
            }
            Self::Cancel(tasks) => {
                f.write_str("cancel ")?;
                list(f, tasks)
            }
            Self::Ack(tasks) => {
                f.write_str("ack ")?;
                list(f, tasks)
            }
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}
