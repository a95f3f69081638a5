//! Tests the word count of a real data set, as the README's first command runs it. The output must
//! have the same bytes with 1, 3 and 6 workers, and on this machine without a cluster. Its counts
//! must be those of `tr`, `grep`, `sort` and `uniq`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use zephyr_tests::bucket::{Bucket, DATA, SCRATCH};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::apply;
use zephyr_tests::plugin;
use zephyr_tests::words;

/// The example that the demo applies. The test uses the same file, so that it covers the demo.
const EXAMPLE: &str = include_str!("../../../examples/wordcount.yaml");

/// Returns the folder of text files that `make dataset` fetches.
fn dataset() -> Result<PathBuf> {
    let folder = std::env::var("ZEPHYR_DATASET").context("ZEPHYR_DATASET is not set: run the tests by `make test`, or after `eval \"$(make -s cluster-env)\"`")?;
    Ok(PathBuf::from(folder))
}

/// Returns the example with these folders to read from and write to, and with `workers` workers.
fn manifest(source: &str, sink: &str, storage: &str, workers: u32) -> Result<String> {
    let mut job: serde_json::Value = serde_saphyr::from_str(EXAMPLE)?;
    let spec = job.get_mut("spec").context("the example has a spec")?;
    spec["pipeline"]["source"]["files"]["paths"] = serde_json::json!([source]);
    spec["pipeline"]["sink"]["files"]["path"] = serde_json::json!(sink);
    spec["storage"]["uri"] = serde_json::json!(storage);
    spec["workers"]["replicas"] = serde_json::json!(workers);
    job["metadata"]["name"] = serde_json::json!(format!("words-{workers}"));
    job["metadata"]
        .as_object_mut()
        .context("metadata")?
        .remove("namespace");
    Ok(serde_json::to_string(&job)?)
}

const FILES: &str = "part-{shard:05}-of-{total:05}.jsonl";

/// Returns the output files by name, without the manifest, which differs between runs because it
/// contains URIs and the job's uid.
fn output_files(all: impl IntoIterator<Item = (String, Bytes)>) -> Result<BTreeMap<String, Bytes>> {
    let mut files = BTreeMap::new();
    for (key, bytes) in all {
        let name = key.rsplit('/').next().context("a name")?.to_owned();
        files.insert(name, bytes);
    }
    ensure!(
        files.remove("_SUCCESS.json").is_some(),
        "the manifest of the output is there"
    );
    Ok(files)
}

fn run_on_this_machine(dataset: &Path) -> Result<BTreeMap<String, Bytes>> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| format!("file://{}", folder.path().join(name).display());
    let source = format!("file://{}/*", dataset.display());
    let job = folder.path().join("job.json");
    std::fs::write(
        &job,
        manifest(
            &source,
            &format!("{}/{FILES}", at("out")),
            &at("scratch"),
            2,
        )?,
    )?;
    let output = std::process::Command::new(plugin::program()?)
        .arg("run")
        .arg("-f")
        .arg(&job)
        .output()?;
    ensure!(
        output.status.success(),
        "kubectl-zephyr run: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let files = words::read_folder(&folder.path().join("out"))?;
    output_files(
        files
            .into_iter()
            .map(|(name, bytes)| (name, Bytes::from(bytes))),
    )
}

#[tokio::test]
async fn fault_7177_the_word_count_is_right_with_1_3_and_6_workers_and_without_a_cluster()
-> Result<()> {
    let dataset = dataset()?;
    let expected = words::count(&dataset)?;
    ensure!(expected.lines().count() > 1000, "the data set has words");
    let here = run_on_this_machine(&dataset)?;
    ensure!(
        words::canonical(here.values())? == expected,
        "the run on this machine counts what the standard tools count"
    );

    let namespace = TestNamespace::create("words").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let input = format!("in/{}", namespace.name);
    for (name, bytes) in words::read_folder(&dataset)? {
        bucket.put(&format!("{input}/{name}"), bytes).await?;
    }
    for workers in [1, 3, 6] {
        let output = format!("out/{}/{workers}", namespace.name);
        let storage = format!("s3://{SCRATCH}/{}", namespace.name);
        let text = manifest(
            &format!("s3://{DATA}/{input}/*"),
            &format!("s3://{DATA}/{output}/{FILES}"),
            &storage,
            workers,
        )?;
        let job = apply(&namespace, &text).await?;
        job.succeeded(TEST_TIMEOUT).await?;
        let files = output_files(bucket.read_all(&output).await?)?;
        ensure!(
            files.keys().eq(here.keys()),
            "files with {workers} workers: {:?}",
            files.keys()
        );
        for (name, bytes) in &files {
            ensure!(
                bytes == &here[name],
                "{name} with {workers} workers differs from the run on this machine"
            );
        }
        job.delete().await?;
    }
    namespace.finish().await
}
