//! Converts entries to bytes. Entries are stored in compressed chunks, and each chunk has a
//! checksum. This module knows nothing about files or about the bounds of partitions.
//!
//! A chunk consists of its compressed length, its plain length, its number of rows, the CRC-32C of
//! these numbers and of the compressed bytes (each a u32, little endian), and the compressed bytes.
//! An entry consists of partition, key length, key, payload length and payload. Lengths are
//! varints.

use zephyr_engine::ops::Entry;

/// How many plain bytes a chunk has when it is compressed. This is enough to compress well, and
/// small enough to hold one chunk for each merged stream.
const CHUNK_BYTES: usize = 64 << 10;

/// How many plain bytes a chunk may have. The longest chunk is a single entry whose payload
/// contains the longest record and the additional bytes of its group.
pub(crate) const MAX_CHUNK_BYTES: usize = 1 << 30;

/// How many bytes the header of a chunk has.
pub(crate) const HEAD_BYTES: usize = 16;

/// The compression level. It is the fastest usual level of zstd, because shuffle data is read once.
const ZSTD_LEVEL: i32 = 1;

/// Gathers entries into chunks.
pub(crate) struct ChunkWriter {
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    rows: u32,
    compressed: Vec<u8>,
}

/// The header of a chunk, after its values were checked to be plausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHead {
    pub(crate) compressed: usize,
    pub(crate) plain: usize,
    pub(crate) rows: u32,
    checksum: u32,
}

impl ChunkWriter {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            plain: Vec::with_capacity(CHUNK_BYTES * 2),
            rows: 0,
            compressed: Vec::new(),
        })
    }

    /// Adds an entry. Returns whether the chunk is full.
    pub(crate) fn push(&mut self, entry: &Entry) -> bool {
        push_varint(&mut self.plain, u64::from(entry.partition));
        push_varint(&mut self.plain, entry.key.len() as u64);
        self.plain.extend_from_slice(&entry.key);
        push_varint(&mut self.plain, entry.payload.len() as u64);
        self.plain.extend_from_slice(&entry.payload);
        self.rows += 1;
        self.plain.len() >= CHUNK_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many bytes the entries since the last chunk have.
    pub(crate) fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Returns a chunk with all entries since the last chunk, and the number of these entries.
    pub(crate) fn take(&mut self) -> std::io::Result<(&[u8], u32)> {
        let too_long = || {
            std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("a group of records exceeds the limit of {MAX_CHUNK_BYTES} bytes"),
            )
        };
        if self.plain.len() > MAX_CHUNK_BYTES {
            return Err(too_long());
        }
        let bytes = self.compressor.compress(&self.plain)?;
        let width = |length: usize| u32::try_from(length).map_err(|_| too_long());
        self.compressed.clear();
        self.compressed
            .extend_from_slice(&width(bytes.len())?.to_le_bytes());
        self.compressed
            .extend_from_slice(&width(self.plain.len())?.to_le_bytes());
        self.compressed.extend_from_slice(&self.rows.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&self.compressed), &bytes);
        self.compressed.extend_from_slice(&checksum.to_le_bytes());
        self.compressed.extend_from_slice(&bytes);
        let rows = std::mem::take(&mut self.rows);
        self.plain.clear();
        Ok((&self.compressed, rows))
    }
}

impl ChunkHead {
    /// Reads a header. The error says what is wrong with the header.
    pub(crate) fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Self, String> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (compressed, plain, rows, checksum) =
            (word(0) as usize, word(4) as usize, word(8), word(12));
        if plain > MAX_CHUNK_BYTES
            || compressed > zstd::zstd_safe::compress_bound(MAX_CHUNK_BYTES)
            || rows == 0
        {
            return Err("a chunk's header is invalid".to_owned());
        }
        Ok(Self {
            compressed,
            plain,
            rows,
            checksum,
        })
    }

    /// Checks a chunk's bytes and returns its entries.
    pub(crate) fn open(
        self,
        head: &[u8; HEAD_BYTES],
        bytes: &[u8],
    ) -> Result<ChunkEntries, String> {
        if bytes.len() != self.compressed
            || crc32c::crc32c_append(crc32c::crc32c(&head[..12]), bytes) != self.checksum
        {
            return Err("a chunk's checksum is wrong".to_owned());
        }
        let plain = zstd::bulk::decompress(bytes, self.plain)
            .map_err(|error| format!("a chunk cannot be decompressed: {error}"))?;
        if plain.len() != self.plain {
            return Err("a chunk has another length than its header says".to_owned());
        }
        Ok(ChunkEntries {
            plain,
            at: 0,
            rows: self.rows,
        })
    }
}

/// The entries of one chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkEntries {
    plain: Vec<u8>,
    at: usize,
    rows: u32,
}

impl ChunkEntries {
    /// Returns the next entry. `None` after the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, String> {
        if self.rows == 0 {
            return if self.at == self.plain.len() {
                Ok(None)
            } else {
                Err("a chunk has more bytes than entries".to_owned())
            };
        }
        self.rows -= 1;
        let partition = u32::try_from(self.varint()?)
            .map_err(|_| "an entry's partition is invalid".to_owned())?;
        let key = self.bytes()?;
        let payload = self.bytes()?;
        Ok(Some(Entry {
            partition,
            key,
            payload,
        }))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.plain.len())
            .ok_or("an entry ends beyond its chunk")?;
        let bytes = self.plain[self.at..end].to_vec();
        self.at = end;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self
                .plain
                .get(self.at)
                .ok_or("an entry ends beyond its chunk")?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a length is invalid".to_owned())
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}
