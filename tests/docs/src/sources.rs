//! Checks that the Rust files that documents name exist. If a document names a test together with a
//! file, checks that the test is in that file. This module only reads.

use std::path::Path;

use anyhow::Result;

use crate::repository::Repository;

/// The only page whose paths may be relative to [`BELOW`]. The page says so.
const BAD_INPUTS: &str = "docs/bad-inputs.md";
const BELOW: &str = "worker-image";
/// A name between backticks counts as the name of a test only if it has at least this many letters.
/// Shorter names are other names in the code.
const MIN_TEST_NAME: usize = 16;

/// Returns one line for each file that is missing, and for each test that is not in its file.
pub(crate) fn mistakes(repository: &Repository) -> Result<Vec<String>> {
    let mut mistakes = Vec::new();
    for document in repository.documents() {
        for (index, line) in repository.read(document)?.lines().enumerate() {
            let place = format!("{document}:{}", index + 1);
            for path in paths(line).filter(|path| is_ours(repository, path)) {
                if found(repository, document, path).is_none() {
                    mistakes.push(format!("{place}: there is no such file (got {path})"));
                }
            }
            for (name, path) in named_tests(line) {
                let Some(file) = found(repository, document, path) else {
                    continue;
                };
                if !repository.read(&file)?.contains(name) {
                    mistakes.push(format!("{place}: {file} has no such test (got {name})"));
                }
            }
        }
    }
    Ok(mistakes)
}

/// Returns the file to which a document refers by this path.
fn found(repository: &Repository, document: &str, path: &str) -> Option<String> {
    let below = format!("{BELOW}/{path}");
    if repository.has(path) {
        Some(path.to_owned())
    } else if document == BAD_INPUTS && repository.has(&below) {
        Some(below)
    } else {
        None
    }
}

/// Returns whether a path begins with a folder of the repository. Otherwise it is only a part of a
/// path.
fn is_ours(repository: &Repository, path: &str) -> bool {
    path.split_once('/')
        .is_some_and(|(first, _)| first == "src" || repository.has_folder(first))
}

/// Returns the paths of Rust files in a line.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| {
        !character.is_ascii_alphanumeric() && !"_-./{}*…".contains(character)
    })
    .map(|word| word.trim_end_matches('.'))
    .filter(|word| {
        Path::new(word)
            .extension()
            .is_some_and(|extension| extension == "rs")
    })
    .filter(|word| !word.contains(['{', '*', '…']))
}

/// Returns the names of tests in a line that are followed by their file, as in: `name`
/// (path/of/file.rs).
fn named_tests(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.match_indices("` (").filter_map(|(at, opening)| {
        let name = &line[line[..at].rfind('`')? + 1..at];
        let is_name = name.len() >= MIN_TEST_NAME
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let path = paths(line[at + opening.len()..].split(')').next()?).next()?;
        is_name.then_some((name, path))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refused(page: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("engine/src/a.rs", "fn a_name_of_a_long_test() {}"),
            ("worker-image/src/b.rs", ""),
            ("docs/page.md", page),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        mistakes(&Repository::open(folder.path()).unwrap()).unwrap()
    }

    #[test]
    fn a_missing_file_or_test_is_named_with_its_line() {
        for (page, words) in [
            (
                "x\n`engine/src/b.rs`",
                "docs/page.md:2: there is no such file (got engine/src/b.rs)",
            ),
            (
                "(src/b.rs)",
                "docs/page.md:1: there is no such file (got src/b.rs)",
            ),
            (
                "`no_name_of_a_long_test` (engine/src/a.rs): x",
                "docs/page.md:1: engine/src/a.rs has no such test (got no_name_of_a_long_test)",
            ),
        ] {
            assert_eq!(refused(page), [words]);
        }
    }

    #[test]
    fn existing_files_and_tests_and_parts_of_paths_are_not_mistakes() {
        for page in [
            "`a_name_of_a_long_test` (engine/src/a.rs). `engine/src/a.rs`: worker-image/src/b.rs.",
            "`finalize/claim.rs`, a.rs, `engine/src/{a,b}.rs`, `a/*.rs` and `short` (engine/src/a.rs)",
        ] {
            assert_eq!(refused(page), [] as [&str; 0]);
        }
    }
}
