//! Storage that loses, changes or does not answer, under a running job: the output is exact each time, and the ledger says
//! what was made again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_tests::bucket::{Bucket, SCRATCH};
use zephyr_tests::cluster::{PATIENCE, TestNamespace};
use zephyr_tests::job::{apply, condition};
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::node;
use zephyr_tests::sum_job::SumJob;

/// Committed tasks after which a test strikes: the job is then in the middle of its first stage.
const MIDDLE: usize = 8;

/// How long the object store stands still: longer than the coordinator's patience of 10 s and than any single timeout.
const OUTAGE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn fault_8309_a_lost_and_a_changed_shuffle_file_are_made_again_and_no_row_is_missing()
-> Result<()> {
    let namespace = TestNamespace::create("damage").await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, MIDDLE, PATIENCE).await?;
    let committed: Vec<TaskAttempt> = ledger
        .read()
        .await?
        .done
        .into_iter()
        .filter(|(task, _)| task.stage == StageId(0))
        .map(|(task, attempts)| TaskAttempt {
            task,
            attempt: attempts[0],
        })
        .collect();
    let [lost, changed, ..] = committed[..] else {
        anyhow::bail!("too few commits: {committed:?}");
    };
    let bucket = Bucket::open(&namespace.environment, SCRATCH)?;
    let key = |file: TaskAttempt| {
        let (task, attempt) = (file.task, file.attempt);
        format!(
            "{}/{}/data/{}/{}/{attempt}/shuffle",
            namespace.name, job.uid, task.stage, task.shard
        )
    };
    bucket.delete(&key(lost)).await?;
    let mut bytes = bucket.get(&key(changed)).await?.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bucket.put(&key(changed), bytes).await?;

    job.succeeded(PATIENCE).await?;
    sum.check_output(&namespace).await?;
    let after = ledger.read().await?;
    let revoked: BTreeSet<_> = after.revoked.iter().copied().collect();
    anyhow::ensure!(
        revoked == BTreeSet::from([lost, changed]) && after.revoked.len() == 2,
        "made again: {:?}, damaged: {lost} and {changed}",
        after.revoked
    );
    anyhow::ensure!(
        after.application_failures.is_empty(),
        "{:?}",
        after.application_failures
    );
    for (task, attempts) in &after.done {
        let times = if *task == lost.task || *task == changed.task {
            2
        } else {
            1
        };
        anyhow::ensure!(
            attempts.len() == times,
            "{task} was committed {} times",
            attempts.len()
        );
    }
    namespace.finish().await
}

/// Cargo runs the files of tests one after the other, so that only the test above may have to wait with this one.
#[tokio::test]
async fn an_object_store_that_stands_still_for_a_minute_is_waited_for_visibly_and_nothing_is_lost()
-> Result<()> {
    let namespace = TestNamespace::create("outage").await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, MIDDLE, PATIENCE).await?;
    let before = ledger.read().await?;

    let stores = Api::<Pod>::all(namespace.client.clone())
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
            job.wait_until("StorageUnavailable", PATIENCE, is_told),
            async {
                tokio::time::sleep(OUTAGE).await;
                Ok(())
            }
        )
    }
    .await;
    node::signal_process(&node, &uid, "minio", "CONT").await?;
    outcome?;

    let done = job.succeeded(PATIENCE).await?;
    let after = ledger.read().await?;
    after.repeats_nothing_of(&before)?;
    anyhow::ensure!(
        after.application_failures.is_empty(),
        "{:?}",
        after.application_failures
    );
    let generation = done.status.and_then(|status| status.generation);
    anyhow::ensure!(generation == Some(1), "it is generation {generation:?}");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}
