//! Tests storage that fails for one job. In one test it loses or changes a file, and the ledger
//! must show what was written again. In another it refuses or never answers, and status must show
//! that the job waits. The output must be exact.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_tests::bucket::{Bucket, SCRATCH};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::midway::{Midway, job_midway, job_midway_in};
use zephyr_tests::node;
use zephyr_tests::proxy::Proxy;
use zephyr_tests::sum_job::SumJob;

#[tokio::test]
async fn fault_8309_a_lost_and_a_changed_shuffle_file_are_made_again_and_no_row_is_missing()
-> Result<()> {
    let Midway {
        namespace,
        sum,
        job,
        ledger,
        before,
    } = job_midway("damage").await?;
    let committed: Vec<TaskAttempt> = before
        .done
        .into_iter()
        .filter(|(task, _)| task.stage == StageId(0))
        .map(|(task, attempts)| TaskAttempt {
            task,
            attempt: attempts[0],
        })
        .collect();
    let [lost, changed, ..] = committed[..] else {
        anyhow::bail!("too few commits: {committed:?}");
    };
    let bucket = Bucket::open(&namespace.environment, SCRATCH)?;
    let key = |file: TaskAttempt| {
        let (task, attempt) = (file.task, file.attempt);
        format!(
            "{}/{}/data/{}/{}/{attempt}/shuffle",
            namespace.name, job.uid, task.stage.0, task.shard
        )
    };
    bucket.delete(&key(lost)).await?;
    let mut bytes = bucket.get(&key(changed)).await?.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bucket.put(&key(changed), bytes).await?;

    job.succeeded(TEST_TIMEOUT).await?;
    sum.check_output(&namespace).await?;
    let after = ledger.read().await?;
    let revoked: BTreeSet<_> = after.revoked.iter().copied().collect();
    anyhow::ensure!(
        revoked == BTreeSet::from([lost, changed]) && after.revoked.len() == 2,
        "made again: {:?}, damaged: {lost} and {changed}",
        after.revoked
    );
    anyhow::ensure!(
        after.application_failures.is_empty(),
        "{:?}",
        after.application_failures
    );
    for (task, attempts) in &after.done {
        let times = if *task == lost.task || *task == changed.task {
            2
        } else {
            1
        };
        anyhow::ensure!(
            attempts.len() == times,
            "{task} was committed {} times",
            attempts.len()
        );
    }
    namespace.finish().await
}

#[tokio::test]
async fn fault_6487_an_object_store_that_answers_503_or_never_is_waited_for_visibly_and_nothing_is_lost()
-> Result<()> {
    let namespace = TestNamespace::create("slow-down").await?;
    let proxy = Proxy::start(&namespace.environment.s3_host_endpoint).await?;
    let nodes: Api<Node> = Api::all(namespace.client.clone());
    let nodes = nodes.list(&ListParams::default()).await?.items;
    let host = node::host_address(&nodes.first().context("a node")?.name_any()).await?;
    namespace
        .reach_store_through(&format!("http://{host}:{}", proxy.port))
        .await?;
    let midway = job_midway_in(namespace, SumJob::new("sum")).await?;
    proxy.overload();
    midway.storage_outage_is_told().await?;
    proxy.recover();
    // The worker that sends this part is delayed by at most the timeout of one request.
    proxy.drop_parts(2);
    midway.ends_well().await?;
    anyhow::ensure!(proxy.parts_to_drop() == 0, "no part was uploaded");
    Ok(())
}
