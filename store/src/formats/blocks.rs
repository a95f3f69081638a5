//! Reads a part of a file that bgzip has written: the blocks that begin in the part, and after them
//! as many blocks as the last line of the part needs. A block is a gzip member whose header
//! contains the member's length.
//!
//! A part begins and ends at any byte. Its first block is found by examining the bytes after its
//! beginning. Some bytes may only look like a block. Therefore the task of the previous part checks
//! what was found. It reads one block after the other, so it knows where its last block ends. Then
//! it searches for the first block of the next part in the same way as the task of that part does.
//! If that block does not begin exactly where its own last block ends, the task fails. So if all
//! tasks of a file succeed, each part began at the beginning of a block.

use std::io::{self, Read};
use std::ops::Range;

use flate2::bufread::GzDecoder;

use super::compression::CompressedError;
use super::gzip::BLOCK_FIELD;
use super::magic::GZIP;
use super::part_end::PartEnd;

/// The most bytes that a block has, compressed or plain. The field for its length has two bytes.
const MAX_BLOCK_BYTES: usize = 1 << 16;

/// How many bytes a member's header has before its extra fields: magic number, method, flags, time,
/// two hints and the length of the extra fields.
const FIXED_BYTES: usize = 12;

/// The most bytes of a header that are looked at. bgzip writes one extra field, of 6 bytes.
const MAX_HEAD_BYTES: usize = FIXED_BYTES + 256;

/// The flags of a block: it has extra fields, and neither name nor comment.
const ONLY_EXTRA: u8 = 4;
const DEFLATE: u8 = 8;

/// How many bytes are read at a time at least.
const READ_BYTES: usize = 64 << 10;

/// The block without data that bgzip writes at the end of a file.
pub(super) const END_MARK: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];

/// The plain bytes of a part.
pub(crate) struct Blocks {
    source: Box<dyn Read>,
    /// Compressed bytes. The position of the first one in the file is `base`.
    bytes: Vec<u8>,
    base: u64,
    size: u64,
    part: Range<u64>,
    /// Where the first block begins, once it is found.
    first: Option<u64>,
    /// Where the next block begins.
    at: u64,
    plain: Vec<u8>,
    given: usize,
    produced: u64,
    last_is_empty: bool,
    end: PartEnd,
}

impl Blocks {
    /// Reads the part of a file of this size. `source` yields its bytes from the beginning of the
    /// part on.
    pub(crate) fn new(
        source: impl Read + 'static,
        size: u64,
        part: Range<u64>,
        end: PartEnd,
    ) -> Self {
        Self {
            source: Box::new(source),
            bytes: Vec::new(),
            base: part.start,
            size,
            first: None,
            at: part.start,
            part,
            plain: Vec::new(),
            given: 0,
            produced: 0,
            last_is_empty: false,
            end,
        }
    }

    /// The position in the file at which the next block begins.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Where the first block of the part begins.
    pub(crate) fn first(&self) -> u64 {
        self.first.unwrap_or(self.part.start)
    }

    /// The bytes of the file from `at` on: `count`, or fewer at the end of the file.
    fn look(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let start = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let wanted = start.saturating_add(count);
        while self.bytes.len() < wanted {
            let had = self.bytes.len();
            self.bytes.resize(had.max(wanted.min(had + READ_BYTES)), 0);
            let read = match self.source.read(&mut self.bytes[had..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(usize::MAX),
                read => read,
            };
            match read {
                Ok(usize::MAX) => self.bytes.truncate(had),
                Ok(0) => {
                    self.bytes.truncate(had);
                    break;
                }
                Ok(read) => self.bytes.truncate(had + read),
                Err(error) => {
                    self.bytes.truncate(had);
                    return Err(error);
                }
            }
        }
        let end = wanted.min(self.bytes.len());
        Ok(self.bytes.get(start..end).unwrap_or_default())
    }

    /// Forgets the bytes before a position.
    fn forget(&mut self, before: u64) {
        let count = usize::try_from(before.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let count = count.min(self.bytes.len());
        // Moving the rest for each small block would take too much time.
        if count >= READ_BYTES {
            self.bytes.drain(..count);
            self.base += count as u64;
        }
    }

    /// Whether a block seems to begin here. There must be the header of a block, and at the end of
    /// that block there must be another header or the end of the file.
    fn seems_to_begin(&mut self, at: u64) -> io::Result<bool> {
        let Some(length) = block_length(self.look(at, MAX_HEAD_BYTES)?) else {
            return Ok(false);
        };
        let next = at.saturating_add(length as u64);
        if next >= self.size {
            return Ok(next == self.size);
        }
        Ok(block_length(self.look(next, MAX_HEAD_BYTES)?).is_some())
    }

    /// The position of the first block that begins at this byte or later, or the end of the file if
    /// there is none.
    fn find(&mut self, from: u64) -> io::Result<u64> {
        let most = from.saturating_add(MAX_BLOCK_BYTES as u64);
        for at in from..=most.min(self.size) {
            if at == self.size || self.seems_to_begin(at)? {
                return Ok(at);
            }
        }
        Err(CompressedError::NoBlock.into())
    }

    /// If the next block does not begin in the part, records that the part ends here, and checks
    /// that the task of the next part begins here too.
    fn check_the_end(&mut self) -> io::Result<()> {
        if self.at < self.part.end || self.end.is_known() {
            return Ok(());
        }
        let at = self.at;
        if at < self.size && !self.seems_to_begin(at)? {
            let is_block = block_length(self.look(at, MAX_HEAD_BYTES)?).is_some();
            let ends = at + MAX_BLOCK_BYTES as u64 > self.size;
            return Err(if is_block && ends {
                CompressedError::Truncated { named: "gzip" }.into()
            } else {
                CompressedError::NoBlock.into()
            });
        }
        if self.find(self.part.end)? != at {
            return Err(CompressedError::OtherBlock.into());
        }
        self.end.set(self.produced);
        Ok(())
    }

    /// Decompresses the next block. Returns whether there was one.
    fn next_block(&mut self) -> io::Result<bool> {
        if self.first.is_none() {
            // The first block of the file begins at byte 0, so no search is needed.
            let first = match self.part.start {
                0 => 0,
                from => self.find(from)?,
            };
            self.at = first;
            self.first = Some(first);
            if first >= self.part.end {
                self.end.set_empty();
                return Ok(false);
            }
        }
        self.check_the_end()?;
        if self.at == self.size {
            return if self.last_is_empty {
                Ok(false)
            } else {
                Err(CompressedError::NoEndMark.into())
            };
        }
        let at = self.at;
        let length = block_length(self.look(at, MAX_HEAD_BYTES)?);
        let length = length.ok_or(CompressedError::NoBlock)?;
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let block = self.look(at, length)?;
        if block.len() < length {
            return Err(CompressedError::Truncated { named: "gzip" }.into());
        }
        let mut decoder = GzDecoder::new(block);
        let most = MAX_BLOCK_BYTES as u64 + 1;
        let read = (&mut decoder).take(most).read_to_end(&mut plain);
        read.map_err(|error| CompressedError::of("gzip", error))?;
        if plain.len() > MAX_BLOCK_BYTES || !decoder.into_inner().is_empty() {
            return Err(CompressedError::BlockLength.into());
        }
        self.last_is_empty = plain.is_empty();
        self.plain = plain;
        self.given = 0;
        self.at = at + length as u64;
        // The search for the first block of the next part still needs these bytes.
        let keeps_from = if self.end.is_known() {
            self.at
        } else {
            self.at.min(self.part.end)
        };
        self.forget(keeps_from);
        Ok(true)
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.plain.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let rest = &self.plain[self.given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        self.produced += count as u64;
        Ok(count)
    }
}

/// The length of the block with this header, from its first byte to its last; `None` if this is not
/// the header of a block.
pub(super) fn block_length(head: &[u8]) -> Option<usize> {
    let fixed = head.get(..FIXED_BYTES)?;
    if !fixed.starts_with(&GZIP) || fixed[2] != DEFLATE || fixed[3] != ONLY_EXTRA {
        return None;
    }
    let fields = usize::from(u16::from_le_bytes([fixed[10], fixed[11]]));
    let mut extra = head.get(FIXED_BYTES..FIXED_BYTES + fields)?;
    while let Some((field, rest)) = extra.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([field[2], field[3]]));
        let content = rest.get(..length)?;
        if field.starts_with(BLOCK_FIELD) {
            let content: [u8; 2] = content.try_into().ok()?;
            return Some(usize::from(u16::from_le_bytes(content)) + 1);
        }
        extra = &rest[length..];
    }
    None
}
