//! What a folder contains, and which job it belongs to. Removes nothing.

use std::time::SystemTime;

use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::{LedgerError, inspect, is_opened, load_plan};
use crate::reclaim::{Ended, MarkerError, part_of, read_marker};
use crate::storage::{JobStorage, StorageError, walk};

/// The contents of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many objects.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
    /// When the newest of them was written, by the store's clock; nothing for an empty folder.
    pub newest: Option<SystemTime>,
    /// How many of them do not belong to a job, with the path of one of them.
    pub foreign: Option<(u64, String)>,
    /// Whether there is a plan.
    pub has_plan: bool,
    /// An epoch that was opened.
    pub opened: Option<u64>,
}

/// The object by which a folder proves which job it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A marker that this job has ended.
    Ended(Ended),
    /// The plan of this job; the name of the output is read from it.
    Plan {
        /// `spec.pipeline.sink.files.path`.
        sink: Option<String>,
    },
    /// An epoch of this job's ledger.
    Ledger,
    /// Nothing in it names a job.
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
    /// The object by which the folder proves which job it belongs to.
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

    /// Whether the ledger contains a result; nothing if it cannot be read.
    pub async fn has_result(&self, storage: &JobStorage) -> Result<Option<bool>, StorageError> {
        let records = unless_refused(inspect(storage).await)?;
        let is_result = |record: &LogRecord| matches!(record, LogRecord::Result(_));
        Ok(records.map(|(_, records)| records.iter().any(is_result)))
    }
}

/// The contents of the ledger; `None` if the objects are not a valid ledger. An error if the store
/// cannot be read.
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
