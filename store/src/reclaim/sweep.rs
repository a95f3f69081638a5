//! Removes expired folders of other jobs at the end of a job. A folder is beside the job's own, and
//! expires after its `spec.storage.ledgerTTL`. This does not delay the job's end for long, and its
//! failures do no harm.
//!
//! Only the store's clock decides whether a folder has expired. The current time is the time at
//! which this job's own marker was written.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use zephyr_engine::id::JobUid;

use crate::reclaim::{Ended, MarkerError, is_job_uid, read_marker, remove_job_folder, survey};
use crate::storage::{JobStorage, ProbeError, StorageError, last_touched, subfolders};

/// How many folders one job examines at most. Each needs one small read. Each job begins at a
/// random position, so over time all folders are examined.
const MAX_LOOKED_AT: usize = 200;

/// How many folders are examined at the same time.
const LOOKED_AT_ONCE: usize = 16;

/// How many folders one job removes at most. Each job adds one folder and removes up to this
/// number, so the number of folders does not grow.
const MAX_REMOVED: usize = 20;

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many folders of other jobs were examined.
    pub looked_at: usize,
    /// How many folders were removed.
    pub removed: usize,
}

/// Why folders could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The folders cannot be listed.
    #[error("{0}")]
    Store(#[source] StorageError),
    /// This job's own marker cannot be read, so the current time is not known.
    #[error("{0}")]
    Marker(#[source] MarkerError),
}

/// Removes expired folders beside this job's own. A folder without a readable marker stays, and so
/// does one that contains objects of other programs.
pub async fn sweep(storage: &JobStorage) -> Result<Swept, SweepError> {
    let Some(own) = read_marker(storage).await.map_err(SweepError::Marker)? else {
        return Ok(Swept::default());
    };
    let names = siblings(storage).await.map_err(SweepError::Store)?;
    let mut swept = Swept {
        looked_at: names.len(),
        removed: 0,
    };
    let folders = names.into_iter().filter_map(|name| beside(storage, &name));
    let looked = futures::stream::iter(folders).map(|folder| async move {
        match is_over(&folder, own.at).await {
            Ok(true) => Some(folder),
            Ok(false) => None,
            Err(error) => {
                tracing::info!(%error, "a folder of another job stays");
                None
            }
        }
    });
    let mut expired = std::pin::pin!(looked.buffered(LOOKED_AT_ONCE));
    while swept.removed < MAX_REMOVED
        && let Some(folder) = expired.next().await
    {
        let Some(folder) = folder else {
            continue;
        };
        match remove(&folder).await {
            Ok(true) => swept.removed += 1,
            Ok(false) => {}
            Err(error) => tracing::info!(%error, "a folder of another job stays"),
        }
    }
    Ok(swept)
}

/// Returns the names of the folders beside this job's own, starting at a random position.
async fn siblings(storage: &JobStorage) -> Result<Vec<String>, StorageError> {
    let parent = storage.root().parent();
    let start = format!("{:032x}", storage.stores().chance().unique());
    let own = storage.job().to_string();
    let is_other = move |name: &str| is_job_uid(name) && name != own;
    let list = |after: &str, most: usize| {
        let is_other = is_other.clone();
        let (parent, after) = (parent.clone(), after.to_owned());
        async move { subfolders(storage.stores(), &parent, &after, most, is_other).await }
    };
    let mut names = list(&start, MAX_LOOKED_AT).await?;
    if names.len() < MAX_LOOKED_AT {
        let rest = list("", MAX_LOOKED_AT - names.len()).await?;
        names.extend(rest.into_iter().take_while(|name| *name <= start));
    }
    Ok(names)
}

/// Returns the folder of another job under the same `spec.storage.uri`.
fn beside(storage: &JobStorage, name: &str) -> Option<JobStorage> {
    let job = JobUid::parse(name).ok()?;
    let parent = storage.root().parent().to_string();
    JobStorage::new(storage.stores().clone(), &parent, job).ok()
}

/// Whether a job has ended and its folder has expired.
async fn is_over(folder: &JobStorage, now: SystemTime) -> Result<bool, MarkerError> {
    let Some(ended) = read_marker(folder).await? else {
        return Ok(false);
    };
    if !has_expired(&ended, None, now) {
        return Ok(false);
    }
    // A coordinator that still serves the result of its job updates the probe.
    match last_touched(folder).await {
        Ok(touched) => Ok(has_expired(&ended, touched, now)),
        Err(ProbeError::Store(error)) => Err(MarkerError::Store(error)),
        Err(ProbeError::Address(_) | ProbeError::LacksConditionalWrites { .. }) => Ok(false),
    }
}

/// Whether the time to live has passed since the last sign of life. Pure.
fn has_expired(ended: &Ended, touched: Option<SystemTime>, now: SystemTime) -> bool {
    let last = touched.map_or(ended.at, |touched| touched.max(ended.at));
    let age = now.duration_since(last).unwrap_or(Duration::ZERO);
    ended.marker.ledger_ttl().is_some_and(|ttl| age >= ttl)
}

/// Removes a folder, unless it contains objects that do not belong to a job. Returns whether it was
/// removed.
async fn remove(folder: &JobStorage) -> Result<bool, StorageError> {
    let found = survey(folder).await?;
    if let Some((count, path)) = found.foreign {
        let folder = folder.root();
        tracing::warn!(%folder, count, path, "a folder outlived its ledgerTTL and stays: it holds objects that do not belong to a job");
        return Ok(false);
    }
    let removed = remove_job_folder(folder).await?;
    tracing::info!(folder = %folder.root(), removed, "a folder outlived its ledgerTTL and is removed");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reclaim::{Marker, mark};
    use crate::storage::{Location, Stores, walk};
    use object_store::{ObjectStoreExt, PutPayload};

    const OWN: &str = "ffffffff-6a0b-4a6e-9a63-5a8f1df2a1d7";
    const OTHER: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";
    const HOUR: Duration = Duration::from_hours(1);

    fn storage(stores: &Stores, root: &str, uid: &str) -> JobStorage {
        JobStorage::new(stores.clone(), root, JobUid::parse(uid).unwrap()).unwrap()
    }

    async fn put(storage: &JobStorage, path: &str) {
        let location = storage.at(path).unwrap();
        let store = storage.stores().open(&location).unwrap().objects;
        let payload = PutPayload::from_static(b"x");
        store.put(location.path(), payload).await.unwrap();
    }

    async fn ended(storage: &JobStorage, ttl: Option<Duration>) {
        let marker = Marker::new(storage, "ns/name".to_owned(), "Succeeded".to_owned(), ttl);
        mark(storage, &marker).await.unwrap();
        for path in [
            "probe",
            "plan.json",
            "epochs/1/open",
            "epochs/1/log/0",
            "data/0/0/e1a1/shuffle",
        ] {
            put(storage, path).await;
        }
    }

    async fn paths(storage: &JobStorage) -> Vec<String> {
        let mut paths = Vec::new();
        walk(storage.stores(), storage.root(), |entry| {
            paths.push(entry.path);
        })
        .await
        .unwrap();
        paths.sort();
        paths
    }

    /// Sets the times of all files of a local folder back.
    fn age(folder: &std::path::Path, by: Duration) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                age(&entry.path(), by);
            } else {
                let file = std::fs::File::options()
                    .append(true)
                    .open(entry.path())
                    .unwrap();
                file.set_modified(SystemTime::now() - by).unwrap();
            }
        }
    }

    #[test]
    fn a_folder_expires_only_after_its_time_since_the_last_sign_of_life() {
        let stores = Stores::in_memory();
        let storage = storage(&stores, "s3://b/jobs", OWN);
        let at = SystemTime::UNIX_EPOCH + HOUR * 1000;
        let ended = |ttl| Ended {
            marker: Marker::new(&storage, String::new(), String::new(), ttl),
            at,
        };
        let second = Duration::from_secs(1);
        for (ttl, touched, now, expected) in [
            (Some(HOUR), None, at + HOUR, true),
            (Some(HOUR), None, at + HOUR - second, false),
            (Some(HOUR), Some(at + second), at + HOUR, false),
            (Some(HOUR), Some(at + second), at + HOUR + second, true),
            (Some(HOUR), Some(at - HOUR), at + HOUR, true),
            // If the clock was set back, the folder does not count as older.
            (Some(HOUR), None, at - HOUR * 9, false),
            (None, None, at + HOUR * 100_000, false),
        ] {
            assert_eq!(
                has_expired(&ended(ttl), touched, now),
                expected,
                "{ttl:?} {touched:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_expired_folder_is_removed_and_all_others_stay() {
        let local = tempfile::tempdir().unwrap();
        let root = format!("file://{}", local.path().display());
        let stores = Stores::in_memory();
        let own = storage(&stores, &root, OWN);
        ended(&own, Some(HOUR)).await;
        let uid = |digit: char| OTHER.replace('0', &digit.to_string());
        let expired = storage(&stores, &root, &uid('0'));
        let young = storage(&stores, &root, &uid('1'));
        let for_ever = storage(&stores, &root, &uid('2'));
        let unfinished = storage(&stores, &root, &uid('3'));
        let unreadable = storage(&stores, &root, &uid('4'));
        let shared = storage(&stores, &root, &uid('5'));
        let served = storage(&stores, &root, &uid('6'));
        for folder in [&expired, &shared, &served] {
            ended(folder, Some(HOUR)).await;
        }
        ended(&young, Some(HOUR * 3)).await;
        ended(&for_ever, None).await;
        for path in ["plan.json", "epochs/1/open"] {
            put(&unfinished, path).await;
        }
        put(&unreadable, "ended.json").await;
        put(&shared, "notes.txt").await;
        put(&storage(&stores, &root, "not-a-uid"), "ended.json").await;
        age(local.path(), HOUR * 2);
        put(&served, "probe").await;
        // The end of this job is the current time.
        put(&own, "plan.json").await;
        let marker = Marker::new(&own, String::new(), "Succeeded".to_owned(), Some(HOUR));
        mark(&own, &marker).await.unwrap();
        let swept = sweep(&own).await.unwrap();
        assert_eq!(
            swept,
            Swept {
                looked_at: 7,
                removed: 1
            }
        );
        assert!(!local.path().join(uid('0')).exists());
        assert_eq!(paths(&own).await.len(), 6);
        for folder in [&young, &for_ever, &served] {
            assert_eq!(paths(folder).await.len(), 6, "{}", folder.root());
        }
        assert_eq!(paths(&shared).await.len(), 7);
        assert_eq!(paths(&unfinished).await.len(), 2);
        assert_eq!(paths(&unreadable).await, ["ended.json"]);
        assert!(local.path().join("not-a-uid/ended.json").exists());
    }

    #[tokio::test]
    async fn a_half_removed_folder_still_shows_that_the_job_has_ended() {
        let stores = Stores::in_memory();
        let folder = storage(&stores, "s3://b/jobs", OTHER);
        ended(&folder, Some(HOUR)).await;
        let order = [
            crate::reclaim::Part::Data,
            crate::reclaim::Part::Log,
            crate::reclaim::Part::Opened,
            crate::reclaim::Part::Plan,
        ];
        let mut left = paths(&folder).await;
        for part in order {
            left.retain(|path| crate::reclaim::part_of(path) > Some(part));
            assert!(left.contains(&"ended.json".to_owned()), "{left:?}");
        }
        assert_eq!(left, ["ended.json"]);
        assert_eq!(remove_job_folder(&folder).await.unwrap(), 6);
        assert_eq!(paths(&folder).await, [""; 0]);
        assert_eq!(remove_job_folder(&folder).await.unwrap(), 0);
        let beside = Location::parse("s3://b/jobs").unwrap();
        let names = subfolders(&stores, &beside, "", 9, |_| true).await.unwrap();
        assert_eq!(names, [""; 0]);
    }
}
