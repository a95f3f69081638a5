//! `first` and `last`: the value of the record that comes first or last in the group. That is the
//! order of (shard, position), or the order of `sortBy`; records that `sortBy` does not order keep
//! the order of (shard, position). Null is a value like any other.

use std::cmp::Ordering;

use super::Combine;
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes, push_number};
use crate::record::{Limits, Record};

/// The value that is chosen so far.
#[derive(Debug)]
pub(crate) struct Chosen {
    rule: Choice,
    best: Option<Best>,
}

/// Which value is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Whether it is the last one in the order.
    pub(crate) last: bool,
    /// Whether greater keys come first.
    pub(crate) descending: bool,
}

#[derive(Debug)]
struct Best {
    /// The key of `sortBy`; empty without it.
    order: Box<[u8]>,
    text: Box<str>,
}

impl Chosen {
    pub(crate) fn new(rule: Choice) -> Self {
        Self { rule, best: None }
    }

    /// Whether a later record with this key replaces the current one.
    fn is_superseded_by(&self, order: &[u8]) -> bool {
        let Some(best) = &self.best else {
            return true;
        };
        let compared = if self.rule.descending {
            (*best.order).cmp(order)
        } else {
            order.cmp(&best.order)
        };
        match compared {
            Ordering::Less => !self.rule.last,
            Ordering::Equal | Ordering::Greater => self.rule.last,
        }
    }

    /// Adds the value of one more record.
    pub(crate) fn add(&mut self, order: &[u8], text: &str) {
        if self.is_superseded_by(order) {
            self.best = Some(Best {
                order: order.into(),
                text: text.into(),
            });
        }
    }
}

impl Combine for Chosen {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        let record = value.to_record();
        let record = record.map_err(|error| StateError::Refused(error.to_string()))?;
        Self::add(self, &[], record.as_json_str());
        Ok(())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        match payload.number()? {
            0 => Ok(()),
            1 => {
                let (order, text) = (payload.bytes()?, payload.text()?);
                Self::add(self, order, text);
                Ok(())
            }
            _ => Err(StateError::Damaged("a first or last is damaged")),
        }
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        match &self.best {
            None => push_number(payload, 0),
            Some(Best { order, text }) => {
                push_number(payload, 1);
                push_bytes(payload, order);
                push_bytes(payload, text.as_bytes());
            }
        }
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        let Some(best) = &self.best else {
            return Ok(Record::null());
        };
        Record::parse_written(best.text.as_bytes())
            .map_err(|_| StateError::Damaged("a first or last is not JSON"))
    }

    fn memory_bytes(&self) -> usize {
        self.best.as_ref().map_or(0, |best| {
            best.order.len() + best.text.len() + 2 * ALLOCATION_BYTES
        })
    }
}
