//! Converts a listing and the manifest's sizes to the engine's terms, and has the engine plan the
//! source. Lists nothing.

use zephyr_crds::pipeline::{FilesSource, PipelineSpec};
use zephyr_crds::quantity::QuantityError;
use zephyr_engine::pipeline::{Format, Pipeline};
use zephyr_engine::plan::{
    FilePart, ListedFile, PlannedSource, Sharding, ShardingError, plan_source,
};
use zephyr_store::formats::{Compression, source_format};
use zephyr_store::storage::InputFile;

use super::pipeline::format;

/// Why a source cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A size is not an amount of bytes. Validation refuses that.
    #[error("spec.pipeline.source.files: {0}")]
    Size(#[source] QuantityError),
    /// The sizes make too many shards.
    #[error(transparent)]
    Sharding(ShardingError),
}

/// Plans the source of a pipeline that reads these files. Returns the planned source and the parts
/// of files that each shard reads. The list of parts is empty if each shard is one whole file.
///
/// # Errors
/// The sizes in the manifest make too many shards.
pub fn files_as_shards(
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    files: &[InputFile],
) -> Result<(PlannedSource, Vec<Vec<FilePart>>), SourceError> {
    let source = spec.source.files.clone().unwrap_or_default();
    let sharding = sharding(spec, &source).map_err(SourceError::Size)?;
    let set = source.format.map(format);
    let listed: Vec<ListedFile> = files.iter().map(|file| listed(file, set)).collect();
    plan_source(pipeline, &listed, sharding).map_err(SourceError::Sharding)
}

fn sharding(spec: &PipelineSpec, source: &FilesSource) -> Result<Sharding, QuantityError> {
    let (split_bytes, combine_bytes) = source.effective_sizes()?;
    Ok(Sharding {
        split_bytes,
        combine_bytes,
        has_single_output: !spec.sink.files.has_shard(),
    })
}

fn listed(file: &InputFile, set: Option<Format>) -> ListedFile {
    let version = file.etag.as_deref().unwrap_or_default();
    ListedFile {
        bytes: file.size,
        name_bytes: file.uri.len() + version.len(),
        // If a file had another format, the listing was refused before.
        format: set
            .or_else(|| source_format(&file.uri).ok())
            .unwrap_or(Format::Jsonl),
        is_compressed: Compression::of_path(&file.uri) != Compression::None,
        is_pinned: file.is_pinned(),
    }
}
