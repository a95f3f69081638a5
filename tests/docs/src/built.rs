//! Checks that every link of the pages that mdBook wrote names an existing file, and an existing id
//! in that file. This module only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::repository::resolve;

/// Pages that mdBook adds itself. They contain copies of the other pages.
const OWN: [&str; 3] = ["print.html", "404.html", "toc.html"];
/// The beginnings of targets that are not files of the book.
const ELSEWHERE: [&str; 6] = [
    "http://",
    "https://",
    "mailto:",
    "data:",
    "javascript:",
    "//",
];

/// Checks the built book in `folder`.
pub(crate) fn check(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    let mut pages = BTreeMap::new();
    for file in &files {
        let name = file.to_string_lossy().into_owned();
        let is_page = file
            .extension()
            .is_some_and(|extension| extension == "html");
        if is_page && !OWN.contains(&name.as_str()) {
            let text =
                fs::read_to_string(folder.join(file)).with_context(|| format!("read {name}"))?;
            pages.insert(name, text);
        }
    }
    ensure!(!pages.is_empty(), "{}: has no page", folder.display());
    let ids: BTreeMap<&str, BTreeSet<&str>> = pages
        .iter()
        .map(|(name, text)| (name.as_str(), attributes(text, &["id"]).collect()))
        .collect();
    let mut mistakes = Vec::new();
    let mut count = 0;
    for (name, text) in &pages {
        for target in attributes(text, &["href", "src"]) {
            if ELSEWHERE.iter().any(|start| target.starts_with(start)) {
                continue;
            }
            count += 1;
            let (file, id) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                Some(name.clone())
            } else {
                resolve(name, file)
            };
            let is_there = path
                .as_ref()
                .is_some_and(|path| folder.join(path).is_file());
            let has_id = id.is_empty()
                || path
                    .is_some_and(|path| ids.get(path.as_str()).is_some_and(|ids| ids.contains(id)));
            if !is_there || !has_id {
                mistakes.push(format!("{name}: leads nowhere (got {target:?})"));
            }
        }
    }
    ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    Ok(format!(
        "{} pages, {count} links between them and to files",
        pages.len()
    ))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        let entries = fs::read_dir(&next).with_context(|| format!("list {}", next.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("list {}", next.display()))?
                .path();
            if path.is_dir() {
                todo.push(path);
            } else if let Ok(path) = path.strip_prefix(folder) {
                files.push(path.to_owned());
            }
        }
    }
    files.sort();
    Ok(())
}

/// Returns the values of these attributes in a page that mdBook wrote. mdBook always writes double
/// quotes, and a space before the name.
fn attributes<'a>(html: &'a str, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    names.iter().flat_map(move |name| {
        let opening = format!(" {name}=\"");
        let starts: Vec<usize> = html
            .match_indices(&opening)
            .map(|(at, found)| at + found.len())
            .collect();
        starts
            .into_iter()
            .filter_map(|start| html[start..].split('"').next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(page: &str) -> Result<String> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("docs"))?;
        fs::write(folder.path().join("index.html"), "<h1 id=\"top\">")?;
        fs::write(folder.path().join("docs/a.html"), page)?;
        check(folder.path())
    }

    #[test]
    fn links_to_existing_files_and_ids_are_counted() {
        let page = "<h1 id=\"a\"><a href=\"../index.html#top\"><a href=\"#a\"><a href=\"https://example.com\">";
        assert_eq!(
            built(page).unwrap(),
            "2 pages, 2 links between them and to files"
        );
    }

    #[test]
    fn a_link_to_no_file_or_no_id_is_named_with_its_page() {
        for target in [
            "b.html",
            "../index.html#bottom",
            "#b",
            "../../c.html",
            "b.md",
        ] {
            let error = built(&format!("<a href=\"{target}\">"))
                .unwrap_err()
                .to_string();
            assert_eq!(
                error,
                format!("docs/a.html: leads nowhere (got {target:?})")
            );
        }
    }
}
