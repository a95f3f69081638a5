//! Knows the inputs of a job, so that no input is deleted together with older output. This module
//! deletes nothing.
//!
//! Names are compared before the job starts, and again before each deletion, because new names of a
//! file may have appeared since then. On a local disk, files are compared by device and inode.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::OutputError;
use super::output::Output;
use crate::ledger::load_plan;
use crate::storage::{Cause, Location, StorageError};

/// The inputs of a job, by address and, on a local disk, also by device and inode.
pub(super) struct Inputs {
    uris: HashSet<String>,
    /// The device and the inode of each input on a local disk.
    files: HashSet<(u64, u64)>,
}

impl Inputs {
    /// Returns the inputs in the plan with which the job began. A job without a plan has read
    /// nothing.
    pub(super) async fn of(output: &Output) -> Result<Self, OutputError> {
        let plan = load_plan(&output.storage, false).await.map_err(|error| {
            let cause = Cause::Other(error.to_string());
            OutputError::Storage(StorageError::new("reading", output.storage.root(), cause))
        })?;
        let inputs = plan.into_iter().flat_map(|plan| plan.inputs);
        Ok(Self::named(inputs.map(|input| input.uri).collect()))
    }

    /// Returns the inputs with these uris.
    pub(super) fn named(uris: HashSet<String>) -> Self {
        let files = uris
            .iter()
            .filter_map(|uri| identity(&Location::parse_local(uri).ok()?.local_path()?))
            .collect();
        Self { uris, files }
    }

    /// Whether the job reads no files.
    pub(super) fn is_empty(&self) -> bool {
        self.uris.is_empty()
    }

    /// Whether this file is an input.
    pub(super) fn has(&self, file: &Location) -> bool {
        let is_same = |path: &Path| identity(path).is_some_and(|it| self.files.contains(&it));
        self.uris.contains(&file.to_string())
            || file.local_path().is_some_and(|path| is_same(&path))
    }

    /// Fails if one of these files is an input.
    pub(super) fn spare(&self, files: &[Location]) -> Result<(), OutputError> {
        match files.iter().find(|file| self.has(file)) {
            Some(file) => Err(is_input(file.to_string())),
            None => Ok(()),
        }
    }
}

/// Returns the error if an input would be removed. `found` names the input.
pub(super) fn is_input(found: String) -> OutputError {
    OutputError::InTheWay {
        found,
        problem: "an input of this job would be removed with the output that is replaced",
        allowed: "input is never removed: write to another folder or under other names, and create a new job",
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_spared_by_its_address_and_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("real")).unwrap();
        std::fs::write(path("real/a"), "1").unwrap();
        std::fs::write(path("real/b"), "2").unwrap();
        std::os::unix::fs::symlink(path("real"), path("link")).unwrap();
        let place = |name: &str| Location::parse_local(path(name).to_str().unwrap()).unwrap();
        let inputs = Inputs {
            uris: HashSet::from(["s3://b/k".to_owned(), place("link/a").to_string()]),
            files: HashSet::from([identity(&path("link/a")).unwrap()]),
        };
        let remote = |key: &str| Location::parse(&format!("s3://b/{key}")).unwrap();
        assert!(inputs.spare(&[remote("other"), place("real/b")]).is_ok());
        for file in [remote("k"), place("real/a"), place("link/a")] {
            let error = inputs.spare(&[place("real/b"), file]).unwrap_err();
            assert!(!error.is_transient());
        }
    }
}
