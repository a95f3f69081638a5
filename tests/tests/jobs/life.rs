//! Tests jobs that are suspended, resumed and cancelled while their pods run: no pod stays, nothing
//! that was complete runs again, and the output is right.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::job::ZephyrJob;
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{AppliedJob, apply, condition, is_true};
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::sum_job::SumJob;

/// Waits until the job says that it is suspended, and checks that this is true.
pub(crate) async fn suspended(namespace: &TestNamespace, job: &AppliedJob) -> Result<ZephyrJob> {
    let found = job
        .wait_until("Suspended=True", TEST_TIMEOUT, |job| {
            is_true(job, ConditionType::Suspended)
        })
        .await?;
    for role in ["coordinator", "worker"] {
        let pods = namespace.pods(&job.name, role).await?;
        ensure!(pods.is_empty(), "{} pods of role {role}", pods.len());
    }
    Ok(found)
}

pub(crate) fn ledger_of(namespace: &TestNamespace, job: &AppliedJob) -> Result<LedgerView> {
    let uri = SumJob::storage_uri(namespace);
    LedgerView::open(&namespace.environment, &uri, &job.uid)
}

#[tokio::test]
async fn a_suspended_job_has_no_pods_and_continues_where_it_was() -> Result<()> {
    let namespace = TestNamespace::create("suspend").await?;
    let mut sum = SumJob::new("sum");
    // The suspensions use up no generation.
    sum.more = "  retries: { maxGenerations: 1 }\n".to_owned();
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = ledger_of(&namespace, &job)?;
    job.committed(&ledger, 6, TEST_TIMEOUT).await?;
    job.change(json!({"suspend": true})).await?;
    suspended(&namespace, &job).await?;
    let drained = ledger.read().await?;
    ensure!(drained.run_again() == 0, "no attempt was lost: {drained:?}");

    job.change(json!({"suspend": false})).await?;
    job.committed(&ledger, drained.done.len() + 4, TEST_TIMEOUT)
        .await?;
    let policy = json!({"suspend": true, "suspendPolicy": {"mode": "Immediate"}});
    job.change(policy).await?;
    let found = suspended(&namespace, &job).await?;
    let status = found.status.context("a status")?;
    ensure!(status.generation == Some(3), "{:?}", status.generation);
    ensure!(status.suspensions == 2, "{}", status.suspensions);
    let stopped = ledger.read().await?;

    job.change(json!({"suspend": false})).await?;
    job.succeeded(TEST_TIMEOUT).await?;
    let end = ledger.read().await?;
    end.repeats_nothing_of(&drained)?;
    end.repeats_nothing_of(&stopped)?;
    ensure!(end.application_failures.is_empty(), "{end:?}");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

#[tokio::test]
async fn a_job_that_is_created_suspended_begins_when_it_is_resumed() -> Result<()> {
    let namespace = TestNamespace::create("held").await?;
    let mut sum = SumJob::new("sum");
    (sum.numbers, sum.rounds) = (7, 1_000);
    sum.more = "  suspend: true\n".to_owned();
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let found = suspended(&namespace, &job).await?;
    let generation = found.status.and_then(|status| status.generation);
    ensure!(generation.is_none(), "{generation:?}");
    job.change(json!({"suspend": false})).await?;
    let done = job.succeeded(TEST_TIMEOUT).await?;
    let reason = condition(&done, ConditionType::Suspended).map(|found| found.reason);
    ensure!(reason == Some(Reason::NotSuspended), "{reason:?}");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

/// Sets the number of workers as `kubectl scale` does.
async fn scale(namespace: &TestNamespace, job: &AppliedJob, replicas: u32) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let jobs = namespace.api::<ZephyrJob>();
    jobs.patch_scale(&job.name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("scale to {replicas}"))?;
    Ok(())
}

#[tokio::test]
async fn a_job_is_scaled_within_its_generation() -> Result<()> {
    let namespace = TestNamespace::create("scaled").await?;
    let mut sum = SumJob::new("sum");
    sum.workers = 1;
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = ledger_of(&namespace, &job)?;
    job.committed(&ledger, 2, TEST_TIMEOUT).await?;
    let refused = scale(&namespace, &job, 0).await;
    let refused = format!("{:#}", refused.err().context("no job without workers")?);
    ensure!(refused.contains("greater than or equal to 1"), "{refused}");

    scale(&namespace, &job, 3).await?;
    let is_larger = |job: &ZephyrJob| {
        let workers = job
            .status
            .as_ref()
            .and_then(|status| status.workers.as_ref());
        workers.is_some_and(|workers| workers.desired == 3 && workers.alive() == 3)
    };
    job.wait_until("three workers", TEST_TIMEOUT, is_larger)
        .await?;
    let found = namespace.api::<ZephyrJob>().get_scale(&job.name).await?;
    let shown = found.status.context("the scale's status")?;
    let selector = shown.selector.context("the scale's selector")?;
    let selected = ListParams::default().labels(&selector);
    let pods = namespace.api::<Pod>().list(&selected).await?;
    let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
    let are_workers = names.iter().all(|name| name.starts_with("sum-workers-g1-"));
    ensure!(names.len() == 3 && are_workers, "{selector}: {names:?}");

    scale(&namespace, &job, 1).await?;
    let done = job.succeeded(TEST_TIMEOUT).await?;
    let status = done.status.context("a status")?;
    ensure!(status.generation == Some(1), "{:?}", status.generation);
    let end = ledger.read().await?;
    ensure!(end.application_failures.is_empty(), "{end:?}");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

#[tokio::test]
async fn a_cancelled_job_ends_and_its_folder_is_free_for_another() -> Result<()> {
    let namespace = TestNamespace::create("cancel").await?;
    let mut sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = ledger_of(&namespace, &job)?;
    job.committed(&ledger, 4, TEST_TIMEOUT).await?;
    let cancel = json!({"cancel": {"reason": "wrong input"}});
    job.change(cancel).await?;
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("condition Failed")?;
    ensure!(failed.reason == Reason::Cancelled, "{failed:?}");
    ensure!(failed.message.ends_with("wrong input"), "{failed:?}");
    let refused = job.change(json!({"cancel": null})).await;
    let refused = format!("{:#}", refused.err().context("it cannot be undone")?);
    ensure!(
        refused.contains("spec.cancel: cannot be removed"),
        "{refused}"
    );
    let changed = job.change(json!({"cancel": {"reason": "other"}})).await;
    let changed = format!("{:#}", changed.err().context("its end is final")?);
    let words = "spec.cancel: cannot be set or changed after the job has ended";
    ensure!(changed.contains(words), "{changed}");
    namespace
        .eventually("no pod of the cancelled job", TEST_TIMEOUT, || async {
            let workers = namespace.pods("sum", "worker").await?.len();
            let coordinators = namespace.pods("sum", "coordinator").await?.len();
            Ok((workers + coordinators == 0).then_some(()))
        })
        .await?;

    // The coordinator released the output folder, so another job does not wait for it.
    let mut other = SumJob::new("other");
    (other.numbers, other.rounds) = (7, 1_000);
    let (folder, own) = (sum.folder(&namespace), other.folder(&namespace));
    sum.numbers = other.numbers;
    let manifest = other.manifest(&namespace).replace(&own, &folder);
    let other = apply(&namespace, &manifest).await?;
    other.succeeded(TEST_TIMEOUT).await?;
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

#[tokio::test]
async fn a_job_that_is_active_for_too_long_is_ended() -> Result<()> {
    let namespace = TestNamespace::create("deadline").await?;
    let mut sum = SumJob::new("sum");
    // Without the limit it takes more than ten minutes.
    sum.rounds = 10_000_000;
    sum.more = "  activeDeadlineSeconds: 5\n".to_owned();
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("condition Failed")?;
    ensure!(failed.reason == Reason::DeadlineExceeded, "{failed:?}");
    ensure!(failed.message.contains("(5 s)"), "{failed:?}");
    let active = ended.status.map_or(0, |status| status.active_seconds);
    ensure!((5..60).contains(&active), "active for {active} s");
    namespace.finish().await
}

#[tokio::test]
async fn a_job_that_does_not_start_in_time_fails_and_says_why() -> Result<()> {
    let namespace = TestNamespace::create("start").await?;
    let mut sum = SumJob::new("sum");
    sum.more = "  startDeadlineSeconds: 10\n".to_owned();
    let manifest = sum.manifest(&namespace);
    // No node has this label.
    let place = "coordinator:\n    template: { nodeSelector: { nowhere: \"yes\" } }";
    let manifest = manifest.replacen("coordinator:", place, 1);
    let job = apply(&namespace, &manifest).await?;
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("condition Failed")?;
    ensure!(failed.reason == Reason::StartDeadlineExceeded, "{failed:?}");
    let words = "no coordinator was ready within spec.startDeadlineSeconds (10 s): ";
    ensure!(failed.message.starts_with(words), "{failed:?}");
    ensure!(failed.message.contains("node"), "{failed:?}");
    namespace.finish().await
}

/// Waits until the job has failed for this reason.
async fn failed(job: &AppliedJob, reason: Reason) -> Result<()> {
    let ended = job.finished(TEST_TIMEOUT).await?;
    let failed = condition(&ended, ConditionType::Failed).context("condition Failed")?;
    ensure!(failed.reason == reason, "{failed:?}");
    Ok(())
}

#[tokio::test]
async fn a_cancelled_job_that_is_restarted_goes_on_with_what_is_complete() -> Result<()> {
    let namespace = TestNamespace::create("restart").await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = ledger_of(&namespace, &job)?;
    job.committed(&ledger, 4, TEST_TIMEOUT).await?;
    let early = job.change(json!({"restart": "early"})).await;
    let early = format!("{:#}", early.err().context("it runs")?);
    let told = "spec.restart: the job has not ended (got early); only a job that has failed can be restarted";
    ensure!(early.contains(told), "{early}");
    let cancel = json!({"cancel": {"reason": "more memory first"}});
    job.change(cancel).await?;
    failed(&job, Reason::Cancelled).await?;
    let before = ledger.read().await?;
    let with_cancel = job.change(json!({"restart": "one"})).await;
    let with_cancel = format!("{:#}", with_cancel.err().context("it is cancelled")?);
    ensure!(with_cancel.contains("remove spec.cancel"), "{with_cancel}");
    let again = json!({
        "restart": "one", "cancel": null,
        "workers": {"resources": {"requests": {"memory": "400Mi"}, "limits": {"memory": "400Mi"}}},
    });
    job.change(again).await?;
    job.runs_again(2, TEST_TIMEOUT).await?;
    let done = job.succeeded(TEST_TIMEOUT).await?;
    let status = done.status.context("a status")?;
    ensure!(status.generation == Some(2), "{:?}", status.generation);
    let restart = status.restart.context("status.restart")?;
    ensure!(
        (restart.token.as_str(), restart.generation) == ("one", Some(2)),
        "{restart:?}"
    );
    let end = ledger.read().await?;
    end.repeats_nothing_of(&before)?;
    sum.check_output(&namespace).await?;
    let late = job.change(json!({"restart": "two"})).await;
    let late = format!("{:#}", late.err().context("it has succeeded")?);
    ensure!(
        late.contains("spec.restart: the job has succeeded"),
        "{late}"
    );
    namespace.finish().await
}
