//! Removes a job's folder. The caller has decided that no job needs it.

use crate::reclaim::{Part, part_of};
use crate::storage::{JobStorage, StorageError, remove_chosen};

/// The order in which the parts of a folder are removed. The marker of the job's end is removed
/// last. So nobody mistakes a ledger that is only partly removed for the ledger of a job that has
/// not begun.
const ORDER: [fn(&str) -> bool; 5] = [
    |path| part_of(path) == Some(Part::Data),
    |path| part_of(path) == Some(Part::Log),
    |path| part_of(path) == Some(Part::Opened),
    |path| part_of(path) == Some(Part::Plan),
    |path| part_of(path) == Some(Part::Marker),
];

/// Removes the objects of a job's folder, and returns their number. Other objects stay. If a call
/// fails or is cancelled, this function can be called again for the remaining objects.
pub async fn remove_job_folder(storage: &JobStorage) -> Result<u64, StorageError> {
    let mut removed = 0;
    for is_chosen in ORDER {
        removed += remove_chosen(storage.stores(), storage.root(), is_chosen).await?;
    }
    Ok(removed)
}
