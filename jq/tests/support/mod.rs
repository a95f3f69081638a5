//! Answers of the evaluator as text, for tests and for the example `cases`.

use std::fmt;
use std::ops::ControlFlow;
use std::thread;

use zephyr_jq::json::{ScanLimits, Source, scan};
use zephyr_jq::{Error, Options, Program, STACK_BYTES, Value, declare_stack};

/// How many outputs one answer has at most. The oracle has the same limit, so an endless program
/// ends in the same way in both.
const MAX_OUTPUTS: usize = 10_000;

/// The result of a program for an input.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// The outputs as JSON.
    pub(crate) outputs: Vec<String>,
    /// The error that came after them.
    pub(crate) error: Option<String>,
    /// Why the program does not compile.
    pub(crate) refused: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.refused, &self.error) {
            (Some(refused), _) => write!(f, "refused: {refused}"),
            (None, None) => write!(f, "{}", self.outputs.join(" ")),
            (None, Some(error)) => write!(f, "{} error: {error}", self.outputs.join(" ")),
        }
    }
}

/// The answer of `program` to the JSON text `input`.
#[allow(dead_code, reason = "not every test uses it")]
pub(crate) fn answer(program: &str, input: &str) -> Answer {
    with_stack(|| on_this_thread(program, input))
}

/// Why a program does not compile; `None` if it does.
#[allow(dead_code, reason = "not every test uses it")]
pub(crate) fn refusal(program: &str) -> Option<String> {
    with_stack(|| {
        Program::compile(program, &Options::default())
            .err()
            .map(|error| error.to_string())
    })
}

/// Runs `work` on a thread with as much stack as a worker has.
pub(crate) fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = || {
            declare_stack(STACK_BYTES);
            work()
        };
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, run)
            .unwrap()
            .join()
            .unwrap()
    })
}

/// Like [`answer`], on a thread that has declared its stack.
pub(crate) fn on_this_thread(program: &str, input: &str) -> Answer {
    let mut answer = Answer::default();
    let program = match Program::compile(program, &Options::default()) {
        Ok(program) => program,
        Err(error) => {
            answer.refused = Some(error.to_string());
            return answer;
        }
    };
    let (input, mut nodes) = (compact(input), Vec::new());
    scan(&input, ScanLimits::WIDEST, &mut nodes).unwrap();
    let source = Source::new(&input, &nodes);
    let mut too_deep = None;
    let end = program.run(
        Value::of(source.root()),
        &[],
        &mut |output| match output.to_json() {
            Ok(output) if answer.outputs.len() < MAX_OUTPUTS => {
                answer.outputs.push(output);
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                too_deep = Some(format!("{error:?}"));
                ControlFlow::Break(())
            }
        },
    );
    answer.error = end
        .err()
        .map(|error: Error<'_>| error.to_string())
        .or(too_deep);
    answer
}

/// JSON without white space between its parts.
fn compact(json: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        let is_kept = is_string || !c.is_ascii_whitespace();
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_string = !is_string,
            _ => {}
        }
        is_kept
    };
    json.chars().filter(is_kept).collect()
}
