//! Defines the visible status of this coordinator: the snapshot of the run, and facts that the
//! engine does not know, such as storage that does not answer. This module decides nothing about
//! the run.

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
    /// How the job ended, once the result is durable.
    pub result: Option<JobResult>,
}

impl Status {
    /// Returns the status before anything about the job is known.
    pub fn planning(message: &str) -> Self {
        Self::before_the_plan(Phase::Planning, message)
    }

    /// Returns the status if storage does not work as expected and there is no plan yet.
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

/// Publishes a status; readers are notified only if it differs from the previous one.
pub(super) fn show(shown: &watch::Sender<Status>, status: Status) {
    shown.send_if_modified(|current| {
        let other = *current != status;
        *current = status;
        other
    });
}

/// The storage calls that currently fail and are being retried.
#[derive(Clone, Default)]
pub(super) struct Outages(Arc<Mutex<BTreeMap<u64, String>>>);

impl Outages {
    /// Returns a sentence about one of these calls, if there is any.
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
