//! The buffer of the map side. It has one state for each key. When memory is short or the input
//! ends, it is emptied into one run that is sorted by (partition, key). The buffer reports how much
//! memory it uses, and its owner decides when to empty it.

use xxhash_rust::xxh3::xxh3_64;

use crate::key::{KeyBytes, shard_of};
use crate::ops::error::OperatorError;
use crate::ops::keyed::{ALLOCATION_BYTES, Entry, Keyed};
use crate::ops::merge;
use crate::record::Record;

/// An index cell that points to no slot.
const EMPTY: u32 = u32::MAX;

/// The index's first size; always a power of two.
const FIRST_CELLS: usize = 64;

/// The current groups, found by key.
pub(crate) struct Buffer<'p, K: Keyed> {
    operation: &'p K,
    partitions: u32,
    slots: Vec<Slot<K::State>>,
    /// Positions in `slots`, by hash with linear probing; at most half full.
    cells: Vec<u32>,
    /// Heap bytes of keys and states.
    heap_bytes: usize,
}

struct Slot<S> {
    hash: u64,
    partition: u32,
    key: KeyBytes,
    state: S,
}

/// The partition and key of a record.
enum Found<T> {
    Known { position: usize },
    New { hash: u64, key: KeyBytes, text: T },
}

impl<'p, K: Keyed> Buffer<'p, K> {
    pub(crate) fn new(operation: &'p K, partitions: u32) -> Self {
        Self {
            operation,
            partitions,
            slots: Vec::new(),
            cells: Vec::new(),
            heap_bytes: 0,
        }
    }

    /// Adds a record. After an error the buffer cannot be used.
    pub(crate) fn push(&mut self, record: &Record) -> Result<(), OperatorError> {
        let found = self.operation.key(record, |key, text| {
            let hash = xxh3_64(key.as_bytes());
            Ok(match self.find(hash, &key) {
                Some(position) => Found::Known { position },
                None => Found::New {
                    hash,
                    key,
                    text: text()?,
                },
            })
        })?;
        match found {
            Found::Known { position } => {
                let state = &mut self.slots[position].state;
                let before = K::memory_bytes(state);
                self.operation.add(state, record)?;
                self.heap_bytes = (self.heap_bytes + K::memory_bytes(state)).saturating_sub(before);
            }
            Found::New { hash, key, text } => {
                let state = self.operation.begin(text, record)?;
                self.begin(hash, key, state);
            }
        }
        Ok(())
    }

    /// Adds a record as a whole, or nothing of it. The inner error is that of the record alone. It
    /// depends on no other record, so the same records fail however the records of a shard are
    /// buffered. The outer error is that of a group. After it the buffer cannot be used.
    pub(crate) fn push_whole(
        &mut self,
        record: &Record,
    ) -> Result<Result<(), OperatorError>, OperatorError> {
        let key = self.operation.key(record, |key, text| Ok((key, text()?)));
        let alone = key.and_then(|(key, text)| Ok((key, self.operation.begin(text, record)?)));
        let (key, state) = match alone {
            Ok(alone) => alone,
            Err(error) => return Ok(Err(error)),
        };
        let hash = xxh3_64(key.as_bytes());
        let Some(position) = self.find(hash, &key) else {
            self.begin(hash, key, state);
            return Ok(Ok(()));
        };
        let later = self.operation.encode(&state);
        let state = &mut self.slots[position].state;
        let before = K::memory_bytes(state);
        self.operation
            .absorb(state, &later)
            .map_err(|error| merge::failed(self.operation, &error))?;
        self.heap_bytes = (self.heap_bytes + K::memory_bytes(state)).saturating_sub(before);
        Ok(Ok(()))
    }

    /// Inserts a group that is not there yet.
    fn begin(&mut self, hash: u64, key: KeyBytes, state: K::State) {
        self.heap_bytes += key.as_bytes().len() + ALLOCATION_BYTES + K::memory_bytes(&state);
        let partition = shard_of(&key, self.partitions);
        self.insert(Slot {
            hash,
            partition,
            key,
            state,
        });
    }

    /// How many bytes the buffer uses now, or needs for the next group: keys, states, slots and the
    /// index, with the allocator's overhead. If slots or index have to grow for that group, the old
    /// and the new ones are counted, because both are in memory during the copy.
    pub(crate) fn memory_bytes(&self) -> usize {
        let (slots, cells) = (self.slots.capacity(), self.cells.capacity());
        let grown = |is_full: bool, size: usize| if is_full { 3 * size } else { size };
        self.heap_bytes
            + grown(self.slots.len() == slots, slots) * size_of::<Slot<K::State>>()
            + grown(self.slots.len() * 2 >= self.cells.len(), cells) * size_of::<u32>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All groups as one sorted run; afterwards the buffer is empty and has released its memory.
    pub(crate) fn drain_sorted(&mut self) -> impl Iterator<Item = Entry> + use<'p, K> {
        let operation = self.operation;
        let mut slots = std::mem::take(&mut self.slots);
        self.cells = Vec::new();
        self.heap_bytes = 0;
        // An unstable sort is enough, because all keys are different, and it needs no further
        // memory.
        slots.sort_unstable_by(|left, right| {
            (left.partition, &left.key).cmp(&(right.partition, &right.key))
        });
        slots.into_iter().map(move |slot| Entry {
            partition: slot.partition,
            payload: operation.encode(&slot.state),
            key: slot.key.into_bytes(),
        })
    }

    fn find(&self, hash: u64, key: &KeyBytes) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let mut cell = first_cell(hash, self.cells.len());
        loop {
            let position = self.cells[cell];
            if position == EMPTY {
                return None;
            }
            let slot = &self.slots[position as usize];
            if slot.hash == hash && slot.key == *key {
                return Some(position as usize);
            }
            cell = (cell + 1) & (self.cells.len() - 1);
        }
    }

    fn insert(&mut self, slot: Slot<K::State>) {
        if self.slots.len() * 2 >= self.cells.len() {
            self.grow();
        }
        let position = self.slots.len();
        place(&mut self.cells, slot.hash, position);
        self.slots.push(slot);
    }

    fn grow(&mut self) {
        let size = (self.cells.len() * 2).max(FIRST_CELLS);
        self.cells = vec![EMPTY; size];
        for (position, slot) in self.slots.iter().enumerate() {
            place(&mut self.cells, slot.hash, position);
        }
    }
}

/// Puts a slot's position into the first free cell. The caller must have made room.
fn place(cells: &mut [u32], hash: u64, position: usize) {
    let mut cell = first_cell(hash, cells.len());
    while cells[cell] != EMPTY {
        cell = (cell + 1) & (cells.len() - 1);
    }
    // A buffer of 2^32 groups would need more memory than any budget allows.
    cells[cell] = u32::try_from(position).unwrap_or(EMPTY - 1);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the low bits are wanted"
)]
fn first_cell(hash: u64, cells: usize) -> usize {
    hash as usize & (cells - 1)
}
