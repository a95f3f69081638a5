//! The one value that `first`, `last`, `min` and `max` keep of a group, beside the key that orders
//! it. This module does not decide which value is kept.

use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes, push_number};
use crate::record::Record;

/// The value that is kept so far.
#[derive(Debug)]
pub(super) struct Best {
    /// The key, whose bytes compare like values in jq's order. Empty if nothing orders the values.
    pub(super) key: Box<[u8]>,
    /// The value's text.
    pub(super) text: Box<str>,
}

impl Best {
    /// Appends the value, if there is one.
    pub(super) fn encode(best: Option<&Self>, payload: &mut Vec<u8>) {
        match best {
            None => push_number(payload, 0),
            Some(Self { key, text }) => {
                push_number(payload, 1);
                push_bytes(payload, key);
                push_bytes(payload, text.as_bytes());
            }
        }
    }

    /// Reads the key and the text that [`encode`](Self::encode) wrote. If it wrote other bytes,
    /// `damaged` is the error.
    pub(super) fn read<'p>(
        payload: &mut PayloadReader<'p>,
        damaged: &'static str,
    ) -> Result<Option<(&'p [u8], &'p str)>, StateError> {
        match payload.number()? {
            0 => Ok(None),
            1 => Ok(Some((payload.bytes()?, payload.text()?))),
            _ => Err(StateError::Damaged(damaged)),
        }
    }

    /// The value as a result, or null if there is none. If its text is not JSON, `not_json` is the
    /// error.
    pub(super) fn finish(
        best: Option<&Self>,
        not_json: &'static str,
    ) -> Result<Record, StateError> {
        let Some(best) = best else {
            return Ok(Record::null());
        };
        Record::parse_written(best.text.as_bytes()).map_err(|_| StateError::Damaged(not_json))
    }

    /// Heap bytes of the key and the text.
    pub(super) fn memory_bytes(best: Option<&Self>) -> usize {
        best.map_or(0, |best| {
            best.key.len() + best.text.len() + 2 * ALLOCATION_BYTES
        })
    }
}
