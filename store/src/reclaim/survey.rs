//! Finds what a folder contains, and to which job it belongs. This module removes nothing.

use std::time::SystemTime;

use zephyr_engine::coordinator::record::result_of;
use zephyr_engine::id::Epoch;

use crate::ledger::{LedgerError, inspect, is_opened, load_plan};
use crate::reclaim::{Ended, MarkerError, part_of, read_marker};
use crate::storage::{JobStorage, StorageError, walk};

/// The contents of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many objects the folder has.
    pub objects: u64,
    /// The total size of the objects in bytes.
    pub bytes: u64,
    /// When the newest object was written, by the store's clock. `None` if the folder is empty.
    pub newest: Option<SystemTime>,
    /// How many objects do not belong to a job, and the path of one of them.
    pub foreign: Option<(u64, String)>,
    /// Whether the folder has a plan.
    pub has_plan: bool,
    /// The number of an epoch that was opened.
    pub opened: Option<u64>,
}

/// The object that proves to which job a folder belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A marker, which says that this job has ended.
    Ended(Ended),
    /// The plan of this job. It contains the path of the output.
    Plan {
        /// `spec.pipeline.sink.files.path`.
        sink: Option<String>,
    },
    /// An epoch of this job's ledger.
    Ledger,
    /// No object in the folder names a job.
    Nothing,
}

/// Examines everything in a job's folder.
pub async fn survey(storage: &JobStorage) -> Result<Survey, StorageError> {
    let mut survey = Survey::default();
    walk(storage.stores(), storage.root(), |entry| {
        survey.objects += 1;
        survey.bytes = survey.bytes.saturating_add(entry.bytes);
        survey.newest = survey.newest.max(Some(entry.modified));
        if !entry.is_file || part_of(&entry.path).is_none() {
            let foreign = survey.foreign.get_or_insert((0, entry.path.clone()));
            foreign.0 += 1;
        }
        survey.has_plan |= entry.path == "plan.json";
        let epoch = entry.path.strip_prefix("epochs/");
        let epoch = epoch.and_then(|rest| rest.strip_suffix("/open"));
        if let Some(epoch) = epoch.and_then(|epoch| epoch.parse().ok()) {
            survey.opened = Some(epoch);
        }
    })
    .await?;
    Ok(survey)
}

impl Survey {
    /// Returns the object that proves to which job the folder belongs.
    pub async fn proof(&self, storage: &JobStorage) -> Result<Proof, StorageError> {
        match read_marker(storage).await {
            Ok(Some(ended)) => return Ok(Proof::Ended(ended)),
            Ok(None) | Err(MarkerError::Unreadable { .. } | MarkerError::Address(_)) => {}
            Err(MarkerError::Store(error)) => return Err(error),
        }
        if self.has_plan
            && let Some(Some(plan)) = unless_refused(load_plan(storage, false).await)?
        {
            let sink = plan.pipeline.pointer("/sink/files/path");
            let sink = sink.and_then(|path| path.as_str()).map(str::to_owned);
            return Ok(Proof::Plan { sink });
        }
        if let Some(epoch) = self.opened
            && unless_refused(is_opened(storage, Epoch(epoch)).await)? == Some(true)
        {
            return Ok(Proof::Ledger);
        }
        Ok(Proof::Nothing)
    }

    /// Whether the ledger contains the job's result. The result of a job that was restarted since
    /// does not count. `None` if the ledger is not valid.
    pub async fn has_result(&self, storage: &JobStorage) -> Result<Option<bool>, StorageError> {
        let records = unless_refused(inspect(storage).await)?;
        Ok(records.map(|(_, records)| result_of(&records).is_some()))
    }
}

/// Returns the contents of the ledger. `None` if the objects are not a valid ledger. An error if
/// the store cannot be read.
fn unless_refused<T>(read: Result<T, LedgerError>) -> Result<Option<T>, StorageError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(LedgerError::Unavailable(error) | LedgerError::Store(error)) => Err(error),
        Err(
            LedgerError::Refused { .. }
            | LedgerError::Address(_)
            | LedgerError::Fenced { .. }
            | LedgerError::InDoubt,
        ) => Ok(None),
    }
}
