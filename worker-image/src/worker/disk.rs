//! What a worker's scratch space holds, beside what its pod may use of its node's disk. The kubelet evicts a pod that uses more,
//! and a worker that goes at once is gone before the eviction is in its pod's status, where nobody finds it then: so the
//! worker looks for itself when it is told to go. Reads only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;

/// Bytes in one block of `st_blocks`, whatever the file system's own blocks are (POSIX `stat`).
const BLOCK_BYTES: u64 = 512;
/// How long a disk may take to be looked at; a second after a worker is told to go, its work has to run
/// elsewhere, and a pod that is evicted for its disk has no longer.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// How a worker goes that was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// What it runs was disturbed by the world around it, and is handed back.
    Disrupted,
    /// What it runs has used more of the disk than it may; the sentence says how much.
    OverDiskLimit(String),
}

/// A pod's scratch space and its limit.
#[derive(Clone, Debug)]
pub(super) struct DiskLimit {
    /// The only place that the pod can write to.
    pub(super) directory: PathBuf,
    /// Limit of its pod; 0 where there is none.
    pub(super) limit_bytes: u64,
}

impl DiskLimit {
    /// Passes on that the worker has to go, with why. Ends without a word where nobody says so.
    pub(super) async fn tell_why(self, told: oneshot::Receiver<()>, leave: oneshot::Sender<Leave>) {
        if told.await.is_err() {
            return;
        }
        let look = tokio::task::spawn_blocking(move || self.excess());
        let excess = if let Ok(Ok(excess)) = tokio::time::timeout(LOOK_TIMEOUT, look).await {
            excess
        } else {
            tracing::warn!("the scratch space cannot be looked at in time");
            None
        };
        let how = excess.map_or(Leave::Disrupted, Leave::OverDiskLimit);
        if leave.send(how).is_err() {
            tracing::debug!("the worker was gone before it was told");
        }
    }

    /// What is wrong with the use of the disk, where anything is.
    fn excess(&self) -> Option<String> {
        if self.limit_bytes == 0 {
            return None;
        }
        let held_bytes = held(&self.directory);
        (held_bytes > self.limit_bytes).then(|| {
            format!(
                "the worker's pod had to go while its scratch space held {} MiB; its limit is {} MiB, set by spec.workers.resources.limits.ephemeral-storage",
                held_bytes.div_ceil(1 << 20),
                self.limit_bytes / (1 << 20)
            )
        })
    }
}

/// Bytes on the disk of everything in a directory, as the kubelet counts them. What cannot be seen is not counted: files come
/// and go meanwhile.
fn held(directory: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            bytes += metadata.blocks() * BLOCK_BYTES;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_folders_counts_by_what_it_takes_of_the_disk_and_a_link_leads_nowhere() {
        let scratch = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("big"), vec![1; 8 << 20]).unwrap();
        fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        fs::write(scratch.path().join("a/b/run"), vec![1; 3 << 20]).unwrap();
        fs::write(scratch.path().join("other"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), scratch.path().join("link")).unwrap();
        let of = |limit_bytes| DiskLimit {
            directory: scratch.path().to_owned(),
            limit_bytes,
        };
        assert_eq!(of(0).excess(), None);
        assert_eq!(of(5 << 20).excess(), None);
        let told = of(3 << 20).excess().unwrap();
        assert!(
            told.contains("limit is 3 MiB, set by spec.workers.resources.limits.ephemeral-storage"),
            "{told}"
        );
        assert!(
            told.contains("held 4 MiB") || told.contains("held 5 MiB"),
            "{told}"
        );
    }
}
