//! Bad records on the cluster: they are counted in status, written to dead letters in the bucket,
//! and end the job if there are too many. A restart can allow more of them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_tests::bucket::{Bucket, DATA, SCRATCH};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{apply, condition, is_true};

const LINES: &str =
    "{\"user\":\"ann\",\"ms\":\"12\"}\n{\"user\":\nnull\n{\"user\":\"bob\",\"ms\":\"x\"}\n";

/// Returns a job that reads two files. In each, one line is not JSON, and in another line `ms` is
/// not a number.
async fn manifest(namespace: &TestNamespace, bucket: &Bucket, most: u32) -> Result<String> {
    let folder = format!("bad-records/{}", namespace.name);
    for name in ["a.jsonl", "b.jsonl"] {
        bucket
            .put(&format!("{folder}/in/{name}"), LINES.to_owned())
            .await?;
    }
    Ok(format!(
        r#"
apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: {{ name: bad-records }}
spec:
  pipeline:
    source:
      files:
        paths: ["s3://{DATA}/{folder}/in/*.jsonl"]
        onError: {{ action: DeadLetter, path: "s3://{DATA}/{folder}/out/bad/lines-{{shard}}.jsonl" }}
    steps:
      - filter: '. != null'
      - groupBy: {{ key: .user, aggregate: {{ ms: {{ sum: '.ms | tonumber' }} }}, shards: 1 }}
        onError: {{ action: Skip, maxSkipped: {most} }}
    sink:
      files: {{ path: "s3://{DATA}/{folder}/out/part-{{shard}}.jsonl" }}
  storage: {{ uri: "s3://{SCRATCH}/{name}", credentialsSecret: s3-credentials }}
  workers:
    replicas: 2
    slots: 1
    preemptible: {{ provider: none }}
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "1", memory: 256Mi }} }}
"#,
        name = namespace.name
    ))
}

#[tokio::test]
async fn bad_records_are_counted_in_status_and_written_beside_the_output() -> Result<()> {
    let namespace = TestNamespace::create("bad-records").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let job = apply(&namespace, &manifest(&namespace, &bucket, 2).await?).await?;
    let done = job.succeeded(TEST_TIMEOUT).await?;
    let folder = format!("bad-records/{}/out", namespace.name);
    let output = bucket.get(&format!("{folder}/part-0.jsonl")).await?;
    ensure!(output == "{\"key\":\"ann\",\"ms\":24}\n", "{output:?}");
    for shard in 0..2 {
        let letter = bucket
            .get(&format!("{folder}/bad/lines-{shard}.jsonl"))
            .await?;
        let letter = String::from_utf8(letter.to_vec())?;
        ensure!(
            letter.contains("\"line\":2,\"step\":\"spec.pipeline.source.files\"")
                && letter.ends_with("\"record\":\"{\\\"user\\\":\"}\n")
                && letter.lines().count() == 1,
            "{letter:?}"
        );
    }
    let records = done.status.and_then(|status| status.records);
    let skipped = records.context("status has counts")?.skipped;
    let counts: Vec<(&str, i64)> = skipped
        .iter()
        .map(|skipped| (skipped.step.as_str(), skipped.records))
        .collect();
    ensure!(
        counts
            == [
                ("spec.pipeline.source.files", 2),
                ("spec.pipeline.steps[1]", 2)
            ],
        "{skipped:?}"
    );
    let first = skipped[1].first.as_deref().unwrap_or_default();
    ensure!(first.contains("a.jsonl: line 4: "), "{first}");
    namespace.finish().await
}

#[tokio::test]
async fn more_bad_records_than_allowed_end_the_job_until_more_are_allowed_at_a_restart()
-> Result<()> {
    let namespace = TestNamespace::create("bad-too-many").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let job = apply(&namespace, &manifest(&namespace, &bucket, 1).await?).await?;
    let done = job.finished(TEST_TIMEOUT).await?;
    ensure!(is_true(&done, ConditionType::Failed), "it fails");
    let failed = condition(&done, ConditionType::Failed).context("a condition")?;
    ensure!(failed.reason == Reason::TooManySkipped, "{failed:?}");
    let begins = "spec.pipeline.steps[1].onError.maxSkipped: 2 of ";
    ensure!(failed.message.starts_with(begins), "{}", failed.message);

    // Complete tasks depend on the filter. They do not depend on the limit, or on a later step.
    let spec = done.spec.pipeline;
    let pipeline = serde_json::to_value(&spec)?;
    let alone = job.change(json!({"pipeline": lenient(&pipeline)})).await;
    let alone = format!("{:#}", alone.err().context("it is not restarted")?);
    ensure!(
        alone.contains("spec.pipeline: cannot be changed"),
        "{alone}"
    );
    let mut other = lenient(&pipeline);
    other["steps"][0] = json!({"filter": ". != 1"});
    job.change(json!({"restart": "1", "pipeline": other}))
        .await?;
    job.runs_again(2, TEST_TIMEOUT).await?;
    let refused = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&refused, ConditionType::Failed).context("a condition")?;
    ensure!(failed.reason == Reason::PlanFailed, "{failed:?}");
    let begins =
        "spec.pipeline.steps[0].filter: differs from the pipeline with which the job began";
    ensure!(failed.message.starts_with(begins), "{}", failed.message);

    let mut longer = lenient(&pipeline);
    let steps = longer["steps"].as_array_mut().context("steps")?;
    steps.push(json!({"map": "[.key, .ms]"}));
    job.change(json!({"restart": "2", "pipeline": longer}))
        .await?;
    job.runs_again(3, TEST_TIMEOUT).await?;
    let done = job.succeeded(TEST_TIMEOUT).await?;
    let name = format!("bad-records/{}/out/part-0.jsonl", namespace.name);
    let output = bucket.get(&name).await?;
    ensure!(output == "[\"ann\",24]\n", "{output:?}");
    let records = done.status.and_then(|status| status.records);
    let skipped = records.context("status has counts")?.skipped;
    ensure!(
        skipped.iter().all(|skipped| skipped.records == 2),
        "{skipped:?}"
    );
    namespace.finish().await
}

/// The pipeline, if more records may be skipped.
fn lenient(pipeline: &Value) -> Value {
    let mut pipeline = pipeline.clone();
    pipeline["steps"][1]["onError"]["maxSkipped"] = json!(9);
    pipeline
}
