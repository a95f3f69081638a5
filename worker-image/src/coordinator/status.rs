//! The visible status of this coordinator: the snapshot of the run, plus facts that only the shell
//! knows, such as storage that does not answer. Decides nothing about the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::id::Epoch;

use zephyr_proto::run::{Phase, Snapshot};

/// The visible status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// This coordinator's epoch; 0 until it has one.
    pub epoch: Epoch,
    /// The run.
    pub snapshot: Snapshot,
    /// How the job ended, once that is durable.
    pub result: Option<JobResult>,
}

impl Status {
    /// The status before anything of the job is known.
    pub fn planning(message: &str) -> Self {
        Self::before_the_plan(Phase::Planning, message)
    }

    /// Storage does not work as expected, and there is no plan yet.
    pub fn storage_unavailable(message: &str) -> Self {
        Self::before_the_plan(Phase::StorageUnavailable, message)
    }

    fn before_the_plan(phase: Phase, message: &str) -> Self {
        let snapshot = Snapshot {
            phase: phase.into(),
            message: message.to_owned(),
            ..Snapshot::default()
        };
        Self {
            snapshot,
            ..Self::default()
        }
    }
}

/// Publishes a status; readers are notified only if it differs from the one before.
pub(super) fn show(shown: &watch::Sender<Status>, status: Status) {
    shown.send_if_modified(|current| {
        let other = *current != status;
        *current = status;
        other
    });
}

/// The storage calls that fail now and are being retried.
#[derive(Clone, Default)]
pub(super) struct Outages(Arc<Mutex<BTreeMap<u64, String>>>);

impl Outages {
    /// A sentence about one of them, if there is any.
    pub(super) fn sentence(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .next()
            .cloned()
    }

    pub(super) fn begin(&self, call: u64, sentence: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(call, sentence);
    }

    pub(super) fn end(&self, call: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&call);
    }
}
