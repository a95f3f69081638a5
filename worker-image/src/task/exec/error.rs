//! Why a command failed: one sentence that names the step and the shard, and whether the task is
//! tried again. Pure.

use std::time::Duration;

use zephyr_engine::coordinator::record::FailureClass;

use super::counters::CountersProblem;
use super::kept::ReuseFault;
use super::process::End;

/// Characters of a line that a message shows.
const SHOWN_CHARACTERS: usize = 64;
/// `ENOENT`, `EACCES` and `ENOEXEC` of Linux.
const NOT_FOUND: i32 = 2;
const DENIED: i32 = 13;
const NOT_A_PROGRAM: i32 = 8;
const SIGKILL: i32 = 9;

/// What went wrong with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::task) struct ExecError {
    /// The step: `spec.pipeline.steps[1].exec`.
    pub(super) step: String,
    /// The program.
    pub(super) program: String,
    /// The stage and the shard, for people.
    pub(super) task: String,
    /// What went wrong.
    pub(super) fault: Fault,
    /// The end of its standard error.
    pub(super) stderr: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be started: the error number of the system.
    Start(i32),
    /// The system refused a call with which this process starts the command or uses its pipes.
    System(String),
    /// It ended without success.
    Ended(End),
    /// It ended with success, but did not read the last bytes of its input: this many.
    UnreadInput(u64),
    /// It ended with success before all records were sent.
    IgnoredInput,
    /// The last line of its output has no line end.
    HalfLine(u64, Vec<u8>),
    /// A line is not a record.
    Line(u64, Vec<u8>, String),
    /// It ended, and a process that it started holds its standard output open.
    LeftOpen(Duration),
    /// It moved no byte for this long.
    Stalled(Duration),
    /// It has neither read nor written for this long since it began.
    NeverBegan(Duration),
    /// It broke the rules for a process that serves many shards.
    Reuse(ReuseFault),
    /// Its counters are not valid.
    Counters(CountersProblem),
}

impl std::fmt::Display for ExecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            step,
            program,
            task,
            fault,
            stderr,
        } = self;
        match fault {
            Fault::Start(_) => write!(f, "{step}.command: {}", self.start_text())?,
            Fault::System(error) => write!(
                f,
                "{step}: {task}: the system failed while {program:?} was started or ran: {error}"
            )?,
            Fault::Ended(end) => write!(f, "{step}: {task}: {program:?} {}", end_text(*end))?,
            Fault::UnreadInput(bytes) => write!(
                f,
                "{step}: {task}: {program:?} ended with exit code 0 and did not read the last {bytes} bytes of its input; it has to read all of it, or set {step}.mayIgnoreInput to true"
            )?,
            Fault::IgnoredInput => write!(
                f,
                "{step}: {task}: {program:?} ended with exit code 0 before the end of its input; it has to read all of it, or set {step}.mayIgnoreInput to true"
            )?,
            Fault::HalfLine(line, text) => write!(
                f,
                "{step}: {task}: the last line of the output of {program:?}, line {line}, has no line end (got {}); each record is one line that ends with \\n",
                shown(text)
            )?,
            Fault::Line(line, text, problem) => write!(
                f,
                "{step}: {task}: line {line} of the output of {program:?}: {problem} (got {}); each line of its standard output has to be one JSON value, and everything else goes to its standard error",
                shown(text)
            )?,
            Fault::LeftOpen(waited) => write!(
                f,
                "{step}: {task}: {program:?} ended, and a process that it started still had its standard output open after {} s; it has to wait for the processes that it starts",
                waited.as_secs()
            )?,
            Fault::Stalled(limit) => write!(
                f,
                "{step}: {task}: {program:?} neither read nor wrote a byte for {} s and was stopped; the limit is spec.retries.taskStallTimeout",
                limit.as_secs()
            )?,
            Fault::NeverBegan(limit) => write!(
                f,
                "{step}: {task}: {program:?} neither read nor wrote its first byte within {} s of its start and was stopped; the limit is {} times spec.retries.taskStallTimeout",
                limit.as_secs(),
                super::START_UP_FACTOR
            )?,
            Fault::Reuse(broken) => {
                write!(f, "{step}: {task}: {}", broken.text(program))?;
            }
            Fault::Counters(CountersProblem::Read(error)) => write!(
                f,
                "{step}: {task}: the system failed while the file ZEPHYR_COUNTERS of {program:?} was read: {error}"
            )?,
            Fault::Counters(CountersProblem::File(problem)) => write!(
                f,
                "{step}: {task}: the file ZEPHYR_COUNTERS of {program:?} {problem}"
            )?,
            Fault::Counters(CountersProblem::Line(line, problem)) => write!(
                f,
                "{step}: {task}: line {line} of the file ZEPHYR_COUNTERS of {program:?}: {problem}"
            )?,
        }
        // The last line of standard error comes first. It usually contains the cause, and status
        // may not have room for all lines.
        let mut lines = stderr
            .lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let Some(last) = lines.next() else {
            return Ok(());
        };
        write!(f, "; its standard error ends with: {last}")?;
        let mut before: Vec<&str> = lines.collect();
        before.reverse();
        if before.is_empty() {
            return Ok(());
        }
        write!(f, "; before that: {}", before.join(" | "))
    }
}

impl std::error::Error for ExecError {}

impl ExecError {
    /// Own code may use services that fail for a while, so most failures are tried again, up to
    /// `spec.retries.taskFailures`. A command that does not exist fails every time, and so does a
    /// line that is not a record. These are not tried again.
    pub(in crate::task) fn class(&self) -> FailureClass {
        match &self.fault {
            Fault::Start(NOT_FOUND | DENIED | NOT_A_PROGRAM)
            | Fault::Line(..)
            | Fault::Reuse(
                ReuseFault::OutputBeforeInput
                | ReuseFault::EarlyAnswer(_)
                | ReuseFault::AfterAnswer(..)
                | ReuseFault::WroteBetween,
            )
            | Fault::Counters(CountersProblem::File(_) | CountersProblem::Line(..)) => {
                FailureClass::Deterministic
            }
            Fault::Start(_)
            | Fault::System(_)
            | Fault::Ended(_)
            | Fault::UnreadInput(_)
            | Fault::IgnoredInput
            | Fault::HalfLine(..)
            | Fault::LeftOpen(_)
            | Fault::Stalled(_)
            | Fault::NeverBegan(_)
            | Fault::Reuse(ReuseFault::EndedInShard | ReuseFault::NoAnswer(_))
            | Fault::Counters(CountersProblem::Read(_)) => FailureClass::Application,
        }
    }

    /// The end of its standard error.
    pub(in crate::task) fn stderr(&self) -> &str {
        &self.stderr
    }

    fn start_text(&self) -> String {
        let Fault::Start(number) = self.fault else {
            return String::new();
        };
        let program = &self.program;
        let exists = program.starts_with('/') && std::path::Path::new(program).exists();
        let allowed = "a program of the worker's image by its name or its absolute path, or a file of spec.workers.mounts";
        match number {
            NOT_FOUND if exists => format!(
                "{program:?} cannot be started: the program in its first line, after #!, does not exist or {program:?} is for another machine; put the interpreter first, such as [python3, {program}]"
            ),
            NOT_FOUND => format!("{program:?} does not exist; {allowed}"),
            DENIED => format!(
                "{program:?} is not executable; {allowed}, that may be executed, or put its interpreter first, such as [python3, {program}]"
            ),
            NOT_A_PROGRAM => format!(
                "{program:?} is neither a program for this machine nor a script that begins with #!; put its interpreter first, such as [sh, {program}]"
            ),
            number => {
                let error = std::io::Error::from_raw_os_error(number);
                format!("{program:?} cannot be started: {error}")
            }
        }
    }
}

fn end_text(end: End) -> String {
    match end {
        End::NotStarted(error) => format!("could not be started (error {error})"),
        End::Exit(code) => format!("ended with exit code {code}; success is 0"),
        End::Signal(SIGKILL) => "was killed by signal 9 (SIGKILL), as the system does if memory is short; the worker's limit is set by spec.workers.resources".to_owned(),
        End::Signal(signal) => format!("was killed by signal {signal}"),
        End::Unknown => "ended together with the process that watched over it".to_owned(),
    }
}

pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fault: Fault) -> ExecError {
        ExecError {
            step: "spec.pipeline.steps[1].exec".to_owned(),
            program: "x".to_owned(),
            task: "stage 1 shard 3".to_owned(),
            fault,
            stderr: String::new(),
        }
    }

    #[test]
    fn each_fault_of_a_command_is_a_sentence_that_names_the_step_and_the_shard() {
        let limit = Duration::from_mins(10);
        for (fault, words) in [
            (
                Fault::Ended(End::Exit(3)),
                "\"x\" ended with exit code 3; success is 0",
            ),
            (Fault::Ended(End::Signal(9)), "spec.workers.resources"),
            (Fault::Ended(End::Signal(11)), "was killed by signal 11"),
            (
                Fault::UnreadInput(5),
                "spec.pipeline.steps[1].exec.mayIgnoreInput",
            ),
            (Fault::IgnoredInput, "before the end of its input"),
            (
                Fault::HalfLine(7, b"{\"a\"".to_vec()),
                "line 7, has no line end (got {\"a\")",
            ),
            (
                Fault::Line(2, b"oops".to_vec(), "bad".to_owned()),
                "line 2 of the output of \"x\": bad (got oops)",
            ),
            (Fault::LeftOpen(Duration::from_secs(5)), "open after 5 s"),
            (
                Fault::Stalled(limit),
                "600 s and was stopped; the limit is spec.retries.taskStallTimeout",
            ),
            (
                Fault::Counters(CountersProblem::Line(3, "is odd".to_owned())),
                "line 3 of the file ZEPHYR_COUNTERS of \"x\": is odd",
            ),
            (
                Fault::Reuse(ReuseFault::EndedInShard),
                "\"x\" ended with exit code 0 before its answer",
            ),
            (
                Fault::Reuse(ReuseFault::AfterAnswer(4, b"7".to_vec())),
                "line 4 of the output of \"x\" comes after the empty line that ends its answer (got 7)",
            ),
            (
                Fault::Reuse(ReuseFault::OutputBeforeInput),
                "with reuse it writes",
            ),
            (
                Fault::Reuse(ReuseFault::EarlyAnswer(2)),
                "line 2 of the output of \"x\" is empty",
            ),
            (
                Fault::Reuse(ReuseFault::WroteBetween),
                "an earlier shard and before this one",
            ),
            (
                Fault::NeverBegan(limit),
                "10 times spec.retries.taskStallTimeout",
            ),
        ] {
            let text = error(fault).to_string();
            assert!(
                text.starts_with("spec.pipeline.steps[1].exec: stage 1 shard 3: "),
                "{text}"
            );
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_command_that_is_missing_is_final_and_one_that_fails_is_tried_again() {
        for number in [NOT_FOUND, DENIED, NOT_A_PROGRAM] {
            let error = error(Fault::Start(number));
            assert_eq!(error.class(), FailureClass::Deterministic);
            let text = error.to_string();
            assert!(
                text.starts_with("spec.pipeline.steps[1].exec.command: \"x\" "),
                "{text}"
            );
        }
        let busy = error(Fault::Start(11));
        assert_eq!(busy.class(), FailureClass::Application);
        let failed = error(Fault::Ended(End::Exit(1)));
        assert_eq!(failed.class(), FailureClass::Application);
    }

    #[test]
    fn the_end_of_standard_error_is_in_the_message() {
        let mut failed = error(Fault::Ended(End::Exit(1)));
        failed.stderr = "ValueError: x".to_owned();
        let text = failed.to_string();
        assert!(
            text.ends_with("0; its standard error ends with: ValueError: x"),
            "{text}"
        );
        failed.stderr = "Traceback:\n  File 1\n\nValueError: x\n".to_owned();
        let text = failed.to_string();
        assert!(
            text.ends_with("ends with: ValueError: x; before that: Traceback: | File 1"),
            "{text}"
        );
    }
}
