//! Tests the last part of a job, when one task is left and most workers have nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::is_true;
use zephyr_tests::midway::job_midway_in;
use zephyr_tests::sum_job::SumJob;

#[tokio::test]
async fn fault_2978_idle_workers_are_released_while_the_last_task_runs_undisturbed() -> Result<()> {
    let namespace = TestNamespace::create("release").await?;
    let mut sum = SumJob::new("sum");
    sum.workers = 6;
    sum.last_rounds = 3_000_000;
    let midway = job_midway_in(namespace, sum).await?;
    let sets = midway.namespace.api::<StatefulSet>();
    let job = &midway.job;
    let had_ended = AtomicBool::new(false);
    let replicas = midway
        .namespace
        .eventually("fewer workers than there were", TEST_TIMEOUT, || async {
            let ended = is_true(&job.get().await?, ConditionType::Finished);
            had_ended.fetch_or(ended, Ordering::Relaxed);
            let set = sets.get("sum-workers-g1").await?;
            let replicas = set
                .spec
                .and_then(|spec| spec.replicas)
                .context("replicas")?;
            Ok((replicas < 6).then_some(replicas))
        })
        .await?;
    ensure!(
        !had_ended.load(Ordering::Relaxed) && replicas >= 2,
        "{replicas} workers, and the job had ended"
    );
    midway.ends_right().await?;
    let lost = midway.workers_lost().await?;
    ensure!(lost == 0, "{lost} workers count as lost");
    midway.ends_well().await
}
