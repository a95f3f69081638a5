//! `first` and `last`: the value of the record that comes first or last in the group. That is the
//! order of (shard, position), or the order of `sortBy`; records that `sortBy` does not order keep
//! the order of (shard, position). Null is a value like any other.

use std::cmp::Ordering;

use super::Combine;
use super::best::Best;
use crate::expr::Value;
use crate::ops::payload::{PayloadReader, StateError};
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
            (*best.key).cmp(order)
        } else {
            order.cmp(&best.key)
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
                key: order.into(),
                text: text.into(),
            });
        }
    }
}

impl Combine for Chosen {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        Self::add(self, &[], value.to_record()?.as_json_str());
        Ok(())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        let best = Best::read(payload, "a first or last is damaged")?;
        if let Some((order, text)) = best {
            Self::add(self, order, text);
        }
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        Best::encode(self.best.as_ref(), payload);
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        Best::finish(self.best.as_ref(), "a first or last is not JSON")
    }

    fn memory_bytes(&self) -> usize {
        Best::memory_bytes(self.best.as_ref())
    }
}
