//! `sum`: the exact sum of numbers, rounded once when it is written. Null if there was no number.

use super::{Combine, number};
use crate::expr::Value;
use crate::ops::payload::{PayloadReader, StateError, push_bytes};
use crate::record::{Limits, Record};
use crate::sum::ExactSum;

#[derive(Debug, Default)]
pub(crate) struct Sum(ExactSum);

impl Combine for Sum {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        number::add(&mut self.0, value)
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        let later = ExactSum::decode(payload.bytes()?)
            .map_err(|_| StateError::Damaged("a sum is damaged"))?;
        self.0.merge(&later);
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_bytes(payload, &self.0.encode());
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        if self.0.count() == 0 {
            return Ok(Record::null());
        }
        self.0
            .total()
            .map_err(|error| StateError::Refused(error.to_string()))
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}
