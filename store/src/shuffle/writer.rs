//! The mapper's side of a shuffle. It takes records and writes one shuffle file, or none if there
//! are no entries. If the memory budget is exceeded, sorted runs are written to the local disk and
//! merged at the end. The engine sorts and combines entries.

use std::io::Write;

use tokio::runtime::Handle;
use zephyr_engine::coordinator::record::{FilePlace, OutputFile};
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::{Combiner, Entry, Rejected};
use zephyr_engine::record::Row;

use crate::formats::WriteError;
use crate::shuffle::chunk::ChunkWriter;
use crate::shuffle::index::{self, IndexEntry, shuffle_path};
use crate::shuffle::merge::PartitionMerge;
use crate::shuffle::{ShuffleError, SpillFolder};
use crate::storage::{JobStorage, ObjectWriter, StorageError};

/// Writes the shuffle file of one attempt.
pub struct ShuffleWriter<'p> {
    combiner: Combiner<'p>,
    spilled: PartitionMerge<'p>,
    has_spilled: bool,
    folder: SpillFolder,
    memory_bytes: usize,
}

impl<'p> ShuffleWriter<'p> {
    /// Makes a writer. `memory_bytes` says how many bytes the buffer may hold.
    pub fn new(combiner: Combiner<'p>, folder: SpillFolder, memory_bytes: usize) -> Self {
        let spilled = PartitionMerge::new(combiner.merger(), folder.clone(), memory_bytes);
        Self {
            combiner,
            spilled,
            has_spilled: false,
            folder,
            memory_bytes,
        }
    }

    /// Adds a record, after all earlier ones. Returns the record if the step skips it as a bad
    /// record.
    pub fn push(&mut self, row: Row<'_>) -> Result<Option<Rejected>, ShuffleError> {
        let rejected = self.combiner.push(row)?;
        if self.combiner.memory_bytes() > self.memory_bytes {
            self.spill()?;
        }
        Ok(rejected)
    }

    fn spill(&mut self) -> Result<(), ShuffleError> {
        let run = self.folder.write(self.combiner.drain_sorted().map(Ok))?;
        self.has_spilled = true;
        self.spilled.push_run(run)
    }

    /// Writes the file with `partitions` partitions. Returns its description for the ledger. If
    /// there are no entries, no file is written, and no reducer looks for one.
    pub fn finish(
        mut self,
        runtime: &Handle,
        storage: &JobStorage,
        task: TaskAttempt,
        partitions: u32,
    ) -> Result<OutputFile, ShuffleError> {
        if !self.has_spilled && self.combiner.is_empty() {
            return Ok(no_file());
        }
        let mut file = FileBuilder::new(runtime, storage, task, partitions)?;
        if self.has_spilled {
            if !self.combiner.is_empty() {
                self.spill()?;
            }
            let merger = self.combiner.merger();
            for entry in merger.merge_runs(self.spilled.streams()?) {
                file.push(&entry?)?;
                self.folder.count(1);
            }
        } else {
            for entry in self.combiner.drain_sorted() {
                file.push(&entry)?;
                self.folder.count(1);
            }
        }
        file.finish()
    }
}

/// Writes the shuffle file of an attempt that gathers files. `entries` must be sorted. If there are
/// none, no file is written, and no reducer looks for one.
pub fn write_entries(
    runtime: &Handle,
    storage: &JobStorage,
    task: TaskAttempt,
    partitions: u32,
    folder: &SpillFolder,
    entries: impl Iterator<Item = Result<Entry, ShuffleError>>,
) -> Result<OutputFile, ShuffleError> {
    let mut file = None;
    for entry in entries {
        let entry = entry?;
        let file = match &mut file {
            Some(file) => file,
            none => none.insert(FileBuilder::new(runtime, storage, task, partitions)?),
        };
        file.push(&entry)?;
        folder.count(1);
    }
    file.map_or_else(|| Ok(no_file()), FileBuilder::finish)
}

/// The output of an attempt without entries.
fn no_file() -> OutputFile {
    OutputFile {
        rows: 0,
        bytes: 0,
        crc32c: 0,
        place: FilePlace::Shuffle,
    }
}

/// Splits sorted entries into partitions and chunks, and keeps the index.
struct FileBuilder {
    output: ObjectWriter,
    object: String,
    task: TaskAttempt,
    chunks: ChunkWriter,
    /// The index entries of all partitions up to the current one.
    index: Vec<IndexEntry>,
    partitions: u32,
    offset: u64,
}

impl FileBuilder {
    fn new(
        runtime: &Handle,
        storage: &JobStorage,
        task: TaskAttempt,
        partitions: u32,
    ) -> Result<Self, ShuffleError> {
        let path = shuffle_path(task);
        let location = storage.at(&path).map_err(|error| {
            ShuffleError::Store(StorageError {
                call: "writing",
                object: path,
                cause: crate::storage::Cause::Configuration(error.to_string()),
            })
        })?;
        let object = location.to_string();
        let output = ObjectWriter::new(runtime, storage.stores(), &location);
        let chunks = ChunkWriter::new().map_err(|error| failed(&object, error))?;
        Ok(Self {
            output,
            object,
            task,
            chunks,
            index: Vec::new(),
            partitions,
            offset: 0,
        })
    }

    fn push(&mut self, entry: &Entry) -> Result<(), ShuffleError> {
        if self.index.len() as u64 != u64::from(entry.partition) + 1 {
            self.flush()?;
            let next = IndexEntry {
                offset: self.offset,
                ..IndexEntry::default()
            };
            self.index.resize(entry.partition as usize + 1, next);
        }
        if self.chunks.push(entry) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ShuffleError> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        let (bytes, rows) = self
            .chunks
            .take()
            .map_err(|error| failed(&self.object, error))?;
        self.output
            .write_all(bytes)
            .map_err(|error| failed(&self.object, error))?;
        self.offset += bytes.len() as u64;
        if let Some(entry) = self.index.last_mut() {
            entry.length += bytes.len() as u64;
            entry.rows += u64::from(rows);
            entry.crc32c = crc32c::crc32c_append(entry.crc32c, bytes);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<OutputFile, ShuffleError> {
        self.flush()?;
        self.index.resize(
            self.partitions as usize,
            IndexEntry {
                offset: self.offset,
                ..IndexEntry::default()
            },
        );
        self.output
            .write_all(&index::encode(self.task, &self.index))
            .map_err(|error| failed(&self.object, error))?;
        let (bytes, crc32c) = self.output.finish().map_err(ShuffleError::Store)?;
        let rows = self.index.iter().map(|entry| entry.rows).sum();
        Ok(OutputFile {
            rows,
            bytes,
            crc32c,
            place: FilePlace::Shuffle,
        })
    }
}

fn failed(object: &str, error: std::io::Error) -> ShuffleError {
    match WriteError::from_io(object, error) {
        WriteError::Store(error) => ShuffleError::Store(error),
        other @ (WriteError::LineBreak { .. }
        | WriteError::ByteOrderMark { .. }
        | WriteError::Compress { .. }) => ShuffleError::Store(StorageError {
            call: "writing",
            object: object.to_owned(),
            cause: crate::storage::Cause::Other(other.to_string()),
        }),
    }
}
