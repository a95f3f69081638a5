//! Removes a job's folder. That nobody needs it any more is known before.

use crate::reclaim::{Part, part_of};
use crate::storage::{JobStorage, StorageError, remove_chosen};

/// The order: what says that the job has ended goes last, so that a ledger that is half removed is
/// never mistaken for one that has not begun.
const ORDER: [fn(&str) -> bool; 5] = [
    |path| part_of(path) == Some(Part::Data),
    |path| part_of(path) == Some(Part::Log),
    |path| part_of(path) == Some(Part::Opened),
    |path| part_of(path) == Some(Part::Plan),
    |path| part_of(path) == Some(Part::Marker),
];

/// Removes the objects of a job's folder, and gives how many there were. Objects that are not a
/// job's stay. A call that fails, or that is not awaited to its end, leaves a folder that can be
/// removed again.
pub async fn remove_job_folder(storage: &JobStorage) -> Result<u64, StorageError> {
    let mut removed = 0;
    for is_chosen in ORDER {
        removed += remove_chosen(storage.stores(), storage.root(), is_chosen).await?;
    }
    Ok(removed)
}
