//! Keeps what an attempt that failed had written last, for the report about a job that fails.
//!
//! This is not part of the ledger: a coordinator that takes over does not know it. It decides
//! nothing.

use crate::coordinator::state::State;
use crate::id::{TaskAttempt, TaskId};

/// How many bytes of the last lines of a failed attempt are kept, so that status stays small.
pub const MAX_LOG_BYTES: usize = 2_048;

/// The attempt that failed last, or whose failure ended the job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FailedTask {
    /// The attempt.
    pub task: TaskAttempt,
    /// The ordinal of the worker that ran it, if it is known.
    pub worker: Option<u32>,
    /// The end of what the attempt logged; may be empty. At most [`MAX_LOG_BYTES`].
    pub log: String,
}

impl State {
    /// Keeps the log of an attempt that was charged to `taskFailures`.
    pub(crate) fn note_failed(&mut self, task: TaskAttempt, worker: Option<u32>, log: &str) {
        self.last_failed = Some(FailedTask {
            task,
            worker,
            log: last_lines(log),
        });
    }

    /// Returns the attempt whose failure ends the job: the last one of `task` that was charged.
    pub(crate) fn failed_task(&mut self, task: TaskId) -> Option<FailedTask> {
        let history = self.histories.get(&task)?;
        let attempt = history.failures.last()?.attempt;
        let task = TaskAttempt { task, attempt };
        let noted = self.last_failed.take().filter(|failed| failed.task == task);
        let unknown = FailedTask {
            task,
            worker: None,
            log: String::new(),
        };
        Some(noted.unwrap_or(unknown))
    }
}

/// Returns the end of the text, from the beginning of a line if the text has several.
pub fn last_lines(text: &str) -> String {
    let text = text.trim();
    let Some(excess) = text.len().checked_sub(MAX_LOG_BYTES + 1) else {
        return text.to_owned();
    };
    let first = (excess + 1..text.len()).find(|at| text.is_char_boundary(*at));
    let end = &text[first.unwrap_or(text.len())..];
    match end.split_once('\n') {
        Some((_, lines)) if !lines.is_empty() => lines.to_owned(),
        Some(_) | None => end.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_no_character_is_cut() {
        assert_eq!(last_lines("  a\nb\n"), "a\nb");
        let exact = "x".repeat(MAX_LOG_BYTES);
        assert_eq!(last_lines(&exact), exact);
        let one_line = "é".repeat(MAX_LOG_BYTES) + "x";
        let kept = last_lines(&one_line);
        assert!(kept.len() <= MAX_LOG_BYTES && kept.ends_with("éx"));
        let lines = "a line\n".repeat(1_000) + "the last words";
        let kept = last_lines(&lines);
        assert!(kept.len() <= MAX_LOG_BYTES && kept.ends_with("\nthe last words"));
        assert!(kept.starts_with("a line\n"));
    }
}
