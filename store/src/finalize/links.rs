//! Finds symbolic links to folders between a sink's folder and a file that older output lists. A
//! file behind such a link is stored elsewhere, and a job deletes nothing there.
//!
//! This module reads only names on the local disk. It must not delete or write anything.

use std::path::{Path, PathBuf};

use super::OutputError;
use crate::storage::{Cause, Location, StorageError};

/// Fails if one of these files is behind a link to a folder that is itself below `folder`. A link
/// on the path to `folder` itself is ignored, because the job's own output goes through it too.
///
/// # Errors
/// A file is behind such a link. The error names the first such file and the link.
pub(super) async fn refuse_files_behind_links(
    folder: &Location,
    files: &[Location],
) -> Result<(), OutputError> {
    let Some(root) = folder.local_path() else {
        return Ok(());
    };
    let paths: Vec<PathBuf> = files.iter().filter_map(Location::local_path).collect();
    let look = move || {
        paths
            .iter()
            .find_map(|path| Some((path.clone(), link_between(&root, path)?)))
    };
    let found = tokio::task::spawn_blocking(look).await.map_err(|error| {
        let cause = Cause::Other(error.to_string());
        OutputError::Store(StorageError::new("listing", folder, cause))
    })?;
    match found {
        None => Ok(()),
        Some((path, link)) => Err(OutputError::InTheWay {
            found: format!("file://{}, through {}", path.display(), link.display()),
            problem: "a file that Overwrite would remove is behind a symbolic link to a folder",
            allowed: "files behind such links are never removed: move the link away, or write to another folder",
        }),
    }
}

/// Returns the outermost link among the folders between `root` and `path`, both excluded.
fn link_between(root: &Path, path: &Path) -> Option<PathBuf> {
    let above = path.ancestors().skip(1);
    let between = above.take_while(|each| each.starts_with(root) && *each != root);
    between
        .filter(|each| each.symlink_metadata().is_ok_and(|it| it.is_symlink()))
        .last()
        .map(Path::to_owned)
}
