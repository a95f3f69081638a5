//! `count`: makes one record with the number of all records, even if there are none. Uses no value
//! of a record.

use crate::ops::error::OperatorError;
use crate::ops::keyed::Keyed;
use crate::ops::payload::{PayloadReader, StateError, push_number};
use crate::record::{Record, Row};

/// The compiled step.
pub(crate) struct Count {
    path: String,
}

impl Count {
    pub(crate) fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

/// All records have the same empty key, and the shuffle has one partition.
impl Keyed for Count {
    type State = u64;
    type KeyText = ();

    fn path(&self) -> &str {
        &self.path
    }

    fn key<T>(
        &self,
        _row: &Row<'_>,
        _bytes: &mut Vec<u8>,
        use_key: impl FnOnce(&[u8], &dyn Fn() -> Result<(), OperatorError>) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        use_key(&[], &|| Ok(()))
    }

    fn begin(&self, (): (), _row: &Row<'_>) -> Result<u64, OperatorError> {
        Ok(1)
    }

    fn add(&self, state: &mut u64, _row: &Row<'_>) -> Result<(), OperatorError> {
        *state = state.saturating_add(1);
        Ok(())
    }

    fn encode(&self, state: &u64) -> Vec<u8> {
        let mut payload = Vec::new();
        push_number(&mut payload, *state);
        payload
    }

    fn decode(&self, payload: &[u8]) -> Result<u64, StateError> {
        let mut reader = PayloadReader::new(payload);
        let count = reader.number()?;
        reader.end()?;
        Ok(count)
    }

    fn absorb(&self, state: &mut u64, payload: &[u8]) -> Result<(), StateError> {
        *state = state.saturating_add(self.decode(payload)?);
        Ok(())
    }

    fn finish(&self, state: u64) -> Result<Record, StateError> {
        Ok(Record::from_integer(state))
    }

    fn finish_empty(&self) -> Option<Result<Record, StateError>> {
        Some(Ok(Record::from_integer(0)))
    }

    fn grows(&self) -> bool {
        false
    }

    fn memory_bytes(_state: &u64) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_survives_its_encoding_and_adds_up() {
        let count = Count::new("spec.pipeline.steps[0].count");
        for number in [1, 127, 128, u64::MAX] {
            assert_eq!(count.decode(&count.encode(&number)), Ok(number));
        }
        let mut state = 300;
        count.absorb(&mut state, &count.encode(&12)).unwrap();
        assert_eq!(count.finish(state).unwrap().as_json_str(), "312");
        assert_eq!(count.finish_empty().unwrap().unwrap().as_json_str(), "0");
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for payload in [&[][..], &[0x80], &[1, 1]] {
            assert!(Count::new("").decode(payload).is_err(), "{payload:?}");
        }
    }
}
