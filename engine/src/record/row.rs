//! A record on its way through the steps of a stage. If a step has made a string, the next step,
//! the key or the aggregate gets that string itself. It becomes text only where text is needed: at
//! a sink, in front of a command, or when it is reported as a bad record. It is opaque like a
//! record.
//!
//! Only strings stay values, because only the text of a string has exactly the same value as the
//! string. The text of a computed number is read again as an exact decimal, and the text of NaN is
//! null.

use std::borrow::Cow;

use zephyr_jq::json::push_quoted;
use zephyr_jq::{Text, Value};

use super::{Limits, Record};

/// A record, or a string that a step has made and that was not written as text.
pub struct Row<'r>(Form<'r>);

enum Form<'r> {
    Record(Record),
    String(Text<'r>),
}

/// A row or a record, borrowed.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a> {
    Record(&'a Record),
    String(&'a Text<'a>),
}

/// A string that is written as JSON is at most this many times as long: each byte may become
/// `\u007f`.
const MAX_ESCAPED: usize = 6;

impl<'r> Row<'r> {
    /// Makes a row of a value without writing its text. `None` if the value is not a string, or if
    /// its text might exceed the limits of a record.
    #[inline]
    pub(crate) fn of_string(value: &Value<'r>, limits: &Limits) -> Option<Self> {
        let Value::String(text) = value else {
            return None;
        };
        let most = text.len().saturating_mul(MAX_ESCAPED) + super::limits::QUOTES_BYTES;
        let fits = most <= limits.bytes && limits.surely_have_room(most);
        fits.then(|| Self(Form::String(text.clone())))
    }

    /// The record. A string is written as text.
    pub fn into_record(self) -> Record {
        match self.0 {
            Form::Record(record) => record,
            Form::String(text) => written(&text),
        }
    }

    /// The record. A string is written as text.
    pub(crate) fn to_record(&self) -> Cow<'_, Record> {
        match &self.0 {
            Form::Record(record) => Cow::Borrowed(record),
            Form::String(text) => Cow::Owned(written(text)),
        }
    }

    #[inline]
    pub(crate) fn operand(&self) -> Operand<'_> {
        match &self.0 {
            Form::Record(record) => Operand::Record(record),
            Form::String(text) => Operand::String(text),
        }
    }
}

impl From<Record> for Row<'_> {
    fn from(record: Record) -> Self {
        Self(Form::Record(record))
    }
}

impl Operand<'_> {
    /// Passes the record or the string to `take`, as a value of jq.
    #[inline]
    pub(crate) fn with_value<T>(self, take: impl FnOnce(Value<'_>) -> T) -> T {
        match self {
            Self::Record(record) => record.with_value(take),
            Self::String(text) => take(Value::String(text.clone())),
        }
    }
}

fn written(string: &str) -> Record {
    let mut text = String::with_capacity(string.len() + super::limits::QUOTES_BYTES);
    push_quoted(&mut text, string);
    Record::trusted(text)
}
