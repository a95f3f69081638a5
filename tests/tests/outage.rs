//! An object store that does not answer for a while. In a file of its own, because all other tests need it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_tests::cluster::PATIENCE;
use zephyr_tests::job::condition;
use zephyr_tests::node;
use zephyr_tests::struck::strike;

/// How long the object store stands still: longer than any single timeout.
const OUTAGE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_object_store_that_stands_still_for_a_minute_is_waited_for_visibly_and_nothing_is_lost()
-> Result<()> {
    let struck = strike("outage").await?;
    let stores = Api::<Pod>::all(struck.namespace.client.clone())
        .list(&ListParams::default().labels("app=minio"))
        .await?;
    let store = stores.items.first().context("a pod of the object store")?;
    let uid = store.uid().context("a uid")?;
    let node = store
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .context("a node")?;
    node::signal_process(&node, &uid, "minio", "STOP").await?;
    let outcome = async {
        let is_told = |job: &zephyr_crds::job::ZephyrJob| {
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
        )
    }
    .await;
    node::signal_process(&node, &uid, "minio", "CONT").await?;
    outcome?;
    struck.ends_well().await
}
