//! The expression language of pipelines, jq, behind one small interface: compile a text once, evaluate it on records.
//! Everything that knows jaq is inside this folder and no type of it is in a signature. No clock, no environment, no
//! output but the results: what would reach for them does not compile.
//!
//! - Results are written in one canonical form: compact, keys in the order in which the expression made them, strings
//!   with the fewest escapes, computed numbers as jq prints them (`3`, `0.1`, `1e+17`; NaN as `null`, infinities as
//!   ±1.7976931348623157e+308). A number that the expression did not change keeps its text: `0.10`, `1e400`, `-0`,
//!   `12345678901234567890`.
//! - Integers are exact however long; with a point or an exponent arithmetic is 64-bit floating point, as in jaq.
//! - A result that nests deeper than a record may, or holds what JSON cannot write, is an error.
//! - Endless recursion overflows the stack, which ends the process: evaluation belongs into a process that may die, on a
//!   thread with [`STACK_BYTES`] of stack. Compiling is safe anywhere.
//! - Where jaq differs from jq, jaq holds, but for what `library` replaces. Known to surprise: assigning to a field of
//!   null (`.a.b = 1` where there is no `.a`) is an error; `.a |= empty` moves the last key of an object into the gap
//!   (`del(.a)` does not).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::Val;

pub use error::{CompileError, EvaluationError, ValueError};
pub use value::Value;

use path::{Found, PlainPath};

use crate::pipeline::Values;
use crate::record::{Census, Limits, NoRoom, Record, RecordParser};

mod delete;
mod error;
mod fence;
mod fields;
mod interpolation;
mod library;
mod number;
mod path;
#[cfg(test)]
mod tests;
mod value;

/// The longest expression. Parsing recurses with the nesting of the text, so its length bounds the stack.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;

/// The most results of one expression for one record: an expression that makes more has no end, or should be several
/// steps.
pub const MAX_OUTPUTS: u64 = 1_000_000;

/// Stack that a thread needs that evaluates expressions, and that compiling takes for itself: the deepest text that
/// [`MAX_EXPRESSION_BYTES`] allows compiles within it. Only touched pages cost memory.
pub const STACK_BYTES: usize = 256 * 1024 * 1024;

/// A compiled expression; shared freely between threads.
pub struct Expression {
    source: String,
    /// The expression is a plain path: its result is looked up, and nothing is converted.
    path: Option<PlainPath>,
    /// The members of an object that the expression can look at; `None` for all.
    fields: Option<BTreeSet<String>>,
    limits: Limits,
    /// Its result becomes a key, which takes memory of its own.
    is_key: bool,
    /// In the order of their names.
    values: Vec<Val>,
    filter: Filter<JustLut<Val>>,
}

impl Expression {
    /// Compiles jq `source`. The error says where and what in words for the person who wrote it.
    ///
    /// jaq's parser recurses, so this runs on a short-lived thread with a stack that no text within
    /// [`MAX_EXPRESSION_BYTES`] overflows: the coordinator compiles what users wrote and must not die of it.
    pub fn compile(source: &str) -> Result<Self, CompileError> {
        Self::compile_with(source, &Values::new())
    }

    /// The same with named values, which are its variables.
    pub fn compile_with(source: &str, values: &Values) -> Result<Self, CompileError> {
        if source.len() > MAX_EXPRESSION_BYTES {
            return Err(CompileError::too_long(source));
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("compile".to_owned())
                .stack_size(STACK_BYTES);
            let compiled = thread
                .spawn_scoped(scope, || Self::compile_here(source, values))
                .map(std::thread::ScopedJoinHandle::join);
            compiled
                .unwrap_or_else(|_| Ok(Err(CompileError::no_thread())))
                .unwrap_or_else(|_| Err(CompileError::panicked()))
        })
    }

    fn compile_here(source: &str, values: &Values) -> Result<Self, CompileError> {
        let rewritten = interpolation::rewrite(source);
        let arena = Arena::default();
        let modules = Loader::new(library::definitions())
            .load(
                &arena,
                File {
                    code: rewritten.text(),
                    path: (),
                },
            )
            .map_err(|errors| error::loading(&rewritten, errors))?;
        // The loader leaves `import "data" as $name` for later; there is no later.
        jaq_core::load::import(&modules, |_| Err(String::new()))
            .map_err(|errors| error::loading(&rewritten, errors))?;
        let names: Vec<String> = values.keys().map(|name| format!("${name}")).collect();
        let filter = Compiler::default()
            .with_funs(library::functions())
            .with_global_vars(names.iter().map(String::as_str))
            .compile(modules)
            .map_err(|errors| error::compiling(&rewritten, errors))?;
        Ok(Self {
            source: source.to_owned(),
            path: PlainPath::of(source),
            fields: fields::of(rewritten.text()),
            limits: Limits::default(),
            is_key: false,
            values: values
                .values()
                .map(|text| value_of(text))
                .collect::<Result<_, _>>()?,
            filter,
        })
    }

    /// The same expression with other limits for what it is given and what it makes.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same expression, to give keys.
    #[must_use]
    pub(crate) fn for_keys(self) -> Self {
        Self {
            is_key: true,
            ..self
        }
    }

    /// The text this was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Gives every result of the expression for `record` to `receive`, in order and one by one, until `receive` breaks
    /// off. Results given before an error came stay given.
    pub fn evaluate(
        &self,
        record: &Record,
        receive: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvaluationError> {
        if !self.limits.surely_have_room(record.as_json().len()) {
            self.find_room(record)?;
        }
        let limits = self.limits;
        if let Some(path) = &self.path {
            let value = match path.find(record.view()) {
                Found::Value(_) if path.is_identity() => Some(Value::source(record, limits)),
                Found::Value(view) => Some(Value::inside(view, limits)),
                Found::Null => Some(Value::computed(Val::Null, limits)),
                Found::Error => None,
            };
            if let Some(value) = value {
                // The one result is given, so there is nothing to break off.
                let _ = receive(value);
                return Ok(());
            }
        }
        let input = value::of_record(record.view(), self.fields.as_ref());
        let context =
            Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new(self.values.iter().cloned()));
        let mut outputs = 0_u64;
        for output in self.filter.id.run((context, input)) {
            let output = output.map_err(EvaluationError::from_exception)?;
            outputs += 1;
            if outputs > MAX_OUTPUTS {
                return Err(EvaluationError::TooManyOutputs);
            }
            if receive(Value::computed(output, limits)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Whether there is memory for the record, for what is made of it to evaluate the expression, and for a result of the
    /// record's length. What the expression itself makes beyond that nobody knows before.
    fn find_room(&self, record: &Record) -> Result<(), EvaluationError> {
        let text = record.as_json_str();
        let whole = Census::of(text);
        // The line that it was read from, the record, and its result.
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
        // A key grows as it is written, too.
        let looked_up =
            |census: Census| census.sorting_bytes + 2 * census.key_bytes * usize::from(self.is_key);
        needed_bytes += match (&self.path, &self.fields) {
            (Some(path), _) if path.is_identity() => looked_up(whole),
            (Some(path), _) => match path.find(record.view()) {
                Found::Value(view) => looked_up(Census::of(view.text())),
                Found::Null | Found::Error => 0,
            },
            (None, Some(names)) if record.type_name() == "object" => {
                value::wanted(record.view(), names)
                    .map(|(_, member)| Census::of(member.text()).value_bytes + member.text().len())
                    .sum()
            }
            // The result grows as it is written.
            (None, _) => whole.value_bytes + text.len(),
        };
        if needed_bytes > room_bytes {
            return refused(needed_bytes);
        }
        Ok(())
    }

    /// Evaluates an expression that must have exactly one result, and lets `take` use it. An error says how many there
    /// were otherwise.
    pub fn evaluate_one<T>(
        &self,
        record: &Record,
        take: impl FnOnce(Value<'_>) -> T,
    ) -> Result<T, EvaluationError> {
        let mut take = Some(take);
        let mut taken = None;
        let mut outputs = 0_u64;
        self.evaluate(record, &mut |value| {
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

/// A named value. It was read from a manifest, and is JSON.
fn value_of(text: &str) -> Result<Val, CompileError> {
    let record = RecordParser::within(Limits::WIDEST)
        .parse(text.as_bytes())
        .map_err(|error| CompileError::of_value(&error))?;
    Ok(value::from_view(record.view()))
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}
