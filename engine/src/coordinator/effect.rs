//! All that a coordinator can want done. The shell carries effects out in the order given and
//! answers with events; it has no choice left to make.

use std::fmt;

use crate::coordinator::event::list;
use crate::coordinator::record::{LogRecord, OutputFile};
use crate::id::{SessionId, StageId, TaskAttempt};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this to a worker. Where the session is gone meanwhile, nothing happens: `SessionClosed`
    /// follows or came.
    Send {
        /// The session to say it through.
        session: SessionId,
        /// What to say.
        message: ToWorker,
    },
    /// End a session: the worker was superseded by a newer session of its own.
    Close {
        /// The session.
        session: SessionId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Put these records into the ledger, after all that were appended before; answered by
    /// `Event::Durable`. The shell puts what has gathered while one put was in flight into the next
    /// log object.
    Append {
        /// Index of the first of them; the others follow on. Indexes begin at 0 in each epoch.
        first_index: u64,
        /// The records.
        records: Vec<LogRecord>,
    },
    /// Write the object that lists the winning outputs of a finished shuffle stage; answered by
    /// `StagePublished`.
    PublishStage {
        /// The stage.
        stage: StageId,
        /// Number of times it was published before in this epoch: part of the object's name, which
        /// is never overwritten.
        version: u32,
        /// The outputs in shard order.
        outputs: Vec<(TaskAttempt, OutputFile)>,
    },
    /// Complete the final file of this committed attempt; answered by `FileFinalized`, `FileLost`
    /// or `OutputTaken`. Sent again after a take-over until `LogRecord::Finalized` is in the
    /// ledger.
    Finalize {
        /// The attempt that won.
        task: TaskAttempt,
        /// Its file.
        file: OutputFile,
    },
    /// Throw away the uncommitted file of an attempt that lost.
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
    },
}

/// What a coordinator says to a worker.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum ToWorker {
    /// The session is accepted.
    Welcome {
        /// How often to send a heartbeat.
        heartbeat_interval_ms: u64,
    },
    /// Run these.
    Run(Vec<Dispatch>),
    /// Stop these; nobody wants them any more.
    Cancel(Vec<TaskAttempt>),
    /// These reports are dealt with, for good: forget the attempts.
    Ack(Vec<TaskAttempt>),
    /// There is nothing left to do: idle until told otherwise.
    Shutdown,
}

/// One attempt to run.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Dispatch {
    /// The task and the attempt.
    pub task: TaskAttempt,
    /// Where the stage reads a shuffle: the object that lists the outputs of the stage before.
    pub input_outputs: Option<String>,
    /// Whether the worker is to note each record before it is worked on, because an earlier attempt
    /// took its process with it and the message must name the record.
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
            Self::Finalize { task, file } => write!(f, "finalize {task}: {} rows", file.rows),
            Self::Discard { task, file: _ } => write!(f, "discard {task}"),
            Self::WriteManifest { files } => {
                write!(f, "write the manifest of {} files", files.len())
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
