//! What groupBy, aggregate, deduplicate and count have in common: records with equal keys become
//! one entry of a shuffle, and entries with equal keys become one record. Buffers and merges use
//! this trait. Contains no operator.

use crate::ops::error::OperatorError;
use crate::ops::payload::StateError;
use crate::record::{Record, Row};

/// Approximate overhead of the allocator for each allocation.
pub(crate) const ALLOCATION_BYTES: usize = 16;

/// The combined records of one key, as part of a shuffle. A sorted run has its entries in the order
/// of (partition, key), with at most one entry for each pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The task of the next stage that reads it.
    pub partition: u32,
    /// The key, encoded so that equal values have equal bytes and bytes compare as jq orders
    /// values.
    pub key: Vec<u8>,
    /// The combined records in a form that only the operator can read.
    pub payload: Vec<u8>,
}

/// An operator over records with equal keys. `State` is one group while it is built. A group's
/// records may be added to one state. Or they may be added to several states, and the payloads of
/// these are then absorbed in the same order. The final record is the same.
pub(crate) trait Keyed {
    /// A group while it is built.
    type State;
    /// What is kept of the first record's key besides the bytes of the key.
    type KeyText;

    /// The step's place in the manifest.
    fn path(&self) -> &str;

    /// Computes the key of a record and passes its bytes to `use_key`. They are written to `bytes`,
    /// so that one buffer serves all records. The second argument of `use_key` creates the key's
    /// text, which only the first record of a group needs.
    fn key<T>(
        &self,
        row: &Row<'_>,
        bytes: &mut Vec<u8>,
        use_key: impl FnOnce(
            &[u8],
            &dyn Fn() -> Result<Self::KeyText, OperatorError>,
        ) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError>;

    /// The group that a record begins.
    fn begin(&self, key: Self::KeyText, row: &Row<'_>) -> Result<Self::State, OperatorError>;

    /// Adds one more record of the group, after all others.
    fn add(&self, state: &mut Self::State, row: &Row<'_>) -> Result<(), OperatorError>;

    /// The group as bytes.
    fn encode(&self, state: &Self::State) -> Vec<u8>;

    /// Restores the group that `encode` wrote.
    fn decode(&self, payload: &[u8]) -> Result<Self::State, StateError>;

    /// Adds later records of the same group, in the form that `encode` wrote.
    fn absorb(&self, state: &mut Self::State, payload: &[u8]) -> Result<(), StateError>;

    /// The group's record.
    fn finish(&self, state: Self::State) -> Result<Record, StateError>;

    /// The record for an input without groups, if there is one.
    fn finish_empty(&self) -> Option<Result<Record, StateError>> {
        None
    }

    /// Whether a state may hold more bytes on the heap after a record was added.
    fn grows(&self) -> bool;

    /// Bytes that the state holds on the heap, with the allocator's overhead.
    fn memory_bytes(state: &Self::State) -> usize;
}
