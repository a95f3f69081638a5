//! Keeps the processes of commands with `reuse`, each of which serves one shard after the other,
//! and decides when the answer to a shard is complete. A record must never count for another shard.
//! So whenever it is not certain to which shard output belongs, this is a fault, and a process with
//! a fault is never kept. Moves no bytes.
//!
//! An empty line on its standard input ends a shard. The process answers with an empty line after
//! its last record. The empty line is sent to the process only after it has read all records. So an
//! answer that is too early is always noticed, provided that the process handles what it has read
//! before it reads more.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zephyr_engine::id::StageId;

use super::error::shown;
use super::process::Process;

/// The processes of one slot that wait for their next shard.
#[derive(Default)]
pub(in crate::task) struct KeptCommands(Mutex<Vec<Kept>>);

struct Kept {
    stage: StageId,
    /// The position of the command in its stage.
    index: u32,
    process: Process,
}

impl KeptCommands {
    /// Ends the processes of all other stages.
    pub(in crate::task) fn keep_only(&self, stage: StageId) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let (same, others): (Vec<Kept>, Vec<Kept>) =
            all.into_iter().partition(|kept| kept.stage == stage);
        // Ending a process takes a moment. Nothing is locked during that time.
        drop(others);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(same);
    }

    /// The process of a command for its next shard; `None` if there is none, or if it has ended
    /// since the last shard.
    pub(super) fn take(&self, stage: StageId, index: u32) -> Result<Option<Process>, ReuseFault> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all
            .iter()
            .position(|kept| kept.stage == stage && kept.index == index);
        let Some(mut process) = found.map(|found| all.swap_remove(found).process) else {
            return Ok(None);
        };
        drop(all);
        process.read_reports();
        if process.output_bytes() > 0 {
            return Err(ReuseFault::WroteBetween);
        }
        if let Some(end) = process.end() {
            tracing::info!(?end, "a command ended between two shards; a new one starts");
            return Ok(None);
        }
        Ok(Some(process))
    }

    /// Keeps a process for its next shard.
    pub(super) fn put(&self, stage: StageId, index: u32, process: Process) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Kept {
            stage,
            index,
            process,
        });
    }
}

/// How a process that serves many shards broke the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReuseFault {
    /// It ended with success before its answer to the shard.
    EndedInShard,
    /// It wrote before it had read anything of the shard.
    OutputBeforeInput,
    /// It wrote an empty line, the one with this number, before it had read all of the shard.
    EarlyAnswer(u64),
    /// It wrote this line after its answer to the shard.
    AfterAnswer(u64, Vec<u8>),
    /// It wrote after a shard had ended and before the next one began.
    WroteBetween,
    /// The end of the shard was sent to it. After that it neither read nor wrote anything for this
    /// time.
    NoAnswer(Duration),
}

/// What a command with `reuse` has to do.
const RULE: &str = "with reuse it writes only the records of a shard, and then one empty line, after it has read the empty line that ends the shard";

impl ReuseFault {
    /// What the program did, and what is allowed.
    pub(super) fn text(&self, program: &str) -> String {
        let problem = match self {
            Self::NoAnswer(limit) => format!(
                "{program:?} did not answer to the end of the shard for {} s, which is spec.retries.taskStallTimeout; it may not have flushed its output",
                limit.as_secs()
            ),
            Self::EndedInShard => format!(
                "{program:?} ended with exit code 0 before its answer to the end of the shard"
            ),
            Self::OutputBeforeInput => format!(
                "{program:?} wrote to its standard output before it had read anything of the shard"
            ),
            Self::EarlyAnswer(line) => format!(
                "line {line} of the output of {program:?} is empty, and the shard had not ended"
            ),
            Self::AfterAnswer(line, text) => format!(
                "line {line} of the output of {program:?} comes after the empty line that ends its answer (got {})",
                shown(text)
            ),
            Self::WroteBetween => format!(
                "{program:?} wrote to its standard output after its answer to an earlier shard and before this one"
            ),
        };
        format!("{problem}; {RULE}")
    }
}

/// The state of one shard in a process that serves many.
pub(super) struct Frame {
    /// What the process had read when the shard began.
    read_before: u64,
    /// The empty line that ends the shard was given to the pipe, or is about to be.
    pub(super) end_is_sent: bool,
    /// The process has answered with an empty line.
    pub(super) is_answered: bool,
}

impl Frame {
    pub(super) fn begin(process: &Process) -> Self {
        Self {
            read_before: process.read_bytes(),
            end_is_sent: false,
            is_answered: false,
        }
    }

    /// Judges output that has just been received. `read` is what the process has read since its
    /// start.
    pub(super) fn on_output(&self, read: u64) -> Result<(), ReuseFault> {
        if read <= self.read_before {
            return Err(ReuseFault::OutputBeforeInput);
        }
        Ok(())
    }

    /// Judges an empty line of the output. `unread` is what the process has not read of its input.
    pub(super) fn on_empty_line(&mut self, line: u64, unread: u64) -> Result<(), ReuseFault> {
        if self.is_answered {
            return Err(ReuseFault::AfterAnswer(line, Vec::new()));
        }
        if !self.end_is_sent || unread > 0 {
            return Err(ReuseFault::EarlyAnswer(line));
        }
        self.is_answered = true;
        Ok(())
    }

    /// Judges a line with a record, or the beginning of one.
    pub(super) fn on_text(&self, line: u64, text: &[u8]) -> Result<(), ReuseFault> {
        if self.is_answered {
            return Err(ReuseFault::AfterAnswer(line, text.to_vec()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(end_is_sent: bool) -> Frame {
        Frame {
            read_before: 10,
            end_is_sent,
            is_answered: false,
        }
    }

    #[test]
    fn an_answer_counts_only_after_the_end_of_the_shard_was_read_and_only_once() {
        assert_eq!(
            frame(false).on_empty_line(3, 0),
            Err(ReuseFault::EarlyAnswer(3))
        );
        assert_eq!(
            frame(true).on_empty_line(3, 1),
            Err(ReuseFault::EarlyAnswer(3))
        );
        let mut answered = frame(true);
        assert_eq!(answered.on_text(1, b"1"), Ok(()));
        assert_eq!(answered.on_empty_line(3, 0), Ok(()));
        assert_eq!(
            answered.on_empty_line(4, 0),
            Err(ReuseFault::AfterAnswer(4, Vec::new()))
        );
        assert_eq!(
            answered.on_text(4, b"1"),
            Err(ReuseFault::AfterAnswer(4, b"1".to_vec()))
        );
    }

    #[test]
    fn output_before_the_shard_was_read_is_not_of_this_shard() {
        assert_eq!(
            frame(false).on_output(10),
            Err(ReuseFault::OutputBeforeInput)
        );
        assert_eq!(frame(false).on_output(11), Ok(()));
    }
}
