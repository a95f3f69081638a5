//! Merges sorted streams of entries. It merges a limited number of streams at a time, with limited
//! memory. If there are more streams, some are first merged into runs on the local disk. The order
//! of the streams is kept. The engine defines how entries are merged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zephyr_engine::ops::{Entry, Merger};

use crate::shuffle::ShuffleError;
use crate::shuffle::run::Run;
use crate::storage::{Cause, Location, StorageError};

/// How many streams are merged at a time. Each stream holds a chunk and bytes that were read ahead,
/// together some hundred kilobytes.
pub const FAN_IN: usize = 64;

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

/// Collects streams in order, and merges neighbours into runs whenever there would be too many.
pub struct PartitionMerge<'a> {
    merger: &'a Merger,
    folder: SpillFolder,
    streams: Vec<EntryStream<'a>>,
    runs: Vec<Run>,
}

impl<'a> PartitionMerge<'a> {
    /// Makes a merge without streams.
    pub fn new(merger: &'a Merger, folder: SpillFolder) -> Self {
        Self {
            merger,
            folder,
            streams: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Adds the next stream, after all earlier ones.
    pub fn push(&mut self, stream: EntryStream<'a>) -> Result<(), ShuffleError> {
        if self.streams.len() >= FAN_IN {
            self.condense()?;
        }
        self.streams.push(stream);
        Ok(())
    }

    /// Adds a run, after all earlier streams.
    pub(crate) fn push_run(&mut self, run: Run) -> Result<(), ShuffleError> {
        self.condense()?;
        self.runs.push(run);
        Ok(())
    }

    /// Returns the streams that remain to be merged, at most [`FAN_IN`].
    pub fn streams(mut self) -> Result<Vec<EntryStream<'a>>, ShuffleError> {
        if self.runs.len() + self.streams.len() > FAN_IN {
            self.condense()?;
        }
        while self.runs.len() + self.streams.len() > FAN_IN {
            let runs = std::mem::take(&mut self.runs);
            let mut groups = runs.into_iter().peekable();
            while groups.peek().is_some() {
                let group = groups
                    .by_ref()
                    .take(FAN_IN)
                    .map(|run| self.folder.read(run))
                    .collect::<Result<Vec<_>, _>>()?;
                self.runs
                    .push(self.folder.write(self.merger.merge_runs(group))?);
            }
        }
        let runs = self
            .runs
            .into_iter()
            .map(|run| self.folder.read(run))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(runs.into_iter().chain(self.streams).collect())
    }

    fn condense(&mut self) -> Result<(), ShuffleError> {
        if !self.streams.is_empty() {
            let streams = std::mem::take(&mut self.streams);
            self.runs
                .push(self.folder.write(self.merger.merge_runs(streams))?);
        }
        Ok(())
    }
}
