//! Checks that the target of every link of every document exists, and that `docs/SUMMARY.md` names
//! every page once. Changes no file and does not use the network.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::book::{self, Book};
use crate::home;
use crate::markdown::{self, Link, Page};
use crate::names;
use crate::repository::{Repository, resolve};
use crate::sources;

/// The beginnings of targets that are not files of the repository.
const ELSEWHERE: [&str; 3] = ["https://", "http://", "mailto:"];

/// How many documents and links were checked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    files: usize,
    anchors: usize,
    elsewhere: usize,
}

/// Checks all documents. Returns a sentence that says how much was checked. The error has one line
/// for each mistake.
pub(crate) fn check(repository: &Repository) -> Result<String> {
    let mut pages = BTreeMap::new();
    for document in repository.documents() {
        pages.insert(
            document.to_owned(),
            markdown::read(&repository.read(document)?),
        );
    }
    let book = Book::of(repository)?;
    let mut mistakes = book::mistakes(repository, &book);
    mistakes.extend(names::mistakes(repository)?);
    mistakes.extend(home::mistakes(repository)?);
    mistakes.extend(sources::mistakes(repository)?);
    let mut counts = Counts::default();
    for (path, page) in &pages {
        for link in &page.links {
            if let Err(what) = look(repository, &pages, &book, path, link, &mut counts) {
                mistakes.push(format!(
                    "{path}:{}: {what} (got {:?})",
                    link.line, link.target
                ));
            }
        }
    }
    ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    Ok(format!(
        "{} documents, {} of them in the book: {} links to files, {} to headings, {} to other sites (not followed)",
        pages.len(),
        book.pages.len(),
        counts.files,
        counts.anchors,
        counts.elsewhere
    ))
}

/// Says what is wrong with one link.
fn look(
    repository: &Repository,
    pages: &BTreeMap<String, Page>,
    book: &Book,
    path: &str,
    link: &Link,
    counts: &mut Counts,
) -> Result<(), &'static str> {
    if ELSEWHERE.iter().any(|start| link.target.starts_with(start)) {
        counts.elsewhere += 1;
        return Ok(());
    }
    let (file, anchor) = match link.target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (link.target.as_str(), None),
    };
    let target = if file.is_empty() {
        path.to_owned()
    } else {
        resolve(path, file)
            .ok_or("the link leaves the repository; a file of it or an address is allowed")?
    };
    if !repository.has(&target) && !repository.has_folder(&target) {
        return Err("there is no such file; a path relative to this page is allowed");
    }
    counts.files += 1;
    if book.has(path) {
        if repository.has_folder(&target) {
            return Err("a page of the book links to a folder; a file is allowed");
        }
        if pages.contains_key(&target) && !book.has(&target) {
            return Err(
                "a page of the book links to a document outside of it; name it in docs/SUMMARY.md",
            );
        }
    }
    let Some(anchor) = anchor else {
        return Ok(());
    };
    let anchors = pages
        .get(&target)
        .map_or(&[] as &[String], |page| &page.anchors);
    if anchors.iter().any(|known| known == anchor) {
        counts.anchors += 1;
        Ok(())
    } else {
        Err(
            "there is no such heading; the words of a heading in lower case with - between them are allowed",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Checks a repository whose book has these pages, besides the two pages of every case.
    fn checked(pages: &[(&str, &str)]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let always = [
            (
                "docs/SUMMARY.md",
                "# Summary\n\n[Zephyr](../README.md)\n- [A](a.md)\n",
            ),
            ("README.md", "# Zephyr\n[a](docs/a.md#one-two)\n"),
            ("docs/a.md", "# A\n## One, two\n"),
            ("src/lib.rs", ""),
        ];
        for (path, text) in always.iter().chain(pages) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            fs::write(path, text)?;
        }
        check(&Repository::open(folder.path())?)
    }

    fn refused(pages: &[(&str, &str)]) -> String {
        checked(pages).unwrap_err().to_string()
    }

    #[test]
    fn the_documents_of_this_repository_have_no_dead_link() {
        check(&Repository::of_this_build().unwrap()).unwrap();
    }

    #[test]
    fn the_checked_documents_and_links_are_counted() {
        let counted = checked(&[(
            "docs/a.md",
            "# A\n## One, two\n[x](https://example.com) [y](../src/lib.rs)\n",
        )]);
        let expected = "3 documents, 2 of them in the book: 4 links to files, 1 to headings, 1 to other sites (not followed)";
        assert_eq!(counted.unwrap(), expected);
    }

    #[test]
    fn a_dead_link_is_named_with_its_page_and_line() {
        for (text, words) in [
            ("\n[x](b.md)", "docs/a.md:2: there is no such file"),
            (
                "[x](../../b.md)",
                "docs/a.md:1: the link leaves the repository",
            ),
            (
                "[x](../README.md#nothing)",
                "docs/a.md:1: there is no such heading",
            ),
            ("[x](#nothing)", "docs/a.md:1: there is no such heading"),
            (
                "[x](../src/lib.rs#l1)",
                "docs/a.md:1: there is no such heading",
            ),
            (
                "[x](../src)",
                "docs/a.md:1: a page of the book links to a folder",
            ),
        ] {
            let error = refused(&[("docs/a.md", &format!("{text}\n## One, two\n"))]);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_document_outside_of_the_book_is_checked_and_not_linked_from_it() {
        let error = refused(&[("other.md", "[x](nothing.md)\n[src](src)\n")]);
        assert!(
            error.starts_with("other.md:1: there is no such file"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        let error = refused(&[
            ("docs/a.md", "## One, two\n[x](../other.md)\n"),
            ("other.md", ""),
        ]);
        assert!(error.contains("a document outside of it"), "{error}");
    }

    #[test]
    fn the_summary_names_every_page_of_docs_once_and_no_other() {
        let summary = "[Zephyr](../README.md)\n- [A](a.md)\n";
        for (pages, words) in [
            (
                vec![("docs/b.md", "# B\n")],
                "docs/b.md: is not in docs/SUMMARY.md",
            ),
            (
                vec![(
                    "docs/SUMMARY.md",
                    "[Zephyr](../README.md)\n- [A](a.md)\n- [A](a.md)\n",
                )],
                "docs/SUMMARY.md: names docs/a.md twice",
            ),
            (
                vec![("docs/SUMMARY.md", "- [A](a.md)\n")],
                "docs/SUMMARY.md: the first page is not README.md",
            ),
        ] {
            let error = refused(&pages);
            assert!(error.contains(words), "{error}");
        }
        checked(&[("docs/SUMMARY.md", summary)]).unwrap();
    }
}
