//! The merged index of a finished stage. It says for each partition where it is in the file of each
//! task. The coordinator reads the index of every file once. A reducer reads its slice of the
//! merged index with one call, whatever the number of files. This module does not read the entries
//! of shuffle files.
//!
//! A slice has 48 bytes for each task of the stage, in order: the attempt's epoch and number, the
//! file's size, and the partition's offset, length, rows and CRC-32C. All numbers are little
//! endian. The attempt's number and the CRC-32C have 32 bits, all others have 64. A slice ends with
//! one CRC-32C over its bytes, its object's path, and the partition's number. Slices of
//! neighbouring partitions share an object of limited size.

use std::ops::Range;

use bytes::Bytes;
use futures::future::join_all;
use object_store::{ObjectStoreExt, PutPayload};
use zephyr_engine::coordinator::record::OutputFile;
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};

use crate::shuffle::index::{self, IndexEntry, decode_entry, entry_range, shuffle_path};
use crate::shuffle::outputs::{list_path, load_stage, locate, publish_stage};
use crate::storage::{
    CallKind, Cause, JobStorage, StorageError, fetch_range, is_object_alone, persist,
};

/// How many bytes an entry has.
const ENTRY_BYTES: usize = 48;

/// How many bytes the checksum of a slice has.
const CHECKSUM_BYTES: usize = 4;

/// How many bytes an object has at most, if it contains more than one slice. While a coordinator
/// writes an object, it has these bytes in memory, and also the entries in another form, which
/// takes one and a half times as much.
const OBJECT_BYTES: u64 = 16 << 20;

/// How many files' indexes are read at the same time.
const READS_AT_ONCE: usize = 64;

/// The number of rows that marks an entry that could not be read. The reducer then reads the index
/// of the file itself. If that fails, it reports the file as lost.
const UNREADABLE: u64 = u64::MAX;

/// One task's part of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The attempt that wrote the file.
    pub(crate) producer: TaskAttempt,
    /// The size of the file.
    pub(crate) file_bytes: u64,
    /// The position of the partition. `None` if the file's own index has to be read for it.
    pub(crate) entry: Option<IndexEntry>,
}

/// The stage of a merged index, and the size of the index, which follows from the plan.
#[derive(Clone, Copy, Debug)]
pub struct IndexShape {
    /// The stage that wrote the files.
    pub stage: StageId,
    /// How many tasks it has.
    pub tasks: u32,
    /// How many partitions each file has.
    pub partitions: u32,
}

impl IndexShape {
    fn slice_bytes(self) -> u64 {
        u64::from(self.tasks) * ENTRY_BYTES as u64 + CHECKSUM_BYTES as u64
    }

    /// How many slices each object has. The last object may have fewer.
    fn slices_of_an_object(self) -> u32 {
        u32::try_from((OBJECT_BYTES / self.slice_bytes()).max(1)).unwrap_or(u32::MAX)
    }

    /// The partitions of each object.
    fn objects(self) -> impl Iterator<Item = Range<u32>> {
        let step = self.slices_of_an_object();
        let objects = self.partitions.div_ceil(step);
        (0..objects).map(move |object| {
            let first = object * step;
            first..first.saturating_add(step).min(self.partitions)
        })
    }
}

/// Writes the merged index, and then the list of the outputs. Returns the path of the list, which
/// the caller records in the ledger. An older release reads only the list. A reducer reads the list
/// if the merged index cannot be read.
pub async fn publish_index(
    storage: &JobStorage,
    epoch: Epoch,
    version: u32,
    shape: IndexShape,
    outputs: &[(TaskAttempt, OutputFile)],
) -> Result<String, StorageError> {
    let list = list_path(shape.stage, epoch, version);
    let path = index_path(&list);
    for (number, partitions) in shape.objects().enumerate() {
        let columns = read_columns(storage, shape, outputs, partitions.clone()).await?;
        let path = object_path(&path, number);
        let bytes = Bytes::from(encode(&path, &partitions, &columns));
        let location = locate(storage, "writing", &path)?;
        let store = storage.stores().open(&location)?.durable;
        persist(storage.stores(), "writing", &location, || {
            store.put(location.path(), PutPayload::from(bytes.clone()))
        })
        .await?;
    }
    publish_stage(storage, epoch, shape.stage, version, outputs).await
}

/// Returns where a partition is in the files of a stage. Files without entries of that partition
/// are left out. `list` is the path of the list of the stage's outputs. If there is no merged
/// index, or if it can never be read, the slices say that the files' own indexes have to be read.
pub async fn load_slices(
    storage: &JobStorage,
    list: &str,
    shape: IndexShape,
    partition: u32,
) -> Result<Vec<Slice>, StorageError> {
    match load_slice(storage, &index_path(list), shape, partition).await {
        Err(error) if !error.is_transient() => {
            tracing::info!(%error, "the merged index of the stage is not used");
        }
        loaded => return loaded,
    }
    let outputs = load_stage(storage, list).await?;
    let open = |(producer, file): &(TaskAttempt, OutputFile)| Slice {
        producer: *producer,
        file_bytes: file.bytes,
        entry: None,
    };
    let written = outputs.iter().filter(|(_, file)| file.rows > 0);
    Ok(written.map(open).collect())
}

/// Reads the slice of a partition. Tasks without entries of that partition are left out. A damaged
/// slice is read once more, because the damage may have happened in transit.
pub(crate) async fn load_slice(
    storage: &JobStorage,
    path: &str,
    shape: IndexShape,
    partition: u32,
) -> Result<Vec<Slice>, StorageError> {
    let (number, objects) = (
        (partition / shape.slices_of_an_object()) as usize,
        shape.objects(),
    );
    let path = object_path(path, number);
    let location = locate(storage, "reading", &path)?;
    let damaged =
        |problem: &str| StorageError::new("reading", &location, Cause::Damaged(problem.to_owned()));
    let partitions = objects
        .skip(number)
        .find(|partitions| partitions.contains(&partition))
        .ok_or_else(|| damaged("it has no such partition"))?;
    let slice = shape.slice_bytes();
    let size = u64::from(partitions.end - partitions.start) * slice;
    let start = u64::from(partition - partitions.start) * slice;
    let read = async || {
        let range = start..start + slice;
        let bytes = fetch_range(storage.stores(), &location, size, range).await?;
        decode(&path, shape.stage, partition, &bytes).map_err(damaged)
    };
    let is_damaged =
        |error: &StorageError| matches!(error.cause, Cause::Damaged(_) | Cause::Changed);
    match read().await {
        Err(error) if is_damaged(&error) => read().await,
        read => read,
    }
}

/// Reads the index entries of all files for these partitions. If some files cannot be read, their
/// entries are marked as unreadable, and the reducers find out what is wrong with these files. If
/// the store does not answer at all, this is an error.
async fn read_columns(
    storage: &JobStorage,
    shape: IndexShape,
    outputs: &[(TaskAttempt, OutputFile)],
    partitions: Range<u32>,
) -> Result<Vec<Vec<Slice>>, StorageError> {
    let mut columns = Vec::with_capacity(outputs.len());
    for group in outputs.chunks(READS_AT_ONCE) {
        let reads = group
            .iter()
            .map(|(producer, file)| entries(storage, shape, *producer, file, partitions.clone()));
        let mut read = join_all(reads).await;
        let may_pass =
            |read: &Result<_, StorageError>| matches!(read, Err(error) if error.is_transient());
        if let Some(failed) = read.iter().position(may_pass)
            && !is_file_alone(storage, group[failed].0).await?
        {
            read.swap_remove(failed)?;
        }
        for (read, (producer, file)) in read.into_iter().zip(group) {
            columns.push(read.unwrap_or_else(|_| {
                let open = Slice {
                    producer: *producer,
                    file_bytes: file.bytes,
                    entry: None,
                };
                vec![open; partitions.len()]
            }));
        }
    }
    Ok(columns)
}

/// Whether the store answers reads beside a file that could not be read.
async fn is_file_alone(storage: &JobStorage, producer: TaskAttempt) -> Result<bool, StorageError> {
    let location = locate(storage, "reading", &shuffle_path(producer))?;
    let asked = is_object_alone(storage.stores(), storage.root(), CallKind::Read, &location);
    Ok(asked.await)
}

/// Reads the index entries of a file for these partitions. Damaged entries are read once more.
async fn entries(
    storage: &JobStorage,
    shape: IndexShape,
    producer: TaskAttempt,
    file: &OutputFile,
    partitions: Range<u32>,
) -> Result<Vec<Slice>, StorageError> {
    let slice = |entry| Slice {
        producer,
        file_bytes: file.bytes,
        entry,
    };
    if file.rows == 0 {
        let nothing = slice(Some(IndexEntry::default()));
        return Ok(vec![nothing; partitions.len()]);
    }
    let first = entry_range(file.bytes, shape.partitions, partitions.start);
    let last = entry_range(file.bytes, shape.partitions, partitions.end - 1);
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(vec![slice(None); partitions.len()]);
    };
    let location = locate(storage, "reading", &shuffle_path(producer))?;
    let read = async || {
        let range = first.start..last.end;
        let bytes = match fetch_range(storage.stores(), &location, file.bytes, range).await {
            Err(error) if matches!(error.cause, Cause::NotFound | Cause::Changed) => Bytes::new(),
            read => read?,
        };
        let width = usize::try_from(index::ENTRY_BYTES).unwrap_or(usize::MAX);
        let entry = |(number, partition): (usize, u32)| {
            let bytes = bytes.get(number * width..(number + 1) * width);
            let decode =
                |bytes| decode_entry(producer, file.bytes, shape.partitions, partition, bytes).ok();
            slice(bytes.and_then(decode))
        };
        Ok::<Vec<Slice>, StorageError>(partitions.clone().enumerate().map(entry).collect())
    };
    let entries = read().await?;
    if entries.iter().all(|slice| slice.entry.is_some()) {
        return Ok(entries);
    }
    read().await
}

/// Encodes the slices of these partitions. Each column has one task's entries for them.
fn encode(path: &str, partitions: &Range<u32>, columns: &[Vec<Slice>]) -> Vec<u8> {
    let slice_bytes = columns.len() * ENTRY_BYTES + CHECKSUM_BYTES;
    let mut bytes = Vec::with_capacity(partitions.len() * slice_bytes);
    for (number, partition) in partitions.clone().enumerate() {
        let start = bytes.len();
        for column in columns {
            let Slice {
                producer,
                file_bytes,
                entry,
            } = column[number];
            let unreadable = IndexEntry {
                rows: UNREADABLE,
                ..IndexEntry::default()
            };
            let entry = entry.unwrap_or(unreadable);
            bytes.extend_from_slice(&producer.attempt.epoch.0.to_le_bytes());
            for word in [file_bytes, entry.offset, entry.length, entry.rows] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&producer.attempt.number.to_le_bytes());
            bytes.extend_from_slice(&entry.crc32c.to_le_bytes());
        }
        let checksum = checksum(path, partition, &bytes[start..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// Decodes a slice. Entries without rows are left out. The error says what is wrong with the slice.
fn decode(
    path: &str,
    stage: StageId,
    partition: u32,
    bytes: &[u8],
) -> Result<Vec<Slice>, &'static str> {
    let (entries, sum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or("it ends within a slice")?;
    if checksum(path, partition, entries) != u32::from_le_bytes(*sum) {
        return Err("a slice's checksum is wrong");
    }
    let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else {
        return Err("a slice ends within an entry");
    };
    let slice = |(shard, entry): (u32, &[u8; ENTRY_BYTES])| {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&entry[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let half = |at: usize| {
            let mut half = [0; 4];
            half.copy_from_slice(&entry[at..at + 4]);
            u32::from_le_bytes(half)
        };
        let attempt = Attempt {
            epoch: Epoch(word(0)),
            number: half(40),
        };
        let task = TaskId {
            stage,
            shard: ShardId(shard),
        };
        let found = IndexEntry {
            offset: word(16),
            length: word(24),
            rows: word(32),
            crc32c: half(44),
        };
        Slice {
            producer: TaskAttempt { task, attempt },
            file_bytes: word(8),
            entry: (found.rows != UNREADABLE).then_some(found),
        }
    };
    let slices = (0..).zip(entries).map(slice);
    Ok(slices
        .filter(|slice| slice.entry.is_none_or(|entry| entry.rows > 0))
        .collect())
}

fn checksum(path: &str, partition: u32, entries: &[u8]) -> u32 {
    let whose = format!("{path}/{partition}");
    crc32c::crc32c_append(crc32c::crc32c(whose.as_bytes()), entries)
}

/// The path of the merged index that belongs to a list of outputs.
fn index_path(list: &str) -> String {
    list.replacen("/outputs-", "/index-", 1)
}

fn object_path(path: &str, number: usize) -> String {
    format!("{path}-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_at_most_16_mib_unless_it_has_one_slice() {
        for (tasks, partitions, objects, first) in [
            (600, 256, 1, 256),
            (2000, 256, 2, 174),
            (10_000, 1000, 30, 34),
            (1_000_000, 3, 3, 1),
            (0, 4, 1, 4),
        ] {
            let shape = IndexShape {
                stage: StageId(0),
                tasks,
                partitions,
            };
            let found: Vec<Range<u32>> = shape.objects().collect();
            assert_eq!((found.len(), found[0].end), (objects, first), "{shape:?}");
            let all: Vec<u32> = found.into_iter().flatten().collect();
            assert_eq!(all, (0..partitions).collect::<Vec<_>>());
        }
    }
}
