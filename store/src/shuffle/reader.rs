//! The reader's side of a shuffle. It turns parts of many files into a few sorted streams, within
//! the memory of a task. If all parts together are small, they are merged in memory at once.
//! Otherwise the files are read in groups, and each group is merged into a run on the local disk
//! while the next group is opened. The size of entries is known only after a group was opened. If
//! the entries are large, a group becomes several runs.

use std::ops::Range;

use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use zephyr_engine::coordinator::record::OutputFile;
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::Merger;

use crate::shuffle::ShuffleError;
use crate::shuffle::merge::{EntryStream, PartitionMerge, SpillFolder};
use crate::shuffle::merged_index::Slice;
use crate::shuffle::partition::{Part, PartitionStream, Reading, USUAL_CHUNK_BYTES};
use crate::storage::{JobStorage, ReadCounter};

/// The least size of a range. With smaller ranges, the calls would cost more than the data.
const MIN_RANGE_BYTES: u64 = 64 << 10;

/// The greatest size of a range. If a reader has enough memory, it reads each part of up to this
/// size with one call.
const MAX_RANGE_BYTES: u64 = 1 << 20;

/// How many streams are merged at a time at least, however little memory there is. With fewer, the
/// same data would be written to the local disk many times.
const MIN_FAN_IN: u64 = 16;

/// How many files are opened at a time.
const OPEN_AT_ONCE: usize = 32;

/// Reads shuffle files for one task.
#[derive(Clone)]
pub struct ShuffleReader {
    /// The runtime on which calls to the store run.
    pub runtime: Handle,
    /// The job's folder, which contains the files.
    pub storage: JobStorage,
    /// How many partitions each file has.
    pub partitions: u32,
    /// How many bytes of memory all streams may hold together.
    pub memory_bytes: usize,
    /// Where runs are written.
    pub folder: SpillFolder,
    /// Counts the bytes that are read.
    pub counted: ReadCounter,
}

impl ShuffleReader {
    /// The entries of a partition as sorted streams, in the order of the files.
    pub fn partition<'a>(
        &self,
        merger: &'a Merger,
        partition: u32,
        slices: Vec<Slice>,
    ) -> Result<Vec<EntryStream<'a>>, ShuffleError> {
        let part = |slice| Part::Partition(partition, slice);
        let parts: Vec<Part> = slices.into_iter().map(part).collect();
        self.open(merger, &parts)
    }

    /// The entries of whole files as sorted streams, in the order of the files.
    pub fn files<'a>(
        &self,
        merger: &'a Merger,
        files: &[(TaskAttempt, OutputFile)],
    ) -> Result<Vec<EntryStream<'a>>, ShuffleError> {
        let written = files.iter().filter(|(_, file)| file.rows > 0);
        let part = |(producer, file): &(TaskAttempt, OutputFile)| Part::whole(*producer, file);
        let parts: Vec<Part> = written.map(part).collect();
        self.open(merger, &parts)
    }

    fn open<'a>(
        &self,
        merger: &'a Merger,
        parts: &[Part],
    ) -> Result<Vec<EntryStream<'a>>, ShuffleError> {
        let sizes: Vec<u64> = parts.iter().map(Part::bytes).collect();
        let Grouping {
            range_bytes,
            groups,
        } = group(self.memory_bytes as u64, &sizes);
        let reading = Reading {
            runtime: self.runtime.clone(),
            storage: self.storage.clone(),
            partitions: self.partitions,
            range_bytes,
            counted: self.counted.clone(),
        };
        let mut merge = PartitionMerge::new(merger, self.folder.clone(), self.memory_bytes);
        let spawn = |group: &Range<usize>| {
            let opened = open_all(reading.clone(), parts[group.clone()].to_vec());
            AbortOnDropHandle::new(self.runtime.spawn(opened))
        };
        let mut next = groups.first().map(spawn);
        for number in 1..=groups.len() {
            let Some(opening) = next.take() else { break };
            let streams = self.runtime.block_on(opening);
            let streams = streams.unwrap_or_else(|error| Err(ShuffleError::died(&error)))?;
            next = groups.get(number).map(spawn);
            let streams = streams.into_iter().filter(|stream| !stream.is_empty());
            let streams: Vec<PartitionStream> = streams.collect();
            let held: Vec<u64> = streams.iter().map(PartitionStream::held_bytes).collect();
            let parts = within(self.memory_bytes as u64, &held, 2);
            let as_runs = groups.len() > 1 || parts.len() > 1;
            let mut streams = streams.into_iter();
            for part in parts {
                let part = streams.by_ref().take(part.len());
                let part = part.map(|stream| Box::new(stream) as EntryStream<'a>);
                merge.push_group(part.collect(), as_runs)?;
            }
        }
        merge.streams()
    }
}

async fn open_all(
    reading: Reading,
    parts: Vec<Part>,
) -> Result<Vec<PartitionStream>, ShuffleError> {
    futures::stream::iter(parts)
        .map(|part| PartitionStream::open(reading.clone(), part))
        .buffered(OPEN_AT_ONCE)
        .try_collect()
        .await
}

/// The size of the ranges, and which parts are read together.
#[derive(Debug, PartialEq, Eq)]
struct Grouping {
    /// How many bytes are requested at a time.
    range_bytes: u64,
    /// The groups of neighbouring parts. The parts of a group are open at the same time.
    groups: Vec<Range<usize>>,
}

/// Divides parts of these sizes into groups, so that the streams of a group fit into the memory. If
/// there are several groups, two of them are in memory at a time, so each may take half.
fn group(memory_bytes: u64, sizes: &[u64]) -> Grouping {
    let all = sizes.iter().map(|size| held_bytes(*size, MAX_RANGE_BYTES));
    if all.fold(0, u64::saturating_add) <= memory_bytes {
        return Grouping {
            range_bytes: MAX_RANGE_BYTES,
            groups: std::iter::once(0..sizes.len()).collect(),
        };
    }
    let of_one = memory_bytes / 2 / MIN_FAN_IN;
    let range_bytes =
        (of_one.saturating_sub(USUAL_CHUNK_BYTES) / 2).clamp(MIN_RANGE_BYTES, MAX_RANGE_BYTES);
    let held: Vec<u64> = (sizes.iter())
        .map(|size| held_bytes(*size, range_bytes))
        .collect();
    Grouping {
        range_bytes,
        groups: within(memory_bytes / 2, &held, MIN_FAN_IN),
    }
}

/// Divides neighbours into groups that hold at most `memory_bytes` each. A group has at least
/// `least` members, even if they hold more.
fn within(memory_bytes: u64, held: &[u64], least: u64) -> Vec<Range<usize>> {
    let (mut groups, mut start, mut sum) = (Vec::new(), 0, 0_u64);
    for (number, more) in held.iter().enumerate() {
        let is_full = sum.saturating_add(*more) > memory_bytes;
        if is_full && (number - start) as u64 >= least {
            groups.push(start..number);
            (start, sum) = (number, 0);
        }
        sum = sum.saturating_add(*more);
    }
    groups.push(start..held.len());
    groups
}

/// How many bytes of memory a stream over a part of this size holds: a range, the range after it,
/// and a chunk.
fn held_bytes(size: u64, range_bytes: u64) -> u64 {
    size.min(2 * range_bytes) + USUAL_CHUNK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_parts_are_read_together_and_large_ones_in_groups() {
        let ranges = |memory, size, count| {
            let found = group(memory, &vec![size; count]);
            let most = found.groups.iter().map(ExactSizeIterator::len).max();
            (found.range_bytes, found.groups.len(), most.unwrap_or(0))
        };
        // 2,000 parts of 64 KiB take 250 MiB.
        assert_eq!(ranges(256 * MIB, 4 << 10, 2000), (MIB, 1, 2000));
        assert_eq!(ranges(256 * MIB, 64 << 10, 2000), (MIB, 1, 2000));
        assert_eq!(ranges(256 * MIB, MIB, 2000), (MIB, 17, 120));
        assert_eq!(ranges(256 * MIB, 100 * MIB, 2000), (MIB, 33, 62));
        // However little memory there is, 16 streams are merged at a time.
        assert_eq!(ranges(4 * MIB, MIB, 64), (64 << 10, 4, 16));
        assert_eq!(ranges(0, MIB, 17), (64 << 10, 2, 16));
        assert_eq!(ranges(0, 0, 0), (MIB, 1, 0));
    }

    #[test]
    fn groups_are_neighbours_and_contain_every_part_once() {
        let sizes: Vec<u64> = (0..1000).map(|n| n * n % 3000 * 1024).collect();
        for memory in [0, MIB, 16 * MIB, 300 * MIB, 1 << 40] {
            let mut next = 0;
            for group in group(memory, &sizes).groups {
                assert_eq!(group.start, next, "{memory}");
                next = group.end;
            }
            assert_eq!(next, sizes.len());
        }
    }
}
