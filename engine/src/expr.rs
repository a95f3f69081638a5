//! The expressions of pipelines behind one small interface: a text is compiled once and evaluated
//! on many records. The language is jq, and zephyr-jq implements it. This module adds what a job
//! needs: limits for outputs, memory and length, named values, and errors as sentences. No type of
//! zephyr-jq is in a signature.
//!
//! - Results are written in one canonical form. It is compact, with keys in the order in which the
//!   expression made them, and strings with the fewest escapes. Computed numbers are written as jq
//!   prints them: `3`, `0.1`, `1e+17`, NaN as `null`, and infinities as ±1.7976931348623157e+308. A
//!   number that the expression did not change keeps its text: `0.10`, `1e400`, `-0`,
//!   `12345678901234567890`.
//! - It is an error if a result is longer or nests deeper than a record may.
//! - Recursion without end is an error if the thread has declared the size of its stack. So
//!   expressions should be evaluated on a thread of [`on_full_stack`]. They can be compiled on any
//!   thread.

use std::ops::ControlFlow;
use std::sync::Arc;

use zephyr_jq::json::Source;
use zephyr_jq::{MAX_HELD_BYTES, Makes, Options, Program, Reach};

pub use error::{CompileError, EvaluationError, ValueError};
pub use value::Value;
pub use variables::Variables;
pub use zephyr_jq::{STACK_BYTES, on_full_stack};

use crate::record::{Census, Limits, NoRoom, Operand, Record};

mod error;
#[cfg(test)]
mod tests;
mod value;
mod variables;

/// The longest expression, in bytes. Parsing recurses as deep as the text nests, so the limit of
/// its length also limits the stack.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;

/// The most results of one expression for one record. An expression that makes more probably has no
/// end, or should be several steps.
pub const MAX_OUTPUTS: u64 = 1_000_000;

/// Why an evaluation ended early.
enum End {
    /// The expression raised an error, with this message.
    Raised(String),
    /// Anything else.
    Refused(EvaluationError),
}

impl End {
    fn of(error: &zephyr_jq::Error<'_>) -> Self {
        let message = error::excerpt(&error.to_string());
        match error {
            zephyr_jq::Error::Failed(_) => Self::Raised(message),
            zephyr_jq::Error::Exhausted(_) => Self::Refused(EvaluationError::Failed { message }),
        }
    }
}

/// A compiled expression. Threads may share it.
pub struct Expression {
    source: String,
    program: Program,
    /// The variables, in the order of their names.
    variables: Vec<Arc<Source<'static>>>,
    limits: Limits,
    /// Whether the result becomes a key, which takes additional memory.
    is_key: bool,
}

impl Expression {
    /// Compiles jq `source`, without variables.
    ///
    /// # Errors
    /// The errors of [`Expression::compile_with`].
    pub fn compile(source: &str) -> Result<Self, CompileError> {
        Self::compile_with(source, &Variables::default())
    }

    /// Compiles jq `source`, which may use `variables`.
    ///
    /// The compiler recurses, so it runs on a separate thread with a stack that no text within
    /// [`MAX_EXPRESSION_BYTES`] overflows. So the result does not depend on the stack of the
    /// caller's thread.
    ///
    /// # Errors
    /// The text is not an expression, or uses something that is not allowed. The error says where
    /// and why, in words for the person who wrote the expression.
    pub fn compile_with(source: &str, variables: &Variables) -> Result<Self, CompileError> {
        if source.len() > MAX_EXPRESSION_BYTES {
            return Err(CompileError::too_long(source));
        }
        // jq reads it as `.`, but its author has forgotten something.
        if Program::is_blank(source) {
            return Err(CompileError::empty());
        }
        let compiled = on_full_stack("compile", || Self::compile_here(source, variables));
        compiled
            .unwrap_or_else(|_| Ok(Err(CompileError::no_thread())))
            .unwrap_or_else(|_| Err(CompileError::panicked()))
    }

    fn compile_here(source: &str, variables: &Variables) -> Result<Self, CompileError> {
        let options = Options {
            variables: variables.names().cloned().collect(),
        };
        let program = Program::compile(source, &options)?;
        Ok(Self {
            source: source.to_owned(),
            program,
            variables: variables.sources().cloned().collect(),
            limits: Limits::default(),
            is_key: false,
        })
    }

    /// The same expression with other limits for its inputs and outputs.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        // A worker with much memory may use it. The limit of steps still ends an endless program.
        let bytes = match limits.memory_bytes {
            usize::MAX => MAX_HELD_BYTES,
            known => known.max(MAX_HELD_BYTES),
        };
        let limits_of_program = zephyr_jq::Limits {
            bytes,
            ..zephyr_jq::Limits::DEFAULT
        };
        let program = self.program.with_limits(limits_of_program);
        Self {
            program,
            limits,
            ..self
        }
    }

    /// Returns the same expression, with the setting that its results become keys.
    #[must_use]
    pub(crate) fn for_keys(self) -> Self {
        Self {
            is_key: true,
            ..self
        }
    }

    /// If the text shows that a filter with this expression would keep every record, returns why.
    pub(crate) fn keeps_everything(&self) -> Option<&'static str> {
        match self.program.makes() {
            Makes::Change => Some(
                "it changes a value instead of comparing it, and the result of a change is neither false nor null, so every record would be kept; == compares, a step `map` changes",
            ),
            Makes::Object => Some(
                "it makes an object, which is neither false nor null, so every record would be kept; an expression that gives true or false",
            ),
            Makes::Array => Some(
                "it makes a list, which is neither false nor null even if it is empty, so every record would be kept; any(…) or all(…) give true or false",
            ),
            Makes::Anything => None,
        }
    }

    /// The text this was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Passes every result of the expression for `record` to `receive`, one by one and in order,
    /// until `receive` stops it. If there is an error, `receive` already has the results before it.
    ///
    /// # Errors
    /// The expression raises an error, has too many results, recurses without end, or the record
    /// needs more memory than a task has.
    pub fn evaluate(
        &self,
        record: &Record,
        receive: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvaluationError> {
        self.evaluate_operand(Operand::Record(record), receive)
    }

    /// [`Expression::evaluate`] for a record or a row.
    pub(crate) fn evaluate_operand(
        &self,
        operand: Operand<'_>,
        receive: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvaluationError> {
        self.check_room(operand)?;
        let end = operand.with_value(|input| self.run(input, receive));
        end.map_err(|end| self.placed(end, operand))
    }

    #[inline]
    fn check_room(&self, operand: Operand<'_>) -> Result<(), EvaluationError> {
        match operand {
            Operand::Record(record) if !self.limits.surely_have_room(record.as_json().len()) => {
                self.find_room(record)
            }
            // A string stays a value only if there is surely room for it.
            Operand::Record(_) | Operand::String(_) => Ok(()),
        }
    }

    /// Adds to a message the part of the expression that raised it.
    fn placed(&self, end: End, operand: Operand<'_>) -> EvaluationError {
        let message = match end {
            End::Raised(message) => message,
            End::Refused(error) => return error,
        };
        let variables = self.variables();
        let place = operand.with_value(|input| self.program.located(&input, &variables));
        EvaluationError::Failed {
            message: message + &place,
        }
    }

    fn variables(&self) -> Vec<zephyr_jq::Value<'_>> {
        let variables = self.variables.iter();
        variables
            .map(|value| zephyr_jq::Value::of(value.root()))
            .collect()
    }

    fn run<'v>(
        &'v self,
        input: zephyr_jq::Value<'v>,
        receive: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
    ) -> Result<(), End> {
        let variables = self.variables();
        let mut outputs = 0_u64;
        let mut has_too_many = false;
        let end = self.program.run(input, &variables, &mut |output| {
            outputs += 1;
            if outputs > MAX_OUTPUTS {
                has_too_many = true;
                return ControlFlow::Break(());
            }
            receive(Value::new(output, self.limits))
        });
        if has_too_many {
            return Err(End::Refused(EvaluationError::TooManyOutputs));
        }
        end.map_err(|error| End::of(&error))
    }

    /// Whether the expression has exactly one result for each record, or fails.
    #[inline]
    pub(crate) fn is_single(&self) -> bool {
        self.program.is_single()
    }

    fn run_single<'v, T>(
        &'v self,
        input: zephyr_jq::Value<'v>,
        take: impl FnOnce(Value<'_>) -> T,
    ) -> Result<Option<T>, End> {
        if self.program.is_identity() {
            return Ok(Some(take(Value::new(input, self.limits))));
        }
        let output = self.program.run_single(input, &self.variables());
        let output = output.map_err(|error| End::of(&error))?;
        Ok(output.map(|output| take(Value::new(output, self.limits))))
    }

    /// Fails if there is no memory for the record, for the values that the expression may make of
    /// it, and for a result of the record's length. The memory for other intermediate values is not
    /// known in advance.
    fn find_room(&self, record: &Record) -> Result<(), EvaluationError> {
        let text = record.as_json_str();
        let whole = Census::of(text);
        // The text is counted three times: as the line from which it was read, as the record, and
        // as its result.
        let mut needed_bytes = 3 * text.len() + whole.tape_bytes();
        let room_bytes = self.limits.memory_bytes;
        let refused = |needed_bytes| {
            Err(EvaluationError::NoRoom(NoRoom {
                needed_bytes,
                room_bytes,
            }))
        };
        if needed_bytes > room_bytes {
            return refused(needed_bytes);
        }
        needed_bytes += self.value_bytes(record, whole);
        if needed_bytes > room_bytes {
            return refused(needed_bytes);
        }
        Ok(())
    }

    /// How many bytes the values that the expression may make of a record take, and additionally a
    /// result while it grows.
    fn value_bytes(&self, record: &Record, whole: Census) -> usize {
        // A key also needs more memory while it grows.
        let looked_up =
            |census: Census| census.sorting_bytes + 2 * census.key_bytes * usize::from(self.is_key);
        let made = |census: Census, text: &str| {
            let values = if self.program.makes_copies() {
                census.value_bytes
            } else {
                census.string_bytes + census.sorting_bytes
            };
            values + text.len()
        };
        let source = record.source();
        match self.program.reach() {
            Reach::Path(names) if names.is_empty() => looked_up(whole),
            Reach::Path(names) => {
                let found = names
                    .iter()
                    .try_fold(source.root(), |view, name| view.member(name));
                found.map_or(0, |view| looked_up(Census::of(view.text())))
            }
            Reach::Members(names) if record.type_name() == "object" => {
                let members = names.iter().filter_map(|name| source.root().member(name));
                members
                    .map(|member| made(Census::of(member.text()), member.text()))
                    .sum()
            }
            Reach::Members(_) | Reach::Whole => made(whole, record.as_json_str()),
        }
    }

    /// Evaluates an expression that must have exactly one result, and passes the result to `take`.
    ///
    /// # Errors
    /// The errors of [`Expression::evaluate`], or the number of results if it is not one.
    pub fn evaluate_one<T>(
        &self,
        record: &Record,
        take: impl FnOnce(Value<'_>) -> T,
    ) -> Result<T, EvaluationError> {
        self.evaluate_one_operand(Operand::Record(record), take)
    }

    /// [`Expression::evaluate_one`] for a record or a row. If the expression
    /// [is single](Expression::is_single), `take` gets the result after the evaluation.
    pub(crate) fn evaluate_one_operand<T>(
        &self,
        operand: Operand<'_>,
        take: impl FnOnce(Value<'_>) -> T,
    ) -> Result<T, EvaluationError> {
        if self.is_single() {
            self.check_room(operand)?;
            let taken = operand.with_value(|input| self.run_single(input, take));
            return match taken {
                Ok(Some(taken)) => Ok(taken),
                Ok(None) => Err(EvaluationError::NotOneOutput { outputs: 0 }),
                Err(end) => Err(self.placed(end, operand)),
            };
        }
        let mut take = Some(take);
        let mut taken = None;
        let mut outputs = 0_u64;
        self.evaluate_operand(operand, &mut |value| {
            outputs += 1;
            if let Some(take) = take.take() {
                taken = Some(take(value));
            }
            ControlFlow::Continue(())
        })?;
        match taken {
            Some(taken) if outputs == 1 => Ok(taken),
            Some(_) | None => Err(EvaluationError::NotOneOutput { outputs }),
        }
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}
