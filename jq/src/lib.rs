//! jq 1.8 as a library: parse, compile, run. Pure: no input or output, no clock, no environment, no
//! threads. It knows nothing of jobs.
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
mod parse;
mod program;
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
    pub use source::{ElementViews, Source, View};
    pub use string::{push_quoted, unescape};
    pub use tape::{Kind, Node, Scan, ScanLimits, scan};
}

pub use stack::{STACK_BYTES, declare as declare_stack};
pub use value::elements::Elements;
pub use value::object::Object;
pub use value::order::TooDeep;
pub use value::{Text, Type, Value};

use eval::Machine;
use eval::environment::Environment;
use eval::flow::Stop;

/// A compiled program; shared freely between threads.
pub struct Program {
    root: program::Node,
    functions: Vec<program::Function>,
    variables: usize,
}

/// What a program may use besides its input.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names, without the `$`, of variables that are given with each input.
    pub variables: Vec<String>,
}

/// Why a text is no program that may be used here.
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

/// Why a program has no more outputs for an input.
#[derive(Debug)]
pub enum Error<'v> {
    /// An error of the program, with the value that `catch` would get: nearly always a string.
    Failed(Value<'v>),
    /// It asks for more stack than there is.
    Exhausted(&'static str),
}

impl Program {
    /// Compiles a program. Recurses as deep as the text nests, within [`declare_stack`].
    pub fn compile(text: &str, options: &Options) -> Result<Self, CompileError> {
        let tree = parse::program(text)?;
        let (root, functions) = compile::program(text, &tree, &options.variables)?;
        Ok(Self {
            root,
            functions,
            variables: options.variables.len(),
        })
    }

    /// Gives every output for `input` to `receive`, in order and one by one, until `receive` breaks
    /// off. Outputs that were given before an error stay given. `variables` are the values of
    /// [`Options::variables`], in their order; missing ones are null.
    ///
    /// Recurses as deep as the program and its values nest, within [`declare_stack`].
    pub fn run<'v>(
        &'v self,
        input: Value<'v>,
        variables: &[Value<'v>],
        receive: &mut dyn FnMut(Value<'v>) -> ControlFlow<()>,
    ) -> Result<(), Error<'v>> {
        let given = &variables[..variables.len().min(self.variables)];
        let machine = Machine::new(&self.functions, given);
        let flow = machine.run(
            &self.root,
            Environment::EMPTY,
            input,
            &mut |value| match receive(value) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Box::new(Stop::Halted)),
            },
        );
        match flow.map_err(|stop| *stop) {
            Ok(()) | Err(Stop::Halted | Stop::Enough(_)) => Ok(()),
            Err(Stop::Error(value)) => Err(Error::Failed(value)),
            Err(Stop::Break(_)) => Err(Error::Failed(Value::from("break"))),
            Err(Stop::Exhausted(message)) => Err(Error::Exhausted(message)),
        }
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
                Err(TooDeep) => f.write_str("an error with a value that nests too deep"),
            },
            Self::Exhausted(message) => f.write_str(message),
        }
    }
}

impl CompileError {
    fn at(text: &str, offset: usize, message: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .chars()
            .rev()
            .take_while(|&character| character != '\n')
            .count()
            + 1;
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
