//! `collect`: all values in (shard, position) order, null too. The list is one value of a record, so that it can be no
//! longer than a record may be.

use super::Combine;
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes};
use crate::record::{MAX_RECORD_BYTES, Record, RecordProblem};

/// The values' texts with commas between them, as they will stand in the array.
#[derive(Debug, Default)]
pub(crate) struct Collected(Vec<u8>);

impl Collected {
    fn push(&mut self, texts: &[u8]) -> Result<(), StateError> {
        if texts.is_empty() {
            return Ok(());
        }
        if self.0.len() + texts.len() >= MAX_RECORD_BYTES {
            return Err(too_long());
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
        let record = value
            .to_record()
            .map_err(|error| StateError::Refused(error.to_string()))?;
        self.push(record.as_json())
    }

    fn absorb(&mut self, payload: &mut PayloadReader<'_>) -> Result<(), StateError> {
        self.push(payload.bytes()?)
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_bytes(payload, &self.0);
    }

    fn finish(&self) -> Result<Record, StateError> {
        let mut text = Vec::with_capacity(self.0.len() + 2);
        text.push(b'[');
        text.extend_from_slice(&self.0);
        text.push(b']');
        Record::parse(&text).map_err(|error| {
            if error.problem == RecordProblem::TooLong {
                too_long()
            } else if error.problem == RecordProblem::TooDeep {
                StateError::Refused(error.problem.to_string())
            } else {
                StateError::Damaged("a collected list is not JSON")
            }
        })
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

fn too_long() -> StateError {
    StateError::Refused(format!(
        "the collected values of one group are longer than a record may be; at most {MAX_RECORD_BYTES} bytes are allowed"
    ))
}
