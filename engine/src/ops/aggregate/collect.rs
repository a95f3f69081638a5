//! `collect`: all values in (shard, position) order, including null. The list is one value of a
//! record, so its length is limited to that of a record.

use super::Combine;
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes};
use crate::record::{LINE_LIMIT_FIELD, Limits, Record, RecordParser, RecordProblem};

/// The texts of the values, separated by commas as in the array.
#[derive(Debug, Default)]
pub(crate) struct Collected(Vec<u8>);

impl Collected {
    fn push(&mut self, texts: &[u8], limits: &Limits) -> Result<(), StateError> {
        if texts.is_empty() {
            return Ok(());
        }
        if self.0.len() + texts.len() >= limits.bytes {
            return Err(too_long(limits.bytes));
        }
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        self.0.extend_from_slice(texts);
        Ok(())
    }
}

impl Combine for Collected {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        self.push(value.to_record()?.as_json(), value.limits())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        limits: &Limits,
    ) -> Result<(), StateError> {
        self.push(payload.bytes()?, limits)
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_bytes(payload, &self.0);
    }

    fn finish(&self, limits: &Limits) -> Result<Record, StateError> {
        array(&self.0, limits)
    }

    fn memory_bytes(&self) -> usize {
        let capacity = self.0.capacity();
        if capacity == 0 {
            0
        } else {
            capacity + ALLOCATION_BYTES
        }
    }
}

/// The array of these texts, which are separated by commas.
pub(super) fn array(texts: &[u8], limits: &Limits) -> Result<Record, StateError> {
    let mut text = Vec::with_capacity(texts.len() + 2);
    text.push(b'[');
    text.extend_from_slice(texts);
    text.push(b']');
    let parsed = RecordParser::within(*limits).parse(&text);
    parsed.map_err(|error| {
        if let RecordProblem::TooLong { limit } = error.problem {
            too_long(limit)
        } else if matches!(
            error.problem,
            RecordProblem::TooDeep { .. } | RecordProblem::NoRoom(_)
        ) {
            StateError::Refused(error.problem.to_string())
        } else {
            StateError::Damaged("a collected list is not JSON")
        }
    })
}

pub(super) fn too_long(limit: usize) -> StateError {
    StateError::Refused(format!(
        "the collected values of one group are longer than a record may be; at most {limit} bytes are allowed ({LINE_LIMIT_FIELD})"
    ))
}
