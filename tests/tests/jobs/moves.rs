//! Tests a job that is suspended and exported in one namespace, and continued in another one, which
//! may be in another cluster.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{AppliedJob, apply, condition, existing};
use zephyr_tests::plugin::{result_of, run};
use zephyr_tests::sum_job::SumJob;

use crate::life::{ledger_of, suspended};

/// Waits until a job has failed because it cannot be planned, and returns the message.
async fn plan_failed(job: &AppliedJob) -> Result<String> {
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("condition Failed")?;
    ensure!(failed.reason == Reason::PlanFailed, "{failed:?}");
    Ok(failed.message.clone())
}

#[tokio::test]
async fn a_suspended_job_continues_in_another_namespace() -> Result<()> {
    let namespace = TestNamespace::create("move-from").await?;
    let other = TestNamespace::create_elsewhere("move-to").await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = ledger_of(&namespace, &job)?;
    job.committed(&ledger, 6, TEST_TIMEOUT).await?;
    let running = run(&namespace, &["export", "sum"]).await?;
    ensure!(
        running.notes.contains("is not suspended"),
        "it is exported while it runs: {running:?}"
    );
    job.change(json!({"suspend": true})).await?;
    suspended(&namespace, &job).await?;
    let before = ledger.read().await?;

    let archive = std::env::temp_dir().join(format!("{}.tar.zst", namespace.name));
    let archive = archive.to_str().context("a path in UTF-8")?;
    let exported = result_of(&namespace, &["export", "sum", "--output", archive]).await?;
    let complete = format!("with {} complete tasks", before.done.len());
    ensure!(exported.contains(&complete), "{exported}");
    result_of(&other, &["import", archive]).await?;
    std::fs::remove_file(archive).context("remove the archive")?;
    let moved = existing(&other, "sum").await?;
    moved.succeeded(TEST_TIMEOUT).await?;
    let end = ledger.read().await?;
    end.repeats_nothing_of(&before)?;
    ensure!(end.application_failures.is_empty(), "{end:?}");
    sum.check_output(&namespace).await?;

    // The exported job cannot run any more, and no other job can continue it.
    job.change(json!({"suspend": false})).await?;
    let message = plan_failed(&job).await?;
    let taken = format!(
        "another job has taken over the work of this job (got job {}/sum",
        other.name
    );
    ensure!(message.contains(&taken), "{message}");
    let kept = exported
        .lines()
        .find_map(|line| line.strip_prefix("archive: "));
    let kept = kept.context("the address of the archive")?;
    result_of(&other, &["import", kept, "--name", "again"]).await?;
    let again = existing(&other, "again").await?;
    let message = plan_failed(&again).await?;
    ensure!(message.contains("an archive is imported once"), "{message}");
    let changed = again.change(json!({"restoreFrom": null})).await;
    let changed = format!("{:#}", changed.err().context("it is immutable")?);
    let words = "spec.restoreFrom: cannot be changed";
    ensure!(changed.contains(words), "{changed}");
    sum.check_output(&namespace).await?;
    other.finish().await?;
    namespace.finish().await
}
