//! Finds obstacles on the path of a local file or folder. An obstacle is a folder instead of a
//! file, a file instead of a folder, or a dead link. No obstacle disappears by itself. This module
//! only examines names. It opens, creates and removes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What is needed at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A file, or a name that does not exist yet.
    File,
    /// A folder, or a name that does not exist yet. The folder is created when it is needed.
    Folder,
}

/// What is found at a path, after following links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    File,
    Folder,
    /// A symbolic link with a missing target, or one that leads to itself.
    DeadLink,
    /// A pipe, a socket or a device.
    Special,
    /// The process may not examine the path.
    Unknown,
}

/// Returns why `path` cannot be used as needed, with the path of the obstacle. `None` if the path
/// can be used, or if this is not known.
pub fn obstacle(path: &Path, need: Need) -> Option<String> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    let mut seen = Vec::new();
    for step in way {
        let found = look(step);
        seen.push((step.to_owned(), found));
        if found != Seen::Folder {
            break;
        }
    }
    judge(path, need, &seen)
}

/// Checks the components of a path from its root. All of them except the last one must be folders.
/// Pure.
fn judge(path: &Path, need: Need, seen: &[(PathBuf, Seen)]) -> Option<String> {
    let (step, found) = seen.last()?;
    let need = if step == path { need } else { Need::Folder };
    let problem = match (found, need) {
        (Seen::Nothing | Seen::Unknown, _)
        | (Seen::File, Need::File)
        | (Seen::Folder, Need::Folder) => return None,
        (Seen::Folder, Need::File) => "is a folder, but a file is needed",
        (Seen::File, Need::Folder) => "is a file, but a folder is needed",
        (Seen::DeadLink, _) => "is a symbolic link that leads nowhere",
        (Seen::Special, Need::File) => "is a pipe, a socket or a device, but a file is needed",
        (Seen::Special, Need::Folder) => "is a pipe, a socket or a device, but a folder is needed",
    };
    Some(format!("{} {problem}", step.display()))
}

fn look(path: &Path) -> Seen {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Seen::Folder,
        Ok(found) if found.is_file() => Seen::File,
        Ok(_) => Seen::Special,
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Seen::DeadLink,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            if is_link {
                Seen::DeadLink
            } else {
                Seen::Nothing
            }
        }
        Err(_) => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_that_cannot_be_used_as_needed_is_named_with_the_reason() {
        let disk = tempfile::tempdir().unwrap();
        let root = disk.path();
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("nowhere", root.join("dead")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("folder", root.join("link")).unwrap();
        symlink("file", root.join("filelink")).unwrap();
        symlink("/dev/zero", root.join("device")).unwrap();
        let dead = "is a symbolic link that leads nowhere";
        for (path, need, at, problem) in [
            ("new", Need::File, "", ""),
            ("new/deep", Need::Folder, "", ""),
            ("file", Need::File, "", ""),
            ("filelink", Need::File, "", ""),
            ("folder", Need::Folder, "", ""),
            ("link/new", Need::File, "", ""),
            (
                "folder",
                Need::File,
                "folder",
                "is a folder, but a file is needed",
            ),
            (
                "link",
                Need::File,
                "link",
                "is a folder, but a file is needed",
            ),
            (
                "file",
                Need::Folder,
                "file",
                "is a file, but a folder is needed",
            ),
            (
                "file/x/y",
                Need::File,
                "file",
                "is a file, but a folder is needed",
            ),
            ("dead", Need::File, "dead", dead),
            ("dead", Need::Folder, "dead", dead),
            ("dead/x", Need::File, "dead", dead),
            ("loop", Need::File, "loop", dead),
            ("loop/x", Need::Folder, "loop", dead),
            (
                "device",
                Need::File,
                "device",
                "is a pipe, a socket or a device, but a file is needed",
            ),
        ] {
            let expected =
                (!at.is_empty()).then(|| format!("{} {problem}", root.join(at).display()));
            assert_eq!(
                obstacle(&root.join(path), need),
                expected,
                "{path} {need:?}"
            );
        }
    }
}
