//! Defines the results of expressions, and converts them to records, keys and numbers.

use std::borrow::Cow;

use zephyr_jq::json::JsonProblem;

use super::error::ValueError;
use crate::key::{KeyBytes, KeyError, KeyWriter};
use crate::record::{Limits, Record, Row};

/// One result of an expression. It is opaque: it can only be converted to a record, a key or a
/// number, or tested for truth.
pub struct Value<'record> {
    inner: zephyr_jq::Value<'record>,
    limits: Limits,
}

impl<'record> Value<'record> {
    #[inline]
    pub(super) fn new(inner: zephyr_jq::Value<'record>, limits: Limits) -> Self {
        Self { inner, limits }
    }

    /// The limits of a record that is made from it.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// False for null and false, true for everything else.
    pub fn is_truthy(&self) -> bool {
        self.inner.is_truthy()
    }

    /// The kind of value, as jq's `type` names it.
    pub fn type_name(&self) -> &'static str {
        self.inner.type_name()
    }

    /// The value as a record, in the canonical form.
    ///
    /// # Errors
    /// It is longer or nests deeper than a record may.
    pub fn to_record(&self) -> Result<Record, ValueError> {
        let mut text = String::new();
        self.inner
            .write_json(&mut text, self.limits.of_scan())
            .map_err(|problem| self.refused(problem))?;
        Ok(Record::trusted(text))
    }

    /// The value as the input of the next step. A string is not written as text.
    ///
    /// # Errors
    /// The errors of [`Value::to_record`].
    #[inline]
    pub(crate) fn to_row(&self) -> Result<Row<'record>, ValueError> {
        match Row::of_string(&self.inner, &self.limits) {
            Some(row) => Ok(row),
            None => self.to_record().map(Row::from),
        }
    }

    fn refused(&self, problem: JsonProblem) -> ValueError {
        if let JsonProblem::TooLong { limit } = problem {
            return ValueError::TooLong { limit };
        }
        let limit = self.limits.nesting;
        ValueError::TooDeep { limit }
    }

    /// The value as a key.
    ///
    /// # Errors
    /// It nests deeper than a record may, or a number in it has an exponent that is not allowed in
    /// a key.
    pub fn key(&self) -> Result<KeyBytes, ValueError> {
        let mut bytes = Vec::new();
        self.write_key(&mut bytes)?;
        Ok(KeyBytes::from_encoded(bytes))
    }

    /// Replaces `bytes` by the bytes of the value's key.
    ///
    /// # Errors
    /// The errors of [`Value::key`].
    #[inline]
    pub(crate) fn write_key(&self, bytes: &mut Vec<u8>) -> Result<(), ValueError> {
        let limit = self.limits.nesting;
        let written = KeyWriter::replace(bytes, &self.inner, limit);
        written.map_err(|error| match error {
            KeyError::TooDeep => ValueError::TooDeep { limit },
            KeyError::Number(error) => ValueError::Number(error),
        })
    }

    /// If the value is a number, returns its text, for sums. A number of the record keeps its text,
    /// and a computed number is printed as in jq. The text may also be `NaN`, `Infinity` or
    /// `-Infinity`, which no sum accepts. For any other value, returns `None`.
    pub fn number_text(&self) -> Option<Cow<'_, str>> {
        if let zephyr_jq::Value::Float(float) = self.inner
            && !float.is_finite()
        {
            let word = if float.is_nan() {
                "NaN"
            } else if float > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            return Some(word.into());
        }
        self.inner.number_text()
    }
}
