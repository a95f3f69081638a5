//! The sentences about names that do not exist, with the name that the user may have meant. Pure.

use crate::terminal::printable;

/// The largest number of names in one sentence.
const MAX_SHOWN: usize = 5;

/// Names that are less similar are not suggested.
const LEAST_SIMILARITY: f64 = 0.75;

/// Why a job was not found. `here` has the names of the jobs in `namespace`, and `elsewhere` the
/// namespaces that have a job of this name. Both are empty if they may not be listed.
pub(super) fn no_job(name: &str, namespace: &str, here: &[String], elsewhere: &[String]) -> String {
    let shown = printable(name);
    let sentence = format!(
        "job {shown} not found in namespace {}",
        printable(namespace)
    );
    if !elsewhere.is_empty() {
        let are = if elsewhere.len() == 1 {
            "has a job of this name"
        } else {
            "have a job of this name"
        };
        let (first, namespaces) = (printable(&elsewhere[0]), shown_names(elsewhere));
        return format!("{sentence}; {namespaces} {are}, as in: -n {first}");
    }
    if let Some(meant) = most_similar(name, here) {
        return format!("{sentence}; did you mean {}?", printable(meant));
    }
    if here.is_empty() {
        return format!("{sentence}; `kubectl zephyr list -A` lists the jobs of all namespaces");
    }
    format!("{sentence}; it has {}", shown_names(here))
}

/// Why a context was not found.
pub(super) fn no_context(name: &str, contexts: &[&str]) -> String {
    let sentence = format!(
        "--context: the kubeconfig has no such context (got {})",
        printable(name)
    );
    let names: Vec<String> = contexts.iter().map(|name| (*name).to_owned()).collect();
    match most_similar(name, &names) {
        Some(meant) => format!("{sentence}; did you mean {}?", printable(meant)),
        None if names.is_empty() => format!("{sentence}; it has none"),
        None => format!("{sentence}; it has {}", shown_names(&names)),
    }
}

fn shown_names(names: &[String]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(MAX_SHOWN)
        .map(|name| printable(name))
        .collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(MAX_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn most_similar<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let similarity = |other: &String| {
        // A part of a name is often given: its beginning, or its end.
        if name.len() >= 3 && other.contains(name) {
            return 1.0;
        }
        strsim::jaro_winkler(name, other)
    };
    names
        .iter()
        .map(|other| (similarity(other), other))
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, other)| other.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_misspelt_name_is_corrected() {
        let here = names(&["word-count", "daily", "nightly"]);
        let sentence = |name| no_job(name, "team", &here, &[]);
        assert_eq!(
            sentence("wordcount"),
            "job wordcount not found in namespace team; did you mean word-count?"
        );
        assert!(sentence("count").ends_with("did you mean word-count?"));
        assert_eq!(
            sentence("zzz"),
            "job zzz not found in namespace team; it has word-count, daily, nightly"
        );
    }

    #[test]
    fn the_same_name_in_another_namespace_is_named_first() {
        assert_eq!(
            no_job("count", "team", &names(&["counts"]), &names(&["prod"])),
            "job count not found in namespace team; prod has a job of this name, as in: -n prod"
        );
        let several = no_job(
            "count",
            "team",
            &[],
            &names(&["a", "b", "c", "d", "e", "f", "g"]),
        );
        let expected = "a, b, c, d, e and 2 more have a job of this name, as in: -n a";
        assert!(several.ends_with(expected), "{several}");
    }

    #[test]
    fn an_empty_namespace_and_a_hidden_one_have_the_same_advice() {
        assert_eq!(
            no_job("a\u{1b}b", "team", &[], &[]),
            "job a\\u{1b}b not found in namespace team; `kubectl zephyr list -A` lists the jobs of all namespaces"
        );
    }

    #[test]
    fn a_context_that_does_not_exist_is_refused_with_those_that_do() {
        assert_eq!(
            no_context("prd", &["prod", "test"]),
            "--context: the kubeconfig has no such context (got prd); did you mean prod?"
        );
        assert!(no_context("x", &[]).ends_with("it has none"));
    }
}
