//! Finds out where a large compressed file may be cut, from a few bytes of its beginning and its
//! end. Reads no records. A file in which anything is unusual is read as a whole.

use std::ops::Range;

use zephyr_engine::plan::Cuts;

use super::Compression;
use super::blocks::{END_MARK, block_length};
use crate::storage::{InputFile, Location, StorageError, Stores, fetch_range_of};

/// How many bytes the footer of a zstd seek table has. It consists of the number of frames, the
/// flags, and a magic number.
const FOOTER_BYTES: u64 = 9;
const FOOTER_MAGIC: [u8; 4] = 0x8f92_eab1_u32.to_le_bytes();

/// How many bytes are before the entries of a seek table: the magic number and the length of its
/// skippable frame.
const TABLE_HEAD_BYTES: u64 = 8;
const TABLE_MAGIC: [u8; 4] = 0x184d_2a5e_u32.to_le_bytes();

/// The largest seek table that is read: more than a million frames.
const MAX_TABLE_BYTES: u64 = 16 << 20;

/// The flag for a checksum beside each frame, and the flags that must not be set.
const HAS_CHECKSUMS: u8 = 0x80;
const RESERVED: u8 = 0x7c;

/// How many bytes at the beginning of a file are read to recognize a block of bgzip. The header
/// that bgzip itself writes has 18 bytes.
const HEAD_BYTES: u64 = 268;

/// Where a compressed file may be cut. Makes at most two small reads, each with the store's
/// deadlines.
///
/// # Errors
/// The store failed, or the file is not the one that was listed.
pub async fn look_into(stores: &Stores, file: &InputFile) -> Result<Cuts, StorageError> {
    let Ok(location) = Location::parse_local(&file.uri) else {
        return Ok(Cuts::Nowhere);
    };
    let read = |range: Range<u64>| fetch_range_of(stores, &location, file, range);
    match Compression::of_path(&file.uri) {
        Compression::None => Ok(Cuts::Anywhere),
        Compression::Gz => {
            let head = read(0..HEAD_BYTES.min(file.size)).await?;
            if block_length(&head).is_none() || file.size < END_MARK.len() as u64 {
                return Ok(Cuts::Nowhere);
            }
            let mark = read(file.size - END_MARK.len() as u64..file.size).await?;
            Ok(if *mark == END_MARK {
                Cuts::Anywhere
            } else {
                Cuts::Nowhere
            })
        }
        Compression::Zst => {
            let footer = read(file.size.saturating_sub(FOOTER_BYTES)..file.size).await?;
            let Some(table_bytes) = table_bytes(&footer).filter(|bytes| *bytes <= file.size) else {
                return Ok(Cuts::Nowhere);
            };
            let table = read(file.size - table_bytes..file.size).await?;
            Ok(borders(&table, file.size).map_or(Cuts::Nowhere, Cuts::At))
        }
    }
}

/// The length of the seek table with this footer; `None` if this is not the footer of a seek table.
fn table_bytes(footer: &[u8]) -> Option<u64> {
    let (frames, rest) = footer.split_first_chunk::<4>()?;
    let (flags, magic) = rest.split_first()?;
    if magic != FOOTER_MAGIC || flags & RESERVED != 0 {
        return None;
    }
    let frames = u64::from(u32::from_le_bytes(*frames));
    let bytes = TABLE_HEAD_BYTES + frames * entry_bytes(*flags) as u64 + FOOTER_BYTES;
    (bytes <= MAX_TABLE_BYTES).then_some(bytes)
}

fn entry_bytes(flags: u8) -> usize {
    if flags & HAS_CHECKSUMS == 0 { 8 } else { 12 }
}

/// Where frames begin, without the first one, in a file of this size; `None` if the table does not
/// describe such a file. The task that reads a part checks that a frame ends at the border after
/// the part.
fn borders(table: &[u8], size: u64) -> Option<Vec<u64>> {
    let (head, rest) = table.split_at_checked(usize::try_from(TABLE_HEAD_BYTES).ok()?)?;
    let (entries, footer) = rest.split_at_checked(
        rest.len()
            .checked_sub(usize::try_from(FOOTER_BYTES).ok()?)?,
    )?;
    let length = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    if !head.starts_with(&TABLE_MAGIC) || length as usize != rest.len() {
        return None;
    }
    let entries = entries.chunks_exact(entry_bytes(*footer.get(4)?));
    let mut at = 0_u64;
    let mut borders = Vec::with_capacity(entries.len());
    for entry in entries {
        let compressed = u32::from_le_bytes(entry.get(..4)?.try_into().ok()?);
        if compressed == 0 {
            return None;
        }
        borders.push(at);
        at += u64::from(compressed);
    }
    let is_whole = at + table.len() as u64 == size;
    is_whole.then(|| borders.split_off(1.min(borders.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sizes: &[u32], flags: u8) -> Vec<u8> {
        let mut entries = Vec::new();
        for size in sizes {
            entries.extend(size.to_le_bytes());
            entries.extend(vec![7; entry_bytes(flags) - 4]);
        }
        entries.extend(u32::try_from(sizes.len()).unwrap().to_le_bytes());
        entries.push(flags);
        entries.extend(FOOTER_MAGIC);
        let mut table = TABLE_MAGIC.to_vec();
        table.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
        table.extend(entries);
        table
    }

    #[test]
    fn a_seek_table_gives_the_borders_of_frames_and_a_wrong_one_gives_none() {
        for flags in [0, HAS_CHECKSUMS] {
            let table = table(&[10, 20, 5], flags);
            let size = 35 + table.len() as u64;
            let footer = &table[table.len() - 9..];
            assert_eq!(table_bytes(footer), Some(table.len() as u64));
            assert_eq!(borders(&table, size), Some(vec![10, 30]));
            assert_eq!(
                borders(&table, size + 1),
                None,
                "the frames have other sizes"
            );
            for index in [0, 4, table.len() - 9] {
                let mut other = table.clone();
                other[index] ^= 1;
                let is_other = table_bytes(&other[other.len() - 9..]) != Some(table.len() as u64);
                assert!(is_other || borders(&other, size).is_none(), "{index}");
            }
        }
        let none = table(&[], 0);
        assert_eq!(borders(&none, none.len() as u64), Some(vec![]));
        assert_eq!(borders(&table(&[3, 0], 0), 3 + 33), None);
        assert_eq!(table_bytes(b"123456789"), None);
        assert_eq!(table_bytes(&[]), None);
        let huge = [255, 255, 255, 255, 0, 0xb1, 0xea, 0x92, 0x8f];
        assert_eq!(table_bytes(&huge), None);
    }
}
