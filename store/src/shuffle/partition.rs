//! Reads entries of one attempt's shuffle file by ranges, checks them, and returns them as a
//! stream. A reducer reads one partition of the file, and a task that gathers files reads the whole
//! file. The next range is requested while the entries of the last one are used.
//!
//! Every chunk is checked before its entries are returned. If a check fails, the chunk is read once
//! more. If the check fails again, the output counts as lost.

use std::ops::Range;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use zephyr_engine::coordinator::record::OutputFile;
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::Entry;

use crate::shuffle::ShuffleError;
use crate::shuffle::chunk::{ChunkEntries, ChunkHead, HEAD_BYTES};
use crate::shuffle::index::{IndexEntry, decode_entry, entry_range, shuffle_path};
use crate::shuffle::merged_index::Slice;
use crate::storage::{Cause, JobStorage, Location, ReadCounter, StorageError, fetch_range};

/// How many bytes a chunk has after decompression, unless it is one longer entry.
pub(crate) const USUAL_CHUNK_BYTES: u64 = 64 << 10;

/// How the files of a stage are read.
#[derive(Clone)]
pub(crate) struct Reading {
    /// The runtime on which calls to the store run.
    pub(crate) runtime: Handle,
    /// The job's folder, which contains the files.
    pub(crate) storage: JobStorage,
    /// How many partitions each file has.
    pub(crate) partitions: u32,
    /// How many bytes are requested at a time.
    pub(crate) range_bytes: u64,
    /// Counts the bytes that are read.
    pub(crate) counted: ReadCounter,
}

/// The part of a file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// One partition.
    Partition(u32, Slice),
    /// The whole file, with its rows and CRC-32C as in the ledger.
    Whole {
        producer: TaskAttempt,
        file_bytes: u64,
        rows: u64,
        crc32c: u32,
    },
}

impl Part {
    /// All partitions of a file.
    pub(crate) fn whole(producer: TaskAttempt, file: &OutputFile) -> Self {
        Self::Whole {
            producer,
            file_bytes: file.bytes,
            rows: file.rows,
            crc32c: file.crc32c,
        }
    }

    fn producer(&self) -> TaskAttempt {
        match self {
            Self::Partition(_, slice) => slice.producer,
            Self::Whole { producer, .. } => *producer,
        }
    }

    fn file_bytes(&self) -> u64 {
        match self {
            Self::Partition(_, slice) => slice.file_bytes,
            Self::Whole { file_bytes, .. } => *file_bytes,
        }
    }

    /// How many bytes are read at most.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Partition(_, slice) => {
                let known = slice.entry.map(|entry| entry.length);
                known.unwrap_or(slice.file_bytes)
            }
            Self::Whole { file_bytes, .. } => *file_bytes,
        }
    }
}

/// The entries of one partition, or of all partitions, of one file.
pub(crate) struct PartitionStream {
    reading: Reading,
    part: Part,
    location: Location,
    /// The chunks to be read.
    span: IndexEntry,
    /// The size of the file's index, if the checksum covers the index too. Otherwise 0.
    tail_bytes: u64,
    /// The bytes that were read and not used yet.
    buffer: Bytes,
    /// The end of the last range that was read.
    asked: u64,
    /// The range after it, if it was requested already.
    ahead: Option<Ahead>,
    checksum: u32,
    rows: u64,
    chunk: ChunkEntries,
    failed: bool,
}

struct Ahead {
    until: u64,
    bytes: AbortOnDropHandle<Result<Bytes, StorageError>>,
}

impl PartitionStream {
    /// Opens a part of a file and reads its first range. Reads the file's own index only if that is
    /// needed to find the part.
    pub(crate) async fn open(reading: Reading, part: Part) -> Result<Self, ShuffleError> {
        let path = shuffle_path(part.producer());
        let location = reading.storage.at(&path).map_err(|error| {
            ShuffleError::Store(StorageError {
                call: "reading",
                object: path,
                cause: Cause::Configuration(error.to_string()),
            })
        })?;
        let mut stream = Self {
            reading,
            part,
            location,
            span: IndexEntry::default(),
            tail_bytes: 0,
            buffer: Bytes::new(),
            asked: 0,
            ahead: None,
            checksum: 0,
            rows: 0,
            chunk: ChunkEntries::default(),
            failed: false,
        };
        stream.find_span().await?;
        stream.asked = stream.span.offset;
        stream.fetch_more(0).await?;
        Ok(stream)
    }

    /// Sets `span`, for which the file's own index may have to be read.
    async fn find_span(&mut self) -> Result<(), ShuffleError> {
        let (size, partitions) = (self.part.file_bytes(), self.reading.partitions);
        let too_small = "the file is smaller than its index";
        match self.part {
            Part::Whole { rows, crc32c, .. } => {
                let Some(index) = entry_range(size, partitions, 0) else {
                    return Err(self.damaged(too_small.to_owned()));
                };
                self.tail_bytes = size - index.start;
                self.span = IndexEntry {
                    offset: 0,
                    length: index.start,
                    rows,
                    crc32c,
                };
            }
            Part::Partition(
                _,
                Slice {
                    entry: Some(entry), ..
                },
            ) => self.span = entry,
            Part::Partition(partition, Slice { producer, .. }) => {
                let Some(range) = entry_range(size, partitions, partition) else {
                    return Err(self.damaged(too_small.to_owned()));
                };
                let first = self.get(range.clone()).await?;
                let mut entry = decode_entry(producer, size, partitions, partition, &first);
                if entry.is_err() {
                    let again = self.get(range).await?;
                    entry = decode_entry(producer, size, partitions, partition, &again);
                }
                self.span = entry.map_err(|problem| self.damaged(problem))?;
            }
        }
        Ok(())
    }

    /// Whether it has no entries.
    pub(crate) fn is_empty(&self) -> bool {
        self.span.rows == 0 && self.span.length == 0
    }

    /// How many bytes of memory the stream takes while it is merged: the bytes that were read, the
    /// range after them, its first chunk, and a copy of an entry. The copy may be as long as the
    /// chunk.
    pub(crate) fn held_bytes(&self) -> u64 {
        let rest = self.end() - self.asked;
        let head = self.buffer.first_chunk::<HEAD_BYTES>();
        let chunk = head.and_then(|head| ChunkHead::parse(head).ok());
        let plain = chunk.map_or(0, |chunk| chunk.plain as u64);
        let entry = if plain > USUAL_CHUNK_BYTES { plain } else { 0 };
        self.buffer.len() as u64
            + rest.min(self.reading.range_bytes)
            + plain.max(USUAL_CHUNK_BYTES)
            + entry
    }

    fn end_of_chunks(&self) -> u64 {
        self.span.offset + self.span.length
    }

    fn end(&self) -> u64 {
        self.end_of_chunks() + self.tail_bytes
    }

    /// Returns the position in the file of the first byte that was not used yet.
    fn used_up_to(&self) -> u64 {
        self.asked - self.buffer.len() as u64
    }

    /// Reads more, until the buffer has at least `wanted` bytes or everything up to the end. Then
    /// requests the next range.
    async fn fetch_more(&mut self, wanted: usize) -> Result<(), ShuffleError> {
        while self.asked < self.end() {
            let missing = wanted.saturating_sub(self.buffer.len()) as u64;
            let (until, bytes) = if let Some(Ahead { until, bytes }) = self.ahead.take() {
                (until, self.arrived(bytes).await?)
            } else {
                let until = self.next_range(missing).end;
                (until, self.get(self.asked..until).await?)
            };
            (self.reading.counted)(until - self.asked);
            self.asked = until;
            self.buffer = if self.buffer.is_empty() {
                bytes
            } else {
                [&self.buffer[..], &bytes].concat().into()
            };
            if self.buffer.len() >= wanted {
                break;
            }
        }
        self.fetch_ahead();
        Ok(())
    }

    fn next_range(&self, missing: u64) -> Range<u64> {
        let step = self.reading.range_bytes.max(missing).max(1);
        self.asked..self.end().min(self.asked.saturating_add(step))
    }

    /// Requests the next range, without waiting for it.
    fn fetch_ahead(&mut self) {
        if self.ahead.is_some() || self.asked >= self.end() {
            return;
        }
        let range = self.next_range(0);
        let until = range.end;
        let (stores, location) = (self.reading.storage.stores().clone(), self.location.clone());
        let size = self.part.file_bytes();
        let fetch = async move { fetch_range(&stores, &location, size, range).await };
        let bytes = AbortOnDropHandle::new(self.reading.runtime.spawn(fetch));
        self.ahead = Some(Ahead { until, bytes });
    }

    async fn arrived(
        &self,
        bytes: AbortOnDropHandle<Result<Bytes, StorageError>>,
    ) -> Result<Bytes, ShuffleError> {
        let read = bytes.await.unwrap_or_else(|error| {
            let cause = Cause::Other(format!("the read ended: {error}"));
            Err(StorageError::new("reading", &self.location, cause))
        });
        self.judged(read)
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes, ShuffleError> {
        let (stores, size) = (self.reading.storage.stores(), self.part.file_bytes());
        self.judged(fetch_range(stores, &self.location, size, range).await)
    }

    fn judged(&self, read: Result<Bytes, StorageError>) -> Result<Bytes, ShuffleError> {
        read.map_err(|problem| {
            // The file is missing, or its size differs from the size in the ledger.
            if matches!(problem.cause, Cause::NotFound | Cause::Changed) {
                let producer = self.part.producer();
                return ShuffleError::LoseInput { producer, problem };
            }
            ShuffleError::Store(problem)
        })
    }

    fn damaged(&self, problem: String) -> ShuffleError {
        let problem = StorageError::new("reading", &self.location, Cause::Damaged(problem));
        ShuffleError::LoseInput {
            producer: self.part.producer(),
            problem,
        }
    }

    fn block_on<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, ShuffleError>,
    ) -> Result<T, ShuffleError> {
        let runtime = self.reading.runtime.clone();
        runtime.block_on(work(self))
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, ShuffleError> {
        loop {
            if let Some(entry) = self.chunk.next().map_err(|problem| self.damaged(problem))? {
                let is_here = match self.part {
                    Part::Partition(partition, _) => entry.partition == partition,
                    Part::Whole { .. } => entry.partition < self.reading.partitions,
                };
                if !is_here {
                    return Err(self.damaged("an entry belongs to another partition".to_owned()));
                }
                self.rows += 1;
                return Ok(Some(entry));
            }
            if self.used_up_to() == self.end_of_chunks() {
                return self.check_end().map(|()| None);
            }
            self.next_chunk()?;
        }
    }

    /// Compares rows and checksum with those of the index, after the last chunk.
    fn check_end(&mut self) -> Result<(), ShuffleError> {
        let start = self.used_up_to();
        let mut checksum = self.checksum;
        if self.tail_bytes > 0 {
            let tail_bytes = usize::try_from(self.tail_bytes).unwrap_or(usize::MAX);
            self.block_on(async |stream| stream.fetch_more(tail_bytes).await)?;
            checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
            if checksum != self.span.crc32c {
                self.read_again_from(start);
                self.block_on(async |stream| stream.fetch_more(tail_bytes).await)?;
                checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
            }
        }
        if self.rows == self.span.rows && checksum == self.span.crc32c {
            return Ok(());
        }
        Err(self.damaged(format!(
            "it has {} rows, its index says {}, or its checksum is wrong",
            self.rows, self.span.rows
        )))
    }

    fn read_again_from(&mut self, start: u64) {
        self.buffer = Bytes::new();
        self.ahead = None;
        self.asked = start;
    }

    fn next_chunk(&mut self) -> Result<(), ShuffleError> {
        let start = self.used_up_to();
        self.chunk = if let Ok(chunk) = self.try_chunk()? {
            chunk
        } else {
            // Read the data from the store again, because the damage may have happened in transit.
            self.read_again_from(start);
            self.try_chunk()?.map_err(|problem| self.damaged(problem))?
        };
        Ok(())
    }

    /// Reads the next chunk. The inner error says what is wrong with the chunk.
    fn try_chunk(&mut self) -> Result<Result<ChunkEntries, String>, ShuffleError> {
        if self.buffer.len() < HEAD_BYTES {
            self.block_on(async |stream| stream.fetch_more(HEAD_BYTES).await)?;
        }
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>().copied() else {
            return Ok(Err("the partition ends in the middle of a chunk".to_owned()));
        };
        let chunk = match ChunkHead::parse(&head) {
            Ok(chunk) => chunk,
            Err(problem) => return Ok(Err(problem)),
        };
        let length = HEAD_BYTES + chunk.compressed;
        if (length as u64) > self.end_of_chunks().saturating_sub(self.used_up_to()) {
            return Ok(Err("a chunk is longer than its partition".to_owned()));
        }
        if self.buffer.len() < length {
            self.block_on(async |stream| stream.fetch_more(length).await)?;
        }
        let opened = chunk.open(&head, &self.buffer[HEAD_BYTES..length]);
        if opened.is_ok() {
            let used = self.buffer.split_to(length);
            self.checksum = crc32c::crc32c_append(self.checksum, &used);
        }
        Ok(opened)
    }
}

impl Iterator for PartitionStream {
    type Item = Result<Entry, ShuffleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_entry();
        self.failed = next.is_err();
        next.transpose()
    }
}
