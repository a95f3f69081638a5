//! jq 1.8 as a library: parses, compiles and runs programs. It does no input or output, and reads
//! neither the clock nor the environment. It knows nothing about jobs.
//!
//! A program is compiled once and run on many values. A value borrows from the text that it was
//! read from as long as it can; see [`Value`] and [`json::Source`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;
use std::ops::ControlFlow;

mod ast;
mod builtins;
mod compile;
mod dates;
mod double;
mod eval;
mod forbidden;
mod format;
mod lex;
mod math;
mod meter;
mod parse;
mod program;
mod reach;
mod regex;
mod stack;
mod value;

/// JSON as text: the tape over a checked text, and strings with their escapes.
pub mod json {
    mod error;
    pub(crate) mod parse;
    pub(crate) mod source;
    pub(crate) mod string;
    pub(crate) mod tape;

    pub use error::{JsonError, JsonProblem};
    pub use source::{ElementViews, Source, View, compacted, without_space};
    pub use string::{push_least_escaped, push_quoted, unescape};
    pub use tape::{Kind, Node, Scan, ScanLimits, scan};
}

pub use double::write_double;
pub use meter::{Limits, MAX_HELD_BYTES, MAX_STEPS, STEPS_A_BYTE};
pub use reach::{Makes, Reach};
pub use stack::{STACK_BYTES, declare as declare_stack, on_full_stack};
pub use value::elements::Elements;
pub use value::object::Object;
pub use value::{Big, Bounds, Chars, Children, Text, Type, Value};

use eval::Machine;
use eval::environment::Environment;
use eval::flow::Stop;
use meter::Meter;

/// A compiled program. Several threads may use it at the same time.
pub struct Program {
    text: Box<str>,
    root: program::Node,
    functions: Vec<program::Function>,
    variables: usize,
    limits: Limits,
    reach: Reach,
    makes: Makes,
    makes_copies: bool,
}

/// What a program may use in addition to its input.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The names, without the `$`, of the variables whose values are given with each input.
    pub variables: Vec<String>,
}

/// Why a text is not a program, or why the program is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct CompileError {
    /// Line of the program, from 1.
    pub line: usize,
    /// Character in that line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// A place in the text of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Character in that line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "column {} of the expression", self.column)
    }
}

/// Why a program has no more outputs for an input.
#[derive(Debug)]
pub enum Error<'v> {
    /// An error of the program, with the value that `catch` would get: nearly always a string.
    Failed(Value<'v>),
    /// The program exceeds the limit of stack, memory or steps.
    Exhausted(Exhausted),
}

/// A limit that an evaluation reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// The stack is used up by calls of definitions.
    #[error("the recursion has no end, or goes deeper than the stack of 256 MiB allows")]
    Recursion,
    /// The stack is used up by a value.
    #[error("a value nests deeper than the stack of 256 MiB allows")]
    Nesting,
    /// The limit [`Limits::bytes`], in MiB.
    #[error(
        "the values take too much memory, or are made without end; {0} MiB for one input are allowed"
    )]
    Memory(usize),
    /// The limit [`Limits::steps`].
    #[error(
        "the expression takes too many steps, or has no end; {0} million for one input are allowed"
    )]
    Steps(u64),
    /// The JSON of one value is longer than this limit, in MiB.
    #[error("a value is too long as JSON; {0} MiB for one value are allowed")]
    Json(usize),
}

/// The limits for the computation of a constant.
const COMPILE_LIMITS: Limits = Limits {
    bytes: 1 << 20,
    steps: 1_000_000,
    steps_a_byte: 0,
};

impl Program {
    /// Compiles a program. Recurses as deep as the text nests, within [`declare_stack`].
    pub fn compile(text: &str, options: &Options) -> Result<Self, CompileError> {
        let tree = parse::program(text)?;
        // The computation of constants must not need much more memory than the constants
        // themselves.
        let _meter = Meter::start(COMPILE_LIMITS);
        let (root, functions) = compile::program(text, &tree, &options.variables)?;
        Ok(Self {
            text: text.into(),
            root,
            functions,
            variables: options.variables.len(),
            limits: Limits::default(),
            reach: reach::of(&tree),
            makes: reach::makes(&tree),
            makes_copies: reach::makes_copies(&tree),
        })
    }

    /// Returns the program with these limits instead of [`Limits::default`].
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether a text consists only of white space and comments. jq reads such a text as `.`.
    pub fn is_blank(text: &str) -> bool {
        matches!(lex::Lexer::new(text).next(), Ok((_, lex::Token::End)))
    }

    /// Returns which members of its input the program can look at.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Whether the program is `.`, which passes its input on.
    #[inline]
    pub fn is_identity(&self) -> bool {
        matches!(self.root.kind, program::Kind::Identity)
    }

    /// Whether the text shows that the program has exactly one output for each input, or fails.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.root.is_single
    }

    /// Returns the kind that every result of the program has, as far as its text shows it.
    pub fn makes(&self) -> Makes {
        self.makes
    }

    /// Whether the program may make arrays and objects that take as much memory as those that it
    /// looks at. If not, the program only looks at values and passes them on.
    pub fn makes_copies(&self) -> bool {
        self.makes_copies
    }

    /// Finds which part of the program fails on an input on which [`Program::run`] failed. Returns
    /// the place of that part in the text. `None` if the place is not known, for example inside a
    /// definition. Runs parts of the program again.
    pub fn locate<'v>(&'v self, input: &Value<'v>, variables: &[Value<'v>]) -> Option<Place> {
        let given = &variables[..variables.len().min(self.variables)];
        let _meter = Meter::start(self.limits.for_input(input.bytes() + meter::held()));
        let machine = Machine::new(&self.functions, given);
        let at = machine.locate(&self.root, &Environment::default(), input)?;
        let (line, column) = position(&self.text, at);
        Some(Place { line, column })
    }

    /// Returns the end of the error message for an input on which [`Program::run`] failed. It is
    /// the place of the part that fails, in parentheses. It is empty if the whole program fails, or
    /// if the place is not known.
    pub fn located<'v>(&'v self, input: &Value<'v>, variables: &[Value<'v>]) -> String {
        let place = self.locate(input, variables);
        place
            .filter(|place| (place.line, place.column) != (1, 1))
            .map_or_else(String::new, |place| format!(" ({place})"))
    }

    /// Passes every output for `input` to `receive`, in order and one by one, until `receive` ends
    /// the run. If there is an error, the outputs before it have already been passed. `variables`
    /// are the values of [`Options::variables`], in the same order. A missing value is null.
    ///
    /// Recurses as deep as the program and its values nest, within [`declare_stack`].
    ///
    /// # Errors
    /// An error that the program raises and does not catch, or a limit that it reaches.
    pub fn run<'v>(
        &'v self,
        input: Value<'v>,
        variables: &[Value<'v>],
        receive: &mut dyn FnMut(Value<'v>) -> ControlFlow<()>,
    ) -> Result<(), Error<'v>> {
        let given = &variables[..variables.len().min(self.variables)];
        let _meter = Meter::start(self.limits.for_input(input.bytes() + meter::held()));
        let machine = Machine::new(&self.functions, given);
        let flow =
            machine.run(
                &self.root,
                &Environment::default(),
                input,
                &mut |value| match receive(value) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Box::new(Stop::Halted)),
                },
            );
        flow.or_else(|stop| failure(*stop).map_or(Ok(()), Err))
    }

    /// Returns the output for `input` of a program that [is single](Program::is_single): what
    /// [`Program::run`] would pass on. `None` if the program is not single.
    ///
    /// # Errors
    /// The errors of [`Program::run`].
    pub fn run_single<'v>(
        &'v self,
        input: Value<'v>,
        variables: &[Value<'v>],
    ) -> Result<Option<Value<'v>>, Error<'v>> {
        if !self.is_single() {
            return Ok(None);
        }
        let given = &variables[..variables.len().min(self.variables)];
        let _meter = Meter::start(self.limits.for_input(input.bytes() + meter::held()));
        let machine = Machine::new(&self.functions, given);
        let output = machine.run_single(&self.root, &Environment::default(), input);
        match output {
            Ok(value) => Ok(Some(value)),
            Err(stop) => failure(*stop).map_or(Ok(None), Err),
        }
    }
}

/// Returns the error for a stop of the whole program. `None` if no further output was wanted.
fn failure(stop: Stop<'_>) -> Option<Error<'_>> {
    match stop {
        Stop::Halted | Stop::Enough(_) => None,
        Stop::Error(value) => Some(Error::Failed(value)),
        Stop::Break(_) => Some(Error::Failed(Value::from("break"))),
        Stop::Exhausted(exhausted) => Some(Error::Exhausted(exhausted)),
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(Value::String(message)) => f.write_str(message),
            Self::Failed(other) => match other.to_json() {
                Ok(json) => f.write_str(&json),
                Err(exhausted) => write!(f, "an error whose value is not written: {exhausted}"),
            },
            Self::Exhausted(exhausted) => exhausted.fmt(f),
        }
    }
}

/// Returns the line and the character of an offset, both counted from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

impl CompileError {
    fn at(text: &str, offset: usize, message: String) -> Self {
        let (line, column) = position(text, offset);
        Self {
            line,
            column,
            message,
        }
    }

    fn forbidden(text: &str, offset: usize, name: &str) -> Self {
        let reason = forbidden::reason(name).unwrap_or_default();
        Self::at(
            text,
            offset,
            format!("{name} is not allowed here: {reason}"),
        )
    }
}
