//! The output of one job: its sink, and the clients to reach it. This module reads and writes
//! nothing.

use zephyr_crds::pipeline::SinkMode;
use zephyr_engine::id::JobUid;

use super::owner::{place_of, read_old_files};
use super::{OutputError, manifest_location, output_path};
use crate::storage::{Cause, JobStorage, Location, NamePattern, StorageError, Stores};

/// The name of the copy of the claim in the job's own storage. The copy is needed if somebody
/// removes `_STARTED.json`.
const RECORD_NAME: &str = "output.json";

/// A job's output.
#[derive(Clone, Debug)]
pub struct Output {
    /// The clients of the stores.
    pub stores: Stores,
    /// The job's own folder in storage.
    pub storage: JobStorage,
    /// The uid of the job.
    pub job: JobUid,
    /// The namespace of the job.
    pub namespace: String,
    /// The name of the job.
    pub name: String,
    /// `spec.pipeline.sink.files.path`.
    pub path: String,
    /// The paths of the job's other final files, such as dead letters: all in the folder of `path`
    /// or below it.
    pub more_paths: Vec<String>,
    /// `spec.pipeline.sink.files.mode`.
    pub mode: SinkMode,
    /// Whether the job's ledger already has records of tasks. A job that an earlier release began
    /// has finished files but no claim.
    pub has_begun: bool,
}

impl Output {
    /// Returns the files of older output that are removed when this output is complete, and whose
    /// names this job does not write. There are such files only in mode `Overwrite`.
    ///
    /// # Errors
    /// The folder's `_SUCCESS.json` cannot be read.
    pub async fn replaced(&self) -> Result<Vec<Location>, OutputError> {
        if self.mode != SinkMode::Overwrite {
            return Ok(Vec::new());
        }
        let manifest = manifest_location(&self.path).map_err(OutputError::Store)?;
        let old = read_old_files(&self.stores, &manifest, &self.patterns()?).await?;
        let folder = manifest.parent();
        Ok(old
            .iter()
            .filter_map(|old| place_of(&folder, old))
            .collect())
    }

    /// Returns the namespace and the name of the job.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Returns the pattern of the names that the sink's path can produce.
    pub(super) fn pattern(&self) -> Result<NamePattern, OutputError> {
        pattern(&self.path).map_err(OutputError::Store)
    }

    /// The names that the job's other paths can produce.
    pub(super) fn more_patterns(&self) -> Result<Vec<NamePattern>, OutputError> {
        let patterns = self.more_paths.iter().map(|path| pattern(path));
        patterns
            .collect::<Result<_, _>>()
            .map_err(OutputError::Store)
    }

    /// All names that the job can produce; those of the sink first.
    pub(super) fn patterns(&self) -> Result<Vec<NamePattern>, OutputError> {
        let mut patterns = vec![self.pattern()?];
        patterns.extend(self.more_patterns()?);
        Ok(patterns)
    }

    pub(super) fn record(&self) -> Result<Location, OutputError> {
        self.storage.at(RECORD_NAME).map_err(|error| {
            let cause = Cause::Configuration(error.to_string());
            OutputError::Storage(StorageError::new("reading", self.storage.root(), cause))
        })
    }
}

/// Returns the pattern of the names that a sink's path can produce.
pub(super) fn pattern(path: &str) -> Result<NamePattern, StorageError> {
    let wrong = |problem: String| StorageError {
        call: "writing",
        object: path.to_owned(),
        cause: Cause::Configuration(problem),
    };
    output_path(path, 0, 1).map_err(|error| wrong(error.to_string()))?;
    let template = Location::parse_local(path).map_err(|error| wrong(error.to_string()))?;
    Ok(NamePattern::new(template))
}
