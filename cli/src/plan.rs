//! `kubectl zephyr plan -f job.yaml`: the stages and tasks that a job would have. Lists the input; reads and writes no data.

use anyhow::{Context as _, Result, bail};
use zephyr_crds::validate::Place;
use zephyr_engine::pipeline::Source;
use zephyr_engine::plan;
use zephyr_worker::convert;
use zephyr_worker::formats::unknown_formats;
use zephyr_worker::storage::{Stores, list_inputs};

use crate::manifest;
use crate::terminal::{bytes, note, print};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The job's manifest; `-` reads standard input.
    #[arg(short, long)]
    filename: String,
    /// The job that is meant, by its metadata.name, if the manifest has several.
    #[arg(long)]
    name: Option<String>,
    /// Plan for this many input files instead of listing them, where the storage cannot be reached from here.
    #[arg(long)]
    files: Option<u32>,
}

/// Prints the plan.
pub(crate) async fn plan(options: Options) -> Result<()> {
    let job = manifest::read(&options.filename, options.name.as_deref(), Place::Local)?;
    let pipeline = convert::pipeline::pipeline(&job.spec.pipeline)?;
    let mistakes = plan::check_expressions(&pipeline);
    if !mistakes.is_empty() {
        let lines: Vec<_> = mistakes
            .iter()
            .map(|mistake| format!("  {mistake}"))
            .collect();
        bail!(
            "{}: the job is refused\n{}",
            options.filename,
            lines.join("\n")
        );
    }
    let shards = match &pipeline.source {
        Source::Items { values, shards } => shards
            .map_or(u32::try_from(values.len()), Ok)
            .context("too many items")?,
        Source::Files { empty_ok } => match options.files {
            Some(files) => files,
            None => list(&job.spec.pipeline.source, *empty_ok).await?,
        },
    };
    let plan = plan::plan(&pipeline, shards);
    print(&format!("{plan}\ndigest {}", plan.digest()))?;
    Ok(())
}

async fn list(source: &zephyr_crds::pipeline::SourceSpec, empty_ok: bool) -> Result<u32> {
    let files = source
        .files
        .as_ref()
        .context("spec.pipeline.source.files: missing")?;
    let stores = Stores::new(zephyr_worker::local::storage_options_from_environment());
    let inputs = list_inputs(&stores, &files.paths, empty_ok)
        .await
        .context("list the input (--files N plans without a look at the storage)")?;
    if files.format.is_none()
        && let Some(sentence) = unknown_formats(inputs.iter().map(|input| input.uri.as_str()))
    {
        bail!(sentence);
    }
    note(&format!(
        "input: {} files, {}",
        inputs.len(),
        bytes(inputs.iter().map(|input| input.size).sum())
    ));
    u32::try_from(inputs.len()).context("too many input files")
}
