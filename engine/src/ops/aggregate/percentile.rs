//! `percentile`: the value at the nearest rank in jq's order, exactly. Of n values it is the one at
//! position p × n, rounded up. Null is ignored. Of equal values, the first by (shard, position) is
//! the result, with its text. All different values of a group are held, so the length of their keys
//! together is limited to that of a record.

use std::collections::BTreeMap;

use super::{Combine, within_memory};
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes, push_number};
use crate::record::{LINE_LIMIT_FIELD, Limits, Record};

/// A rank is given in this many parts of the whole.
const PARTS: u128 = 1_000_000;

/// What a value takes in the map besides its key and its text, with the allocator's overhead.
const ENTRY_BYTES: usize = 2 * size_of::<(Box<[u8]>, Values)>() + 2 * ALLOCATION_BYTES;

#[derive(Debug)]
pub(crate) struct Percentile {
    per_million: u32,
    values: BTreeMap<Box<[u8]>, Values>,
    key_bytes: usize,
    text_bytes: usize,
}

/// Equal values: how many there are, and the text of the first one.
#[derive(Debug)]
struct Values {
    count: u64,
    text: Box<str>,
}

impl Percentile {
    pub(crate) fn new(per_million: u32) -> Self {
        Self {
            per_million,
            values: BTreeMap::new(),
            key_bytes: 0,
            text_bytes: 0,
        }
    }

    fn insert(
        &mut self,
        key: &[u8],
        count: u64,
        text: &str,
        limits: &Limits,
    ) -> Result<(), StateError> {
        if let Some(values) = self.values.get_mut(key) {
            values.count = values.count.saturating_add(count);
            return Ok(());
        }
        self.key_bytes += key.len();
        self.text_bytes += text.len();
        if self.key_bytes > limits.bytes {
            return Err(StateError::Refused(format!(
                "the different values of one group are longer than a record may be; at most {} bytes are allowed ({LINE_LIMIT_FIELD}); rounded values are fewer",
                limits.bytes
            )));
        }
        let text = text.into();
        self.values.insert(key.into(), Values { count, text });
        within_memory(self.memory_bytes(), limits)
    }
}

impl Combine for Percentile {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        if value.type_name() == "null" {
            return Ok(());
        }
        let (key, record) = (value.key()?, value.to_record()?);
        self.insert(key.as_bytes(), 1, record.as_json_str(), value.limits())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        limits: &Limits,
    ) -> Result<(), StateError> {
        for _ in 0..payload.number()? {
            let (key, count, text) = (payload.bytes()?, payload.number()?, payload.text()?);
            self.insert(key, count, text, limits)?;
        }
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        push_number(payload, self.values.len() as u64);
        for (key, values) in &self.values {
            push_bytes(payload, key);
            push_number(payload, values.count);
            push_bytes(payload, values.text.as_bytes());
        }
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        let all = self.values.values();
        let count: u128 = all.clone().map(|values| u128::from(values.count)).sum();
        let rank = (u128::from(self.per_million) * count)
            .div_ceil(PARTS)
            .max(1);
        let mut before = 0;
        for values in all {
            before += u128::from(values.count);
            if before >= rank {
                return Record::parse_written(values.text.as_bytes())
                    .map_err(|_| StateError::Damaged("a percentile is not JSON"));
            }
        }
        Ok(Record::null())
    }

    fn memory_bytes(&self) -> usize {
        self.key_bytes + self.text_bytes + self.values.len() * ENTRY_BYTES
    }
}
