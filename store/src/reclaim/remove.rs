//! Removes a job's folder. The caller has decided that no job needs it.

use crate::reclaim::{Part, part_of};
use crate::storage::{JobStorage, StorageError, remove_chosen};

/// The order: the marker of the job's end is removed last, so that a half removed ledger is never
/// mistaken for one that has not begun.
const ORDER: [fn(&str) -> bool; 5] = [
    |path| part_of(path) == Some(Part::Data),
    |path| part_of(path) == Some(Part::Log),
    |path| part_of(path) == Some(Part::Opened),
    |path| part_of(path) == Some(Part::Plan),
    |path| part_of(path) == Some(Part::Marker),
];

/// Removes the objects of a job's folder, and returns their number. Other objects stay. If a call
/// fails, or is not awaited to its end, the remaining folder can be removed again.
pub async fn remove_job_folder(storage: &JobStorage) -> Result<u64, StorageError> {
    let mut removed = 0;
    for is_chosen in ORDER {
        removed += remove_chosen(storage.stores(), storage.root(), is_chosen).await?;
    }
    Ok(removed)
}
