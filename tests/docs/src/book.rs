//! Reads the pages of the book, as `docs/SUMMARY.md` lists them, and makes the folder from which
//! mdBook builds the book.
//!
//! In the folder, the pages have the same paths as in the repository, so the same links work in the
//! clone, on GitHub and in the book. This module writes only to that folder.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::markdown;
use crate::repository::{Repository, resolve};

/// The list of pages.
const SUMMARY: &str = "docs/SUMMARY.md";
/// The first page. mdBook writes it as `index.html`.
const FIRST: &str = "README.md";

/// The pages of the book, in their order.
pub(crate) struct Book {
    pub(crate) pages: Vec<String>,
}

impl Book {
    /// Returns the book of this repository.
    pub(crate) fn of(repository: &Repository) -> Result<Self> {
        let links = markdown::read(&repository.read(SUMMARY)?).links;
        let pages = links
            .iter()
            .filter_map(|link| resolve(SUMMARY, &link.target));
        Ok(Self {
            pages: pages.collect(),
        })
    }

    /// Returns whether the document is a page of the book.
    pub(crate) fn has(&self, document: &str) -> bool {
        self.pages.iter().any(|page| page == document)
    }
}

/// Returns the pages that the list lacks, names twice, or has in a wrong place.
pub(crate) fn mistakes(repository: &Repository, book: &Book) -> Vec<String> {
    let mut mistakes = Vec::new();
    if book.pages.first().map(String::as_str) != Some(FIRST) {
        mistakes.push(format!(
            "{SUMMARY}: the first page is not {FIRST}, which is the book's first page"
        ));
    }
    let mut seen = BTreeSet::new();
    for page in &book.pages {
        if !seen.insert(page) {
            mistakes.push(format!("{SUMMARY}: names {page} twice; once is allowed"));
        }
    }
    for document in repository.documents() {
        if document.starts_with("docs/") && document != SUMMARY && !book.has(document) {
            mistakes.push(format!(
                "{document}: is not in {SUMMARY}, which names every page of docs"
            ));
        }
    }
    mistakes
}

/// Writes the sources of the book into `folder`: its pages, the files that they show or link to,
/// and its table of contents.
pub(crate) fn stage(repository: &Repository, folder: &Path) -> Result<String> {
    let book = Book::of(repository)?;
    let mut files: BTreeSet<String> = book.pages.iter().cloned().collect();
    for page in &book.pages {
        for link in markdown::read(&repository.read(page)?).links {
            let file = link.target.split('#').next().unwrap_or_default();
            files.extend(resolve(page, file).filter(|target| repository.has(target)));
        }
    }
    for file in &files {
        let target = folder.join(file);
        let parent = target.parent().context("a file has a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::copy(repository.path(file), &target).with_context(|| format!("copy {file}"))?;
    }
    let summary = table_of_contents(&repository.read(SUMMARY)?)?;
    fs::write(folder.join("SUMMARY.md"), summary).context("write SUMMARY.md")?;
    Ok(format!(
        "{} pages and {} other files",
        book.pages.len(),
        files.len() - book.pages.len()
    ))
}

/// Returns the summary, with the paths of its pages relative to the root of the repository.
fn table_of_contents(summary: &str) -> Result<String> {
    let mut text = String::new();
    for line in summary.lines() {
        if let Some((before, after)) = line.split_once("](") {
            let (target, behind) = after.split_once(')').unwrap_or((after, ""));
            let page = resolve(SUMMARY, target);
            ensure!(page.is_some(), "{SUMMARY}: {target} leaves the repository");
            let page = page.unwrap_or_default();
            let _ = writeln!(text, "{before}]({page}){behind}");
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_contents_has_paths_from_the_root() {
        let summary = "# Summary\n\n[Zephyr](../README.md)\n- [A](a.md)\n  - [B](x/b.md)\n";
        let expected = "# Summary\n\n[Zephyr](README.md)\n- [A](docs/a.md)\n  - [B](docs/x/b.md)\n";
        assert_eq!(table_of_contents(summary).unwrap(), expected);
        assert!(table_of_contents("- [A](../../a.md)\n").is_err());
    }

    #[test]
    fn every_page_and_every_file_that_one_links_to_is_in_the_book() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::of_this_build().unwrap();
        stage(&repository, folder.path()).unwrap();
        for file in [
            "SUMMARY.md",
            "README.md",
            "docs/images/overview.svg",
            "examples/try.yaml",
        ] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
