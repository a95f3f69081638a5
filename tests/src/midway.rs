//! Provides a job in the middle of its work, for tests that cause a fault at that moment and check
//! the result. This module causes no fault itself.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::job::ZephyrJob;

use crate::cluster::{TEST_TIMEOUT, TestNamespace};
use crate::job::{AppliedJob, apply, condition};
use crate::ledger::{LedgerState, LedgerView};
use crate::sum_job::SumJob;

/// How many committed tasks a test waits for before it causes its fault. Then the job is in the
/// middle of its first stage.
const MIDDLE: usize = 8;

/// How long an outage of the object store lasts. This is longer than any single timeout.
const OUTAGE: Duration = Duration::from_mins(1);

/// A job in the middle of its work.
pub struct Midway {
    /// Its namespace.
    pub namespace: TestNamespace,
    /// The job.
    pub sum: SumJob,
    /// The job, applied.
    pub job: AppliedJob,
    /// Its ledger.
    pub ledger: LedgerView,
    /// The contents of the ledger when the job was in the middle of its work.
    pub before: LedgerState,
}

/// Applies a job, and waits until it is in the middle of its work.
pub async fn job_midway(test: &str) -> Result<Midway> {
    let namespace = TestNamespace::create(test).await?;
    job_midway_in(namespace, SumJob::new("sum")).await
}

/// Like [`job_midway`], but applies the job `sum` in `namespace`.
pub async fn job_midway_in(namespace: TestNamespace, sum: SumJob) -> Result<Midway> {
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, MIDDLE, TEST_TIMEOUT).await?;
    let before = ledger.read().await?;
    Ok(Midway {
        namespace,
        sum,
        job,
        ledger,
        before,
    })
}

impl Midway {
    /// Returns a running worker's pod, and its node.
    pub async fn worker(&self) -> Result<(Pod, String)> {
        self.running("worker").await
    }

    /// Returns a running pod of this component, and its node.
    pub async fn running(&self, component: &str) -> Result<(Pod, String)> {
        let all = self.all_running(component).await?;
        let last = all.into_iter().next_back();
        last.with_context(|| format!("a {component} runs"))
    }

    /// Returns all running pods of this component, with their nodes.
    pub async fn all_running(&self, component: &str) -> Result<Vec<(Pod, String)>> {
        let mut pods = self.namespace.pods(&self.sum.name, component).await?;
        pods.retain(|pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                == Some("Running")
        });
        let with_node = |pod: Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            Ok((pod, node.context("a running pod has a node")?))
        };
        pods.into_iter().map(with_node).collect()
    }

    /// Deletes a pod without a grace period.
    pub async fn delete_at_once(&self, pod: &Pod) -> Result<()> {
        self.namespace
            .api::<Pod>()
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    /// Returns how many workers were lost so far, according to status.
    pub async fn workers_lost(&self) -> Result<i64> {
        let status = self.job.get().await?.status.unwrap_or_default();
        Ok(status.workers.map_or(0, |workers| workers.disruptions))
    }

    /// Waits until status reports that the object store is unavailable, and then until the planned
    /// end of the outage.
    pub async fn storage_outage_is_told(&self) -> Result<()> {
        let is_told = |job: &ZephyrJob| {
            condition(job, ConditionType::Progressing)
                .is_some_and(|told| told.reason == Reason::StorageUnavailable)
        };
        tokio::try_join!(
            self.job
                .wait_until("StorageUnavailable", TEST_TIMEOUT, is_told),
            async {
                tokio::time::sleep(OUTAGE).await;
                Ok(())
            }
        )?;
        Ok(())
    }

    /// Waits for the end of the job. Returns an error unless the output is right, no committed task
    /// was run twice, no budget was used, and the generation is still 1.
    pub async fn ends_well(self) -> Result<()> {
        let after = self.ends_right().await?;
        anyhow::ensure!(
            after.application_failures.is_empty(),
            "charged: {:?}",
            after.application_failures
        );
        self.namespace.finish().await
    }

    /// Waits for the end of the job. Returns the contents of the ledger then, or an error unless
    /// the output is right, no committed task was run twice, and the generation is still 1.
    pub async fn ends_right(&self) -> Result<LedgerState> {
        let done = self.job.succeeded(TEST_TIMEOUT).await?;
        let after = self.ledger.read().await?;
        after.repeats_nothing_of(&self.before)?;
        let generation = done.status.as_ref().and_then(|status| status.generation);
        anyhow::ensure!(generation == Some(1), "it is generation {generation:?}");
        self.sum.check_output(&self.namespace).await?;
        Ok(after)
    }
}
