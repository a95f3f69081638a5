//! The buffer of the map side. It has one state for each key. When memory is short or the input
//! ends, it is emptied into one run that is sorted by (partition, key). The buffer reports how much
//! memory it uses, and its owner decides when to empty it.

use xxhash_rust::xxh3::xxh3_64;

use crate::key::shard_of_bytes;
use crate::ops::error::OperatorError;
use crate::ops::keyed::{Entry, Keyed};
use crate::ops::merge;
use crate::ops::stored_key::StoredKey;
use crate::record::Row;

/// A cell of the hash table that finds a group by its key: the group's position in `Buffer::slots`,
/// and the high half of the hash of its key. So most other keys are passed over without a look at
/// their group.
#[derive(Clone, Copy)]
struct Cell {
    position: u32,
    tag: u32,
}

/// A cell that points to no group.
const EMPTY: Cell = Cell {
    position: u32::MAX,
    tag: 0,
};

/// A longer buffer of a key is not kept for the next record.
const MAX_KEPT_KEY_BYTES: usize = 64 << 10;

/// The first size of the hash table; always a power of two.
const FIRST_CELLS: usize = 64;

/// The current groups, found by key.
pub(crate) struct Buffer<'p, K: Keyed> {
    operation: &'p K,
    partitions: u32,
    slots: Vec<Slot<K::State>>,
    /// Positions in `slots`, by hash with linear probing; at most half full.
    cells: Vec<Cell>,
    /// The bytes of the current record's key. They are kept so that the next record need not
    /// allocate.
    key: Vec<u8>,
    /// Whether states may grow after their first record.
    grows: bool,
    /// Heap bytes of keys and states.
    heap_bytes: usize,
    /// What [`Buffer::memory_bytes`] returns. Computed again only when a group is added or grows,
    /// or when all are drained.
    memory_bytes: usize,
}

struct Slot<S> {
    hash: u64,
    partition: u32,
    key: StoredKey,
    state: S,
}

/// The group of a record.
enum Found<T> {
    Known { position: usize },
    New { hash: u64, text: T },
}

impl<'p, K: Keyed> Buffer<'p, K> {
    pub(crate) fn new(operation: &'p K, partitions: u32) -> Self {
        Self {
            operation,
            partitions,
            slots: Vec::new(),
            cells: Vec::new(),
            key: Vec::new(),
            grows: operation.grows(),
            heap_bytes: 0,
            memory_bytes: 0,
        }
    }

    /// Adds a record. After an error the buffer cannot be used.
    pub(crate) fn push(&mut self, row: &Row<'_>) -> Result<(), OperatorError> {
        let mut bytes = std::mem::take(&mut self.key);
        let added = self.push_with(row, &mut bytes);
        self.keep(bytes);
        added
    }

    /// [`Buffer::push`], with a buffer for the key.
    fn push_with(&mut self, row: &Row<'_>, bytes: &mut Vec<u8>) -> Result<(), OperatorError> {
        let found = self.operation.key(row, bytes, |key, text| {
            let hash = xxh3_64(key);
            Ok(match self.find(hash, key) {
                Some(position) => Found::Known { position },
                None => Found::New {
                    hash,
                    text: text()?,
                },
            })
        })?;
        match found {
            Found::Known { position } => {
                let state = &mut self.slots[position].state;
                if !self.grows {
                    return self.operation.add(state, row);
                }
                let before = K::memory_bytes(state);
                self.operation.add(state, row)?;
                self.heap_bytes = (self.heap_bytes + K::memory_bytes(state)).saturating_sub(before);
                self.memory_bytes = self.counted_bytes();
            }
            Found::New { hash, text } => {
                let state = self.operation.begin(text, row)?;
                self.begin(hash, bytes, state);
            }
        }
        Ok(())
    }

    /// Adds a record as a whole, or nothing of it. The inner error is that of the record alone. It
    /// depends on no other record, so the same records fail however the records of a shard are
    /// buffered. The outer error is that of a group. After it the buffer cannot be used.
    pub(crate) fn push_whole(
        &mut self,
        row: &Row<'_>,
    ) -> Result<Result<(), OperatorError>, OperatorError> {
        let mut bytes = std::mem::take(&mut self.key);
        let text = self.operation.key(row, &mut bytes, |_, text| text());
        let alone = text.and_then(|text| self.operation.begin(text, row));
        let added = match alone {
            Ok(state) => self.absorb(&bytes, state).map(Ok),
            Err(error) => Ok(Err(error)),
        };
        self.keep(bytes);
        added
    }

    /// Keeps the buffer of a key for the next record, unless it takes much memory.
    fn keep(&mut self, mut key: Vec<u8>) {
        if key.capacity() > MAX_KEPT_KEY_BYTES {
            key = Vec::new();
        }
        self.key = key;
    }

    /// Adds a group of one record to the group of this key.
    fn absorb(&mut self, key: &[u8], alone: K::State) -> Result<(), OperatorError> {
        let hash = xxh3_64(key);
        let Some(position) = self.find(hash, key) else {
            self.begin(hash, key, alone);
            return Ok(());
        };
        let later = self.operation.encode(&alone);
        let state = &mut self.slots[position].state;
        let before = K::memory_bytes(state);
        self.operation
            .absorb(state, &later)
            .map_err(|error| merge::failed(self.operation, &error))?;
        self.heap_bytes = (self.heap_bytes + K::memory_bytes(state)).saturating_sub(before);
        self.memory_bytes = self.counted_bytes();
        Ok(())
    }

    /// Inserts a group that is not there yet.
    fn begin(&mut self, hash: u64, key: &[u8], state: K::State) {
        let partition = shard_of_bytes(key, self.partitions);
        let key = StoredKey::new(key);
        self.heap_bytes += key.memory_bytes() + K::memory_bytes(&state);
        self.insert(Slot {
            hash,
            partition,
            key,
            state,
        });
        self.memory_bytes = self.counted_bytes();
    }

    /// How many bytes the buffer uses: keys, states, slots and the hash table, with the allocator's
    /// overhead. If slots or table must grow for the next group, the larger ones are counted in
    /// addition, because old and new are in memory at the same time.
    #[inline]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn counted_bytes(&self) -> usize {
        let (slots, cells) = (self.slots.capacity(), self.cells.capacity());
        let grown = |is_full: bool, size: usize| if is_full { 3 * size } else { size };
        self.heap_bytes
            + grown(self.slots.len() == slots, slots) * size_of::<Slot<K::State>>()
            + grown(self.slots.len() * 2 >= self.cells.len(), cells) * size_of::<Cell>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All groups as one sorted run. The buffer is empty at once. The memory of the groups is
    /// released while the run is consumed.
    pub(crate) fn drain_sorted(&mut self) -> impl Iterator<Item = Entry> + use<'p, K> {
        let operation = self.operation;
        let mut slots = std::mem::take(&mut self.slots);
        self.cells = Vec::new();
        self.heap_bytes = 0;
        self.memory_bytes = 0;
        // An unstable sort is enough, because all keys are different, and it needs no further
        // memory.
        slots.sort_unstable_by(|left, right| {
            (left.partition, left.key.as_bytes()).cmp(&(right.partition, right.key.as_bytes()))
        });
        slots.into_iter().map(move |slot| Entry {
            partition: slot.partition,
            payload: operation.encode(&slot.state),
            key: slot.key.into_bytes(),
        })
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = first_cell(hash, mask);
        loop {
            let Cell { position, tag } = self.cells[at];
            if position == EMPTY.position {
                return None;
            }
            if tag == tag_of(hash) && self.slots[position as usize].key.as_bytes() == key {
                return Some(position as usize);
            }
            at = (at + 1) & mask;
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
fn place(cells: &mut [Cell], hash: u64, position: usize) {
    let mask = cells.len() - 1;
    let mut at = first_cell(hash, mask);
    while cells[at].position != EMPTY.position {
        at = (at + 1) & mask;
    }
    cells[at] = Cell {
        // A buffer of 2^32 groups would need more memory than any budget allows.
        position: u32::try_from(position).unwrap_or(EMPTY.position - 1),
        tag: tag_of(hash),
    };
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the low bits are wanted"
)]
fn first_cell(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}
