//! `stddev`: the standard deviation of a sample, from the exact sums of the numbers and of their
//! squares, rounded once. Null is ignored. Null is the result of fewer than two numbers.

use super::{Combine, number};
use crate::expr::Value;
use crate::number::NumberError;
use crate::ops::payload::{PayloadReader, StateError, push_bytes};
use crate::record::{Limits, Record};
use crate::sum::ExactSpread;

#[derive(Debug, Default)]
pub(crate) struct Spread(ExactSpread);

impl Combine for Spread {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        let Some(text) = number::text(value)? else {
            return Ok(());
        };
        let added = self.0.add(&text);
        added.map_err(|error| StateError::Refused(error.to_string()))
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        let (sum, squares) = (payload.bytes()?, payload.bytes()?);
        let later = ExactSpread::decode(sum, squares)
            .map_err(|_| StateError::Damaged("a standard deviation is damaged"))?;
        self.0.merge(&later);
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        for part in self.0.encode() {
            push_bytes(payload, &part);
        }
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        self.0.deviation().map_err(|error| {
            if error == NumberError::Damaged {
                StateError::Damaged("a standard deviation is damaged")
            } else {
                StateError::Refused(error.to_string())
            }
        })
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}
