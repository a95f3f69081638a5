//! What groupBy, deduplicate and count have in common: records of equal key become one entry of a
//! shuffle, and entries of equal key become one record. Buffers and merges are written once against
//! this; no operator is in here.

use crate::key::KeyBytes;
use crate::ops::error::OperatorError;
use crate::ops::payload::StateError;
use crate::record::Record;

/// What the allocator adds to each piece of memory, about: it rounds up and keeps its books.
pub(crate) const ALLOCATION_BYTES: usize = 16;

/// One key's share of a shuffle: what the records seen so far have been combined to. Sorted runs
/// are in the order of (partition, key) with at most one entry for each pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The task of the next stage that reads it.
    pub partition: u32,
    /// The key, encoded so that equal values have equal bytes and bytes compare as jq orders
    /// values.
    pub key: Vec<u8>,
    /// What the operator made of the records; only the operator can read it.
    pub payload: Vec<u8>,
}

/// An operator over records of equal key. `State` is one group under way. Adding a group's records
/// one by one, or to several states whose payloads are then absorbed in the same order, gives the
/// same record in the end.
pub(crate) trait Keyed {
    /// A group under way.
    type State;
    /// What is kept of the first record's key besides its bytes.
    type KeyText;

    /// The step's place in the manifest.
    fn path(&self) -> &str;

    /// Finds the key of a record and lets `use_key` go on with it. Its second argument makes the
    /// key's text, which only the first record of a group needs.
    fn key<T>(
        &self,
        record: &Record,
        use_key: impl FnOnce(
            KeyBytes,
            &dyn Fn() -> Result<Self::KeyText, OperatorError>,
        ) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError>;

    /// The group that a record begins.
    fn begin(&self, key: Self::KeyText, record: Record) -> Result<Self::State, OperatorError>;

    /// One more record of the group, behind all others.
    fn add(&self, state: &mut Self::State, record: &Record) -> Result<(), OperatorError>;

    /// The group as bytes.
    fn encode(&self, state: &Self::State) -> Vec<u8>;

    /// The group that `encode` wrote.
    fn decode(&self, payload: &[u8]) -> Result<Self::State, StateError>;

    /// Takes in what `encode` wrote for later records of the same group.
    fn absorb(&self, state: &mut Self::State, payload: &[u8]) -> Result<(), StateError>;

    /// The group's record.
    fn finish(&self, state: Self::State) -> Result<Record, StateError>;

    /// The record of no groups at all, where there is one.
    fn finish_empty(&self) -> Option<Record> {
        None
    }

    /// Bytes the state holds on the heap, with what the allocator adds.
    fn memory_bytes(state: &Self::State) -> usize;
}
