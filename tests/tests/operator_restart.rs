//! Tests that jobs continue if the operator is killed at any moment and starts again, and that no
//! object is created twice.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{AppliedJob, apply};
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::sum_job::SumJob;

/// The namespace into which `make install` installs the operator.
const OPERATOR_NAMESPACE: &str = "zephyr-system";

/// Selects the objects of all jobs.
const JOBS: &str = "zephyr.dev/job";

/// Kills the operator's pod without a grace period.
async fn kill_operator(namespace: &TestNamespace) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), OPERATOR_NAMESPACE);
    let operator = ListParams::default().labels("app.kubernetes.io/name=zephyr-operator");
    let found = pods.list(&operator).await?.items;
    anyhow::ensure!(
        !found.is_empty(),
        "an operator runs in {OPERATOR_NAMESPACE}"
    );
    for pod in found {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
    }
    Ok(())
}

/// Returns an error unless all objects of the job belong to generation 1, and each object that
/// existed before is still the same one.
fn nothing_twice(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<()> {
    for (name, uid) in before {
        anyhow::ensure!(after.get(name) == Some(uid), "{name} was made again");
    }
    anyhow::ensure!(
        after
            .keys()
            .all(|name| name.ends_with("-g1") || name.contains("-g1-")),
        "one generation: {after:?}"
    );
    Ok(())
}

async fn wait_for_middle(
    namespace: &TestNamespace,
    job: &AppliedJob,
    tasks: usize,
) -> Result<LedgerView> {
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(namespace),
        &job.uid,
    )?;
    job.committed(&ledger, tasks, TEST_TIMEOUT).await?;
    Ok(ledger)
}

#[tokio::test]
async fn fault_2967_a_job_continues_though_its_operator_is_killed_again_and_again() -> Result<()> {
    let namespace = TestNamespace::create("operator").await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;

    // The operator is killed as soon as the first object exists, when others may be missing.
    namespace
        .eventually("a first child", TEST_TIMEOUT, || async {
            Ok((!namespace.children(JOBS).await?.is_empty()).then_some(()))
        })
        .await?;
    let early = namespace.children(JOBS).await?;
    kill_operator(&namespace).await?;

    let ledger = wait_for_middle(&namespace, &job, 4).await?;
    let middle = namespace.children(JOBS).await?;
    nothing_twice(&early, &middle)?;
    let before = ledger.read().await?;
    kill_operator(&namespace).await?;

    wait_for_middle(&namespace, &job, 20).await?;
    nothing_twice(&middle, &namespace.children(JOBS).await?)?;
    kill_operator(&namespace).await?;

    let done = job.succeeded(TEST_TIMEOUT).await?;
    anyhow::ensure!(
        done.status.as_ref().and_then(|s| s.generation) == Some(1),
        "no new generation"
    );
    let after = ledger.read().await?;
    after.repeats_nothing_of(&before)?;
    anyhow::ensure!(
        after.epoch == before.epoch,
        "the coordinator was left alone"
    );
    sum.check_output(&namespace).await?;
    namespace.finish().await
}
