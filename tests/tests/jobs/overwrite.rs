//! Tests jobs whose output already exists when they begin. The job must be refused with the name of
//! a file. If the job says so, the output must be replaced instead, even if the coordinator dies.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::bucket::{Bucket, DATA};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{apply, condition, is_true};
use zephyr_tests::midway::job_midway_in;
use zephyr_tests::sum_job::SumJob;

/// Writes the output of another job into the folder. It has more shards, and a file whose name the
/// new job does not use.
async fn put_old_output(bucket: &Bucket, folder: &str) -> Result<()> {
    let mut files = Vec::new();
    for name in [
        "part-00000-of-00004.jsonl",
        "part-00007-of-00008.jsonl",
        "old.txt",
    ] {
        bucket.put(&format!("{folder}/{name}"), "old\n").await?;
        let uri = format!("s3://{DATA}/{folder}/{name}");
        files.push(json!({"uri": uri, "bytes": 4}));
    }
    let manifest = json!({"version": 1, "jobUid": "old", "job": "ns/old", "files": files});
    let key = format!("{folder}/_SUCCESS.json");
    bucket.put(&key, manifest.to_string()).await
}

#[tokio::test]
async fn old_output_is_refused_by_name_or_replaced_and_its_coordinator_may_die() -> Result<()> {
    let namespace = TestNamespace::create("overwrite").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;

    let refused = SumJob::new("refused");
    let folder = refused.folder(&namespace);
    put_old_output(&bucket, &folder).await?;
    let before = bucket.read_all(&folder).await?;
    let job = apply(&namespace, &refused.manifest(&namespace)).await?;
    let done = job.finished(TEST_TIMEOUT).await?;
    ensure!(is_true(&done, ConditionType::Failed), "it is refused");
    let told = condition(&done, ConditionType::Failed).context("a condition")?;
    let owner = "_SUCCESS.json of job ns/old, uid old)";
    ensure!(told.message.contains(owner), "{}", told.message);
    ensure!(
        bucket.read_all(&folder).await? == before,
        "nothing is touched"
    );

    let mut sum = SumJob::new("sum");
    sum.mode = "Overwrite";
    put_old_output(&bucket, &sum.folder(&namespace)).await?;
    let midway = job_midway_in(namespace, sum).await?;
    let (coordinator, _) = midway.running("coordinator").await?;
    midway.delete_at_once(&coordinator).await?;
    // The folder must contain exactly the new files and the manifest.
    midway.ends_well().await
}
