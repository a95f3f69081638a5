//! Says how each attempt ended, for people who look at the history of a job. An attempt ends when
//! its worker has it no longer, or, if it won, when its record is durable. Nothing is decided by
//! these facts, and no coordinator reads them again.

use crate::coordinator::liveness::Loss;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::record::{FailureClass, TaskOutput};
use crate::coordinator::setback::Setback;
use crate::coordinator::state::{RunningAttempt, State, TaskState, Worker, WorkerNumber};
use crate::id::{TaskAttempt, Timestamp};

/// How many bytes of an error an ended attempt keeps, so that its line stays short. The ledger has
/// the whole error of a failure that was charged.
pub const MAX_ENDED_ERROR_BYTES: usize = 512;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It won, and its record is durable.
    Committed,
    /// Another attempt of its task won, or was taken up again.
    Superseded,
    /// It was stopped, because the job has ended.
    Cancelled,
    /// It failed because of its data.
    FailedByData,
    /// Its process failed, or the container of its worker, or its setbacks are not free any more.
    FailedByProcess,
    /// It ran for longer than `taskTimeout`.
    TimedOut,
    /// It was given back through no fault of its task.
    Disrupted,
    /// An output that it reads was lost, damaged or replaced.
    InputLost,
    /// Its worker was asked to terminate and gave it back.
    HandedBack,
    /// Its worker was lost.
    WorkerLost,
    /// Its worker connected again and does not have it.
    NotReceived,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Committed,
        Self::Superseded,
        Self::Cancelled,
        Self::FailedByData,
        Self::FailedByProcess,
        Self::TimedOut,
        Self::Disrupted,
        Self::InputLost,
        Self::HandedBack,
        Self::WorkerLost,
        Self::NotReceived,
    ];

    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "Committed",
            Self::Superseded => "Superseded",
            Self::Cancelled => "Cancelled",
            Self::FailedByData => "FailedByData",
            Self::FailedByProcess => "FailedByProcess",
            Self::TimedOut => "TimedOut",
            Self::Disrupted => "Disrupted",
            Self::InputLost => "InputLost",
            Self::HandedBack => "HandedBack",
            Self::WorkerLost => "WorkerLost",
            Self::NotReceived => "NotReceived",
        }
    }

    /// How an attempt ended whose failure has this class.
    pub fn of_failure(class: FailureClass) -> Self {
        match class {
            FailureClass::Deterministic => Self::FailedByData,
            FailureClass::Application => Self::FailedByProcess,
            FailureClass::TimedOut => Self::TimedOut,
            FailureClass::Disruption => Self::Disrupted,
        }
    }

    /// How an attempt ended that failed for this reason.
    pub(crate) fn of_report(class: FailureClass, setback: Option<Setback>) -> Self {
        match (class, setback) {
            (FailureClass::Disruption, Some(Setback::InputLost | Setback::InputReplaced)) => {
                Self::InputLost
            }
            (class, _) => Self::of_failure(class),
        }
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndedAttempt {
    /// The attempt.
    pub task: TaskAttempt,
    /// The uid of its worker's pod.
    pub pod_uid: String,
    /// The ordinal of that pod, if it has one.
    pub ordinal: Option<u32>,
    /// When it was dispatched. `None` if another coordinator did that, or if its worker was lost
    /// for a time.
    pub started: Option<Timestamp>,
    /// When this coordinator learned of its end.
    pub ended: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// Records that it has read, as last reported.
    pub records: u64,
    /// Bytes that it has read and written; known if it won.
    pub bytes: Option<(u64, u64)>,
    /// Why it did not win, in a sentence; may be empty. At most [`MAX_ENDED_ERROR_BYTES`].
    pub error: String,
}

impl State {
    /// An attempt that runs, as its task has it.
    pub(crate) fn running_attempt(&self, task: TaskAttempt) -> Option<&RunningAttempt> {
        let TaskState::Running { attempts } = &self.task(task.task)?.state else {
            return None;
        };
        let mut attempts = attempts.iter();
        attempts.find(|running| running.attempt == task.attempt)
    }

    /// Notes the end of an attempt that its worker has no longer. Must be called before its task
    /// changes.
    pub(crate) fn note_end(
        &self,
        out: &mut Outbox,
        number: WorkerNumber,
        task: TaskAttempt,
        ending: Ending,
        error: &str,
    ) {
        if let Some(worker) = self.workers.get(&number) {
            let running = self.running_attempt(task);
            out.ended(ended(out.now(), worker, task, running, ending, error));
        }
    }

    /// Notes the end of an attempt that another attempt of its task supersedes.
    pub(crate) fn note_superseded(
        &self,
        out: &mut Outbox,
        task: TaskAttempt,
        running: &RunningAttempt,
    ) {
        if let Some(worker) = self.workers.get(&running.worker) {
            let ending = Ending::Superseded;
            out.ended(ended(out.now(), worker, task, Some(running), ending, ""));
        }
    }

    /// Notes the end of an attempt whose worker is lost. If the attempt was charged with that, the
    /// failure says how it ended.
    pub(crate) fn note_loss(
        &self,
        out: &mut Outbox,
        worker: &Worker,
        task: TaskAttempt,
        loss: &Loss,
    ) {
        let history = self.histories.get(&task.task);
        let mut failures = history.into_iter().flat_map(|known| &known.failures);
        let charged = failures.find(|failure| failure.attempt == task.attempt);
        let (ending, error) = match (charged, loss) {
            (Some(failure), _) => (Ending::of_failure(failure.class), failure.error.as_str()),
            (None, Loss::Ended { reason }) => (Ending::FailedByProcess, reason.as_str()),
            (None, Loss::Silent | Loss::Disrupted | Loss::Drained | Loss::Replaced) => {
                (Ending::WorkerLost, loss.closing_reason())
            }
        };
        let running = self.running_attempt(task);
        out.ended(ended(out.now(), worker, task, running, ending, error));
    }

    /// Returns the end of an attempt that wins. It is noted when the record with this index is
    /// durable.
    pub(crate) fn note_win(
        &mut self,
        now: Timestamp,
        number: WorkerNumber,
        task: TaskAttempt,
        running: Option<&RunningAttempt>,
        output: &TaskOutput,
        index: u64,
    ) {
        let Some(worker) = self.workers.get(&number) else {
            return;
        };
        let won = EndedAttempt {
            records: output.records_in,
            bytes: Some((output.bytes_in, output.file.bytes)),
            ..ended(now, worker, task, running, Ending::Committed, "")
        };
        self.won.push_back((index, won));
    }

    /// Notes the ends of all attempts that won and whose records are durable now.
    pub(crate) fn note_durable_wins(&mut self, out: &mut Outbox, through: u64) {
        while let Some((index, won)) = self.won.pop_front() {
            if index > through {
                self.won.push_front((index, won));
                return;
            }
            out.ended(won);
        }
    }
}

fn ended(
    now: Timestamp,
    worker: &Worker,
    task: TaskAttempt,
    running: Option<&RunningAttempt>,
    ending: Ending,
    error: &str,
) -> EndedAttempt {
    let dispatched = running.filter(|running| !running.is_adopted);
    EndedAttempt {
        task,
        pod_uid: worker.id.pod_uid().to_owned(),
        ordinal: worker.ordinal,
        started: dispatched.map(|running| running.since),
        ended: now,
        ending,
        records: running.map_or(0, |running| running.records),
        bytes: None,
        error: cut(error).to_owned(),
    }
}

/// The beginning of a text, at most [`MAX_ENDED_ERROR_BYTES`]. No character is cut.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ENDED_ERROR_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_between_two_characters() {
        assert_eq!(cut("why"), "why");
        let long = format!("x{}", "é".repeat(MAX_ENDED_ERROR_BYTES));
        let kept = cut(&long);
        assert_eq!(kept.len(), MAX_ENDED_ERROR_BYTES - 1);
        assert!(kept.ends_with('é'));
    }

    #[test]
    fn no_two_endings_have_the_same_word() {
        let words: std::collections::BTreeSet<&str> =
            Ending::ALL.iter().map(|ending| ending.as_str()).collect();
        assert_eq!(words.len(), Ending::ALL.len());
    }
}
