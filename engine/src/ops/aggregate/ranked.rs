//! Texts in the order of their keys: the records of `topK`, and the values of `collect` and the
//! records of `reduce` if there is a `sortBy`. Texts of equal keys keep the order of (shard,
//! position).

use super::collect::{array, too_long};
use std::cmp::Ordering;

use super::{Combine, within_memory};
use crate::expr::Value;
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError, push_bytes, push_number};
use crate::record::{Limits, Record};

/// How many more texts than wanted are added before those that are not wanted are removed, at
/// least. So sorting is rare.
const SLACK: usize = 64;

/// The order, and how many texts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Whether greater keys come first.
    pub(crate) descending: bool,
    /// How many are kept from the front; `None` = all.
    pub(crate) keep: Option<usize>,
}

impl Rank {
    fn compare(self, left: &Entry, right: &Entry) -> Ordering {
        if self.descending {
            right.key.cmp(&left.key)
        } else {
            left.key.cmp(&right.key)
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ranked {
    rank: Rank,
    /// In the order in which they were added since the last sort.
    entries: Vec<Entry>,
    /// The texts together.
    text_bytes: usize,
    key_bytes: usize,
}

/// What an entry takes besides its key and its text, with the allocator's overhead.
const ENTRY_BYTES: usize = size_of::<Entry>() + 2 * ALLOCATION_BYTES;

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    text: Box<str>,
}

impl Ranked {
    pub(crate) fn new(rank: Rank) -> Self {
        Self {
            rank,
            entries: Vec::new(),
            text_bytes: 0,
            key_bytes: 0,
        }
    }

    /// Adds one more text.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        text: &str,
        limits: &Limits,
    ) -> Result<(), StateError> {
        self.text_bytes += text.len();
        self.key_bytes += key.len();
        self.entries.push(Entry {
            key: key.into(),
            text: text.into(),
        });
        let too_many = self.rank.keep.is_some_and(|keep| {
            let is_large = self.length() > limits.bytes || self.used_bytes() > limits.memory_bytes;
            self.entries.len() >= keep.saturating_mul(2).max(SLACK)
                || self.entries.len() > keep && is_large
        });
        if too_many {
            self.sort();
        }
        if self.length() > limits.bytes {
            return Err(too_long(limits.bytes));
        }
        within_memory(self.used_bytes(), limits)
    }

    /// The memory of the entries, without room for more of them.
    fn used_bytes(&self) -> usize {
        self.text_bytes + self.key_bytes + self.entries.len() * ENTRY_BYTES
    }

    /// The length of the array of these texts.
    fn length(&self) -> usize {
        self.text_bytes + self.entries.len() + 1
    }

    /// Sorts the texts, and removes those that are not wanted.
    fn sort(&mut self) {
        let rank = self.rank;
        self.entries
            .sort_by(|left, right| rank.compare(left, right));
        for entry in self
            .entries
            .drain(self.rank.keep.unwrap_or(usize::MAX).min(self.entries.len())..)
        {
            self.text_bytes -= entry.text.len();
            self.key_bytes -= entry.key.len();
        }
    }

    /// The entries in their order, without those that are not wanted.
    fn sorted(&self) -> Vec<&Entry> {
        let mut sorted: Vec<&Entry> = self.entries.iter().collect();
        sorted.sort_by(|left, right| self.rank.compare(left, right));
        sorted.truncate(self.rank.keep.unwrap_or(usize::MAX));
        sorted
    }
}

impl Combine for Ranked {
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError> {
        Self::add(self, &[], value.to_record()?.as_json_str(), value.limits())
    }

    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        limits: &Limits,
    ) -> Result<(), StateError> {
        for _ in 0..payload.number()? {
            let (key, text) = (payload.bytes()?, payload.text()?);
            Self::add(self, key, text, limits)?;
        }
        Ok(())
    }

    fn encode(&self, payload: &mut Vec<u8>) {
        let sorted = self.sorted();
        push_number(payload, sorted.len() as u64);
        for entry in sorted {
            push_bytes(payload, &entry.key);
            push_bytes(payload, entry.text.as_bytes());
        }
    }

    fn finish(&self, limits: &Limits) -> Result<Record, StateError> {
        let texts: Vec<&str> = self.sorted().iter().map(|entry| &*entry.text).collect();
        array(texts.join(",").as_bytes(), limits)
    }

    fn memory_bytes(&self) -> usize {
        let room = self.entries.capacity() - self.entries.len();
        self.used_bytes() + room * size_of::<Entry>()
    }
}
