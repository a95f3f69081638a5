//! Makes records from other records, for the output of groupBy and collect. The parts keep their
//! texts.

use zephyr_jq::json::{Kind, push_least_escaped};

use super::error::{RecordError, RecordProblem};
use super::{Limits, Record};

/// An array while it grows.
#[derive(Debug, Default)]
pub(crate) struct ArrayText {
    /// The text of the array without its closing bracket; empty if it has no element.
    text: String,
    elements: u64,
}

impl ArrayText {
    /// How many elements it has.
    pub(crate) fn len(&self) -> u64 {
        self.elements
    }

    /// The length of its text so far.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds an element at the end.
    ///
    /// # Errors The array would be longer or nest deeper than is allowed for a record. It is
    /// unchanged then, but for a comma, and must not be used any more.
    pub(crate) fn push(&mut self, limits: &Limits, element: &Record) -> Result<(), RecordError> {
        let before = if self.elements == 0 { '[' } else { ',' };
        self.text.push(before);
        push_part(&mut self.text, limits, element)?;
        self.elements += 1;
        Ok(())
    }

    /// The array as a record; `None` if it has no element.
    pub(crate) fn into_record(mut self) -> Option<Record> {
        (self.elements > 0).then(|| {
            self.text.push(']');
            Record::trusted(self.text)
        })
    }
}

impl Record {
    /// Makes an object with these members in this order. No two keys may be equal; they are names
    /// that the engine chooses.
    ///
    /// # Errors The object would be longer or nest deeper than is allowed for a record. The offset
    /// in the error is 0.
    pub fn object<'a>(
        limits: &Limits,
        members: impl IntoIterator<Item = (&'a str, &'a Record)>,
    ) -> Result<Self, RecordError> {
        let mut text = String::from("{");
        for (index, (key, value)) in members.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_least_escaped(&mut text, key);
            text.push(':');
            push_part(&mut text, limits, value)?;
        }
        text.push('}');
        Ok(Self::trusted(text))
    }

    /// Makes an array with these elements in this order.
    ///
    /// # Errors The errors of [`Record::object`].
    pub fn array<'a>(
        limits: &Limits,
        elements: impl IntoIterator<Item = &'a Record>,
    ) -> Result<Self, RecordError> {
        let mut text = String::from("[");
        for (index, element) in elements.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_part(&mut text, limits, element)?;
        }
        text.push(']');
        Ok(Self::trusted(text))
    }

    /// The elements of an array, in order. Any other record has none.
    pub(crate) fn elements(&self) -> Vec<Self> {
        let source = self.source();
        let elements = source.root().elements();
        elements
            .map(|element| Self::trusted(element.text().to_owned()))
            .collect()
    }

    /// How deep arrays and objects nest. A scalar has depth 0.
    fn depth(&self) -> usize {
        let mut ends: Vec<u32> = Vec::new();
        let mut deepest = 0;
        for node in self.nodes() {
            while ends.last().is_some_and(|&end| end <= node.start) {
                ends.pop();
            }
            if matches!(node.kind, Kind::Array | Kind::Object) {
                ends.push(node.end);
                deepest = deepest.max(ends.len());
            }
        }
        deepest
    }

    /// Whether the text contains at least `levels` brackets. If it contains fewer, the record
    /// certainly nests less deep, and no tape is needed to find out.
    fn may_nest(&self, levels: usize) -> bool {
        matches!(self.text.as_bytes().first(), Some(b'[' | b'{'))
            && self
                .text
                .bytes()
                .filter(|byte| matches!(byte, b'[' | b'{'))
                .nth(levels.saturating_sub(1))
                .is_some()
    }
}

fn push_part(text: &mut String, limits: &Limits, part: &Record) -> Result<(), RecordError> {
    let limit = limits.nesting;
    if part.may_nest(limit) && part.depth() >= limit {
        return Err(RecordError {
            offset: 0,
            problem: RecordProblem::TooDeep { limit },
        });
    }
    // The closing bracket follows.
    let limit = limits.bytes;
    if text.len() + part.text.len() >= limit {
        return Err(RecordError {
            offset: 0,
            problem: RecordProblem::TooLong { limit },
        });
    }
    text.push_str(&part.text);
    Ok(())
}
