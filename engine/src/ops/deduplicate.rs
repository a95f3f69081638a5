//! `deduplicate`: keeps the first record of each key in (shard, position) order, with its text.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression::{self, Scope};
use crate::ops::keyed::{ALLOCATION_BYTES, Keyed};
use crate::ops::payload::StateError;
use crate::plan::path;
use crate::record::{Record, Row};

/// The compiled step.
pub(crate) struct Deduplicate {
    path: String,
    key_path: String,
    key: Expression,
}

impl Deduplicate {
    pub(crate) fn compile(path: &str, key: &str, scope: &Scope<'_>) -> Result<Self, OperatorError> {
        let key_path = path::key(path);
        let key = expression::compile(&key_path, key, scope)?.for_keys();
        Ok(Self {
            path: path.to_owned(),
            key_path,
            key,
        })
    }
}

/// The state is the text of the first record.
impl Keyed for Deduplicate {
    type State = Box<[u8]>;
    type KeyText = ();

    fn path(&self) -> &str {
        &self.path
    }

    fn key<T>(
        &self,
        row: &Row<'_>,
        bytes: &mut Vec<u8>,
        use_key: impl FnOnce(&[u8], &dyn Fn() -> Result<(), OperatorError>) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        expression::one(&self.key_path, &self.key, row, |value| {
            value
                .write_key(bytes)
                .map_err(|error| expression::unusable(&self.key_path, &error))
        })?;
        use_key(bytes, &|| Ok(()))
    }

    fn begin(&self, (): (), row: &Row<'_>) -> Result<Box<[u8]>, OperatorError> {
        Ok(row.to_record().as_json().into())
    }

    fn add(&self, _state: &mut Box<[u8]>, _row: &Row<'_>) -> Result<(), OperatorError> {
        Ok(())
    }

    fn encode(&self, state: &Box<[u8]>) -> Vec<u8> {
        state.to_vec()
    }

    fn decode(&self, payload: &[u8]) -> Result<Box<[u8]>, StateError> {
        Ok(payload.into())
    }

    fn absorb(&self, _state: &mut Box<[u8]>, _payload: &[u8]) -> Result<(), StateError> {
        Ok(())
    }

    fn finish(&self, state: Box<[u8]>) -> Result<Record, StateError> {
        Record::parse_written(&state).map_err(|_| StateError::Damaged("a record is not JSON"))
    }

    fn grows(&self) -> bool {
        false
    }

    fn memory_bytes(state: &Box<[u8]>) -> usize {
        state.len() + ALLOCATION_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_record_survives_its_encoding_and_later_ones() {
        let step = Deduplicate::compile(
            "spec.pipeline.steps[0].deduplicate",
            ".id",
            &Scope::of_test(),
        )
        .unwrap();
        let mut state = step
            .begin((), &record(r#"{"id":1.0, "x":"\u0061"}"#).into())
            .unwrap();
        step.add(&mut state, &record(r#"{"id":1,"x":2}"#).into())
            .unwrap();
        let mut state = step.decode(&step.encode(&state)).unwrap();
        step.absorb(&mut state, br#"{"id":1,"x":3}"#).unwrap();
        assert_eq!(
            step.finish(state).unwrap().as_json_str(),
            r#"{"id":1.0,"x":"\u0061"}"#
        );
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let step = Deduplicate::compile(
            "spec.pipeline.steps[0].deduplicate",
            ".id",
            &Scope::of_test(),
        )
        .unwrap();
        let state = step.decode(b"{\"id\":").unwrap();
        assert_eq!(
            step.finish(state),
            Err(StateError::Damaged("a record is not JSON"))
        );
    }
}
