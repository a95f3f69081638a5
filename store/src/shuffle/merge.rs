//! Merges sorted runs of entries on the local disk, a limited number at a time. If there are more
//! runs, neighbours are first merged into larger ones. The order is kept. The engine defines how
//! entries are merged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zephyr_engine::ops::{Entry, Merger};

use crate::shuffle::ShuffleError;
use crate::shuffle::run::Run;
use crate::storage::{Cause, Location, StorageError};

/// How many runs with short entries are merged at a time at least. With fewer, the same data would
/// be written many times. So many runs fit into any share of memory.
const MIN_FAN_IN: usize = 16;

/// The memory of a run with short entries while it is merged.
const USUAL_RUN_BYTES: usize = 512 << 10;

/// How many runs are merged at a time at most. With more, the disk would have to read small pieces
/// at many places.
const MAX_FAN_IN: usize = 256;

/// How many runs there are at most. Each is an open file, and a process may have 1,024 of them.
const MAX_OPEN_RUNS: usize = 512;

/// A stream of sorted entries.
pub type EntryStream<'a> = Box<dyn Iterator<Item = Result<Entry, ShuffleError>> + 'a>;

/// A local folder for runs.
#[derive(Clone, Debug)]
pub struct SpillFolder {
    path: Arc<PathBuf>,
    /// How many entries were written to runs, plus how many were read from runs and written again.
    written: Arc<AtomicU64>,
    /// How many bytes one task wrote to runs.
    bytes: Arc<AtomicU64>,
}

impl SpillFolder {
    /// Makes a spill folder of a local folder, which must exist and be writable.
    pub fn new(folder: &Path) -> Self {
        Self {
            path: Arc::new(folder.to_owned()),
            written: Arc::default(),
            bytes: Arc::default(),
        }
    }

    /// Returns the same folder with separate counters for one task.
    #[must_use]
    pub fn counting(&self, written: &Arc<AtomicU64>) -> Self {
        Self {
            path: Arc::clone(&self.path),
            written: Arc::clone(written),
            bytes: Arc::default(),
        }
    }

    /// Counts entries that were written.
    pub(crate) fn count(&self, entries: u64) {
        self.written.fetch_add(entries, Ordering::Relaxed);
    }

    /// Writes a run.
    pub(crate) fn write(
        &self,
        entries: impl Iterator<Item = Result<Entry, ShuffleError>>,
    ) -> Result<Run, ShuffleError> {
        Run::write(
            &self.path,
            &self.bytes,
            entries.map(|entry| {
                self.count(1);
                entry.map_err(WriteFailure::Entry)
            }),
        )
        .map_err(|failure| match failure {
            WriteFailure::Entry(error) => error,
            WriteFailure::Io(error) => self.failed("writing", &error),
        })
    }

    /// Reads a run back.
    pub(crate) fn read<'a>(&self, run: Run) -> Result<EntryStream<'a>, ShuffleError> {
        let folder = self.clone();
        let entries = run.read().map_err(|error| self.failed("reading", &error))?;
        Ok(Box::new(entries.map(move |entry| {
            entry.map_err(|error| folder.failed("reading", &error))
        })))
    }

    fn failed(&self, call: &'static str, error: &io::Error) -> ShuffleError {
        let folder = self.path.display().to_string();
        ShuffleError::Spill(match Location::parse_local(&folder) {
            Ok(location) => StorageError::from_io_in(call, &location, error)
                .after_writing(self.bytes.load(Ordering::Relaxed)),
            Err(_) => StorageError {
                call,
                object: folder,
                cause: Cause::Other(error.to_string()),
            },
        })
    }
}

enum WriteFailure {
    Entry(ShuffleError),
    Io(io::Error),
}

impl From<io::Error> for WriteFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Collects streams and runs in order, and merges neighbouring runs whenever there would be too
/// many.
pub(crate) struct PartitionMerge<'a> {
    merger: &'a Merger,
    folder: SpillFolder,
    memory_bytes: usize,
    streams: Vec<EntryStream<'a>>,
    runs: Vec<Run>,
}

impl<'a> PartitionMerge<'a> {
    /// Makes a merge without streams. All runs that are merged at a time take at most
    /// `memory_bytes` together, but at least two runs are merged at a time.
    pub(crate) fn new(merger: &'a Merger, folder: SpillFolder, memory_bytes: usize) -> Self {
        Self {
            merger,
            folder,
            memory_bytes,
            streams: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Adds streams after all earlier ones, either as they are or as one run on the local disk.
    /// After streams that are added as they are, nothing may be added.
    pub(crate) fn push_group(
        &mut self,
        streams: Vec<EntryStream<'a>>,
        as_run: bool,
    ) -> Result<(), ShuffleError> {
        if as_run && !streams.is_empty() {
            let run = self.folder.write(self.merger.merge_runs(streams))?;
            return self.push_run(run);
        }
        self.streams.extend(streams);
        Ok(())
    }

    /// Adds a run, after all earlier ones.
    pub(crate) fn push_run(&mut self, run: Run) -> Result<(), ShuffleError> {
        self.runs.push(run);
        if self.runs.len() >= MAX_OPEN_RUNS {
            self.condense()?;
        }
        Ok(())
    }

    /// How many runs are merged at a time, at least two.
    fn fan_in(&self) -> usize {
        let each = self.runs.iter().map(Run::merged_bytes).max().unwrap_or(0);
        let least = if each > USUAL_RUN_BYTES {
            2
        } else {
            MIN_FAN_IN
        };
        (self.memory_bytes / each.max(1)).clamp(least, MAX_FAN_IN)
    }

    /// Merges neighbouring runs into larger ones, once.
    fn condense(&mut self) -> Result<(), ShuffleError> {
        let fan_in = self.fan_in();
        let runs = std::mem::take(&mut self.runs);
        let mut groups = runs.into_iter().peekable();
        while groups.peek().is_some() {
            let group = groups
                .by_ref()
                .take(fan_in)
                .map(|run| self.folder.read(run))
                .collect::<Result<Vec<_>, _>>()?;
            self.runs
                .push(self.folder.write(self.merger.merge_runs(group))?);
        }
        Ok(())
    }

    /// Returns the streams that remain to be merged.
    pub(crate) fn streams(mut self) -> Result<Vec<EntryStream<'a>>, ShuffleError> {
        while self.runs.len() > self.fan_in() {
            self.condense()?;
        }
        let runs = self
            .runs
            .into_iter()
            .map(|run| self.folder.read(run))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(runs.into_iter().chain(self.streams).collect())
    }
}
