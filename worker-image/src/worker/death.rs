//! Describes how a child process died, in one sentence that names the file and the record. Pure:
//! this module examines no process.

use std::time::Duration;

use zephyr_engine::coordinator::record::FailureClass;

use crate::task::TaskFailure;

/// The position of a task in its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The input of the task.
    pub input: String,
    /// How many records it had read, according to its last report.
    pub records: u64,
    /// The record that it was processing, if each record was reported.
    pub next_record: Option<String>,
    /// The steps of its commands; empty if it started none.
    pub commands: String,
}

/// What ended the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A signal that this program did not send.
    Signal(i32),
    /// It exited by itself, with this code.
    Exit(i32),
    /// The worker killed it, because it made no progress for this long.
    Stalled(Duration),
    /// The worker killed it, because its task ran for this long.
    TimedOut(Duration),
    /// The worker killed it, because the worker's memory was nearly used up, and this process used
    /// the most.
    OutOfMemory,
    /// It wrote bytes that are not a valid frame.
    Protocol,
}

/// Everything that is known about a death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    /// What ended it.
    pub cause: Cause,
    /// Whether the kernel counted an OOM kill since the process began.
    pub oom_killed: bool,
    /// The worker's memory limit; 0 if there is none.
    pub memory_limit_bytes: u64,
    /// Whether its commands used most of the memory.
    pub is_mostly_commands: bool,
    /// The last lines of its stderr.
    pub stderr_tail: String,
    /// The end of what it logged during the task.
    pub log: String,
    /// The position of its task.
    pub place: Place,
}

/// How many characters of stderr a message contains at most.
const MAX_TAIL: usize = 300;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

impl Death {
    /// Returns the failure of the task that the process was running. It is always charged to the
    /// task: the worker itself still works, so no node and no pod was lost.
    pub(super) fn failure(&self) -> TaskFailure {
        let error = format!("{}: {}", self.place_text(), self.cause_text());
        let class = match self.cause {
            Cause::TimedOut(_) => FailureClass::TimedOut,
            Cause::Signal(_)
            | Cause::Exit(_)
            | Cause::Stalled(_)
            | Cause::OutOfMemory
            | Cause::Protocol => FailureClass::Application,
        };
        TaskFailure {
            class,
            setback: None,
            error,
            lost_input: None,
            log: self.log.clone(),
        }
    }

    fn place_text(&self) -> String {
        let Place {
            input,
            records,
            next_record,
            commands: _,
        } = &self.place;
        match next_record {
            Some(place) => place.clone(),
            None if *records == 0 => format!("{input}, before the first progress report"),
            None => format!("{input}, after about {records} records"),
        }
    }

    fn cause_text(&self) -> String {
        let tail = last_line(&self.stderr_tail);
        match self.cause {
            Cause::Stalled(limit) => {
                format!("no progress for {}, the task was stopped; the limit is spec.retries.taskStallTimeout", in_words(limit))
            }
            Cause::TimedOut(limit) => {
                format!("not done after {}, the task was stopped; the limit is spec.retries.taskTimeout", in_words(limit))
            }
            Cause::OutOfMemory => self.out_of_memory(),
            Cause::Signal(SIGKILL) if self.oom_killed => self.out_of_memory(),
            Cause::Signal(SIGSEGV | SIGABRT) if self.stderr_tail.contains("overflowed its stack") => {
                "the task's process overflowed its stack; an expression that calls itself needs an end".to_owned()
            }
            Cause::Signal(SIGABRT) if self.stderr_tail.contains("memory allocation of") => self.out_of_memory(),
            Cause::Signal(signal) => format!("the task's process was killed by signal {signal}{}{tail}", signal_name(signal)),
            Cause::Exit(code) => format!("the task's process ended by itself with exit code {code}{tail}"),
            Cause::Protocol => format!("the task's process wrote something else than reports to its stdout{tail}"),
        }
    }

    fn out_of_memory(&self) -> String {
        let who = if self.is_mostly_commands && !self.place.commands.is_empty() {
            format!("the command of {}", self.place.commands)
        } else {
            "the task's process".to_owned()
        };
        match self.memory_limit_bytes {
            0 => format!("{who} ran out of memory and was killed (OOM)"),
            limit => format!(
                "{who} ran out of memory and was killed (OOM); the worker's limit is {} MiB, set by spec.workers.resources",
                limit / (1024 * 1024)
            ),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        SIGABRT => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        SIGKILL => " (SIGKILL)",
        SIGSEGV => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// Returns `; its last output: …`, or an empty text if there is no output.
fn last_line(tail: &str) -> String {
    let Some(line) = tail.lines().rev().find(|line| !line.trim().is_empty()) else {
        return String::new();
    };
    let line: String = line.trim().chars().take(MAX_TAIL).collect();
    format!("; its last output: {line}")
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(cause: Cause) -> Death {
        let place = Place {
            input: "s3://b/a.jsonl".into(),
            records: 40,
            next_record: None,
            commands: String::new(),
        };
        Death {
            cause,
            oom_killed: false,
            memory_limit_bytes: 512 << 20,
            is_mostly_commands: false,
            stderr_tail: String::new(),
            log: String::new(),
            place,
        }
    }

    #[test]
    fn each_death_is_reported_with_its_cause() {
        let overflow = "thread 'task' has overflowed its stack\nfatal runtime error: stack overflow, aborting\n";
        let table = [
            (
                Death {
                    oom_killed: true,
                    ..death(Cause::Signal(9))
                },
                "s3://b/a.jsonl, after about 40 records: the task's process ran out of memory and was killed (OOM); the worker's limit is 512 MiB, set by spec.workers.resources",
            ),
            (
                death(Cause::Signal(9)),
                "s3://b/a.jsonl, after about 40 records: the task's process was killed by signal 9 (SIGKILL)",
            ),
            (
                Death {
                    stderr_tail: overflow.into(),
                    ..death(Cause::Signal(6))
                },
                "s3://b/a.jsonl, after about 40 records: the task's process overflowed its stack; an expression that calls itself needs an end",
            ),
            (
                Death {
                    stderr_tail: "memory allocation of 99 bytes failed\n".into(),
                    memory_limit_bytes: 0,
                    ..death(Cause::Signal(6))
                },
                "s3://b/a.jsonl, after about 40 records: the task's process ran out of memory and was killed (OOM)",
            ),
            (
                death(Cause::Stalled(Duration::from_mins(10))),
                "s3://b/a.jsonl, after about 40 records: no progress for 10m, the task was stopped; the limit is spec.retries.taskStallTimeout",
            ),
            (
                Death {
                    stderr_tail: "why\n\n".into(),
                    ..death(Cause::Exit(101))
                },
                "s3://b/a.jsonl, after about 40 records: the task's process ended by itself with exit code 101; its last output: why",
            ),
        ];
        for (death, expected) in table {
            let failure = death.failure();
            assert_eq!(
                (failure.error.as_str(), failure.class),
                (expected, FailureClass::Application)
            );
        }
    }

    #[test]
    fn a_task_that_runs_for_too_long_has_a_class_of_its_own() {
        let failure = death(Cause::TimedOut(Duration::from_secs(90))).failure();
        let words = "s3://b/a.jsonl, after about 40 records: not done after 1m30s, the task was stopped; the limit is spec.retries.taskTimeout";
        assert_eq!(
            (failure.error.as_str(), failure.class),
            (words, FailureClass::TimedOut)
        );
    }

    #[test]
    fn a_command_that_takes_the_memory_is_named() {
        let mut death = death(Cause::OutOfMemory);
        death.place.commands = "spec.pipeline.steps[1].exec".to_owned();
        let text = death.failure().error;
        assert!(
            text.contains(": the task's process ran out of memory"),
            "{text}"
        );
        death.is_mostly_commands = true;
        let text = death.failure().error;
        let words = ": the command of spec.pipeline.steps[1].exec ran out of memory and was killed";
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn a_noted_record_is_named_instead_of_a_count() {
        let mut death = death(Cause::Signal(11));
        death.place.next_record = Some("s3://b/a.jsonl line 17".into());
        assert!(
            death
                .failure()
                .error
                .starts_with("s3://b/a.jsonl line 17: the task's process was killed by signal 11")
        );
    }
}
