//! The reducer's side of a shuffle. It reads one partition of one attempt's shuffle file by ranges,
//! checks it, and returns a stream of its entries.
//!
//! Every chunk is checked before its entries are returned. If a check fails, the chunk is read once
//! more. If the check fails again, the output counts as lost.

use std::ops::Range;

use bytes::Bytes;
use tokio::runtime::Handle;
use zephyr_engine::coordinator::record::{FilePlace, OutputFile};
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::Entry;

use crate::shuffle::ShuffleError;
use crate::shuffle::chunk::{ChunkEntries, ChunkHead, HEAD_BYTES};
use crate::shuffle::index::{IndexEntry, decode_entry, entry_range, shuffle_path};
use crate::storage::{Cause, JobStorage, Location, ReadCounter, StorageError, fetch_range};

/// How many bytes are requested at least. For fewer bytes, the call costs more than the data.
const MIN_RANGE_BYTES: u64 = 64 << 10;

/// How many bytes are requested at most.
const MAX_RANGE_BYTES: u64 = 4 << 20;

/// The partition that a task reads, and how it is read.
#[derive(Clone)]
pub struct Source {
    /// The runtime on which calls to the store run.
    pub runtime: Handle,
    /// The job's folder, which contains the file.
    pub storage: JobStorage,
    /// How many partitions the file has.
    pub partitions: u32,
    /// The partition to read.
    pub partition: u32,
    /// How many bytes of memory all streams of a merge may hold together.
    pub memory_bytes: usize,
    /// How many streams the merge has.
    pub streams: usize,
    /// Counts the bytes that are read.
    pub counted: ReadCounter,
}

/// The entries of one partition of one file.
pub struct PartitionStream {
    source: Source,
    producer: TaskAttempt,
    location: Location,
    size: u64,
    entry: IndexEntry,
    /// The bytes of the partition that were read and not used yet.
    buffer: Bytes,
    /// The end of the range that was requested so far.
    asked: u64,
    checksum: u32,
    rows: u64,
    chunk: ChunkEntries,
    failed: bool,
}

impl PartitionStream {
    /// Opens a partition: reads its entry in the index and its first range.
    pub async fn open(
        source: Source,
        producer: TaskAttempt,
        file: &OutputFile,
    ) -> Result<Self, ShuffleError> {
        let FilePlace::Shuffle = file.place else {
            let problem = StorageError {
                call: "reading",
                object: producer.to_string(),
                cause: Cause::Damaged("it is not a shuffle file".to_owned()),
            };
            return Err(ShuffleError::LoseInput { producer, problem });
        };
        let path = shuffle_path(producer);
        let location = source.storage.at(&path).map_err(|error| {
            ShuffleError::Store(StorageError {
                call: "reading",
                object: path,
                cause: Cause::Configuration(error.to_string()),
            })
        })?;
        let (partitions, partition, size) = (source.partitions, source.partition, file.bytes);
        let mut stream = Self {
            source,
            producer,
            location,
            size,
            entry: IndexEntry::default(),
            buffer: Bytes::new(),
            asked: 0,
            checksum: 0,
            rows: 0,
            chunk: ChunkEntries::default(),
            failed: false,
        };
        if file.rows == 0 {
            return Ok(stream); // nothing was written
        }
        let Some(range) = entry_range(size, partitions, partition) else {
            return Err(stream.damaged("the file is smaller than its index".to_owned()));
        };
        let first = stream.get(range.clone()).await?;
        let mut entry = decode_entry(producer, size, partitions, partition, &first);
        if entry.is_err() {
            let again = stream.get(range).await?;
            entry = decode_entry(producer, size, partitions, partition, &again);
        }
        stream.entry = entry.map_err(|problem| stream.damaged(problem))?;
        stream.asked = stream.entry.offset;
        stream.fetch_more(0).await?;
        Ok(stream)
    }

    /// Whether the partition is empty.
    pub fn is_empty(&self) -> bool {
        self.entry.rows == 0 && self.entry.length == 0
    }

    fn end(&self) -> u64 {
        self.entry.offset + self.entry.length
    }

    /// Returns the position in the file of the first byte that was not used yet.
    fn used_up_to(&self) -> u64 {
        self.asked - self.buffer.len() as u64
    }

    /// Reads more, until the buffer has at least `wanted` bytes or the whole rest of the partition.
    async fn fetch_more(&mut self, wanted: usize) -> Result<(), ShuffleError> {
        let share = (self.source.memory_bytes / self.source.streams.max(1)) as u64;
        let step = share
            .clamp(MIN_RANGE_BYTES, MAX_RANGE_BYTES)
            .max((wanted.saturating_sub(self.buffer.len())) as u64);
        let until = self.end().min(self.asked + step);
        if until == self.asked {
            return Ok(());
        }
        let bytes = self.get(self.asked..until).await?;
        self.asked = until;
        self.buffer = if self.buffer.is_empty() {
            bytes
        } else {
            [&self.buffer[..], &bytes].concat().into()
        };
        Ok(())
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes, ShuffleError> {
        let count = range.end - range.start;
        match fetch_range(
            self.source.storage.stores(),
            &self.location,
            self.size,
            range,
        )
        .await
        {
            Ok(bytes) => {
                (self.source.counted)(count);
                Ok(bytes)
            }
            // The file is missing, or its size differs from the size in the ledger.
            Err(problem) if matches!(problem.cause, Cause::NotFound | Cause::Changed) => {
                Err(ShuffleError::LoseInput {
                    producer: self.producer,
                    problem,
                })
            }
            Err(error) => Err(ShuffleError::Store(error)),
        }
    }

    fn damaged(&self, problem: String) -> ShuffleError {
        let problem = StorageError::new("reading", &self.location, Cause::Damaged(problem));
        ShuffleError::LoseInput {
            producer: self.producer,
            problem,
        }
    }

    fn block_on<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, ShuffleError>,
    ) -> Result<T, ShuffleError> {
        let runtime = self.source.runtime.clone();
        runtime.block_on(work(self))
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, ShuffleError> {
        loop {
            if let Some(entry) = self.chunk.next().map_err(|problem| self.damaged(problem))? {
                if entry.partition != self.source.partition {
                    return Err(self.damaged("an entry belongs to another partition".to_owned()));
                }
                self.rows += 1;
                return Ok(Some(entry));
            }
            if self.used_up_to() == self.end() {
                if self.rows != self.entry.rows || self.checksum != self.entry.crc32c {
                    return Err(self.damaged(format!(
                        "the partition has {} rows, its index says {}, or its checksum is wrong",
                        self.rows, self.entry.rows
                    )));
                }
                return Ok(None);
            }
            self.next_chunk()?;
        }
    }

    fn next_chunk(&mut self) -> Result<(), ShuffleError> {
        let start = self.used_up_to();
        self.chunk = match self.try_chunk() {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(_)) => {
                // Read the data from the store again, because the damage may have happened in
                // transit.
                self.buffer = Bytes::new();
                self.asked = start;
                self.try_chunk()?.map_err(|problem| self.damaged(problem))?
            }
            Err(error) => return Err(error),
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
        if (length as u64) > self.end() - self.used_up_to() {
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
