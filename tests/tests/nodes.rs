//! Whole nodes vanish under a running job. In a file of its own, so that no other test has pods on them meanwhile.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::cluster::{self, PATIENCE, TestNamespace};
use zephyr_tests::job::is_true;
use zephyr_tests::ledger::LedgerState;
use zephyr_tests::node;
use zephyr_tests::struck::{Struck, strike, strike_in};
use zephyr_tests::sum_job::SumJob;

/// Nodes are few and shared: one test after the other, in this order.
#[tokio::test]
async fn a_node_that_vanishes_takes_nothing_with_it_whether_its_object_stays_or_goes() -> Result<()>
{
    let struck = strike("node-stays").await?;
    let (_, node) = struck.worker().await?;
    node::kill(&node).await?;
    let outcome = struck.ends_well().await;
    node::start(&node).await?;
    outcome?;
    wait_until_ready(&node).await?;

    let struck = strike("node-goes").await?;
    let (_, node) = struck.worker().await?;
    node::kill(&node).await?;
    let nodes: Api<Node> = Api::all(struck.namespace.client.clone());
    nodes.delete(&node, &DeleteParams::default()).await?;
    let outcome = struck.ends_well().await;
    node::start(&node).await?;
    outcome?;
    wait_until_ready(&node).await?;

    two_waves().await
}

/// Two of the three nodes at once, and when they are back the third.
async fn two_waves() -> Result<()> {
    let namespace = TestNamespace::create("waves").await?;
    let mut sum = SumJob::new("sum");
    (sum.numbers, sum.workers) = (80, 6);
    let struck = strike_in(namespace, sum).await?;
    let mut nodes = BTreeSet::new();
    for pod in struck.namespace.pods("sum", "worker").await? {
        nodes.extend(pod.spec.and_then(|spec| spec.node_name));
    }
    let nodes: Vec<String> = nodes.into_iter().collect();
    let (third, first) = nodes.split_last().context("workers run somewhere")?;
    anyhow::ensure!(!first.is_empty(), "all workers run on {third}");
    let outcome = waves(&struck, first, third).await;
    for node in &nodes {
        // One that runs already stays as it is.
        node::start(node).await?;
    }
    let after = outcome?;
    anyhow::ensure!(
        after.application_failures.is_empty(),
        "charged: {:?}",
        after.application_failures
    );
    // No figure to assert: a coordinator that goes with its node takes its counts along.
    eprintln!(
        "two waves: {} workers counted as lost, {} tasks run again in one epoch",
        struck.workers_lost().await?,
        after.run_again()
    );
    for node in &nodes {
        wait_until_ready(node).await?;
    }
    struck.namespace.finish().await
}

async fn waves(struck: &Struck, first: &[String], third: &str) -> Result<LedgerState> {
    for node in first {
        node::kill(node).await?;
    }
    let more = struck.before.done.len() + 12;
    struck.job.committed(&struck.ledger, more, PATIENCE).await?;
    for node in first {
        node::start(node).await?;
    }
    for node in first {
        wait_until_ready(node).await?;
    }
    let has_ended = is_true(&struck.job.get().await?, ConditionType::Finished);
    anyhow::ensure!(!has_ended, "the job ended before the second wave");
    node::kill(third).await?;
    struck.ends_right().await
}

async fn wait_until_ready(node: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster::client().await?);
    let nodes = &nodes;
    cluster::eventually(&format!("node {node} ready"), PATIENCE, || async move {
        let status = nodes.get_opt(node).await?.and_then(|node| node.status);
        let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        Ok(conditions
            .any(|c| c.type_ == "Ready" && c.status == "True")
            .then_some(()))
    })
    .await
}
