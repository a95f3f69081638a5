//! `kubectl zephyr export` and `import`: move a suspended job to another cluster or namespace.
//! `export` writes an archive; `import` creates a job that continues the exported one. The
//! coordinator of the new job checks the archive and takes over the work; these commands do not
//! wait for it, and change nothing in the ledger.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use zephyr_crds::job::{ZephyrJob, ZephyrJobSpec};
use zephyr_crds::life::{RestoreFrom, SuspendPolicy};
use zephyr_crds::status::{Phase, ZephyrJobStatus};
use zephyr_engine::id::JobUid;
use zephyr_store::export::{self, Exported, Head, MAX_ARCHIVE_BYTES, digest, keep_archive};
use zephyr_store::ledger::Owner;
use zephyr_store::storage::{JobStorage, Location, fetch, size_of};

use crate::cluster::{Connection, Found, Target};
use crate::input;
use crate::terminal::{print, printable};

#[derive(clap::Args)]
pub(crate) struct ExportOptions {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also write the archive to this file, which must not exist.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct ImportOptions {
    /// The archive: a file, or its address in the store.
    archive: String,
    /// The name of the new job; default: that of the exported job.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Exports a suspended job.
pub(crate) async fn export(options: ExportOptions) -> Result<()> {
    let found = options.target.find().await?;
    let status = found.job.status.clone().unwrap_or_default();
    let (name, namespace) = (&found.name, &found.namespace);
    if let Some(why) = not_exported(&found.job.spec, &status) {
        bail!("job {namespace}/{name} {why}");
    }
    let spec = &found.job.spec;
    let uid = found.job.metadata.uid.clone().unwrap_or_default();
    let uri = &spec.storage.uri;
    let storage = JobStorage::new(input::stores(), uri, JobUid::parse(found.folder())?)
        .with_context(|| format!("spec.storage.uri: {uri} cannot be used"))?;
    let of = Exported {
        owner: Owner {
            uid,
            namespace: namespace.clone(),
            name: found.real_name().to_owned(),
        },
        generation: status.generation.unwrap_or_default(),
        manifest: serde_json::to_vec(&manifest(&found))?,
        history: serde_json::to_vec(&history(&status))?,
    };
    let credentials = || {
        format!(
            "export job {namespace}/{name} from {uri} with your own credentials (environment variables, as for `run`)"
        )
    };
    let made = export::export(&storage, of).await;
    let made = made.with_context(credentials)?;
    let kept = keep_archive(&storage, &made).await;
    let kept = kept.with_context(credentials)?;
    if let Some(path) = &options.output {
        write_new(path, &made.bytes)?;
    }
    let written = options
        .output
        .as_ref()
        .map(|path| path.display().to_string());
    print(&exported_text(
        &found,
        &made.head,
        &made.digest,
        &kept,
        written.as_deref(),
    ))?;
    Ok(())
}

/// Why a job in this state is not exported; `None` if it is suspended.
fn not_exported(spec: &ZephyrJobSpec, status: &ZephyrJobStatus) -> Option<&'static str> {
    match status.phase {
        Some(Phase::Suspended) if spec.cancel.is_some() => {
            Some("is cancelled, and ends without another run")
        }
        Some(Phase::Suspended) => None,
        Some(phase) if phase.is_final() => {
            Some("has ended; only a suspended job can be exported, which has work left")
        }
        Some(_) | None => Some(
            "is not suspended; only a suspended job can be exported: run `kubectl zephyr suspend` and wait for the phase Suspended",
        ),
    }
}

/// The manifest of the job, without the fields that belong only to this object in this cluster.
fn manifest(found: &Found) -> Value {
    let metadata = &found.job.metadata;
    json!({
        "apiVersion": "zephyr.dev/v1alpha1",
        "kind": "ZephyrJob",
        "metadata": {"name": metadata.name, "labels": metadata.labels},
        "spec": without_wishes(found.job.spec.clone()),
    })
}

/// The spec without the fields that suspended, cancelled, restarted or imported the job.
fn without_wishes(mut spec: ZephyrJobSpec) -> ZephyrJobSpec {
    spec.suspend = false;
    spec.suspend_policy = SuspendPolicy::default();
    spec.cancel = None;
    spec.restart = None;
    spec.restore_from = None;
    spec
}

fn history(status: &ZephyrJobStatus) -> Value {
    json!({"generations": status.generations, "transitions": status.history})
}

fn write_new(path: &PathBuf, bytes: &[u8]) -> Result<()> {
    let what = || format!("--output {}: cannot be written", path.display());
    let file = std::fs::File::create_new(path).with_context(what)?;
    let mut file = std::io::BufWriter::new(file);
    std::io::Write::write_all(&mut file, bytes).with_context(what)?;
    let file = file
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error);
    file.with_context(what)?.sync_all().with_context(what)
}

fn exported_text(
    found: &Found,
    head: &Head,
    digest: &str,
    kept: &Location,
    written: Option<&str>,
) -> String {
    let (name, namespace) = (&found.name, &found.namespace);
    let committed = head.committed;
    let archive = kept.to_string();
    let file = written.unwrap_or(&archive);
    format!(
        "job {namespace}/{name} is exported, with {committed} complete tasks\n\
         archive: {archive}\n\
         job:     {}\n\
         digest:  {digest}\n\
         continue it with `kubectl zephyr import {file} --context OTHER`; do not resume it here",
        head.job
    )
}

/// Creates a job that continues an exported one.
pub(crate) async fn import(options: ImportOptions) -> Result<()> {
    let path = printable(&options.archive);
    let bytes = archive(&options.archive).await?;
    let read = export::read(&bytes);
    let export = read.map_err(|problem| anyhow::anyhow!("{path}: {problem}"))?;
    let from = RestoreFrom {
        job: export.head.job.clone(),
        digest: digest(&bytes),
    };
    let job: ZephyrJob = serde_json::from_slice(&export.job)
        .with_context(|| format!("{path}: job.json cannot be read"))?;
    let job = continuing(job, options.name, from);
    let cluster = options.connection.open().await?;
    let created = cluster.create(&job).await?;
    let Owner {
        namespace, name, ..
    } = &export.head.owner;
    let new = printable(created.metadata.name.as_deref().unwrap_or_default());
    let there = &cluster.namespace;
    print(&format!(
        "job {there}/{new} is created: it continues job {}/{}, whose {} complete tasks do not run again\n\
         see `kubectl zephyr status {new} -n {there}`",
        printable(namespace),
        printable(name),
        export.head.committed
    ))?;
    Ok(())
}

/// The job that continues the exported one.
fn continuing(mut job: ZephyrJob, name: Option<String>, from: RestoreFrom) -> ZephyrJob {
    job.metadata.name = name.or(job.metadata.name);
    job.metadata.namespace = None;
    job.spec = without_wishes(job.spec);
    job.spec.restore_from = Some(from);
    job.status = None;
    job
}

/// The bytes of an archive in a file or in a store.
async fn archive(path: &str) -> Result<Vec<u8>> {
    let shown = printable(path);
    let too_large = |size| {
        format!(
            "{shown}: is too large (got {size} bytes); an archive has at most {MAX_ARCHIVE_BYTES} bytes"
        )
    };
    if path.contains("://") {
        let (stores, location) = (input::stores(), Location::parse_local(path)?);
        let what = || {
            format!("read {shown} with your own credentials (environment variables, as for `run`)")
        };
        return match size_of(&stores, &location).await.with_context(what)? {
            None => bail!("{shown}: there is no such object"),
            Some(size) if size > MAX_ARCHIVE_BYTES => bail!(too_large(size)),
            Some(_) => Ok(fetch(&stores, &location).await.with_context(what)?.to_vec()),
        };
    }
    let what = || format!("{shown}: cannot be read");
    let size = std::fs::metadata(path).with_context(what)?.len();
    if size > MAX_ARCHIVE_BYTES {
        bail!(too_large(size));
    }
    std::fs::read(path).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_suspended_job_is_exported() {
        let status = |phase: &str| -> ZephyrJobStatus {
            serde_json::from_value(json!({"phase": phase})).unwrap()
        };
        let spec = |cancel: Value| -> ZephyrJobSpec {
            serde_json::from_value(json!({
                "pipeline": {
                    "source": {"items": {"values": [1]}},
                    "sink": {"files": {"path": "s3://out/{shard}.jsonl"}},
                },
                "storage": {"uri": "s3://scratch"},
                "workers": {"replicas": 1},
                "cancel": cancel,
            }))
            .unwrap()
        };
        let (runs, ends) = (spec(json!(null)), spec(json!({"reason": "r"})));
        assert_eq!(not_exported(&runs, &status("Suspended")), None);
        let why = not_exported(&ends, &status("Suspended"));
        assert!(why.is_some_and(|why| why.starts_with("is cancelled")));
        for (phase, words) in [
            ("Running", "is not suspended"),
            ("Suspending", "is not suspended"),
            ("Succeeded", "has ended"),
            ("Failed", "has ended"),
        ] {
            let why = not_exported(&runs, &status(phase)).unwrap();
            assert!(why.starts_with(words), "{phase}: {why}");
        }
        let new = not_exported(&runs, &ZephyrJobStatus::default());
        assert!(new.is_some_and(|why| why.starts_with("is not suspended")));
    }

    #[test]
    fn the_new_job_has_the_spec_of_the_exported_one_and_names_its_archive() {
        let spec = json!({
            "pipeline": {
                "source": {"items": {"values": [1], "shards": 1}},
                "sink": {"files": {"path": "s3://out/{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch"},
            "workers": {"replicas": 1},
        });
        let job = |changed: &[(&str, Value)]| -> ZephyrJob {
            let mut spec = spec.clone();
            for (field, value) in changed {
                spec[field] = value.clone();
            }
            serde_json::from_value(json!({
                "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
                "metadata": {"name": "count", "namespace": "old"}, "spec": spec,
            }))
            .unwrap()
        };
        let from = RestoreFrom {
            job: "u".to_owned(),
            digest: "d".to_owned(),
        };
        let old = job(&[
            ("suspend", json!(true)),
            ("restart", json!("again")),
            ("restoreFrom", json!({"job": "x", "digest": "y"})),
        ]);
        let new = continuing(old, None, from.clone());
        let expected = job(&[("restoreFrom", json!({"job": "u", "digest": "d"}))]);
        assert_eq!(new.spec, expected.spec);
        assert_eq!(new.metadata.name.as_deref(), Some("count"));
        assert_eq!(new.metadata.namespace, None);
        let other = continuing(new, Some("other".to_owned()), from);
        assert_eq!(other.metadata.name.as_deref(), Some("other"));
    }
}
