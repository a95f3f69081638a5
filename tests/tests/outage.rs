//! Tests an object store that stops for some time. This is a separate program, because all other
//! tests need the store.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use zephyr_tests::cluster::TestNamespace;
use zephyr_tests::midway::job_midway;
use zephyr_tests::node;

#[tokio::test]
async fn fault_6487_an_object_store_that_stands_still_is_waited_for_visibly_and_nothing_is_lost()
-> Result<()> {
    let midway = job_midway("outage").await?;
    let (node, uid) = object_store(&midway.namespace).await?;
    node::signal_process(&node, &uid, "minio", "STOP").await?;
    let outcome = midway.storage_outage_is_told().await;
    node::signal_process(&node, &uid, "minio", "CONT").await?;
    outcome?;
    midway.ends_well().await
}

/// Returns the node and the uid of the object store's pod.
async fn object_store(namespace: &TestNamespace) -> Result<(String, String)> {
    let pods = Api::<Pod>::all(namespace.client.clone())
        .list(&ListParams::default().labels("app=minio"))
        .await?;
    let pod = pods.items.first().context("a pod of the object store")?;
    let uid = pod.uid().context("a uid")?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Ok((node.context("a node")?, uid))
}
