//! Checks that the numbers in the names of tests are defined in the documents: `fault_4200` in
//! `docs/faults.md`, `fault_f12` in `docs/internals/operator-faults.md`, `promise_e1` in
//! `docs/promises.md`, and `row_90` of a bad input in `docs/bad-inputs.md`. This module only reads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::repository::Repository;

/// Words in the names of tests, each with the page that defines the numbers after the word. The
/// rows of the page's tables begin with these numbers.
const KINDS: [(&str, &str); 5] = [
    ("fault", "docs/faults.md"),
    ("promise", "docs/promises.md"),
    ("input", "docs/bad-inputs.md"),
    ("row", "docs/bad-inputs.md"),
    ("rows", "docs/bad-inputs.md"),
];

/// The page that defines the faults with the letter F.
const OPERATOR_FAULTS: &str = "docs/internals/operator-faults.md";

/// Returns one line for each number that no page defines, and for each promise that has no test.
pub(crate) fn mistakes(repository: &Repository) -> Result<Vec<String>> {
    let mut defined = BTreeMap::new();
    for page in KINDS
        .map(|(_, page)| page)
        .into_iter()
        .chain([OPERATOR_FAULTS])
    {
        if repository.has(page) {
            defined.insert(page, defined_in(&repository.read(page)?));
        }
    }
    let mut mistakes = Vec::new();
    let mut shown = BTreeSet::new();
    for source in repository.sources() {
        let text = repository.read(source)?;
        for name in names(&text) {
            for (page, number) in numbers(name) {
                shown.insert((page, number.clone()));
                if !defined
                    .get(page)
                    .is_some_and(|known| known.contains(&number))
                {
                    mistakes.push(format!(
                        "{source}: the test {name} has a number that {page} does not define (got {number})"
                    ));
                }
            }
        }
    }
    let promises = "docs/promises.md";
    for number in defined.get(promises).into_iter().flatten() {
        if !shown.contains(&(promises, number.clone())) {
            mistakes.push(format!("{promises}: no test shows {number}"));
        }
    }
    Ok(mistakes)
}

/// Returns the numbers in the first cells of all rows, in lower case. For example, the cell
/// `4994/5001, 5004 (open there)` has three numbers.
fn defined_in(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| cell.split(|character: char| !character.is_alphanumeric()))
        .filter(|word| is_number(word))
        .map(str::to_lowercase)
        .collect()
}

/// Returns whether a word consists of digits, after at most one letter.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(|first: char| first.is_ascii_alphabetic());
    let digits = digits.unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns all names in a source file that begin like the name of such a test. This includes names
/// from which a macro makes a test.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '_')
        .filter(|word| {
            let first = word.strip_prefix("bad_").unwrap_or(word);
            KINDS
                .iter()
                .any(|(kind, _)| first.split('_').next() == Some(*kind))
        })
}

/// Returns the numbers in a name, each with the page that defines it. These are the numbers that
/// follow one of the words, up to the next word that is not a number.
fn numbers(name: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut page = None;
    for word in name.split('_') {
        if let Some((_, kind)) = KINDS.iter().find(|(kind, _)| *kind == word) {
            page = Some(*kind);
        } else if let Some(page) = page.filter(|_| is_number(word)) {
            let is_of_operator = page == "docs/faults.md" && word.starts_with('f');
            let page = if is_of_operator {
                OPERATOR_FAULTS
            } else {
                page
            };
            found.push((page, word.to_owned()));
        } else {
            page = None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_a_kind_and_end_with_the_first_other_word() {
        let found = numbers("fault_2927_5907_promise_e6_a_row_of_3_rows_81_83_go");
        let expected = [
            ("docs/faults.md", "2927"),
            ("docs/faults.md", "5907"),
            ("docs/promises.md", "e6"),
            ("docs/bad-inputs.md", "81"),
            ("docs/bad-inputs.md", "83"),
        ];
        assert_eq!(
            found,
            expected.map(|(page, number)| (page, number.to_owned()))
        );
        assert_eq!(numbers("fault_seed_4_and_a_promise"), []);
    }

    #[test]
    fn a_row_defines_the_numbers_of_its_first_cell() {
        let page = "| # | 1 |\n| --- | --- |\n| 4994/5001, 5004 (open there) | 7 |\n| E1 | x |\n";
        let defined: Vec<String> = defined_in(page).into_iter().collect();
        assert_eq!(defined, ["4994", "5001", "5004", "e1"]);
    }

    #[test]
    fn every_number_in_a_test_name_is_defined_in_the_documents() {
        let found = mistakes(&Repository::of_this_build().unwrap()).unwrap();
        assert_eq!(found, [] as [&str; 0], "{}", found.join("\n"));
    }
}
