//! Starts the operator in a cluster with many objects: unrelated objects with its label, or jobs
//! that ended long ago.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;
use zephyr_tests::cluster::TestNamespace;
use zephyr_tests::job::apply;

use crate::installed::{LONGEST, Operator, mebibytes, sum};
use crate::jobs::{CALLS, small};

/// How long the benchmark counts unnecessary writes after the start of the operator.
const IDLE: Duration = Duration::from_mins(2);

/// Starts the operator in a cluster with `count` unrelated `ConfigMaps` of `bytes` bytes each.
pub(crate) async fn foreign(count: usize, bytes: usize) -> Result<()> {
    let operator = Operator::find().await?;
    operator.stop().await?;
    operator.start().await?;
    let before = operator.memory().await?;
    operator.stop().await?;
    let namespace = TestNamespace::create("crowd").await?;
    let api = namespace.api::<ConfigMap>();
    let labels = BTreeMap::from([(names::LABEL_JOB.to_owned(), "foreign".to_owned())]);
    let created = stream::iter(0..count).map(|number| {
        let config_map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(format!("foreign-{number}")),
                labels: Some(labels.clone()),
                ..ObjectMeta::default()
            },
            data: Some([("text".to_owned(), "x".repeat(bytes))].into()),
            ..ConfigMap::default()
        };
        let api = api.clone();
        async move { api.create(&PostParams::default(), &config_map).await }
    });
    let outcome = created
        .buffer_unordered(CALLS)
        .try_for_each(|_| async { Ok(()) })
        .await;
    let took = operator.start().await?;
    outcome.context("create the ConfigMaps")?;
    let after = operator.memory().await?;
    println!(
        "{count} labelled ConfigMaps of {bytes} bytes: ready after {:.1} s, {:.1} MiB ({:.1} MiB without them)",
        took.as_secs_f64(),
        mebibytes(after),
        mebibytes(before),
    );
    namespace.finish().await
}

/// Starts the operator in a cluster with `count` copies of a job that has ended.
pub(crate) async fn finished(count: usize) -> Result<()> {
    let operator = Operator::find().await?;
    let namespace = TestNamespace::create("finished").await?;
    let job = apply(&namespace, &small("first").manifest(&namespace)).await?;
    let ended = job.succeeded(LONGEST).await?;
    let before = operator.memory().await?;
    operator.stop().await?;
    let api = namespace.api::<ZephyrJob>();
    let created = stream::iter(0..count)
        .map(|number| copy(&api, &ended, number))
        .buffer_unordered(CALLS)
        .try_for_each(|()| async { Ok(()) })
        .await;
    let versions = versions(&api).await?;
    let took = operator.start().await?;
    created.context("create the jobs")?;
    tokio::time::sleep(IDLE).await;
    let changed = self::versions(&api).await? != versions;
    let figures = operator.metrics().await?;
    println!(
        "{count} finished jobs: ready after {:.1} s, {:.1} MiB ({:.1} MiB without them); in {} s after it {} reconciles, {} writes of status, {} other writes, versions changed: {changed}",
        took.as_secs_f64(),
        mebibytes(operator.memory().await?),
        mebibytes(before),
        IDLE.as_secs(),
        sum(&figures, "zephyr_operator_reconciles_total"),
        sum(&figures, "zephyr_operator_status_writes_total"),
        sum(&figures, "zephyr_operator_actions_total"),
    );
    namespace.finish().await
}

/// Creates one more job with the spec and the status of a job that has ended.
async fn copy(api: &Api<ZephyrJob>, ended: &ZephyrJob, number: usize) -> Result<()> {
    let name = format!("ended-{number}");
    let mut job = ZephyrJob::new(&name, ended.spec.clone());
    job.metadata.annotations = ended.metadata.annotations.clone();
    api.create(&PostParams::default(), &job).await?;
    let status = serde_json::json!({"status": ended.status});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

/// Returns the version of each job, by its name.
async fn versions(api: &Api<ZephyrJob>) -> Result<BTreeMap<String, Option<String>>> {
    let jobs = api.list_metadata(&ListParams::default()).await?.items;
    let version = |job: PartialObjectMeta<ZephyrJob>| (job.name_any(), job.resource_version());
    Ok(jobs.into_iter().map(version).collect())
}
