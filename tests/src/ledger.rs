//! Reads a job's ledger from the bucket: the committed attempts of each task.
//!
//! It decodes the ledger with the store's own reader, because that defines the format. This module
//! does not take over the ledger, and writes nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use zephyr_engine::coordinator::record::{FailureClass, LogRecord};
use zephyr_engine::id::{Attempt, JobUid, TaskAttempt, TaskId};
use zephyr_store::storage::{JobStorage, Stores};

use crate::cluster::Environment;

/// A job's ledger.
pub struct LedgerView {
    storage: JobStorage,
}

/// The contents of a ledger at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerState {
    /// The committed attempts of each task, in the order of commits. A task has several only if an
    /// output was lost and written again.
    pub done: BTreeMap<TaskId, Vec<Attempt>>,
    /// Committed attempts whose output was lost.
    pub revoked: Vec<TaskAttempt>,
    /// The failures that were charged to the application budget.
    pub application_failures: Vec<String>,
    /// The losses that were charged to the disruption budget. Empty if `retries.taskDisruptions`
    /// sets no limit.
    pub disruptions: Vec<String>,
    /// The newest epoch.
    pub epoch: u64,
}

impl LedgerState {
    /// Returns how many tasks were committed by an attempt other than their first.
    pub fn run_again(&self) -> usize {
        let is_again = |attempts: &&Vec<Attempt>| attempts.iter().any(|attempt| attempt.number > 1);
        self.done.values().filter(is_again).count()
    }

    /// Returns an error if a task that was already committed in `before` has been committed again
    /// since then, or if any task was committed more than once.
    pub fn repeats_nothing_of(&self, before: &Self) -> Result<()> {
        for (task, attempts) in &before.done {
            anyhow::ensure!(
                self.done.get(task) == Some(attempts),
                "{task}: {attempts:?} before, {:?} now",
                self.done.get(task)
            );
        }
        for (task, attempts) in &self.done {
            anyhow::ensure!(
                attempts.len() == 1,
                "{task} was committed {} times",
                attempts.len()
            );
        }
        Ok(())
    }
}

impl LedgerView {
    /// Opens the ledger of the job with this uid under this storage URI. The address of the storage
    /// is the one that is used outside the cluster, where the test runs.
    pub fn open(environment: &Environment, storage_uri: &str, job_uid: &str) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = [
            ("aws_endpoint", environment.s3_host_endpoint.as_str()),
            ("aws_region", &environment.region),
            ("aws_access_key_id", &environment.access_key),
            ("aws_secret_access_key", &environment.secret_key),
            ("aws_allow_http", "true"),
        ];
        let options = options
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let storage = JobStorage::new(Stores::new(options), storage_uri, JobUid::parse(job_uid)?)?;
        Ok(Self { storage })
    }

    /// Reads its current contents.
    pub async fn read(&self) -> Result<LedgerState> {
        let (epoch, records) = zephyr_store::ledger::inspect(&self.storage).await?;
        let mut state = LedgerState {
            epoch: epoch.0,
            ..LedgerState::default()
        };
        for record in records {
            match record {
                LogRecord::Done { task, .. } => {
                    state.done.entry(task.task).or_default().push(task.attempt);
                }
                LogRecord::Failed {
                    class: FailureClass::Disruption,
                    error,
                    ..
                } => {
                    state.disruptions.push(error);
                }
                LogRecord::Failed { error, .. } => {
                    state.application_failures.push(error);
                }
                LogRecord::Revoked { task } => state.revoked.push(task),
                LogRecord::StageFinished { .. }
                | LogRecord::Finalized { .. }
                | LogRecord::Result(_)
                | LogRecord::Restarted(_) => {}
            }
        }
        Ok(state)
    }
}
