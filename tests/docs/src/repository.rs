//! Finds and reads the files of the clone. Paths are relative to the root of the clone. This module
//! decides nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Folders that contain no document of this project.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// A clone, and the paths of all its files.
pub(crate) struct Repository {
    root: PathBuf,
    files: BTreeSet<String>,
}

impl Repository {
    /// Returns the clone that this program was built from.
    pub(crate) fn of_this_build() -> Result<Self> {
        Self::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")))
    }

    /// Returns the clone with this root.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let root = fs::canonicalize(root).with_context(|| format!("open {}", root.display()))?;
        let mut files = BTreeSet::new();
        collect(&root, "", &mut files)?;
        Ok(Self { root, files })
    }

    /// Returns the absolute path of a file.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// Returns the text of a file.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.path(file)).with_context(|| format!("read {file}"))
    }

    /// Returns whether there is such a file.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// Returns whether there is such a folder. The path of the root is "".
    pub(crate) fn has_folder(&self, folder: &str) -> bool {
        let start = format!("{folder}/");
        folder.is_empty() || self.files.iter().any(|file| file.starts_with(&start))
    }

    /// Returns all Rust files, in the order of their paths.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.with_extension("rs")
    }

    /// Returns all documents, in the order of their paths.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &str> {
        self.with_extension("md")
    }

    /// Returns all documents, and all YAML files.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let yaml = self.with_extension("yaml");
        self.documents()
            .chain(yaml)
            .chain(self.with_extension("yml"))
    }

    fn with_extension(&self, wanted: &'static str) -> impl Iterator<Item = &str> {
        let has_it = move |file: &&str| {
            Path::new(file)
                .extension()
                .is_some_and(|extension| extension == wanted)
        };
        self.files.iter().map(String::as_str).filter(has_it)
    }
}

fn collect(root: &Path, folder: &str, files: &mut BTreeSet<String>) -> Result<()> {
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("list {folder:?}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list {folder:?}"))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let path = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        let kind = entry
            .file_type()
            .with_context(|| format!("look at {path}"))?;
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() {
            files.insert(path);
        }
    }
    Ok(())
}

/// Returns the path that `target` means in a link of `file`, or `None` if the path is outside of
/// the repository.
pub(crate) fn resolve(file: &str, target: &str) -> Option<String> {
    let mut segments: Vec<&str> = file.split('/').collect();
    segments.pop();
    if target.starts_with('/') {
        return None;
    }
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_resolved_from_the_folder_of_its_page() {
        assert_eq!(resolve("docs/a.md", "b.md").as_deref(), Some("docs/b.md"));
        assert_eq!(resolve("docs/a.md", "../b.md").as_deref(), Some("b.md"));
        assert_eq!(resolve("docs/x/a.md", "../../b/c").as_deref(), Some("b/c"));
        assert_eq!(resolve("a.md", "docs/").as_deref(), Some("docs"));
    }

    #[test]
    fn a_target_outside_of_the_repository_is_none() {
        assert_eq!(resolve("a.md", "../b.md"), None);
        assert_eq!(resolve("docs/a.md", "../../b.md"), None);
        assert_eq!(resolve("docs/a.md", "/etc/passwd"), None);
    }
}
