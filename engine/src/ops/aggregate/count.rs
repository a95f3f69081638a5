//! `count`: the number of the group's records, whatever they contain.

use super::Combine;
use crate::expr::Value;
use crate::ops::payload::{PayloadReader, StateError, push_number};
use crate::record::{Limits, Record};

#[derive(Debug, Default)]
pub(crate) struct Counted(u64);

impl Counted {
    /// Counts one record, whatever it contains.
    #[inline]
    pub(crate) fn add_one(&mut self) {
        self.0 = self.0.saturating_add(1);
    }
}

impl Combine for Counted {
    fn add(&mut self, _value: &Value<'_>) -> Result<(), StateError> {
        self.add_one();
        Ok(())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        self.0 = self.0.saturating_add(payload.number()?);
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_number(payload, self.0);
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        Ok(Record::from_integer(self.0))
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}
