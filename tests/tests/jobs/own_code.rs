//! Own code on the cluster: a script of a `ConfigMap` runs in a plain Python image that knows
//! nothing of this project.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_tests::bucket::{Bucket, DATA, SCRATCH};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{apply, condition, is_true};
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::plugin;

/// Doubles each number, and lists the keys of the storage that the script can read. For this it
/// looks for variables of that name in all processes whose environment it may read.
const SCRIPT: &str = r#"
import glob, json, os, sys

readable = set()
for name in glob.glob("/proc/[0-9]*/environ"):
    try:
        with open(name, "rb") as file:
            readable |= {entry.split(b"=")[0].decode() for entry in file.read().split(b"\0")}
    except OSError:
        pass
keys = sorted(name for name in readable if name.startswith("AWS_"))
for line in sys.stdin:
    print(json.dumps({"n": 2 * json.loads(line)["n"], "keys": keys}))
"#;

/// Needs 300 MiB of memory for the last number.
const HUNGRY: &str = r#"
import json, sys

for line in sys.stdin:
    record = json.loads(line)
    if record["n"] == 8:
        record["bytes"] = len(b"x" * (300 << 20))
    print(json.dumps(record))
"#;

/// Doubles each number, and never ends the last one.
const ENDLESS: &str = r#"
import json, sys, time

for line in sys.stdin:
    n = 2 * json.loads(line)["n"]
    while n == 6:
        time.sleep(1)
    print(json.dumps({"n": n}))
"#;

/// The reference of the image, as `make install` leaves it.
fn python_image() -> Result<String> {
    let cache = match std::env::var_os("ZEPHYR_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => std::env::home_dir()
            .context("no home folder")?
            .join(".cache/zephyr"),
    };
    let file = cache.join("images/python.reference");
    let name = std::fs::read_to_string(&file)
        .with_context(|| format!("read {}; `make images install` writes it", file.display()))?;
    Ok(name.trim().to_owned())
}

async fn with_script(test: &str) -> Result<TestNamespace> {
    let namespace = TestNamespace::create(test).await?;
    let script = ConfigMap {
        metadata: ObjectMeta {
            name: Some("script".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            ("own.py".to_owned(), SCRIPT.to_owned()),
            ("hungry.py".to_owned(), HUNGRY.to_owned()),
            ("endless.py".to_owned(), ENDLESS.to_owned()),
        ])),
        ..ConfigMap::default()
    };
    namespace
        .api::<ConfigMap>()
        .create(&PostParams::default(), &script)
        .await
        .context("create the script")?;
    Ok(namespace)
}

fn manifest(namespace: &TestNamespace, image: &str, script: &str) -> String {
    let name = &namespace.name;
    format!(
        r#"
apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: {{ name: own-code }}
spec:
  pipeline:
    source: {{ items: {{ values: [{{ n: 1 }}, {{ n: 2 }}, {{ n: 3 }}], shards: 2 }} }}
    steps:
      - exec: {{ command: [python3, {script}], env: {{ PYTHONUNBUFFERED: "1" }} }}
      - filter: '.n > 2'
    sink: {{ files: {{ path: "s3://{DATA}/own-code/{name}/{{shard}}.jsonl" }} }}
  storage: {{ uri: "s3://{SCRATCH}/{name}", credentialsSecret: s3-credentials }}
  retries: {{ taskFailures: 1 }}
  workers:
    replicas: 2
    slots: 1
    image: {image}
    mounts: [{{ path: /scripts, configMap: script }}]
    preemptible: {{ provider: none }}
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "1", memory: 256Mi }} }}
"#
    )
}

#[tokio::test]
async fn a_script_of_a_config_map_runs_in_a_plain_image_and_sees_no_storage_key() -> Result<()> {
    let namespace = with_script("own-code").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let text = manifest(&namespace, &python_image()?, "/scripts/own.py");
    let job = apply(&namespace, &text).await?;
    job.succeeded(TEST_TIMEOUT).await?;
    let mut lines = String::new();
    for shard in 0..2 {
        let name = format!("own-code/{}/{shard}.jsonl", namespace.name);
        lines.push_str(str::from_utf8(&bucket.get(&name).await?)?);
    }
    let expected = "{\"n\":4,\"keys\":[]}\n{\"n\":6,\"keys\":[]}\n";
    ensure!(lines == expected, "{lines:?}");
    namespace.finish().await
}

#[tokio::test]
async fn a_script_that_does_not_exist_is_named_with_the_step_in_status() -> Result<()> {
    let namespace = with_script("own-missing").await?;
    let text = manifest(&namespace, &python_image()?, "/scripts/other.py");
    let applied = apply(&namespace, &text).await?;
    let job = applied.finished(TEST_TIMEOUT).await?;
    ensure!(is_true(&job, ConditionType::Failed), "{:?}", job.status);
    let failed = condition(&job, ConditionType::Failed).context("a condition")?;
    for words in [
        "spec.pipeline.steps[0].exec: stage 1 shard ",
        "\"python3\" ended with exit code 2",
        "No such file or directory",
    ] {
        ensure!(failed.message.contains(words), "{}", failed.message);
    }
    // The last lines of the failed attempt are in status, with the pod that ran it.
    let status = job.status.context("a status")?;
    let failure = status.failure.context("status.failure")?;
    let says = "No such file or directory";
    ensure!(failure.log.contains(says), "{failure:?}");
    let pod = failure.pod.clone().unwrap_or_default();
    ensure!(pod.starts_with("own-code-workers-g1-"), "{failure:?}");
    let printed = plugin::result_of(&namespace, &["logs", "own-code", "--task", "failed"]).await?;
    ensure!(printed.contains(says), "{printed}");
    // The coordinator's pod stays with its log, without workers, as long as the job wants.
    ensure!(status.pods_kept_until.is_some(), "it stays");
    let printed = plugin::result_of(&namespace, &["logs", "own-code", "--coordinator"]).await?;
    let lines = ["an attempt has failed", "this attempt failed last", says];
    ensure!(lines.iter().all(|line| printed.contains(line)), "{printed}");
    namespace
        .eventually("no worker", TEST_TIMEOUT, || async {
            let workers = namespace.pods("own-code", "worker").await?;
            Ok(workers.is_empty().then_some(()))
        })
        .await?;
    let coordinators = namespace.pods("own-code", "coordinator").await?;
    ensure!(coordinators.len() == 1, "{}", coordinators.len());
    applied.change(json!({"failedPodsTTL": "0s"})).await?;
    namespace
        .eventually("no coordinator", TEST_TIMEOUT, || async {
            let coordinators = namespace.pods("own-code", "coordinator").await?;
            Ok(coordinators.is_empty().then_some(()))
        })
        .await?;
    namespace.finish().await
}

#[tokio::test]
async fn a_cancel_without_the_output_removes_the_complete_files() -> Result<()> {
    let namespace = with_script("own-removed").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let text = manifest(&namespace, &python_image()?, "/scripts/endless.py");
    let job = apply(&namespace, &text).await?;
    let folder = format!("own-code/{}/", namespace.name);
    let files = || async {
        let keys = bucket.keys(&folder).await?;
        let is_file = |key: &String| key.rsplit('.').next() == Some("jsonl");
        Ok::<_, anyhow::Error>(keys.into_iter().filter(is_file).count())
    };
    namespace
        .eventually("a complete file", TEST_TIMEOUT, || async {
            Ok((files().await? == 1).then_some(()))
        })
        .await?;
    let refused = job.change(json!({"cancel": {"keepOutput": false, "mode": "Immediate"}}));
    let refused = format!(
        "{:#}",
        refused.await.err().context("nobody would remove it")?
    );
    ensure!(refused.contains("mode must be Graceful"), "{refused}");
    job.change(json!({"cancel": {"keepOutput": false}})).await?;
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("a condition")?;
    ensure!(failed.reason == Reason::Cancelled, "{failed:?}");
    let says = "1 of 1 complete files of the output were removed";
    ensure!(failed.message.contains(says), "{failed:?}");
    ensure!(files().await? == 0, "no file stays");
    let again = json!({"restart": "again", "cancel": null});
    let refused = job
        .change(again)
        .await
        .err()
        .context("its files are gone")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("spec.cancel.keepOutput"), "{refused}");
    namespace.finish().await
}

#[tokio::test]
async fn a_job_that_ran_out_of_memory_is_restarted_with_more_and_repeats_nothing() -> Result<()> {
    let namespace = with_script("hungry").await?;
    let text = manifest(&namespace, &python_image()?, "/scripts/hungry.py")
        .replace("values: [{ n: 1 }, { n: 2 }, { n: 3 }], shards: 2", "values: [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }, { n: 5 }, { n: 6 }, { n: 7 }, { n: 8 }], shards: 8")
        .replace("replicas: 2", "replicas: 1");
    let job = apply(&namespace, &text).await?;
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("a condition")?;
    ensure!(failed.reason == Reason::TaskFailed, "{failed:?}");
    let uri = format!("s3://{SCRATCH}/{}", namespace.name);
    let ledger = LedgerView::open(&namespace.environment, &uri, &job.uid)?;
    let before = ledger.read().await?;
    ensure!(before.done.len() == 7, "{before:?}");

    let memory = json!({"requests": {"memory": "512Mi"}, "limits": {"memory": "768Mi"}});
    let again = json!({"restart": "more memory", "workers": {"resources": memory}});
    job.change(again).await?;
    job.runs_again(2, TEST_TIMEOUT).await?;
    job.succeeded(TEST_TIMEOUT).await?;
    let end = ledger.read().await?;
    end.repeats_nothing_of(&before)?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let mut lines = String::new();
    for shard in 0..8 {
        let name = format!("own-code/{}/{shard}.jsonl", namespace.name);
        lines.push_str(str::from_utf8(&bucket.get(&name).await?)?);
    }
    let small: Vec<String> = (3..8).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let small = small.concat();
    let expected = format!("{small}{{\"n\":8,\"bytes\":314572800}}\n");
    ensure!(lines == expected, "{lines:?}");
    namespace.finish().await
}
