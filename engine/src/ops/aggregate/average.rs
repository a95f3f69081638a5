//! `avg`: the exact sum of numbers divided by their count, rounded once. Null if there was no
//! number.

use super::{Combine, number};
use crate::expr::Value;
use crate::ops::payload::{PayloadReader, StateError, push_bytes};
use crate::record::{Limits, Record};
use crate::sum::ExactSum;

#[derive(Debug, Default)]
pub(crate) struct Average(ExactSum);

impl Combine for Average {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        number::add(&mut self.0, value)
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        let later = ExactSum::decode(payload.bytes()?)
            .map_err(|_| StateError::Damaged("an average is damaged"))?;
        self.0.merge(&later);
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_bytes(payload, &self.0.encode());
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        self.0
            .average()
            .map_err(|error| StateError::Refused(error.to_string()))
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}
