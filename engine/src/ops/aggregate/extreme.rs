//! `min` and `max`: the least or greatest value in jq's order. Of equal values, the first by
//! (shard, position) is the result, with its text. Null is ignored, and is the result only if a
//! group has no other value.

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::Combine;
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes, push_number};
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

#[derive(Debug)]
struct Best {
    /// The value's key, whose bytes compare like values in jq's order.
    key: Box<[u8]>,
    text: Box<str>,
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
        let refused = |error: crate::expr::ValueError| StateError::Refused(error.to_string());
        let key = value.key().map_err(refused)?;
        if self.is_superseded_by(key.as_bytes()) {
            let text = value.to_record().map_err(refused)?.as_json_str().into();
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
        match payload.number()? {
            0 => Ok(()),
            1 => {
                let (key, text) = (payload.bytes()?, payload.text()?);
                if self.is_superseded_by(key) {
                    self.best = Some(Best {
                        key: key.into(),
                        text: text.into(),
                    });
                }
                Ok(())
            }
            _ => Err(StateError::Damaged("a min or max is damaged")),
        }
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        match &self.best {
            None => push_number(payload, 0),
            Some(Best { key, text }) => {
                push_number(payload, 1);
                push_bytes(payload, key);
                push_bytes(payload, text.as_bytes());
            }
        }
    }

    fn finish(&self, _limits: &Limits) -> Result<Record, StateError> {
        let Some(best) = &self.best else {
            return Ok(Record::null());
        };
        Record::parse_written(best.text.as_bytes())
            .map_err(|_| StateError::Damaged("a min or max is not JSON"))
    }

    fn memory_bytes(&self) -> usize {
        self.best.as_ref().map_or(0, |best| {
            best.key.len() + best.text.len() + 2 * ALLOCATION_BYTES
        })
    }
}
