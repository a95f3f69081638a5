//! Tests that the number of workers follows the work: it grows with a stage, and falls when few
//! tasks are left and most workers have nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use zephyr_crds::conditions::ConditionType;
use zephyr_crds::job::ZephyrJob;
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

#[tokio::test]
async fn an_elastic_job_grows_for_a_wide_stage_and_shrinks_for_a_narrow_one() -> Result<()> {
    let namespace = TestNamespace::create("elastic").await?;
    let mut sum = SumJob::new("sum");
    (sum.least_workers, sum.workers) = (Some(1), 6);
    // The second stage has four tasks, and one of them is slow.
    sum.last_rounds = 1_000_000;
    let midway = job_midway_in(namespace, sum).await?;
    let of_workers = |job: &ZephyrJob| job.status.clone().and_then(|status| status.workers);
    let job = &midway.job;
    let grown = job
        .wait_until("six workers", TEST_TIMEOUT, |job| {
            of_workers(job).is_some_and(|workers| workers.desired == 6)
        })
        .await?;
    let why = of_workers(&grown).and_then(|workers| workers.why);
    let why = why.context("why")?;
    ensure!(
        why.ends_with("is 6 (minReplicas 1, maxReplicas 6)"),
        "{why}"
    );
    job.wait_until("at most four workers", TEST_TIMEOUT, |job| {
        of_workers(job).is_some_and(|workers| (1..=4).contains(&workers.desired))
            && !is_true(job, ConditionType::Finished)
    })
    .await?;
    midway.ends_right().await?;
    let lost = midway.workers_lost().await?;
    ensure!(lost == 0, "{lost} workers count as lost");
    midway.ends_well().await
}
