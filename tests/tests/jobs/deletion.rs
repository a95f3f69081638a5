//! Tests that nothing of a job remains if it is deleted at any moment, and that a new job of the
//! same name starts from the beginning.

use std::time::Duration;

use anyhow::{Context, Result};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{AppliedJob, apply};
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::sum_job::SumJob;

/// How long after a job's deletion its objects may still exist at most. Documentation promises
/// this.
const GONE_WITHIN: Duration = Duration::from_mins(1);

async fn delete_and_wait_until_it_is_gone(
    namespace: &TestNamespace,
    job: &AppliedJob,
) -> Result<()> {
    job.delete().await?;
    namespace
        .eventually(
            "every object of the deleted job gone",
            GONE_WITHIN,
            || async {
                let left = namespace.children("zephyr.dev/job").await?;
                if left.is_empty() {
                    Ok(Some(()))
                } else {
                    anyhow::bail!("left: {:?}", left.keys())
                }
            },
        )
        .await
}

#[tokio::test]
async fn fault_2974_8080_a_job_deleted_at_any_moment_leaves_nothing_and_its_name_runs_afresh()
-> Result<()> {
    let namespace = TestNamespace::create("deletion").await?;
    let sum = SumJob::new("sum");
    let manifest = sum.manifest(&namespace);

    // The job is deleted at once, perhaps before the operator has seen it.
    delete_and_wait_until_it_is_gone(&namespace, &apply(&namespace, &manifest).await?).await?;

    // The job is deleted when it has a generation.
    let job = apply(&namespace, &manifest).await?;
    job.wait_until("a generation", TEST_TIMEOUT, |job| {
        job.status.as_ref().is_some_and(|s| s.generation.is_some())
    })
    .await?;
    delete_and_wait_until_it_is_gone(&namespace, &job).await?;

    // The job is deleted when its coordinator exists.
    let job = apply(&namespace, &manifest).await?;
    namespace
        .eventually("a coordinator's pod", TEST_TIMEOUT, || async {
            Ok((!namespace.pods("sum", "coordinator").await?.is_empty()).then_some(()))
        })
        .await?;
    delete_and_wait_until_it_is_gone(&namespace, &job).await?;

    // The job is deleted in the middle of its work.
    let job = apply(&namespace, &manifest).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, 8, TEST_TIMEOUT).await?;
    delete_and_wait_until_it_is_gone(&namespace, &job).await?;

    // A new job of the same name is not affected by the old ones.
    let job = apply(&namespace, &manifest).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    let done = job.succeeded(TEST_TIMEOUT).await?;
    anyhow::ensure!(
        done.status.as_ref().and_then(|s| s.generation) == Some(1),
        "it begins with generation 1"
    );
    let tasks = ledger.read().await?.done.len();
    anyhow::ensure!(
        tasks as u64 == sum.numbers + 4,
        "all {} tasks are its own, {tasks} found",
        sum.numbers + 4
    );
    sum.check_output(&namespace).await?;

    // The job is deleted after its end.
    delete_and_wait_until_it_is_gone(&namespace, &job).await?;
    let gone = namespace
        .api::<zephyr_crds::job::ZephyrJob>()
        .get_opt("sum")
        .await?;
    anyhow::ensure!(gone.is_none(), "the job is gone");
    namespace.finish().await
}

#[tokio::test]
async fn a_finished_job_is_deleted_when_its_time_to_live_has_passed() -> Result<()> {
    let namespace = TestNamespace::create("ttl").await?;
    let mut sum = SumJob::new("sum");
    sum.numbers = 3;
    sum.rounds = 10;
    sum.more = "  ttlSecondsAfterFinished: 3\n".to_owned();
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    job.succeeded(TEST_TIMEOUT)
        .await
        .context("it is seen finished before it goes")?;
    namespace
        .eventually("the job gone", GONE_WITHIN, || async {
            Ok(namespace
                .api::<zephyr_crds::job::ZephyrJob>()
                .get_opt("sum")
                .await?
                .is_none()
                .then_some(()))
        })
        .await?;
    sum.check_output(&namespace).await?;
    namespace.finish().await
}
