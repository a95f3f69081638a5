//! `kubectl zephyr plan -f job.yaml`: the stages and tasks that a job would have, or why the job
//! would be refused. It lists the input, reads the tables, and checks the output's folder. It reads
//! no other data, and writes nothing.

use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::pipeline::{PipelineSpec, SOURCE_FILES, SourceSpec, table_files};
use zephyr_crds::validate::Place;
use zephyr_engine::expr::on_full_stack;
use zephyr_engine::pipeline::{Pipeline, Source};
use zephyr_engine::plan::{self, Plan, PlannedSource};
use zephyr_store::finalize::OutputError;
use zephyr_store::ledger::TableFiles;
use zephyr_store::storage::InputFile;
use zephyr_worker::convert;
use zephyr_worker::convert::sharding::{SourceError, files_as_shards};
use zephyr_worker::coordinator::{
    PreviewError, check_output, check_places, dead_letters_of, literal_inputs,
};
use zephyr_worker::job::RunJob;
use zephyr_worker::task::{TaskContext, TaskSetup, check_sizes, check_tables};

use crate::input;
use crate::manifest;
use crate::output::Format;
use crate::run::freeze;
use crate::shards;
use crate::terminal::{bytes, note, print, printable};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The job's manifest; `-` reads standard input.
    #[arg(short, long)]
    filename: String,
    /// The name of the job (metadata.name), if the manifest has several jobs.
    #[arg(long)]
    name: Option<String>,
    /// Plan for this number of small input files, and read nothing from the storage: no listing, no
    /// tables, not the output's folder.
    #[arg(long)]
    files: Option<u32>,
    /// The format of the result; default: a page for people.
    #[arg(short, long)]
    output: Option<Format>,
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
    let (source, mut inputs) = match &pipeline.source {
        Source::Items { values, shards } => {
            let shards = shards.map_or(u32::try_from(values.len()), Ok);
            let tables = options.files.map(|_| literal_inputs(&job.spec));
            let source = PlannedSource::from(shards.context("too many items")?);
            (source, tables.unwrap_or_default())
        }
        Source::Files { .. } => {
            if let Some(files) = options.files {
                note(&assumption(files));
                (source_of_unknown_sizes(files), literal_inputs(&job.spec))
            } else {
                let inputs = list(&job.spec.pipeline.source).await?;
                let source = plan_files(&job.spec.pipeline, &pipeline, &inputs).await;
                let source = source.map_err(|error| match error {
                    SourceError::Look(error) => anyhow!(error).context(LIST),
                    SourceError::Size(_) | SourceError::Sharding(_) => refused(&options, &error),
                })?;
                (source, inputs.into_iter().map(|input| input.uri).collect())
            }
        }
    };
    let tables = if options.files.is_none() {
        list_tables(&job.spec.pipeline).await?
    } else {
        TableFiles::new()
    };
    inputs.extend(tables.values().flatten().map(|file| file.uri.clone()));
    let plan = plan::plan(&pipeline, source.clone());
    let refused = |error: &dyn std::fmt::Display| refused(&options, error);
    check_places(
        &job.spec,
        plan.output_shards(),
        &dead_letters_of(&plan),
        inputs.clone(),
    )
    .await
    .map_err(|error| refused(&error))?;
    let name = job.metadata.name.clone();
    if options.files.is_none() {
        let job = run_job(job)?;
        if let Some(fault) = fault_of_output(&job, &inputs).await? {
            return Err(refused(&fault));
        }
        if let Some(fault) = fault_of_tables(job, source, tables).await? {
            return Err(refused(&fault));
        }
    }
    let name = name.as_deref().unwrap_or_default();
    print(&match options.output {
        Some(format) => format.text(&data(name, &plan), [name]),
        None => format!("{plan}\ndigest {}", plan.digest()),
    })?;
    Ok(())
}

/// The plan as `-o json` shows it. The names of its fields are part of the program's interface.
fn data(name: &str, plan: &Plan) -> Value {
    let stages = plan.stages.iter().map(|stage| {
        let reads = stage.reads().map(|from| u64::from(from.0) + 1);
        json!({
            "stage": u64::from(stage.id.0) + 1,
            "name": stage.name,
            "tasks": stage.shards,
            "reads": reads.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": name,
        "digest": plan.digest(),
        "tasks": plan.tasks(),
        "stages": stages.collect::<Vec<_>>(),
    })
}

fn refused(options: &Options, error: &dyn std::fmt::Display) -> anyhow::Error {
    let error = printable(&error.to_string());
    anyhow!("{}: the job is refused\n  {error}", options.filename)
}

/// What is assumed about files whose sizes are not known.
fn assumption(files: u32) -> String {
    let (count, they) = match files {
        1 => ("1 file".to_owned(), "it is not"),
        _ => (plan::counted(files.into(), "file"), "none is"),
    };
    format!(
        "assumed: {count}, so small that {they} split, each file is a shard, and a first groupBy or deduplicate for which no shards are set has one shard; without --files the plan uses the real sizes"
    )
}

/// A source that consists of this number of small files. Each file is a shard.
fn source_of_unknown_sizes(files: u32) -> PlannedSource {
    PlannedSource {
        shuffle_shards: Some(1),
        ..PlannedSource::from(files)
    }
}

/// The source of a job that reads these files. Notes which files are split and which are combined.
async fn plan_files(
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    inputs: &[InputFile],
) -> Result<PlannedSource, SourceError> {
    let (source, parts) = files_as_shards(&input::stores(), spec, pipeline, inputs).await?;
    if let Some(sentence) = shards::sentence(&parts) {
        note(&sentence);
    }
    Ok(source)
}

/// The beginnings of error messages.
const LIST: &str = "the input cannot be used (--files N plans without reading the storage)";
const LOOK: &str =
    "the output's folder cannot be checked (--files N plans without reading the storage)";
const TABLES: &str = "the tables cannot be read (--files N plans without reading the storage)";

/// The job as its coordinator would read it. If the manifest names no namespace, the namespace in
/// which the job will be applied is not known and stays empty.
fn run_job(job: ZephyrJob) -> Result<RunJob> {
    let namespace = job.metadata.namespace.clone().unwrap_or_default();
    let is_local = job.spec.pipeline.sink.files.path.starts_with("file:");
    let mut frozen = freeze(job, None)?;
    if !is_local {
        frozen.namespace = namespace;
    }
    Ok(RunJob::new(frozen)?)
}

/// Why the content of the output's folder prevents the job from beginning; `None` if it does not.
/// Prints a note if the job would wait for something.
async fn fault_of_output(job: &RunJob, inputs: &[String]) -> Result<Option<String>> {
    let error = match check_output(job, inputs, SystemTime::now()).await {
        Ok(()) => return Ok(None),
        Err(error) => error,
    };
    let sentence = error.to_string();
    match error {
        PreviewError::Output(OutputError::Watched { .. }) => {
            note(&format!("the job would wait: {}", printable(&sentence)));
            Ok(None)
        }
        PreviewError::Output(error) if error.store_error().is_some() => Err(error).context(LOOK),
        PreviewError::Output(_) | PreviewError::Places(_) => Ok(Some(sentence)),
    }
}

/// Why the tables cannot be used; `None` if they can. Reads all of them.
async fn fault_of_tables(
    job: RunJob,
    source: PlannedSource,
    tables: TableFiles,
) -> Result<Option<String>> {
    if tables.values().all(Vec::is_empty) {
        return Ok(None);
    }
    let folder = std::env::temp_dir();
    let setup = TaskSetup::of(job, source, tables, 0, folder, Handle::current());
    let context = TaskContext::new(setup)?;
    let read = spawn_blocking(move || on_full_stack("tables", || check_tables(&context)));
    let read = read
        .await?
        .context("start a thread that reads the tables")?;
    let Ok(read) = read else {
        bail!("the thread that reads the tables died");
    };
    match read {
        Ok(()) => Ok(None),
        Err(failure) if failure.setback.is_some() => Err(anyhow!(failure.error)).context(TABLES),
        Err(failure) => Ok(Some(failure.error)),
    }
}

/// Lists the files of the tables, and prints a note with their sizes.
async fn list_tables(pipeline: &PipelineSpec) -> Result<TableFiles> {
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
    Ok(tables)
}

async fn list(source: &SourceSpec) -> Result<Vec<InputFile>> {
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
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A job that reads and writes below a folder: `in/*`, a table, `out/`.
    struct Trial(tempfile::TempDir);

    impl Trial {
        /// A folder with these files.
        fn new(files: &[(&str, &str)]) -> Self {
            let trial = Self(tempfile::tempdir().expect("a folder"));
            for (name, text) in files {
                trial.put(name, text);
            }
            trial
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a folder");
            std::fs::write(path, text).expect("a file is written");
        }

        fn root(&self) -> &str {
            self.0.path().to_str().expect("UTF-8")
        }

        /// The error of the plan; empty if the job can be planned.
        async fn refusal(&self, text: String, files: Option<u32>) -> String {
            let filename = self.0.path().join("job.yaml").display().to_string();
            std::fs::write(&filename, text).expect("a file is written");
            let options = Options {
                filename,
                name: None,
                files,
                output: None,
            };
            let message = plan(options).await.err();
            let message = message.map_or_else(String::new, |error| error.to_string());
            message.replace(self.root(), "")
        }

        async fn of_paths(&self, input: &str, files: Option<u32>, sink: &str) -> String {
            let root = self.root();
            let steps = "[{ filter: . }]";
            let input = format!("file://{root}/{input}");
            let text = manifest::text_of(&input, steps, &format!("file://{root}/{sink}"));
            self.refusal(text, files).await
        }

        /// A job with a table of these files, whose key is `.id`.
        async fn of_table(&self, table: &str, files: Option<u32>) -> String {
            let root = self.root();
            let input = format!("file://{root}/in/*");
            let text =
                manifest::text_of(&input, "[]", &format!("file://{root}/out/{{shard}}.jsonl"));
            let table = format!(
                "    tables: {{ t: {{ files: {{ paths: [\"file://{root}/{table}\"] }}, key: .id }} }}\n    sink:"
            );
            self.refusal(text.replacen("    sink:", &table, 1), files)
                .await
        }
    }

    #[test]
    fn what_a_number_of_files_assumes_is_said() {
        let one = assumption(1);
        assert!(
            one.starts_with("assumed: 1 file, so small that it is not split, "),
            "{one}"
        );
        let many = assumption(24);
        assert!(
            many.starts_with("assumed: 24 files, so small that none is split, "),
            "{many}"
        );
        // The plan assumes the same.
        let source = source_of_unknown_sizes(24);
        assert_eq!(
            (source.shards, source.shuffle_shards, source.parts),
            (24, Some(1), None)
        );
    }

    #[test]
    fn the_plan_for_programs_has_the_stages_and_what_they_read() {
        let text = manifest::text_of("s3://in/*", "[{ count: {} }]", "s3://out/{shard}.jsonl");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("job.yaml");
        std::fs::write(&file, text).expect("a file");
        let file = file.to_str().expect("UTF-8");
        let job = manifest::read(file, None, Place::Cluster).expect("a job");
        let pipeline = convert::pipeline::pipeline(&job.spec.pipeline).expect("a pipeline");
        let shown = data("count", &plan::plan(&pipeline, source_of_unknown_sizes(3)));
        assert_eq!(shown["stages"][0]["tasks"], 3);
        assert_eq!(shown["stages"][0]["reads"], json!([]));
        let last = shown["stages"].as_array().and_then(|stages| stages.last());
        assert!(
            last.is_some_and(|last| last["reads"] != json!([])),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn names_that_clash_are_refused_with_files_and_with_a_listing() {
        let trial = Trial::new(&[
            ("in/a.jsonl", "1\n"),
            ("in/b.jsonl", "1\n"),
            ("0.jsonl", "1\n"),
        ]);
        for files in [Some(2), None] {
            let message = trial.of_paths("in/*", files, "out/{total}.jsonl").await;
            assert!(message.contains("the job is refused\n  spec.pipeline.sink.files.path: gives shards 0 and 1 of 2 the same name, "), "{message}");
            let good = trial.of_paths("in/*", files, "out/{shard}.jsonl").await;
            assert_eq!(good, "");
        }
        for files in [Some(1), None] {
            let message = trial.of_paths("0.jsonl", files, "{shard}.jsonl").await;
            assert!(message.contains("/0.jsonl is the input "), "{message}");
            let other = trial.of_paths("0.jsonl", files, "of-{total}.jsonl").await;
            assert_eq!(other, "");
        }
    }

    #[tokio::test]
    async fn a_folder_that_the_output_may_not_use_is_refused_with_the_message_of_a_run() {
        let taken = r#"{"jobUid": "u", "job": "ns/other", "files": []}"#;
        let held = r#"{"version": 1, "jobUid": "u", "namespace": "ns", "name": "other", "state": "running",
            "mode": "Refuse", "path": "file:///out/{shard}.jsonl", "continues": false, "replaces": {}}"#;
        for (name, text, words) in [
            (
                "out/7.jsonl",
                "1",
                "files with names of output files exist already (got file:///out/7.jsonl); write to another folder",
            ),
            (
                "out/_SUCCESS.json",
                taken,
                "file:///out holds the finished output of another job (got file:///out/_SUCCESS.json of job ns/other, uid u)",
            ),
            (
                "out/_STARTED.json",
                held,
                "another job has begun to write to file:///out and has not ended (got file:///out/_STARTED.json of job ns/other, uid u)",
            ),
            (
                "out/_STARTED.json",
                "?",
                "it is not known whose output file:///out holds",
            ),
        ] {
            let trial = Trial::new(&[("in/a.jsonl", "1\n"), (name, text)]);
            let message = trial.of_paths("in/*", None, "out/{shard}.jsonl").await;
            let expected =
                format!("/job.yaml: the job is refused\n  spec.pipeline.sink.files.path: {words}");
            assert!(message.starts_with(&expected), "{message}");
            let offline = trial.of_paths("in/*", Some(1), "out/{shard}.jsonl").await;
            assert_eq!(offline, "", "--files reads nothing");
            let left = std::fs::read_to_string(trial.0.path().join(name));
            assert_eq!(left.expect("it is still there"), text);
        }
    }

    #[tokio::test]
    async fn a_job_of_the_same_name_continues_in_its_folder_and_the_plan_reports_nothing() {
        let held = r#"{"version": 1, "jobUid": "u", "namespace": "local", "name": "count", "state": "running",
            "mode": "Refuse", "path": "file://ROOT/out/{shard}.jsonl", "continues": false, "replaces": {}}"#;
        let trial = Trial::new(&[("in/a.jsonl", "1\n"), ("out/0.jsonl", "1\n")]);
        trial.put("out/_STARTED.json", &held.replace("ROOT", trial.root()));
        let message = trial.of_paths("in/*", None, "out/{shard}.jsonl").await;
        assert_eq!(message, "");
    }

    #[tokio::test]
    async fn a_table_that_no_task_could_read_is_refused_with_its_file_and_line() {
        let trial = Trial::new(&[
            ("in/a.jsonl", "1\n"),
            ("good.jsonl", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n"),
            ("twice.jsonl", "{\"id\":\"a\"}\n{\"id\":\"a\"}\n"),
            ("number.jsonl", "{\"id\":1}\n"),
            ("text.jsonl", "{\"id\":\"a\"}\nno JSON\n"),
        ]);
        assert_eq!(trial.of_table("good.jsonl", None).await, "");
        for (table, words) in [
            (
                "twice.jsonl",
                "spec.pipeline.tables.t.key: file:///twice.jsonl: line 2: has the same key as file:///twice.jsonl: line 1 (got \"a\")",
            ),
            (
                "number.jsonl",
                "spec.pipeline.tables.t.key: file:///number.jsonl: line 1: is not a string (got 1)",
            ),
            ("text.jsonl", "file:///text.jsonl: line 2: "),
        ] {
            let message = trial.of_table(table, None).await;
            let expected = format!("/job.yaml: the job is refused\n  {words}");
            assert!(message.starts_with(&expected), "{message}");
            assert_eq!(
                trial.of_table(table, Some(1)).await,
                "",
                "--files reads nothing"
            );
        }
        let missing = trial.of_table("missing.jsonl", None).await;
        assert!(missing.contains("the input cannot be used"), "{missing}");
    }
}
