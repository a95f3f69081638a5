//! `kubectl zephyr plan -f job.yaml`: the stages and tasks that a job would have. Lists the input;
//! reads and writes no data.

use anyhow::{Context as _, Result, bail};
use zephyr_crds::pipeline::{PipelineSpec, SOURCE_FILES, SourceSpec, table_files};
use zephyr_crds::validate::Place;
use zephyr_engine::pipeline::Source;
use zephyr_engine::plan;
use zephyr_store::ledger::TableFiles;
use zephyr_worker::convert;
use zephyr_worker::coordinator::{check_places, literal_inputs};
use zephyr_worker::task::check_sizes;

use crate::input;
use crate::manifest;
use crate::terminal::{bytes, note, print};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The job's manifest; `-` reads standard input.
    #[arg(short, long)]
    filename: String,
    /// The name of the job (metadata.name), if the manifest has several jobs.
    #[arg(long)]
    name: Option<String>,
    /// Plan for this number of input files instead of listing them, if the storage cannot be
    /// reached from this machine.
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
    let (shards, mut inputs) = match &pipeline.source {
        Source::Items { values, shards } => {
            let shards = shards.map_or(u32::try_from(values.len()), Ok);
            let tables = options.files.map(|_| literal_inputs(&job.spec));
            (
                shards.context("too many items")?,
                tables.unwrap_or_default(),
            )
        }
        Source::Files { .. } => {
            if let Some(files) = options.files {
                (files, literal_inputs(&job.spec))
            } else {
                let inputs = list(&job.spec.pipeline.source).await?;
                let shards = u32::try_from(inputs.len()).context("too many input files")?;
                (shards, inputs)
            }
        }
    };
    if options.files.is_none() {
        inputs.extend(list_tables(&job.spec.pipeline).await?);
    }
    let plan = plan::plan(&pipeline, shards);
    if let Err(error) = check_places(&job.spec, plan.output_shards(), inputs).await {
        bail!("{}: the job is refused\n  {error}", options.filename);
    }
    print(&format!("{plan}\ndigest {}", plan.digest()))?;
    Ok(())
}

/// What fails if the storage cannot be reached.
const LIST: &str = "list the input (--files N plans without reading the storage)";

/// Lists the files of the tables, and says how much they take.
async fn list_tables(pipeline: &PipelineSpec) -> Result<Vec<String>> {
    let mut tables = TableFiles::new();
    for (name, table) in &pipeline.tables {
        let field = table_files(name);
        let files = input::list(&input::stores(), &field, &table.files, LIST).await?;
        let size = bytes(files.iter().map(|file| file.size).sum());
        note(&format!(
            "table {name}: {}, {size}, in every slot",
            plan::counted(files.len() as u64, "file")
        ));
        tables.insert(name.clone(), files);
    }
    check_sizes(&tables)?;
    let files = tables.into_values().flatten();
    Ok(files.map(|file| file.uri).collect())
}

async fn list(source: &SourceSpec) -> Result<Vec<String>> {
    let files = source
        .files
        .as_ref()
        .context("spec.pipeline.source.files: missing")?;
    let inputs = input::list(&input::stores(), SOURCE_FILES, files, LIST).await?;
    note(&format!(
        "input: {}, {}",
        plan::counted(inputs.len() as u64, "file"),
        bytes(inputs.iter().map(|input| input.size).sum())
    ));
    Ok(inputs.into_iter().map(|input| input.uri).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(
        folder: &std::path::Path,
        input: &str,
        files: Option<u32>,
        sink: &str,
    ) -> String {
        let root = folder.to_str().expect("UTF-8");
        let steps = "[{ groupBy: { key: ., aggregate: { rows: { count: {} } } } }]";
        let text = manifest::text_of(
            &format!("file://{root}/{input}"),
            steps,
            &format!("file://{root}/{sink}"),
        );
        let filename = folder.join("job.yaml").display().to_string();
        std::fs::write(&filename, text).expect("a file is written");
        let options = Options {
            filename,
            name: None,
            files,
        };
        let message = plan(options).await.err();
        message.map_or_else(String::new, |error| error.to_string())
    }

    #[tokio::test]
    async fn names_that_clash_are_refused_with_files_and_with_a_listing() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("in")).expect("a folder");
        for name in ["in/a.jsonl", "in/b.jsonl", "0.jsonl"] {
            std::fs::write(root.join(name), "1\n").expect("a file is written");
        }
        for files in [Some(2), None] {
            let message = refusal(root, "in/*", files, "out/{total}.jsonl").await;
            assert!(message.contains("the job is refused\n  spec.pipeline.sink.files.path: gives shards 0 and 1 of 2 the same name, "), "{message}");
            assert_eq!(refusal(root, "in/*", files, "out/{shard}.jsonl").await, "");
        }
        for files in [Some(1), None] {
            let message = refusal(root, "0.jsonl", files, "{shard}.jsonl").await;
            assert!(message.contains("/0.jsonl is the input "), "{message}");
            let other = refusal(root, "0.jsonl", files, "of-{total}.jsonl").await;
            assert_eq!(other, "");
        }
    }
}
