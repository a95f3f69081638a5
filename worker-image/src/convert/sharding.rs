//! Converts a listing and the manifest's sizes to the engine's terms, and has the engine plan the
//! source. Looks into large compressed files. Lists nothing.

use futures::{StreamExt as _, stream};
use zephyr_crds::pipeline::{FilesSource, PipelineSpec};
use zephyr_crds::quantity::QuantityError;
use zephyr_engine::pipeline::{Format, Pipeline};
use zephyr_engine::plan::{
    Cuts, FilePart, ListedFile, PlannedSource, Sharding, ShardingError, files_to_look_into,
    plan_source,
};
use zephyr_store::formats::{Compression, look_into, source_format};
use zephyr_store::storage::{InputFile, StorageError, Stores};

use super::pipeline::format;

/// Why a source cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A size is not an amount of bytes. Validation refuses that.
    #[error("spec.pipeline.source.files: {0}")]
    Size(#[source] QuantityError),
    /// The sizes make too many shards.
    #[error(transparent)]
    Sharding(ShardingError),
    /// A large compressed file cannot be looked into.
    #[error("spec.pipeline.source.files: {0}")]
    Look(#[source] StorageError),
}

/// How many files are looked into at the same time.
const LOOKS_AT_A_TIME: usize = 32;

/// Plans the source of a pipeline that reads these files. Returns the planned source and the parts
/// of files that each shard reads. The list of parts is empty if each shard is one whole file.
///
/// # Errors
/// The sizes in the manifest make too many shards, or a file cannot be looked into.
pub async fn files_as_shards(
    stores: &Stores,
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    files: &[InputFile],
) -> Result<(PlannedSource, Vec<Vec<FilePart>>), SourceError> {
    let source = spec.source.files.clone().unwrap_or_default();
    let sharding = sharding(spec, &source).map_err(SourceError::Size)?;
    let set = source.format.map(format);
    let mut listed: Vec<ListedFile> = files.iter().map(|file| listed(file, set)).collect();
    let candidates = files_to_look_into(pipeline, &listed, sharding);
    let looks = candidates.into_iter().filter_map(|position| {
        let file = files.get(position)?;
        Some(async move { (position, look_into(stores, file).await) })
    });
    let mut looks = stream::iter(looks).buffered(LOOKS_AT_A_TIME);
    while let Some((position, cuts)) = looks.next().await {
        let cuts = cuts.map_err(SourceError::Look)?;
        if let Some(file) = listed.get_mut(position) {
            file.cuts = cuts;
        }
    }
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
    let is_compressed = Compression::of_path(&file.uri) != Compression::None;
    let version = file.etag.as_deref().unwrap_or_default();
    ListedFile {
        bytes: file.size,
        name_bytes: file.uri.len() + version.len(),
        // If a file had another format, the listing was refused before.
        format: set
            .or_else(|| source_format(&file.uri).ok())
            .unwrap_or(Format::Jsonl),
        is_compressed,
        cuts: if is_compressed {
            Cuts::Nowhere
        } else {
            Cuts::Anywhere
        },
        is_pinned: file.is_pinned(),
    }
}
