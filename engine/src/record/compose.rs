//! Records made from other records: the output of groupBy and collect. The parts keep their text.

use zephyr_jq::json::{Kind, push_least_escaped};

use super::error::{RecordError, RecordProblem};
use super::{Limits, Record};

impl Record {
    /// An object with these members in this order. Keys must differ from each other; they are the
    /// engine's own names.
    ///
    /// # Errors
    /// The whole would pass the limits of length or nesting of a record; the offset is 0 then.
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

    /// An array with these elements in this order.
    ///
    /// # Errors
    /// The errors of [`Record::object`].
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

    /// How many arrays and objects are inside each other; 0 for a scalar.
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

    /// Whether the text contains at least this number of brackets: with fewer, the nesting of the
    /// record is certainly smaller, and no tape is needed.
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
