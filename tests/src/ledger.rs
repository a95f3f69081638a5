//! Reads a job's ledger from the bucket: which attempt of which task was committed, and how often.
//!
//! Decodes with the worker's own reader, because the format belongs to it. Takes nothing over and
//! writes nothing.

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

/// Its contents at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerState {
    /// Committed attempts by task, in the order of commits; several only if an output was lost and
    /// written again.
    pub done: BTreeMap<TaskId, Vec<Attempt>>,
    /// Committed attempts whose output was lost.
    pub revoked: Vec<TaskAttempt>,
    /// Failures charged to the application budget.
    pub application_failures: Vec<String>,
    /// Losses charged to the disruption budget; none if `retries.taskDisruptions` sets no limit.
    pub disruptions: Vec<String>,
    /// The newest epoch.
    pub epoch: u64,
}

impl LedgerState {
    /// Tasks that were committed by an attempt other than their first.
    pub fn run_again(&self) -> usize {
        let is_again = |attempts: &&Vec<Attempt>| attempts.iter().any(|attempt| attempt.number > 1);
        self.done.values().filter(is_again).count()
    }

    /// Fails if a task that was already committed in `before` has been committed again since.
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
    /// The ledger of the job with this uid under this storage uri, reached from this process.
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
                | LogRecord::Result(_) => {}
            }
        }
        Ok(state)
    }
}
