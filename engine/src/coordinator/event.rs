//! Defines all events that can reach a coordinator. The shell creates them from messages, broken
//! streams, finished writes and the passing of time, in the order in which it receives these. No
//! event carries a time: `step` gets the time as an argument.

use std::fmt;

use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{FailureClass, TaskOutput};
use crate::coordinator::setback::Setback;
use crate::id::{SessionId, StageId, TaskAttempt, TaskId, WorkerId};

/// One event. Each has one `on_<event>` function in `step`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker opened a session and identified itself. The shell has checked its token, job uid
    /// and generation.
    Hello {
        /// The new session.
        session: SessionId,
        /// The worker.
        worker: WorkerId,
        /// The ordinal of its pod, if it has one: when workers are released, the highest ordinals
        /// go first.
        ordinal: Option<u32>,
        /// Tasks it can run at once; at least 1.
        slots: u32,
        /// Attempts that it was given earlier, and that it is running or has finished without an
        /// `Ack`.
        running: Vec<TaskAttempt>,
    },
    /// A heartbeat.
    Heartbeat {
        /// The session on which it came.
        session: SessionId,
    },
    /// Progress of running attempts.
    Progress {
        /// The session on which it came.
        session: SessionId,
        /// Attempts with the records they have read.
        tasks: Vec<(TaskAttempt, u64)>,
    },
    /// A worker has finished attempts. Their outputs are durable but not committed.
    Done {
        /// The session on which it came.
        session: SessionId,
        /// Each attempt with its output.
        tasks: Vec<(TaskAttempt, TaskOutput)>,
    },
    /// An attempt failed.
    Failed {
        /// The session on which it came.
        session: SessionId,
        /// The attempt.
        task: TaskAttempt,
        /// Whose fault it was, according to the worker.
        class: FailureClass,
        /// The cause, if it was not the job's fault.
        setback: Option<Setback>,
        /// One sentence with file, record and error, as far as they are known.
        error: String,
        /// If the cause is a lost or damaged output of an earlier stage: that output.
        lost_input: Option<TaskAttempt>,
        /// The end of what the attempt logged; may be empty.
        log: String,
    },
    /// The worker was asked to terminate. It accepts no new task, and has stopped the attempts that
    /// it hands back here.
    Draining {
        /// The session on which it came.
        session: SessionId,
        /// Attempts that it hands back. It still intends to finish the others.
        handed_back: Vec<TaskAttempt>,
    },
    /// The session's stream ended, for whatever reason.
    SessionClosed {
        /// The session.
        session: SessionId,
    },
    /// The operator saw that a worker's pod, or a container in it, has ended.
    PodEnded {
        /// The pod.
        pod_uid: String,
        /// What ended it.
        cause: PodEndCause,
        /// For people: `OOMKilled (memory limit 512Mi)`.
        reason: String,
    },
    /// All records up to and including this one (see `Effect::Append`) are durable in the ledger.
    Durable {
        /// The last record's index.
        through: u64,
    },
    /// The object that `Effect::PublishStage` requested is written.
    StagePublished {
        /// The stage.
        stage: StageId,
        /// The requested version; an output may have been lost in the meantime.
        version: u32,
        /// The location of the object that lists its outputs.
        outputs: String,
    },
    /// `Effect::Finalize` succeeded: the final file exists and is complete.
    FileFinalized {
        /// The sink's task.
        task: TaskId,
    },
    /// `Effect::Finalize` can no longer succeed: neither the upload nor the complete file exists.
    FileLost {
        /// The sink's attempt whose output is lost.
        task: TaskAttempt,
    },
    /// `Effect::WriteManifest` succeeded.
    ManifestWritten {
        /// Uri of `_SUCCESS.json`.
        manifest: String,
    },
    /// `Effect::WriteManifest` or `Effect::Finalize` is no longer allowed, because the folder now
    /// belongs to another job, or contains files of another job.
    OutputTaken {
        /// One sentence: which job owns the folder, or which files are in it.
        message: String,
    },
    /// The operator starts no further generation. This one is the last, and it makes no progress.
    EndedByOperator {
        /// The same value as in `JobResult::Failed`.
        reason: FailureReason,
        /// One sentence for people.
        message: String,
    },
    /// The operator keeps this number of workers, counted by ordinal from 0, and releases the
    /// workers with higher ordinals.
    WorkersKept {
        /// The number.
        workers: u32,
    },
    /// The operator is about to suspend the job, or no longer intends to suspend it.
    Drain {
        /// Whether no further task starts.
        drains: bool,
    },
    /// Time passed. Sent at least twice a second.
    Tick,
}

/// What ended a pod. Only differences that matter for budgets are distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodEndCause {
    /// Preemption, eviction, node loss, deletion.
    Disruption,
    /// The container was killed because it ran out of memory.
    OutOfMemory,
    /// The container exited by itself with a non-zero exit code.
    Exit,
}

impl fmt::Display for Event {
    /// One line for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello {
                session,
                worker,
                ordinal: _,
                slots,
                running,
            } => {
                write!(
                    f,
                    "session {session}: hello from {worker} with {slots} slots, running {}",
                    running.len()
                )
            }
            Self::Heartbeat { session } => write!(f, "session {session}: heartbeat"),
            Self::Progress { session, tasks } => {
                write!(f, "session {session}: progress of {}", tasks.len())
            }
            Self::Done { session, tasks } => {
                write!(f, "session {session}: done ")?;
                list(f, tasks.iter().map(|(task, _)| task))
            }
            Self::Failed {
                session,
                task,
                class,
                setback: _,
                error,
                lost_input,
                log: _,
            } => {
                write!(f, "session {session}: {task} failed ({class:?}): {error}")?;
                lost_input.map_or(Ok(()), |lost| write!(f, "; lost input: {lost}"))
            }
            Self::Draining {
                session,
                handed_back,
            } => {
                write!(f, "session {session}: draining, handed back ")?;
                list(f, handed_back)
            }
            Self::SessionClosed { session } => write!(f, "session {session}: closed"),
            Self::PodEnded {
                pod_uid,
                cause,
                reason,
            } => write!(f, "pod {pod_uid} ended ({cause:?}): {reason}"),
            Self::Durable { through } => write!(f, "durable through record {through}"),
            Self::StagePublished {
                stage,
                version,
                outputs,
            } => {
                write!(
                    f,
                    "stage {stage}: outputs published (version {version}) at {outputs}"
                )
            }
            Self::FileFinalized { task } => write!(f, "{task}: final file is complete"),
            Self::FileLost { task } => write!(f, "{task}: final file lost"),
            Self::ManifestWritten { manifest } => write!(f, "manifest written at {manifest}"),
            Self::OutputTaken { message } => write!(f, "the output is taken: {message}"),
            Self::EndedByOperator { reason, message } => {
                write!(f, "ended by the operator ({reason}): {message}")
            }
            Self::WorkersKept { workers } => write!(f, "the operator keeps {workers} workers"),
            Self::Drain { drains: true } => write!(f, "the operator starts no further task"),
            Self::Drain { drains: false } => write!(f, "the operator starts tasks again"),
            Self::Tick => write!(f, "tick"),
        }
    }
}

/// The largest number of attempts that one line names; for the others it gives the number.
const MAX_NAMED: usize = 4;

/// `[stage 1 shard 1 attempt e1a1, and 6 more]`
pub(crate) fn list<'a>(
    f: &mut fmt::Formatter<'_>,
    tasks: impl IntoIterator<Item = &'a TaskAttempt>,
) -> fmt::Result {
    let mut tasks = tasks.into_iter();
    f.write_str("[")?;
    for (position, task) in tasks.by_ref().take(MAX_NAMED).enumerate() {
        let comma = if position == 0 { "" } else { ", " };
        write!(f, "{comma}{task}")?;
    }
    match tasks.count() {
        0 => f.write_str("]"),
        more => write!(f, ", and {more} more]"),
    }
}
