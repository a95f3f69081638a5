//! Tests jobs whose pods and processes disappear in the middle of the work, on the real cluster.
//! Each time the output must be the same, no committed task runs again, and no application error is
//! counted.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams};
use zephyr_tests::cluster::TEST_TIMEOUT;
use zephyr_tests::midway::job_midway;
use zephyr_tests::node;

/// A word of the coordinator's command line.
const COORDINATOR: &str = "zephyr-worker coordinator";

/// How long a coordinator is paused. This is longer than a worker may be silent (30 s), but shorter
/// than the liveness probe allows (60 s).
const STANDSTILL: Duration = Duration::from_secs(40);

/// A pause that is longer than the liveness probe allows, so the kubelet ends the process.
const LONG_STANDSTILL: Duration = Duration::from_secs(90);

#[tokio::test]
async fn promise_e17_a_worker_pod_deleted_with_0_s_of_grace_costs_only_its_running_task()
-> Result<()> {
    let midway = job_midway("worker-pod").await?;
    let (pod, _) = midway.worker().await?;
    midway.delete_at_once(&pod).await?;
    midway.ends_well().await
}

#[tokio::test]
async fn promise_e17_a_worker_pod_deleted_with_15_s_of_grace_hands_its_task_back() -> Result<()> {
    let midway = job_midway("worker-term").await?;
    let (pod, _) = midway.worker().await?;
    let grace = DeleteParams::default().grace_period(15);
    midway
        .namespace
        .api::<Pod>()
        .delete(&pod.name_any(), &grace)
        .await?;
    midway.ends_well().await
}

#[tokio::test]
async fn fault_8615_a_coordinator_pod_deleted_is_replaced_within_the_generation() -> Result<()> {
    let midway = job_midway("coordinator-pod").await?;
    let (pod, _) = midway.running("coordinator").await?;
    midway.delete_at_once(&pod).await?;
    midway.ends_well().await
}

#[tokio::test]
async fn a_coordinator_process_killed_resumes_in_the_next_epoch() -> Result<()> {
    let midway = job_midway("coordinator-process").await?;
    let (pod, node) = midway.running("coordinator").await?;
    let uid = pod.uid().context("a uid")?;
    node::signal_process(&node, &uid, COORDINATOR, "KILL").await?;
    let (ledger, before) = (&midway.ledger, midway.before.epoch);
    midway
        .namespace
        .eventually("a later epoch", TEST_TIMEOUT, || async {
            Ok((ledger.read().await?.epoch > before).then_some(()))
        })
        .await?;
    midway.ends_well().await
}

#[tokio::test]
async fn promise_e15_a_paused_coordinator_gives_up_no_worker_and_continues() -> Result<()> {
    let midway = job_midway("coordinator-stop").await?;
    let (pod, node) = midway.running("coordinator").await?;
    let uid = pod.uid().context("a uid")?;
    node::signal_process(&node, &uid, COORDINATOR, "STOP").await?;
    tokio::time::sleep(STANDSTILL).await;
    node::signal_process(&node, &uid, COORDINATOR, "CONT").await?;
    midway.job.succeeded(TEST_TIMEOUT).await?;
    let lost = midway.workers_lost().await?;
    anyhow::ensure!(lost == 0, "{lost} workers were given up");
    let epoch = midway.ledger.read().await?.epoch;
    anyhow::ensure!(epoch == midway.before.epoch, "it is epoch {epoch}");
    midway.ends_well().await
}

#[tokio::test]
async fn a_coordinator_that_is_paused_for_90_s_is_restarted_and_gives_up_no_worker() -> Result<()> {
    let midway = job_midway("coordinator-long").await?;
    let (pod, node) = midway.running("coordinator").await?;
    let uid = pod.uid().context("a uid")?;
    node::signal_process(&node, &uid, COORDINATOR, "STOP").await?;
    tokio::time::sleep(LONG_STANDSTILL).await;
    // If the kubelet has already killed the process, there is nothing to resume.
    if let Err(error) = node::signal_process(&node, &uid, COORDINATOR, "CONT").await {
        println!("the coordinator is gone: {error:#}");
    }
    let after = midway.ends_right().await?;
    anyhow::ensure!(
        after.epoch > midway.before.epoch,
        "it is still epoch {}",
        after.epoch
    );
    let lost = midway.workers_lost().await?;
    anyhow::ensure!(lost == 0, "{lost} workers were given up");
    midway.ends_well().await
}

#[tokio::test]
async fn evicted_pods_of_both_roles_cost_nothing() -> Result<()> {
    let midway = job_midway("evicted").await?;
    for component in ["worker", "coordinator"] {
        let (pod, _) = midway.running(component).await?;
        midway
            .namespace
            .api::<Pod>()
            .evict(&pod.name_any(), &EvictParams::default())
            .await?;
    }
    midway.ends_well().await
}
