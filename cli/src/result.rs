//! `kubectl zephyr result NAME`: what a job has written, from its status; with `--files` each file,
//! from `_SUCCESS.json` in the object store. Changes nothing in the cluster or the store.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use zephyr_crds::status::{OutputsStatus, Phase};
use zephyr_engine::plan::counted;
use zephyr_store::storage::{Location, fetch};

use crate::cluster::{Found, Target};
use crate::input;
use crate::output::Data;
use crate::status::reason;
use crate::table::table;
use crate::terminal::{bytes, print, printable};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also list the files with their records and sizes. Reads `_SUCCESS.json` with your own
    /// credentials.
    #[arg(long)]
    files: bool,
    /// The format of the result; default: lines for people.
    #[arg(short, long)]
    output: Option<Data>,
}

/// Prints the result. It is an error if the job has none.
pub(crate) async fn result(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    let outputs = outputs_of(&found)?;
    let files = if options.files {
        read_files(&outputs.manifest).await?
    } else {
        Vec::new()
    };
    if let Some(format) = options.output {
        let mut value = json!({
            "namespace": found.namespace,
            "name": found.real_name(),
            "files": outputs.files,
            "records": outputs.rows,
            "bytes": outputs.bytes,
            "manifest": outputs.manifest,
        });
        if options.files {
            value["list"] = files.into();
        }
        print(&format.text(&value))?;
        return Ok(());
    }
    print(&printable(&sentence(&outputs)))?;
    if options.files {
        print(&table(&["FILE", "RECORDS", "SIZE"], files.iter().map(row)))?;
    }
    Ok(())
}

/// What the job wrote, or why it wrote nothing.
fn outputs_of(found: &Found) -> Result<OutputsStatus> {
    let (namespace, name) = (&found.namespace, &found.name);
    let status = found.job.status.clone().unwrap_or_default();
    let why = reason(&status).map_or(String::new(), |why| {
        format!(": {}", printable(&why.message))
    });
    match (status.phase, status.outputs) {
        (Some(Phase::Succeeded), Some(outputs)) => Ok(outputs),
        (Some(Phase::Succeeded), None) => {
            bail!("job {namespace}/{name} has succeeded, and its status does not say what it wrote")
        }
        (Some(Phase::Failed), _) => bail!("job {namespace}/{name} has failed{why}"),
        (phase, _) => {
            let phase = phase.map_or("not seen by the operator yet", Phase::as_str);
            bail!("job {namespace}/{name} has no result yet (its phase is {phase}){why}")
        }
    }
}

fn sentence(outputs: &OutputsStatus) -> String {
    format!(
        "{} with {}, {}: {}",
        counted(outputs.files.unsigned_abs(), "file"),
        counted(outputs.rows.unsigned_abs(), "record"),
        bytes(outputs.bytes.unsigned_abs()),
        outputs.manifest
    )
}

/// The files that the manifest of an output lists.
async fn read_files(manifest: &str) -> Result<Vec<Value>> {
    let location = Location::parse_local(manifest)?;
    let read = fetch(&input::stores(), &location).await;
    let text = read.with_context(|| {
        format!("read {manifest} with your own credentials (environment variables, as for `run`)")
    })?;
    let mut value: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{manifest}: not the list of a job's files"))?;
    let Value::Array(files) = value["files"].take() else {
        bail!("{manifest}: not the list of a job's files");
    };
    Ok(files)
}

fn row(file: &Value) -> Vec<String> {
    let number = |field: &str| file[field].as_u64().unwrap_or_default();
    vec![
        file["uri"].as_str().unwrap_or_default().to_owned(),
        number("rows").to_string(),
        bytes(number("bytes")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_files_of_an_output_are_listed_with_their_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = folder.path().join("_SUCCESS.json");
        let text = r#"{"version": 1, "files": [{"uri": "s3://out/0.jsonl", "rows": 3, "bytes": 1400, "crc32c": "x"}]}"#;
        std::fs::write(&manifest, text).expect("a file");
        let manifest = format!("file://{}", manifest.display());
        let files = read_files(&manifest).await.expect("files");
        assert_eq!(row(&files[0]), ["s3://out/0.jsonl", "3", "1.4 kB"]);
        std::fs::write(folder.path().join("_SUCCESS.json"), "{}").expect("a file");
        let error = read_files(&manifest).await.expect_err("no list");
        assert!(error.to_string().ends_with("not the list of a job's files"));
    }

    #[test]
    fn the_counts_are_one_sentence() {
        let outputs = OutputsStatus {
            files: 1,
            rows: 20,
            bytes: 999,
            manifest: "s3://out/_SUCCESS.json".to_owned(),
        };
        let expected = "1 file with 20 records, 999 B: s3://out/_SUCCESS.json";
        assert_eq!(sentence(&outputs), expected);
    }
}
