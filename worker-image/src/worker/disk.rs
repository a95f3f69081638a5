//! What a worker's scratch space holds, beside what its pod may use of its node's disk. The kubelet
//! evicts a pod that uses more, and a worker that goes at once is gone before the eviction is in
//! its pod's status, where nobody finds it then: so the worker looks for itself, now and then while
//! it works and once more when it has to go. Reads only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Bytes in one block of `st_blocks`, whatever the file system's own blocks are (POSIX `stat`).
const BLOCK_BYTES: u64 = 512;
/// Time between two looks. The kubelet measures every ten seconds or so: a pod that it evicts was
/// over its limit at the last look in most cases, and then no further look delays its report. A
/// look reads some hundred directory entries.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the look may take that is made when the worker has to go: the kubelet gives an evicted
/// pod at least two seconds, and the report has to be sent within the other one.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// Limit of its pod; 0 if there is none.
    pub(super) limit_bytes: u64,
}

impl DiskLimit {
    /// Passes on that the worker has to go, with the reason. Ends without a word if nobody says so.
    pub(super) async fn tell_why(self, told: oneshot::Receiver<()>, leave: oneshot::Sender<Leave>) {
        let (directory, limit_bytes) = (Arc::new(self.directory), self.limit_bytes);
        let look = || {
            let directory = Arc::clone(&directory);
            async move {
                // A blocking thread that panics has seen nothing.
                let look = tokio::task::spawn_blocking(move || held(&directory));
                look.await.unwrap_or_default()
            }
        };
        let Some(how) = watch(limit_bytes, look, told).await else {
            return;
        };
        if leave.send(how).is_err() {
            tracing::debug!("the worker was gone before it was told");
        }
    }
}

/// Looks again and again until the worker has to go, and says how it goes; nothing if nobody says
/// that it has to. A last look that was over the limit is enough; otherwise one more is made, for a
/// disk that has filled since.
async fn watch<Look>(
    limit_bytes: u64,
    look: impl Fn() -> Look,
    told: oneshot::Receiver<()>,
) -> Option<Leave>
where
    Look: Future<Output = u64>,
{
    if limit_bytes == 0 {
        return told.await.ok().map(|()| Leave::Disrupted);
    }
    let mut held_bytes = 0;
    let looks = async {
        loop {
            held_bytes = look().await;
            sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        told = told => told.ok()?,
        () = looks => {}
    }
    if held_bytes <= limit_bytes {
        held_bytes = timeout(LOOK_TIMEOUT, look()).await.unwrap_or_else(|_| {
            tracing::warn!("the scratch space cannot be looked at in time");
            held_bytes
        });
    }
    let excess = excess(limit_bytes, held_bytes);
    Some(excess.map_or(Leave::Disrupted, Leave::OverDiskLimit))
}

/// What is wrong with the use of the disk, if anything is.
fn excess(limit_bytes: u64, held_bytes: u64) -> Option<String> {
    (held_bytes > limit_bytes).then(|| {
        format!(
            "the worker's pod had to go while its scratch space held {} MiB; its limit is {} MiB, set by spec.workers.resources.limits.ephemeral-storage or, without it, by a LimitRange or the provider",
            held_bytes.div_ceil(1 << 20),
            limit_bytes / (1 << 20)
        )
    })
}

/// Bytes on the disk of everything in a directory, as the kubelet counts them. What cannot be seen
/// is not counted: files come and go meanwhile.
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
    fn what_lies_in_folders_counts_by_what_it_takes_of_the_disk_and_a_link_leads_nowhere() {
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
        let told = excess(3 * MIB, 4 * MIB).unwrap();
        assert!(
            told.contains(
                "held 4 MiB; its limit is 3 MiB, set by spec.workers.resources.limits.ephemeral-storage"
            ),
            "{told}"
        );
    }

    /// How a worker with a limit of 3 MiB goes after 10 s, and how long that takes. `looks` gives
    /// what each look finds; one that is `None`, and all after the last, never ends.
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
        let (tell, told) = oneshot::channel();
        let tells = async {
            sleep(LOOK_INTERVAL * 5).await;
            tell.send(()).unwrap();
            Instant::now()
        };
        let (told_at, how) = tokio::join!(tells, watch(3 * MIB, look, told));
        let is_over = how.unwrap() != Leave::Disrupted;
        (is_over, told_at.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_known_though_no_further_look_ends_in_time() {
        let at_once = Duration::ZERO;
        for (looks, expected) in [
            // It was over the limit at the last look, whether or not the next one ends.
            (&[Some(1), Some(4)][..], (true, at_once)),
            (&[Some(4), None][..], (true, at_once)),
            // It has filled since.
            (&[Some(1), None, Some(4)], (true, at_once)),
            (&[Some(1), None, Some(3)], (false, at_once)),
            // Nothing is known.
            (&[None, None], (false, LOOK_TIMEOUT)),
            (&[Some(1), None, None], (false, LOOK_TIMEOUT)),
            // Room was made.
            (&[Some(4), Some(1), None, Some(1)], (false, at_once)),
        ] {
            assert_eq!(leaves(looks).await, expected, "{looks:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_without_a_limit_never_looks_and_an_asker_that_is_gone_says_nothing() {
        let look = || async { panic!("it looks") };
        let (tell, told) = oneshot::channel();
        tell.send(()).unwrap();
        assert_eq!(watch(0, look, told).await, Some(Leave::Disrupted));
        let (tell, told) = oneshot::channel();
        drop(tell);
        assert_eq!(watch(0, look, told).await, None);
        let (tell, told) = oneshot::channel::<()>();
        drop(tell);
        assert_eq!(watch(1, || async { 0 }, told).await, None);
    }
}
