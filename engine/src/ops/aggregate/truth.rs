//! `any` and `all`: whether a condition holds for at least one record, or for all of them. As for
//! `filter`, it holds if the value is neither false nor null.

use super::Combine;
use crate::expr::Value;
use crate::ops::payload::{PayloadReader, StateError, push_number};
use crate::record::{Limits, Record};

/// The answer so far.
#[derive(Debug)]
pub(crate) struct Truth {
    /// The answer that one record can bring about, and that later records cannot change.
    decisive: bool,
    answer: bool,
}

impl Truth {
    pub(crate) fn any() -> Self {
        Self {
            decisive: true,
            answer: false,
        }
    }

    pub(crate) fn all() -> Self {
        Self {
            decisive: false,
            answer: true,
        }
    }

    fn see(&mut self, holds: bool) {
        if holds == self.decisive {
            self.answer = self.decisive;
        }
    }
}

impl Combine for Truth {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        self.see(value.is_truthy());
        Ok(())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        match payload.number()? {
            0 => self.see(false),
            1 => self.see(true),
            _ => return Err(StateError::Damaged("an any or all is damaged")),
        }
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_number(payload, self.answer.into());
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        Ok(Record::from_boolean(self.answer))
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}
