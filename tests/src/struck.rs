//! A job in the middle of its work, for tests that strike then and look what comes of it. Strikes
//! nothing itself.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::job::ZephyrJob;

use crate::cluster::{PATIENCE, TestNamespace};
use crate::job::{AppliedJob, apply, condition};
use crate::ledger::{LedgerState, LedgerView};
use crate::sum_job::SumJob;

/// Committed tasks after which a test strikes: the job is then in the middle of its first stage.
const MIDDLE: usize = 8;

/// How long an outage of the object store lasts: longer than any single timeout.
const OUTAGE: Duration = Duration::from_mins(1);

/// A job in the middle of its work.
pub struct Struck {
    /// Where it runs.
    pub namespace: TestNamespace,
    /// The job.
    pub sum: SumJob,
    /// The job, applied.
    pub job: AppliedJob,
    /// Its ledger.
    pub ledger: LedgerView,
    /// What the ledger said then.
    pub before: LedgerState,
}

/// Applies a job and waits until it is in the middle.
pub async fn strike(test: &str) -> Result<Struck> {
    let namespace = TestNamespace::create(test).await?;
    strike_in(namespace, SumJob::new("sum")).await
}

/// The same with a job of one's own.
pub async fn strike_in(namespace: TestNamespace, sum: SumJob) -> Result<Struck> {
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, MIDDLE, PATIENCE).await?;
    let before = ledger.read().await?;
    Ok(Struck {
        namespace,
        sum,
        job,
        ledger,
        before,
    })
}

impl Struck {
    /// A worker's pod that runs, with its node.
    pub async fn worker(&self) -> Result<(Pod, String)> {
        self.running("worker").await
    }

    /// A pod of this component that runs, with its node.
    pub async fn running(&self, component: &str) -> Result<(Pod, String)> {
        let all = self.all_running(component).await?;
        let last = all.into_iter().next_back();
        last.with_context(|| format!("a {component} runs"))
    }

    /// All pods of this component that run, with their nodes.
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

    /// Deletes a pod without grace.
    pub async fn delete_at_once(&self, pod: &Pod) -> Result<()> {
        self.namespace
            .api::<Pod>()
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    /// Workers that were lost so far, as status has it.
    pub async fn workers_lost(&self) -> Result<i64> {
        let status = self.job.get().await?.status.unwrap_or_default();
        Ok(status.workers.map_or(0, |workers| workers.disruptions))
    }

    /// Waits until status says that the object store is away, and for as long as it shall be.
    pub async fn storage_outage_is_told(&self) -> Result<()> {
        let is_told = |job: &ZephyrJob| {
            condition(job, ConditionType::Progressing)
                .is_some_and(|told| told.reason == Reason::StorageUnavailable)
        };
        tokio::try_join!(
            self.job.wait_until("StorageUnavailable", PATIENCE, is_told),
            async {
                tokio::time::sleep(OUTAGE).await;
                Ok(())
            }
        )?;
        Ok(())
    }

    /// The output is right, nothing was run twice, no budget was used, and it is still
    /// generation 1.
    pub async fn ends_well(self) -> Result<()> {
        let after = self.ends_right().await?;
        anyhow::ensure!(
            after.application_failures.is_empty(),
            "charged: {:?}",
            after.application_failures
        );
        self.namespace.finish().await
    }

    /// The output is right, nothing was run twice, and it is still generation 1. Gives what the
    /// ledger says at the end.
    pub async fn ends_right(&self) -> Result<LedgerState> {
        let done = self.job.succeeded(PATIENCE).await?;
        let after = self.ledger.read().await?;
        after.repeats_nothing_of(&self.before)?;
        let generation = done.status.as_ref().and_then(|status| status.generation);
        anyhow::ensure!(generation == Some(1), "it is generation {generation:?}");
        self.sum.check_output(&self.namespace).await?;
        Ok(after)
    }
}
