//! The tail of a shuffle file. It has one entry of fixed width for each partition, and a footer.
//! This module only converts bytes.
//!
//! An entry consists of offset, length and rows (each a u64), the CRC-32C of the partition's bytes,
//! and the CRC-32C of the entry and its attempt (each a u32). The footer consists of magic,
//! version, number of partitions, CRC-32C of the whole index, and CRC-32C of the footer. All
//! numbers are little endian. The checksum of an entry covers the attempt and the partition, so an
//! entry of another attempt is not accepted.

use std::ops::Range;

use zephyr_engine::id::TaskAttempt;

/// How many bytes an entry has.
pub(crate) const ENTRY_BYTES: u64 = 32;

/// How many bytes the footer has.
pub(crate) const FOOTER_BYTES: u64 = 24;

const MAGIC: &[u8; 8] = b"ZPHSHUF\n";

const VERSION: u32 = 1;

/// The position of one partition in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) rows: u64,
    pub(crate) crc32c: u32,
}

/// Returns the path of an attempt's shuffle file, relative to the job's folder.
pub fn shuffle_path(task: TaskAttempt) -> String {
    format!(
        "data/{}/{}/{}/shuffle",
        task.task.stage.0, task.task.shard, task.attempt
    )
}

/// Returns the bytes of index and footer, which follow the last partition.
pub(crate) fn encode(task: TaskAttempt, entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (partition, entry) in entries.iter().enumerate() {
        let start = bytes.len();
        for word in [entry.offset, entry.length, entry.rows] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&entry.crc32c.to_le_bytes());
        let checksum = entry_checksum(task, partition as u64, &bytes[start..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
    }
    let mut footer = MAGIC.to_vec();
    footer.extend_from_slice(&VERSION.to_le_bytes());
    footer.extend_from_slice(
        &u32::try_from(entries.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    footer.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    footer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
    bytes.extend(footer);
    bytes
}

/// Returns the position of a partition's entry in a file of this size. `None` if the file is too
/// small.
pub(crate) fn entry_range(size: u64, partitions: u32, partition: u32) -> Option<Range<u64>> {
    let index = size.checked_sub(FOOTER_BYTES + u64::from(partitions) * ENTRY_BYTES)?;
    let start = index + u64::from(partition) * ENTRY_BYTES;
    (partition < partitions).then_some(start..start + ENTRY_BYTES)
}

/// Reads the entry of a partition. The error says what is wrong with the entry.
pub(crate) fn decode_entry(
    task: TaskAttempt,
    size: u64,
    partitions: u32,
    partition: u32,
    bytes: &[u8],
) -> Result<IndexEntry, String> {
    let index = entry_range(size, partitions, 0)
        .ok_or("the file is smaller than its index")?
        .start;
    let (Some((words, checksum)), true) = (
        bytes.split_last_chunk::<4>(),
        bytes.len() as u64 == ENTRY_BYTES,
    ) else {
        return Err("an index entry is incomplete".to_owned());
    };
    if entry_checksum(task, u64::from(partition), words) != u32::from_le_bytes(*checksum) {
        return Err("an index entry's checksum is wrong".to_owned());
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&words[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let mut crc32c = [0; 4];
    crc32c.copy_from_slice(&words[24..28]);
    let entry = IndexEntry {
        offset: word(0),
        length: word(8),
        rows: word(16),
        crc32c: u32::from_le_bytes(crc32c),
    };
    if entry
        .offset
        .checked_add(entry.length)
        .is_none_or(|end| end > index)
    {
        return Err("an index entry points beyond the file's data".to_owned());
    }
    Ok(entry)
}

/// Checks the tail and all partitions of a whole file. The error says what is wrong with the file.
#[cfg(test)]
pub(crate) fn check_file(task: TaskAttempt, partitions: u32, file: &[u8]) -> Result<(), String> {
    let size = file.len() as u64;
    let start = entry_range(size, partitions, 0)
        .ok_or("the file is smaller than its index")?
        .start;
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
    let index: Vec<IndexEntry> = (0..partitions)
        .map(|partition| {
            let range = entry_range(size, partitions, partition).unwrap_or_default();
            decode_entry(
                task,
                size,
                partitions,
                partition,
                &file[at(range.start)..at(range.end)],
            )
        })
        .collect::<Result<_, _>>()?;
    if encode(task, &index) != file[at(start)..] {
        return Err("the footer is wrong".to_owned());
    }
    let mut end = 0;
    for entry in &index {
        if entry.offset != end
            || crc32c::crc32c(&file[at(entry.offset)..at(entry.offset + entry.length)])
                != entry.crc32c
        {
            return Err("a partition's checksum is wrong".to_owned());
        }
        end += entry.length;
    }
    if end == start {
        Ok(())
    } else {
        Err("some bytes belong to no partition".to_owned())
    }
}

fn entry_checksum(task: TaskAttempt, partition: u64, words: &[u8]) -> u32 {
    let whose = format!("{}/{partition}", shuffle_path(task));
    crc32c::crc32c_append(crc32c::crc32c(whose.as_bytes()), words)
}
