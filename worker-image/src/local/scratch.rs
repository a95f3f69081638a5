//! The folder of a local run for data that only its processes need: what tasks spill, and the
//! working folders of commands. It is removed with the run. A run that was killed leaves it behind,
//! and a later run removes it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The beginning of the names of these folders.
const PREFIX: &str = "zephyr-local-";
/// The file in the folder that is locked as long as its run exists. The system unlocks it however
/// the run ends.
const LOCK: &str = "lock";

/// The folder of a run. Dropping it removes the folder.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a folder for one run, and removes those of runs that no longer exist.
    pub(super) fn make() -> io::Result<Self> {
        Self::make_in(&std::env::temp_dir())
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The folder.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// Removes the folders of runs that no longer exist. What cannot be removed stays: it may belong to
/// another user.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours
            && is_abandoned(&entry.path())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::debug!(%error, folder = %entry.path().display(), "the folder of a run that was killed stays");
        }
    }
}

/// Whether the run of this folder no longer exists. A folder without a lock may be one that is
/// being made.
fn is_abandoned(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else {
        return false;
    };
    match lock.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_run_that_was_killed_is_removed_and_those_of_others_stay() {
        let parent = tempfile::tempdir().unwrap();
        let running = Scratch::make_in(parent.path()).unwrap();
        std::fs::write(running.path().join("spill"), "x").unwrap();
        let killed = parent.path().join("zephyr-local-killed");
        std::fs::create_dir(&killed).unwrap();
        for name in [LOCK, "spill"] {
            std::fs::write(killed.join(name), "").unwrap();
        }
        let foreign = parent.path().join("zephyr-local-notes");
        std::fs::create_dir(&foreign).unwrap();
        let next = Scratch::make_in(parent.path()).unwrap();
        assert!(!killed.exists());
        assert!(foreign.exists());
        assert!(running.path().join("spill").exists());
        let folder = next.path();
        drop(next);
        assert!(!folder.exists());
    }
}
