//! A record: one JSON value as the engine represents it. It is opaque on purpose: the rest of the
//! engine uses its text, its keys and the results of expressions, and never a parsed tree. So the
//! representation can be changed for speed.
//!
//! # Guarantees
//! - The text is kept as it was read, except for white space outside strings: escapes and numbers
//!   keep their spelling (`0.10`, `1e400` and `12345678901234567890` stay as written).
//! - The text is checked once, when a record is made from bytes of another program. After that no
//!   operation can fail because of the text.
//! - Numbers follow RFC 8259 exactly. Every exponent is accepted here. Arithmetic has separate
//!   limits, see `number`.
//! - An object may contain a key more than once. The text keeps all of its members. A lookup
//!   returns the last one, as in jq.
//! - Some texts are refused, with the offset of the first bad byte: lone surrogates, NaN, Infinity,
//!   byte order marks, raw control characters, invalid UTF-8, and more levels or bytes than the
//!   job's [`Limits`] allow.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use zephyr_jq::Value;
use zephyr_jq::json::{
    JsonProblem, Node, Source, compacted, push_least_escaped, scan, unescape, without_space,
};

pub use error::{LINE_LIMIT_FIELD, NESTING_FIELD, RecordError, RecordProblem};
pub use limits::{
    DEFAULT_NESTING, DEFAULT_RECORD_BYTES, Limits, MAX_NESTING, MAX_RECORD_BYTES, NoRoom,
};
pub use reshape::{Renaming, RenamingError, ReshapeError};
pub use row::Row;
pub use select::{FieldPath, FieldPathError, SelectError, Selection, SelectionError};

pub(crate) use census::Census;
pub(crate) use compose::ArrayText;
pub(crate) use row::Operand;

mod census;
mod compose;
mod error;
mod limits;
mod reshape;
mod row;
mod select;
#[cfg(test)]
pub(crate) mod tests;

/// One JSON value: its text, and a tape over it, which is made when it is needed. Two records are
/// equal if their texts are equal. To compare values, compare [`KeyBytes`](crate::key::KeyBytes).
pub struct Record {
    /// Exactly one checked JSON value without white space outside strings.
    text: Box<str>,
    tape: OnceLock<Box<[Node]>>,
}

/// The tape of a record larger than this is allocated with exactly the needed size, because a tape
/// that grows or is copied takes twice the memory.
const LONG_BYTES: usize = 1 << 20;

/// Makes records from lines. Uses the same buffer for the tape of each record.
#[derive(Default)]
pub struct RecordParser {
    limits: Limits,
    nodes: Vec<Node>,
}

/// Whether a line has only white space of JSON: spaces, tabs, carriage returns and line feeds.
/// Other white space, such as a form feed, makes the line a bad record.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

impl RecordParser {
    /// A parser with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser with these limits.
    pub fn within(limits: Limits) -> Self {
        Self {
            limits,
            nodes: Vec::new(),
        }
    }

    /// From now on a record may use this much memory.
    pub fn set_memory(&mut self, bytes: usize) {
        self.limits.memory_bytes = bytes;
    }

    /// Checks `bytes`, which must be exactly one JSON value, with any white space around and inside
    /// it.
    ///
    /// # Errors The first byte that is wrong, and why.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Record, RecordError> {
        let limit = self.limits.bytes;
        if bytes.len() > limit {
            return Err(RecordError {
                offset: limit,
                problem: RecordProblem::TooLong { limit },
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| RecordError {
            offset: error.valid_up_to(),
            problem: RecordProblem::Json(JsonProblem::NotUtf8),
        })?;
        if text.len() > LONG_BYTES {
            return self.parse_long(text);
        }
        let text = if scan(text, self.limits.of_scan(), &mut self.nodes)?.spaced {
            compacted(text, &mut self.nodes)
        } else {
            text.to_owned()
        };
        let record = Record::trusted(text);
        // Nearly always an expression uses the record next, and needs the tape. A copy of its nodes
        // is cheaper than a second pass over the text.
        let _ = record.tape.set(self.nodes.as_slice().into());
        Ok(record)
    }

    fn parse_long(&self, text: &str) -> Result<Record, RecordError> {
        let census = Census::of(text);
        // The text is counted three times: as the line that is read, as the record, and as its
        // output.
        let needed_bytes = 3 * text.len() + census.tape_bytes();
        let room_bytes = self.limits.memory_bytes;
        if needed_bytes > room_bytes {
            return Err(RecordError {
                offset: 0,
                problem: RecordProblem::NoRoom(NoRoom {
                    needed_bytes,
                    room_bytes,
                }),
            });
        }
        let mut nodes = Vec::with_capacity(census.nodes);
        if scan(text, self.limits.of_scan(), &mut nodes)?.spaced {
            drop(nodes);
            return Ok(Record::trusted(without_space(text)));
        }
        let record = Record::trusted(text.to_owned());
        let _ = record.tape.set(nodes.into_boxed_slice());
        Ok(record)
    }
}

impl Record {
    /// Checks `bytes` and makes a record of them. See [`RecordParser`] for many records in a row.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        RecordParser::new().parse(bytes)
    }

    /// Makes a record from a text that an operator wrote into a shuffle. The text was within the
    /// job's limits when it was written.
    pub(crate) fn parse_written(bytes: &[u8]) -> Result<Self, RecordError> {
        RecordParser::within(Limits::WIDEST).parse(bytes)
    }

    /// Makes a record from a line of a text file: a JSON string with the fewest escapes. Its quotes
    /// do not count towards the length. Escapes count, because the record may be read again as a
    /// line of JSON.
    pub fn from_text_line(line: &str, limits: &Limits) -> Result<Self, RecordError> {
        let refused = |problem| RecordError { offset: 0, problem };
        if !limits.surely_have_room(line.len()) {
            // The line is counted four times: as it is read, twice as a record that grows, and as
            // its output.
            let needed_bytes = 4 * line.len();
            let room_bytes = limits.memory_bytes;
            if needed_bytes > room_bytes {
                return Err(refused(RecordProblem::NoRoom(NoRoom {
                    needed_bytes,
                    room_bytes,
                })));
            }
        }
        let mut text = String::with_capacity(line.len() + limits::QUOTES_BYTES);
        push_least_escaped(&mut text, line);
        if text.len() > limits.bytes + limits::QUOTES_BYTES {
            return Err(refused(RecordProblem::TooLong {
                limit: limits.bytes,
            }));
        }
        Ok(Self::trusted(text))
    }

    /// The record `null`.
    pub fn null() -> Self {
        Self::trusted("null".to_owned())
    }

    /// The record `true` or `false`.
    pub fn from_boolean(boolean: bool) -> Self {
        Self::trusted(boolean.to_string())
    }

    /// A record that is an integer, for counts.
    pub fn from_integer(integer: u64) -> Self {
        Self::trusted(integer.to_string())
    }

    /// The JSON text, UTF-8, without white space outside strings and without a line break.
    pub fn as_json(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The JSON text as a string slice.
    pub fn as_json_str(&self) -> &str {
        &self.text
    }

    /// The JSON text, by value.
    pub fn into_json(self) -> Vec<u8> {
        self.text.into_string().into_bytes()
    }

    /// If the record is a JSON string, returns its value, without escapes. Otherwise returns
    /// `None`. A sink of text lines writes this value, and must refuse or escape line breaks in it.
    pub fn as_string(&self) -> Option<Cow<'_, str>> {
        self.text.starts_with('"').then(|| unescape(&self.text))
    }

    /// The kind of value, as jq's `type` names it: `null`, `boolean`, `number`, `string`, `array`
    /// or `object`.
    pub fn type_name(&self) -> &'static str {
        match self.text.as_bytes().first() {
            Some(b'n') => "null",
            Some(b't' | b'f') => "boolean",
            Some(b'"') => "string",
            Some(b'[') => "array",
            Some(b'{') => "object",
            Some(_) | None => "number",
        }
    }

    /// False for `null` and `false`, true for everything else, as jq sees it.
    pub fn is_truthy(&self) -> bool {
        !matches!(&*self.text, "null" | "false")
    }

    /// How many bytes of memory this record uses now on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.text.len()
            + self
                .tape
                .get()
                .map_or(0, |nodes| std::mem::size_of_val(&**nodes))
    }

    /// Passes the record as a value of jq to `take`. The value borrows this record.
    pub(crate) fn with_value<T>(&self, take: impl FnOnce(Value<'_>) -> T) -> T {
        if let Some(scalar) = Value::of_scalar(&self.text) {
            return take(scalar);
        }
        let source = self.source();
        take(Value::of(source.root()))
    }

    /// The text with its tape. A value of jq is a position in it.
    pub(crate) fn source(&self) -> Source<'_> {
        Source::new(&self.text, self.nodes())
    }

    /// Makes a record from a text that is known to be one compact JSON value.
    pub(crate) fn trusted(text: String) -> Self {
        debug_assert!(
            !cfg!(test)
                || matches!(
                    scan(&text, Limits::WIDEST.of_scan(), &mut Vec::new()),
                    Ok(zephyr_jq::json::Scan { spaced: false })
                ),
            "not a compact JSON text: {text}"
        );
        Self {
            text: text.into_boxed_str(),
            tape: OnceLock::new(),
        }
    }

    fn nodes(&self) -> &[Node] {
        self.tape.get_or_init(|| {
            let mut nodes = Vec::new();
            if self.text.len() > LONG_BYTES {
                nodes.reserve_exact(Census::of(&self.text).nodes);
            }
            // The text was checked when the record was made, so the pass cannot fail.
            let scanned = scan(&self.text, Limits::WIDEST.of_scan(), &mut nodes);
            debug_assert!(scanned.is_ok(), "the text of a record is valid");
            nodes.into_boxed_slice()
        })
    }
}

/// A copy contains only the text; its tape is made again when it is needed.
impl Clone for Record {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            tape: OnceLock::new(),
        }
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({})", self.text)
    }
}

/// The JSON text.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
