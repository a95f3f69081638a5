//! Workers that run into the limits of their pods or nodes, through no fault of the job: the output is exact each time.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use zephyr_tests::cluster::{PATIENCE, TestNamespace};
use zephyr_tests::node;
use zephyr_tests::struck::{Struck, strike, strike_in};
use zephyr_tests::sum_job::SumJob;

/// A word of a worker's command line, and of those of its task processes.
const WORKER: &str = "zephyr-worker";

#[tokio::test]
async fn promise_c14_an_oom_kill_is_charged_to_what_ran_with_the_limit_and_run_again() -> Result<()>
{
    let struck = strike("oom").await?;
    let (pod, node) = struck.worker().await?;
    let uid = pod.uid().context("a uid")?;
    // With what the worker itself uses more than its 256 MiB.
    node::exhaust_memory(&node, &uid, WORKER, 250).await?;
    ends_charged(struck, &["memory", "256 MiB"]).await
}

#[tokio::test]
async fn fault_8282_an_eviction_for_the_pods_own_disk_limit_is_charged_to_what_ran_and_run_again()
-> Result<()> {
    let namespace = TestNamespace::create("disk").await?;
    let mut sum = SumJob::new("sum");
    sum.worker_limits = ", ephemeral-storage: 32Mi".to_owned();
    // The kubelet measures disks every ten seconds or so.
    (sum.numbers, sum.rounds) = (60, 1_600_000);
    let struck = strike_in(namespace, sum).await?;
    let (pod, node) = struck.worker().await?;
    node::fill_scratch(&node, &pod.uid().context("a uid")?, 64).await?;
    let ledger = &struck.ledger;
    struck
        .namespace
        .eventually("a failure that is charged", PATIENCE, || async {
            let charged = ledger.read().await?.application_failures;
            Ok((!charged.is_empty()).then_some(()))
        })
        .await?;
    ends_charged(struck, &["ephemeral"]).await
}

/// The output is right, and at least one task was charged, each with a sentence that has these words.
async fn ends_charged(struck: Struck, words: &[&str]) -> Result<()> {
    let after = struck.ends_right().await?;
    let charged = &after.application_failures;
    let has_all = |error: &String| words.iter().all(|word| error.contains(word));
    ensure!(
        !charged.is_empty() && charged.iter().all(has_all),
        "charged: {charged:?}"
    );
    eprintln!("{} tasks run again: {charged:?}", after.run_again());
    struck.namespace.finish().await
}
