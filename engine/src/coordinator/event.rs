//! All that can happen to a coordinator. The shell turns messages, broken streams, finished writes
//! and the passing of time into these, in the order in which it learns of them. No event carries a
//! clock: `step` is given the time.

use std::fmt;

use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{FailureClass, TaskOutput};
use crate::coordinator::setback::Setback;
use crate::id::{SessionId, StageId, TaskAttempt, TaskId, WorkerId};

/// One thing that happened. Each has one `on_<event>` function in `step`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker opened a session and said who it is. Its token, job uid and generation were checked
    /// by the shell.
    Hello {
        /// The new session.
        session: SessionId,
        /// Who speaks.
        worker: WorkerId,
        /// The number of its pod in the set of workers, where it has one: when workers are
        /// released, the highest go.
        ordinal: Option<u32>,
        /// Tasks it can run at once; at least 1.
        slots: u32,
        /// Attempts it is running or has finished without an `Ack`, from before.
        running: Vec<TaskAttempt>,
    },
    /// A sign of life.
    Heartbeat {
        /// The session it came through.
        session: SessionId,
    },
    /// What running attempts have done so far.
    Progress {
        /// The session it came through.
        session: SessionId,
        /// Attempts with the records they have read.
        tasks: Vec<(TaskAttempt, u64)>,
    },
    /// Attempts are finished; their outputs are durable but not committed.
    Done {
        /// The session it came through.
        session: SessionId,
        /// Each attempt with what it made.
        tasks: Vec<(TaskAttempt, TaskOutput)>,
    },
    /// An attempt failed.
    Failed {
        /// The session it came through.
        session: SessionId,
        /// The attempt.
        task: TaskAttempt,
        /// Whose fault it was, as the worker sees it.
        class: FailureClass,
        /// Where it was nobody's fault in the job: what it was.
        setback: Option<Setback>,
        /// One sentence: file, record and error where there are such.
        error: String,
        /// Where the cause is a lost or damaged output of an earlier stage: that output.
        lost_input: Option<TaskAttempt>,
    },
    /// The worker was told to go. It takes no new task; what it hands back here it has stopped.
    Draining {
        /// The session it came through.
        session: SessionId,
        /// Attempts it gives back. Those not named it still means to finish.
        handed_back: Vec<TaskAttempt>,
    },
    /// The session's stream ended, for whatever reason.
    SessionClosed {
        /// The session.
        session: SessionId,
    },
    /// The operator saw a worker's pod, or a container in it, end.
    PodEnded {
        /// The pod.
        pod_uid: String,
        /// What ended it.
        cause: PodEndCause,
        /// For people: `OOMKilled (memory limit 512Mi)`.
        reason: String,
    },
    /// All records up to and including this one (see `Effect::Append`) are in the ledger for good.
    Durable {
        /// The last record's index.
        through: u64,
    },
    /// What `Effect::PublishStage` asked for is written.
    StagePublished {
        /// The stage.
        stage: StageId,
        /// The version that was asked for: an output may have been lost meanwhile.
        version: u32,
        /// Where the object lies that lists its outputs.
        outputs: String,
    },
    /// What `Effect::Finalize` asked for is done: the final file stands, whole.
    FileFinalized {
        /// The sink's task.
        task: TaskId,
    },
    /// What `Effect::Finalize` asked for cannot be done any more: neither the upload nor the whole
    /// file is there.
    FileLost {
        /// The sink's attempt whose output is lost.
        task: TaskAttempt,
    },
    /// What `Effect::WriteManifest` asked for is done.
    ManifestWritten {
        /// Uri of `_SUCCESS.json`.
        manifest: String,
    },
    /// What `Effect::WriteManifest` or `Effect::Finalize` asked for must not be done: the folder is
    /// another job's by now, or holds what is not this job's.
    OutputTaken {
        /// Whose it is or what it holds, in one sentence.
        message: String,
    },
    /// The operator starts no further generation, so this one is the last, and it does not get on.
    EndedByOperator {
        /// As in `JobResult::Failed`.
        reason: FailureReason,
        /// One sentence for people.
        message: String,
    },
    /// Time passed. Sent at least twice a second.
    Tick,
}

/// What ended a pod, as far as budgets care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodEndCause {
    /// Preemption, eviction, node loss, deletion.
    Disruption,
    /// The container was killed for want of memory.
    OutOfMemory,
    /// The container ended by itself with a non-zero exit code.
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
            Self::FileFinalized { task } => write!(f, "{task}: final file stands"),
            Self::FileLost { task } => write!(f, "{task}: final file lost"),
            Self::ManifestWritten { manifest } => write!(f, "manifest written at {manifest}"),
            Self::OutputTaken { message } => write!(f, "the output is taken: {message}"),
            Self::EndedByOperator { reason, message } => {
                write!(f, "ended by the operator ({reason}): {message}")
            }
            Self::Tick => write!(f, "tick"),
        }
    }
}

/// Attempts that one line names; of more it says how many.
const MAX_NAMED: usize = 4;

/// `[stage 0 shard 1 attempt e1a1, and 6 more]`
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
