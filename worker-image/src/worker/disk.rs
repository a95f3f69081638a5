//! Compares the size of a worker's scratch space with the pod's limit for its node's disk. The
//! kubelet evicts a pod that uses more. If the worker terminates at once, its process has ended
//! before the pod's status shows the eviction. So the worker measures the space itself: repeatedly
//! while it works, and once more when it has to terminate. This module only reads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How many bytes one block has of `st_blocks`, whatever the block size of the file system (POSIX
/// `stat`).
const BLOCK_BYTES: u64 = 512;
/// How much time passes between two measurements. The kubelet measures about every ten seconds. So
/// a pod that it evicts was usually over its limit at the last measurement, and no further
/// measurement delays the report. A measurement reads a few hundred directory entries.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the measurement may take when the worker has to terminate. The kubelet gives an evicted
/// pod at least two seconds, and the report has to be sent in the remaining second.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// How a worker that was asked to terminate handles its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The tasks did not cause the request, and are handed back.
    Disrupted,
    /// The tasks have used more of the disk than allowed. The sentence says how much.
    OverDiskLimit(String),
}

/// A pod's scratch space and its limit.
#[derive(Clone, Debug)]
pub(super) struct DiskLimit {
    /// The only folder to which the pod can write.
    pub(super) directory: PathBuf,
    /// The limit of the pod in bytes; 0 if there is none.
    pub(super) limit_bytes: u64,
}

impl DiskLimit {
    /// Reports that the worker must terminate, with the reason. Ends without a report if the sender
    /// of the request was dropped.
    pub(super) async fn report_cause(
        self,
        asked: oneshot::Receiver<()>,
        leave: oneshot::Sender<Leave>,
    ) {
        let (directory, limit_bytes) = (Arc::new(self.directory), self.limit_bytes);
        let look = || {
            let directory = Arc::clone(&directory);
            async move {
                // If the blocking thread panics, there is no result.
                let look = tokio::task::spawn_blocking(move || held(&directory));
                look.await.unwrap_or_default()
            }
        };
        let Some(how) = watch(limit_bytes, look, asked).await else {
            return;
        };
        if leave.send(how).is_err() {
            tracing::debug!("the worker exited before the request");
        }
    }
}

/// Measures repeatedly until the worker has to terminate, and returns how it terminates. Returns
/// `None` if the sender of the request was dropped. If the last measurement was over the limit, the
/// worker terminates because of the limit. Otherwise one more measurement is made, because the disk
/// may have filled since.
async fn watch<Look>(
    limit_bytes: u64,
    look: impl Fn() -> Look,
    asked: oneshot::Receiver<()>,
) -> Option<Leave>
where
    Look: Future<Output = u64>,
{
    if limit_bytes == 0 {
        return asked.await.ok().map(|()| Leave::Disrupted);
    }
    let mut held_bytes = 0;
    let looks = async {
        loop {
            held_bytes = look().await;
            sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        asked = asked => asked.ok()?,
        () = looks => {}
    }
    if held_bytes <= limit_bytes {
        held_bytes = timeout(LOOK_TIMEOUT, look()).await.unwrap_or_else(|_| {
            tracing::warn!("the scratch space cannot be measured in time");
            held_bytes
        });
    }
    let excess = excess(limit_bytes, held_bytes);
    Some(excess.map_or(Leave::Disrupted, Leave::OverDiskLimit))
}

/// Returns an error if more of the disk is used than allowed.
fn excess(limit_bytes: u64, held_bytes: u64) -> Option<String> {
    (held_bytes > limit_bytes).then(|| {
        format!(
            "the worker's pod was terminated while its scratch space held {} MiB; its limit is {} MiB, set by spec.workers.resources.limits.ephemeral-storage or, without it, by a LimitRange or the provider",
            held_bytes.div_ceil(1 << 20),
            limit_bytes / (1 << 20)
        )
    })
}

/// Returns how many bytes everything in a directory takes on the disk, as the kubelet counts them.
/// Entries that cannot be read are not counted, because files are created and deleted at the same
/// time.
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
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn files_count_by_their_blocks_on_the_disk_and_links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("big"), vec![1; 8 << 20]).unwrap();
        fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        fs::write(scratch.path().join("a/b/run"), vec![1; 3 << 20]).unwrap();
        fs::write(scratch.path().join("other"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), scratch.path().join("link")).unwrap();
        let held = held(scratch.path());
        assert!((4 * MIB..5 * MIB).contains(&held), "{held}");
        assert_eq!(excess(held, held), None);
        let asked = excess(3 * MIB, 4 * MIB).unwrap();
        assert!(
            asked.contains(
                "held 4 MiB; its limit is 3 MiB, set by spec.workers.resources.limits.ephemeral-storage"
            ),
            "{asked}"
        );
    }

    /// Asks a worker with a limit of 3 MiB to terminate after 10 s. Returns whether it was over the
    /// limit, and how long the answer took. `looks` contains the result of each measurement, or
    /// `None` if the measurement never ends. Measurements after the last element never end either.
    async fn leaves(looks: &[Option<u64>]) -> (bool, Duration) {
        let number = Cell::new(0);
        let look = || {
            let found = looks.get(number.get()).copied().flatten();
            number.set(number.get() + 1);
            async move {
                match found {
                    Some(mebibytes) => mebibytes * MIB,
                    None => std::future::pending().await,
                }
            }
        };
        let (sender, asked) = oneshot::channel();
        let sends = async {
            sleep(LOOK_INTERVAL * 5).await;
            sender.send(()).unwrap();
            Instant::now()
        };
        let (asked_at, how) = tokio::join!(sends, watch(3 * MIB, look, asked));
        let is_over = how.unwrap() != Leave::Disrupted;
        (is_over, asked_at.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_known_even_if_no_further_measurement_ends_in_time() {
        let at_once = Duration::ZERO;
        for (looks, expected) in [
            // It was over the limit at the last measurement, whether or not the next one ends.
            (&[Some(1), Some(4)][..], (true, at_once)),
            (&[Some(4), None][..], (true, at_once)),
            // The disk has filled since the last measurement.
            (&[Some(1), None, Some(4)], (true, at_once)),
            (&[Some(1), None, Some(3)], (false, at_once)),
            // No measurement has ended.
            (&[None, None], (false, LOOK_TIMEOUT)),
            (&[Some(1), None, None], (false, LOOK_TIMEOUT)),
            // Space was freed.
            (&[Some(4), Some(1), None, Some(1)], (false, at_once)),
        ] {
            assert_eq!(leaves(looks).await, expected, "{looks:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_without_a_limit_never_measures_and_a_dropped_sender_is_no_request() {
        let look = || async { panic!("it looks") };
        let (sender, asked) = oneshot::channel();
        sender.send(()).unwrap();
        assert_eq!(watch(0, look, asked).await, Some(Leave::Disrupted));
        let (sender, asked) = oneshot::channel();
        drop(sender);
        assert_eq!(watch(0, look, asked).await, None);
        let (sender, asked) = oneshot::channel::<()>();
        drop(sender);
        assert_eq!(watch(1, || async { 0 }, asked).await, None);
    }
}
