//! `countDistinct`: how many different values there are, by the same equality as keys. Null is
//! ignored. All keys of a group are held, so their length together is limited to that of a record.

use std::collections::BTreeSet;

use super::{Combine, within_memory};
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes, push_number};
use crate::record::{LINE_LIMIT_FIELD, Limits, Record};

/// What a key takes in the set besides its bytes, with the allocator's overhead.
const ENTRY_BYTES: usize = 2 * size_of::<Box<[u8]>>() + ALLOCATION_BYTES;

#[derive(Debug, Default)]
pub(crate) struct Distinct {
    keys: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

impl Distinct {
    fn insert(&mut self, key: &[u8], limits: &Limits) -> Result<(), StateError> {
        if self.keys.contains(key) {
            return Ok(());
        }
        self.bytes += key.len();
        if self.bytes > limits.bytes {
            return Err(StateError::Refused(format!(
                "the different values of one group are too many to count: their keys are longer than a record may be; at most {} bytes are allowed ({LINE_LIMIT_FIELD}); a deduplicate before the groupBy needs no such limit",
                limits.bytes
            )));
        }
        self.keys.insert(key.into());
        within_memory(self.memory_bytes(), limits)
    }
}

impl Combine for Distinct {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        if value.type_name() == "null" {
            return Ok(());
        }
        self.insert(value.key()?.as_bytes(), value.limits())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        limits: &Limits,
    ) -> Result<(), StateError> {
        for _ in 0..payload.number()? {
            self.insert(payload.bytes()?, limits)?;
        }
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_number(payload, self.keys.len() as u64);
        for key in &self.keys {
            push_bytes(payload, key);
        }
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        Ok(Record::from_integer(self.keys.len() as u64))
    }

    fn memory_bytes(&self) -> usize {
        self.bytes + self.keys.len() * ENTRY_BYTES
    }
}
