//! The standard error of a command: each line goes to the log, up to a limit, and the end is kept
//! for the message if the command fails. Reads nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many bytes are kept for the message.
const TAIL_BYTES: usize = 4096;
/// The longest line that is logged in one piece.
const MAX_LINE_BYTES: usize = 1024;
/// Lines of one command that are logged in a second, so that it cannot fill the log.
const LINES_PER_SECOND: u32 = 20;

/// The log of one command's standard error.
pub(super) struct StderrLog {
    /// The step and the shard, for the log.
    command: String,
    tail: VecDeque<u8>,
    line: Vec<u8>,
    second_began: Instant,
    logged: u32,
    left_out: u64,
}

impl StderrLog {
    pub(super) fn new(command: String) -> Self {
        Self {
            command,
            tail: VecDeque::new(),
            line: Vec::new(),
            second_began: Instant::now(),
            logged: 0,
            left_out: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= MAX_LINE_BYTES {
                self.log();
            }
        }
    }

    /// The end of what the command wrote, without white space around it.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    fn log(&mut self) {
        if self.second_began.elapsed() >= Duration::from_secs(1) {
            self.report_left_out();
            self.second_began = Instant::now();
            self.logged = 0;
        }
        if self.line.is_empty() {
            return;
        }
        if self.logged < LINES_PER_SECOND {
            self.logged += 1;
            let line = String::from_utf8_lossy(&self.line);
            tracing::warn!(command = self.command, %line, "standard error");
        } else {
            self.left_out += 1;
        }
        self.line.clear();
    }

    fn report_left_out(&mut self) {
        if self.left_out > 0 {
            let lines = self.left_out;
            tracing::warn!(
                command = self.command,
                lines,
                "standard error: too many lines, left out"
            );
            self.left_out = 0;
        }
    }
}

impl Drop for StderrLog {
    fn drop(&mut self) {
        self.log();
        self.report_left_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_a_flood_of_lines_is_counted() {
        let mut log = StderrLog::new("exec".to_owned());
        log.push("x\n".repeat(10_000).as_bytes());
        log.push(b"last words\n");
        assert!(log.tail().len() <= TAIL_BYTES);
        assert!(log.tail().ends_with("\nlast words"));
        assert_eq!(log.logged, LINES_PER_SECOND);
        assert_eq!(log.left_out, 10_001 - u64::from(LINES_PER_SECOND));
    }
}
