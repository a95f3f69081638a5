//! `min` and `max`: the least or greatest value in jq's order. Of equal values, the first by
//! (shard, position) is the result, with its text. Null is ignored, and is the result only if a
//! group has no other value.

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::Combine;
use super::best::Best;
use crate::expr::Value;
use crate::ops::payload::{PayloadReader, StateError};
use crate::record::{Limits, Record};

/// Whether the least or the greatest value is needed.
pub(crate) trait End {
    /// How a value that replaces the current one compares with it.
    const BETTER: Ordering;
}

#[derive(Debug)]
pub(crate) struct Least;

#[derive(Debug)]
pub(crate) struct Greatest;

impl End for Least {
    const BETTER: Ordering = Ordering::Less;
}

impl End for Greatest {
    const BETTER: Ordering = Ordering::Greater;
}

#[derive(Debug)]
pub(crate) struct Extreme<E> {
    best: Option<Best>,
    end: PhantomData<E>,
}

impl<E> Default for Extreme<E> {
    fn default() -> Self {
        Self {
            best: None,
            end: PhantomData,
        }
    }
}

impl<E: End> Extreme<E> {
    /// Whether a later value with this key replaces the current one.
    fn is_superseded_by(&self, key: &[u8]) -> bool {
        self.best
            .as_ref()
            .is_none_or(|best| key.cmp(&best.key) == E::BETTER)
    }
}

impl<E: End> Combine for Extreme<E> {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        if value.type_name() == "null" {
            return Ok(());
        }
        let key = value.key()?;
        if self.is_superseded_by(key.as_bytes()) {
            let text = value.to_record()?.as_json_str().into();
            self.best = Some(Best {
                key: key.into_bytes().into_boxed_slice(),
                text,
            });
        }
        Ok(())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        _limits: &Limits,
    ) -> Result<(), StateError> {
        let best = Best::read(payload, "a min or max is damaged")?;
        if let Some((key, text)) = best.filter(|(key, _)| self.is_superseded_by(key)) {
            self.best = Some(Best {
                key: key.into(),
                text: text.into(),
            });
        }
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        Best::encode(self.best.as_ref(), payload);
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        Best::finish(self.best.as_ref(), "a min or max is not JSON")
    }

    fn memory_bytes(&self) -> usize {
        Best::memory_bytes(self.best.as_ref())
    }
}
