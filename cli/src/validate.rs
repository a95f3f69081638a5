//! `kubectl zephyr validate -f job.yaml`: prints all errors of a manifest at once. It compares the
//! manifest with the definition of a `ZephyrJob`, and makes the checks of the operator and the
//! coordinator that need no data. It contacts no store. With `--server` the API server also checks
//! the job; it stores nothing.

use anyhow::{Result, anyhow, bail};
use serde_json::json;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::validate::Place;
use zephyr_engine::pipeline::{Pipeline, Source};
use zephyr_engine::plan::{self, PlannedSource};
use zephyr_worker::convert;
use zephyr_worker::coordinator::{check_places, dead_letters_of, literal_inputs};

#[cfg(feature = "cluster")]
use crate::cluster::Connection;
use crate::manifest::{self, Examined};
use crate::output::Format;
use crate::terminal::{print, printable};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The job's manifest; `-` reads standard input.
    #[arg(short, long)]
    filename: String,
    /// The name of the job (metadata.name), if the manifest has several jobs.
    #[arg(long)]
    name: Option<String>,
    /// Check a job for this machine, as `run` does: it may use `file://`.
    #[arg(long)]
    local: bool,
    /// Also let the API server check the job, with a dry run that stores nothing.
    #[cfg(feature = "cluster")]
    #[arg(long, conflicts_with = "local")]
    server: bool,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    connection: Connection,
    /// The format of the result; default: a line for people.
    #[arg(short, long)]
    output: Option<Format>,
}

#[cfg(feature = "cluster")]
impl Options {
    /// Takes each value that is missing here from the arguments before the verb.
    pub(crate) fn inherit(&mut self, before: Connection) -> Result<(), &'static str> {
        self.connection.inherit(before);
        if !self.server && self.connection != Connection::default() {
            return Err(
                "--namespace, --context, --kubeconfig: without --server no cluster is used",
            );
        }
        Ok(())
    }
}

/// Prints whether the job is valid. All errors are in the error of this function.
pub(crate) async fn validate(options: Options) -> Result<()> {
    let place = if options.local {
        Place::Local
    } else {
        Place::Cluster
    };
    let examined = manifest::examine(&options.filename, options.name.as_deref(), place)?;
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_mut, reason = "no server adds errors")
    )]
    let mut errors = errors_of(&examined).await;
    #[cfg(feature = "cluster")]
    if options.server
        && errors.is_empty()
        && let Some(job) = &examined.job
    {
        errors.extend(options.connection.refusal_of(job).await?);
    }
    let name = examined
        .job
        .as_ref()
        .and_then(|job| job.metadata.name.as_deref());
    let (name, path) = (name.unwrap_or_default(), &options.filename);
    if let Some(format) = options.output {
        let value = json!({"name": name, "valid": errors.is_empty(), "errors": errors});
        print(&format.text(&value, [name]))?;
    }
    if !errors.is_empty() {
        let lines: Vec<_> = errors
            .iter()
            .map(|error| format!("  {}", printable(error)))
            .collect();
        bail!("{path}: the job is refused\n{}", lines.join("\n"));
    }
    if options.output.is_none() {
        print(&format!("{path}: job {} is valid", printable(name)))?;
    }
    Ok(())
}

/// Every error that can be found without data.
async fn errors_of(examined: &Examined) -> Vec<String> {
    let mut errors = examined.errors.clone();
    let Some(spec) = &examined.pipeline else {
        return errors;
    };
    let pipeline = match convert::pipeline::pipeline(spec) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            // If there are errors already, they include the field that cannot be converted.
            if errors.is_empty() {
                errors.push(error.to_string());
            }
            return errors;
        }
    };
    let of_expressions = plan::check_expressions(&pipeline);
    errors.extend(of_expressions.iter().map(ToString::to_string));
    if errors.is_empty()
        && let Some(job) = &examined.job
    {
        let error = error_of_places(job, &pipeline).await.err();
        errors.extend(error.map(|error| error.to_string()));
    }
    errors
}

/// Fails if names of output files clash, as far as this is known without a listing.
async fn error_of_places(job: &ZephyrJob, pipeline: &Pipeline) -> Result<()> {
    let mut job = job.clone();
    let _none = job.spec.pipeline.put_values_in_paths();
    let shards = match &pipeline.source {
        Source::Items { values, shards } => shards.map_or(u32::try_from(values.len()), Ok)?,
        // The number of files is not known. One file is always possible.
        Source::Files { .. } => 1,
    };
    let plan = plan::plan(pipeline, PlannedSource::from(shards));
    check_places(
        &job.spec,
        plan.output_shards(),
        &dead_letters_of(&plan),
        literal_inputs(&job.spec),
    )
    .await
    .map_err(|error| anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn errors(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("job.yaml");
        std::fs::write(&file, text).expect("a file");
        let examined = manifest::examine(file.to_str().expect("UTF-8"), None, Place::Cluster);
        errors_of(&examined.expect("a job")).await
    }

    #[tokio::test]
    async fn a_valid_manifest_has_no_errors() {
        let text = manifest::text_of(
            "s3://in/*.jsonl",
            "[{ filter: .ok }]",
            "s3://out/{shard}.jsonl",
        );
        assert_eq!(errors(&text).await, [] as [&str; 0]);
    }

    #[tokio::test]
    async fn errors_of_fields_and_of_expressions_are_shown_together() {
        let text = manifest::text_of(
            "s3://in/*.jsonl",
            "[{ filter: '.a |' }, { map: nosuch }]",
            "s3://out/{shard}.jsonl",
        );
        let text = text.replace("replicas: 1", "replicas: 0, slots: -1");
        let found = errors(&text).await.join("\n");
        for words in [
            "spec.workers.replicas",
            "spec.workers.slots",
            "steps[0].filter",
            "steps[1].map",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[tokio::test]
    async fn names_that_clash_are_found_without_a_store() {
        let text = manifest::text_of("s3://in/a.jsonl", "[]", "s3://in/{shard}.jsonl");
        assert_eq!(
            errors(&text).await,
            [] as [&str; 0],
            "the names do not clash"
        );
        let text = manifest::text_of("s3://in/0.jsonl", "[]", "s3://in/{shard}.jsonl");
        let found = errors(&text).await;
        assert!(found[0].contains("is the input"), "{found:?}");
    }
}
