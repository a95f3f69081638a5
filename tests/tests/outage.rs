//! An object store that does not answer for a while. In a file of its own, because all other tests need it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::job::ZephyrJob;
use zephyr_tests::cluster::{PATIENCE, TestNamespace};
use zephyr_tests::job::condition;
use zephyr_tests::node;
use zephyr_tests::proxy::Proxy;
use zephyr_tests::struck::{Struck, strike, strike_in};
use zephyr_tests::sum_job::SumJob;

/// How long the object store is away: longer than any single timeout.
const OUTAGE: Duration = Duration::from_mins(1);

/// One test after the other: the second needs the store that the first one stops.
#[tokio::test]
async fn fault_6487_an_object_store_that_is_away_for_a_minute_or_never_answers_is_waited_for_visibly_and_nothing_is_lost()
-> Result<()> {
    it_stands_still().await?;
    it_answers_503().await
}

async fn it_stands_still() -> Result<()> {
    let struck = strike("outage").await?;
    let (node, uid) = object_store(&struck.namespace).await?;
    node::signal_process(&node, &uid, "minio", "STOP").await?;
    let outcome = told_during_the_outage(&struck).await;
    node::signal_process(&node, &uid, "minio", "CONT").await?;
    outcome?;
    struck.ends_well().await
}

async fn it_answers_503() -> Result<()> {
    let namespace = TestNamespace::create("slow-down").await?;
    let (node, _) = object_store(&namespace).await?;
    let proxy = Proxy::start(&namespace.environment.s3_host_endpoint).await?;
    let host = node::host_address(&node).await?;
    namespace
        .reach_store_at(&format!("http://{host}:{}", proxy.port))
        .await?;
    let struck = strike_in(namespace, SumJob::new("sum")).await?;
    proxy.overload();
    told_during_the_outage(&struck).await?;
    proxy.recover();
    // Whose part that is is held up for no longer than a request may take.
    proxy.swallow_parts(2);
    struck.ends_well().await?;
    ensure!(proxy.parts_to_swallow() == 0, "no part was uploaded");
    Ok(())
}

async fn told_during_the_outage(struck: &Struck) -> Result<()> {
    let is_told = |job: &ZephyrJob| {
        condition(job, ConditionType::Progressing)
            .is_some_and(|told| told.reason == Reason::StorageUnavailable)
    };
    tokio::try_join!(
        struck
            .job
            .wait_until("StorageUnavailable", PATIENCE, is_told),
        async {
            tokio::time::sleep(OUTAGE).await;
            Ok(())
        }
    )?;
    Ok(())
}

/// The node and the uid of the object store's pod.
async fn object_store(namespace: &TestNamespace) -> Result<(String, String)> {
    let pods = Api::<Pod>::all(namespace.client.clone())
        .list(&ListParams::default().labels("app=minio"))
        .await?;
    let pod = pods.items.first().context("a pod of the object store")?;
    let uid = pod.uid().context("a uid")?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Ok((node.context("a node")?, uid))
}
