//! Applies jobs as a user would write them, as YAML text, and watches them until their end. This
//! module does not depend on how the operator works.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use zephyr_crds::conditions::{Condition, ConditionStatus, ConditionType};
use zephyr_crds::job::ZephyrJob;

use crate::cluster::TestNamespace;

/// A job that was applied.
#[derive(Clone)]
pub struct AppliedJob {
    namespace: TestNamespace,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Applies a manifest in the test's namespace.
pub async fn apply(namespace: &TestNamespace, manifest: &str) -> Result<AppliedJob> {
    let job: ZephyrJob =
        serde_saphyr::from_str(manifest).map_err(|error| anyhow!("{error}\n{manifest}"))?;
    let job = namespace
        .api::<ZephyrJob>()
        .create(&PostParams::default(), &job)
        .await
        .context("apply the job")?;
    let uid = job.uid().context("the API server gives a uid")?;
    Ok(AppliedJob {
        namespace: namespace.clone(),
        name: job.name_any(),
        uid,
    })
}

/// Returns a job that exists in the test's namespace.
pub async fn existing(namespace: &TestNamespace, name: &str) -> Result<AppliedJob> {
    let job = namespace.api::<ZephyrJob>().get(name).await?;
    Ok(AppliedJob {
        namespace: namespace.clone(),
        name: job.name_any(),
        uid: job.uid().context("the API server gives a uid")?,
    })
}

/// Returns the condition of this type, if the status has it.
pub fn condition(job: &ZephyrJob, condition_type: ConditionType) -> Option<&Condition> {
    job.status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.r#type == condition_type)
}

/// Returns whether a condition is `True`.
pub fn is_true(job: &ZephyrJob, condition_type: ConditionType) -> bool {
    condition(job, condition_type)
        .is_some_and(|condition| condition.status == ConditionStatus::True)
}

impl AppliedJob {
    fn api(&self) -> Api<ZephyrJob> {
        self.namespace.api()
    }

    /// Reads the job as it is now.
    pub async fn get(&self) -> Result<ZephyrJob> {
        Ok(self.api().get(&self.name).await?)
    }

    /// Changes fields of the job's spec, as `kubectl patch` does.
    pub async fn change(&self, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(serde_json::json!({ "spec": spec }));
        self.api()
            .patch(&self.name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("change {spec}"))?;
        Ok(())
    }

    /// Waits until a failed job runs again in this generation. Until then its phase is `Failed`.
    pub async fn runs_again(&self, generation: u32, limit: Duration) -> Result<ZephyrJob> {
        self.wait_until(&format!("generation {generation}"), limit, |job| {
            let status = job.status.as_ref();
            status.is_some_and(|status| status.generation == Some(generation))
        })
        .await
    }

    /// Watches the job until `holds` returns true for it.
    pub async fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&ZephyrJob) -> bool,
    ) -> Result<ZephyrJob> {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut changes = watcher(self.api(), config)
            .default_backoff()
            .applied_objects()
            .boxed();
        let seen = async {
            while let Some(job) = changes.try_next().await? {
                if job.uid().as_deref() == Some(&self.uid) && holds(&job) {
                    return Ok(job);
                }
            }
            bail!("the watch ended")
        };
        match tokio::time::timeout(limit, seen).await {
            Ok(result) => result,
            Err(_) => bail!(
                "job {} within {limit:?}: {what}\n{}",
                self.name,
                self.namespace.describe().await
            ),
        }
    }

    /// Waits for the end of the job, whether it succeeds or fails.
    pub async fn finished(&self, limit: Duration) -> Result<ZephyrJob> {
        self.wait_until("Finished=True", limit, |job| {
            is_true(job, ConditionType::Finished)
        })
        .await
    }

    /// Waits for the end of the job. Returns an error unless the job succeeded.
    pub async fn succeeded(&self, limit: Duration) -> Result<ZephyrJob> {
        let job = self.finished(limit).await?;
        if !is_true(&job, ConditionType::Complete) {
            let why = condition(&job, ConditionType::Failed)
                .map(|c| c.message.clone())
                .unwrap_or_default();
            bail!(
                "job {} failed: {why}\n{}",
                self.name,
                self.namespace.describe().await
            );
        }
        Ok(job)
    }

    /// Waits until at least `at_least` tasks of any stage are committed, according to `ledger`.
    pub async fn committed(
        &self,
        ledger: &crate::ledger::LedgerView,
        at_least: usize,
        limit: Duration,
    ) -> Result<()> {
        let what = format!("{at_least} committed tasks of job {}", self.name);
        self.namespace
            .eventually(&what, limit, || async {
                let done = ledger.read().await?.done.len();
                Ok((done >= at_least).then_some(()))
            })
            .await
    }

    /// Returns the messages of all events about the job.
    pub async fn events(&self) -> Result<Vec<String>> {
        let about = format!("involvedObject.uid={}", self.uid);
        let events = self
            .namespace
            .api::<Event>()
            .list(&ListParams::default().fields(&about))
            .await?;
        Ok(events
            .items
            .into_iter()
            .filter_map(|event| event.message)
            .collect())
    }

    /// Deletes the job, in the background as kubectl does.
    pub async fn delete(&self) -> Result<()> {
        self.api()
            .delete(&self.name, &kube::api::DeleteParams::background())
            .await?;
        Ok(())
    }
}
