//! Whole nodes vanish under a running job. In a file of its own, so that no other test has pods on them meanwhile.

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use zephyr_tests::cluster::{self, PATIENCE};
use zephyr_tests::node;
use zephyr_tests::struck::strike;

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
    wait_until_ready(&node).await
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
