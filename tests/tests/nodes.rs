//! Tests that jobs survive if whole nodes disappear while they run. This is a separate program, so
//! that no other test has pods on these nodes at that time.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::cluster::{self, TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::is_true;
use zephyr_tests::ledger::LedgerState;
use zephyr_tests::midway::{Midway, job_midway_in};
use zephyr_tests::node;
use zephyr_tests::sum_job::SumJob;

/// All parts of this test share the same few nodes. So the parts run one after the other, in this
/// order.
#[tokio::test]
async fn vanished_nodes_lose_no_work_whether_their_node_objects_stay_or_go() -> Result<()> {
    Box::pin(one_object_stays_and_one_goes()).await?;
    two_waves().await
}

/// Kills two nodes. A worker of one job runs on the first node, and a worker of another job on the
/// second. The test chooses the nodes, because the scheduler would sometimes put all workers on one
/// node.
async fn one_object_stays_and_one_goes() -> Result<()> {
    let all = node::for_jobs().await?;
    let [first, second, ..] = all.as_slice() else {
        anyhow::bail!("the cluster has too few nodes for jobs: {all:?}");
    };
    let (stays, goes) = tokio::try_join!(
        strike_on("node-stays", first),
        strike_on("node-goes", second)
    )?;
    for (job, node) in [(&stays, first), (&goes, second)] {
        let nodes = worker_nodes(job).await?;
        anyhow::ensure!(
            nodes.contains(node),
            "no worker on {node}, but on {nodes:?}"
        );
    }
    let killed = [first.as_str(), second.as_str()];
    for node in killed {
        node::kill(node).await?;
    }
    let nodes: Api<Node> = Api::all(goes.namespace.client.clone());
    let deleted = nodes.delete(second, &DeleteParams::default()).await;
    let outcome = tokio::try_join!(stays.ends_well(), goes.ends_well());
    for node in killed {
        node::start(node).await?;
    }
    deleted?;
    outcome?;
    for node in killed {
        wait_until_ready(node).await?;
    }
    Ok(())
}

/// Returns the usual job in the middle of its work, with workers on this node. The job takes so
/// long that it still runs when a second job, which started later, is in the middle of its work.
async fn strike_on(test: &str, node: &str) -> Result<Midway> {
    let mut sum = SumJob::new("sum");
    sum.numbers = 90;
    sum.preferred_node = Some(node.to_owned());
    job_midway_in(TestNamespace::create(test).await?, sum).await
}

/// Returns the nodes on which a job's workers run.
async fn worker_nodes(midway: &Midway) -> Result<BTreeSet<String>> {
    let pods = midway.namespace.pods(&midway.sum.name, "worker").await?;
    Ok(pods
        .into_iter()
        .filter_map(|pod| pod.spec.and_then(|spec| spec.node_name))
        .collect())
}

/// Kills all nodes except one at the same time, and starts them again. Then kills the remaining
/// node. The nodes with workers are in the first wave.
async fn two_waves() -> Result<()> {
    let namespace = TestNamespace::create("waves").await?;
    let mut sum = SumJob::new("sum");
    (sum.numbers, sum.workers) = (90, 6);
    let midway = job_midway_in(namespace, sum).await?;
    let with_workers = worker_nodes(&midway).await?;
    let mut nodes = node::for_jobs().await?;
    nodes.sort_by_key(|node| !with_workers.contains(node));
    let (last, first) = nodes.split_last().context("nodes take pods")?;
    anyhow::ensure!(!first.is_empty(), "only {last} takes pods");
    let outcome = waves(&midway, first, last).await;
    for node in &nodes {
        // If a node already runs, this does nothing.
        node::start(node).await?;
    }
    let after = outcome?;
    anyhow::ensure!(
        after.application_failures.is_empty(),
        "charged: {:?}",
        after.application_failures
    );
    // The test cannot check the number, because a coordinator that is lost with its node loses its
    // counts.
    eprintln!(
        "two waves: {} workers counted as lost, {} tasks run again in one epoch",
        midway.workers_lost().await?,
        after.run_again()
    );
    for node in &nodes {
        wait_until_ready(node).await?;
    }
    midway.namespace.finish().await
}

async fn waves(midway: &Midway, first: &[String], last: &str) -> Result<LedgerState> {
    for node in first {
        node::kill(node).await?;
    }
    let more = midway.before.done.len() + 12;
    midway
        .job
        .committed(&midway.ledger, more, TEST_TIMEOUT)
        .await?;
    for node in first {
        node::start(node).await?;
    }
    for node in first {
        wait_until_ready(node).await?;
    }
    let has_ended = is_true(&midway.job.get().await?, ConditionType::Finished);
    anyhow::ensure!(!has_ended, "the job ended before the second wave");
    node::kill(last).await?;
    midway.ends_right().await
}

async fn wait_until_ready(node: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster::client().await?);
    let nodes = &nodes;
    cluster::eventually(&format!("node {node} ready"), TEST_TIMEOUT, || async move {
        let status = nodes.get_opt(node).await?.and_then(|node| node.status);
        let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        Ok(conditions
            .any(|c| c.type_ == "Ready" && c.status == "True")
            .then_some(()))
    })
    .await
}
