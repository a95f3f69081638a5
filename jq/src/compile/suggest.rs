//! Errors for names that are not defined. They end with the name that was probably meant. This
//! module compiles nothing.

use crate::builtins::{NAMES, prelude};
use crate::math;

/// How many names an error lists at most.
const MAX_LISTED: usize = 20;

/// How many characters of the written name allow one edit. A suggestion may differ from a name of
/// nine characters by three edits. One edit is always allowed.
const CHARACTERS_PER_EDIT: usize = 3;

/// Returns the error for a filter that is not defined with this number of arguments. `defined`
/// lists the filters that the program defines.
pub(super) fn filter<'a>(
    name: &str,
    arity: usize,
    defined: impl Iterator<Item = (&'a str, usize)>,
) -> String {
    let known: Vec<(String, usize)> = defined
        .map(|(name, arity)| (name.to_owned(), arity))
        .chain(library())
        .filter(|(name, _)| !name.starts_with('_'))
        .collect();
    let mut arities: Vec<usize> = known
        .iter()
        .filter(|(other, _)| other == name)
        .map(|(_, arity)| *arity)
        .collect();
    arities.sort_unstable();
    arities.dedup();
    let error = format!("the filter {name}/{arity} is not defined");
    if let Some(most) = arities.last() {
        let counts: Vec<String> = arities.iter().map(usize::to_string).collect();
        let noun = if *most == 1 { "argument" } else { "arguments" };
        return format!("{error}; {name} has {} {noun}", counts.join(" or "));
    }
    let meant = nearest(name, known.iter().map(|(name, _)| name.as_str()))
        .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    // The commonest mistake: a field without its dot.
    let field = if arity == 0 {
        format!("; a field is written .{name}")
    } else {
        String::new()
    };
    format!("{error}{meant}{field}")
}

/// Returns the error for a variable that is not defined. `name` has no `$`. `defined` lists the
/// variables that can be used in that place.
pub(super) fn variable<'a>(name: &str, defined: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = defined.filter(|name| !name.starts_with("__")).collect();
    known.sort_unstable();
    known.dedup();
    let error = format!("the variable ${name} is not defined");
    if known.is_empty() {
        return error;
    }
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("{error}; did you mean ${meant}?");
    }
    let listed: Vec<String> = known
        .iter()
        .take(MAX_LISTED)
        .map(|name| format!("${name}"))
        .collect();
    let more = if known.len() > MAX_LISTED {
        ", …"
    } else {
        ""
    };
    format!("{error}; defined here: {}{more}", listed.join(", "))
}

/// Returns the filters of the library with the number of their arguments.
fn library() -> impl Iterator<Item = (String, usize)> {
    let named = NAMES.iter().map(|name| (*name).to_owned());
    let named = named.chain(prelude::names()).filter_map(|name| {
        let (name, arity) = name.split_once('/')?;
        Some((name.to_owned(), arity.parse().ok()?))
    });
    let mathematics = math::NAMES
        .iter()
        .map(|(name, arity)| ((*name).to_owned(), *arity));
    named.chain(mathematics)
}

/// Returns the known name that was probably meant.
fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / CHARACTERS_PER_EDIT).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(name, written), name))
        .filter(|(distance, name)| *distance <= most && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_filter_comes_with_the_filter_that_was_probably_meant() {
        let error = |name, arity| filter(name, arity, [("clean", 1)].into_iter());
        assert_eq!(
            error("tonumbr", 0),
            "the filter tonumbr/0 is not defined; did you mean tonumber?; a field is written .tonumbr"
        );
        assert_eq!(
            error("claen", 2),
            "the filter claen/2 is not defined; did you mean clean?"
        );
        assert_eq!(
            error("status", 0),
            "the filter status/0 is not defined; a field is written .status"
        );
    }

    #[test]
    fn a_wrong_number_of_arguments_comes_with_the_right_ones() {
        let error = |name, arity| filter(name, arity, std::iter::empty());
        assert_eq!(
            error("map", 0),
            "the filter map/0 is not defined; map has 1 argument"
        );
        assert_eq!(
            error("test", 0),
            "the filter test/0 is not defined; test has 1 or 2 arguments"
        );
        assert_eq!(
            error("atan2", 1),
            "the filter atan2/1 is not defined; atan2 has 2 arguments"
        );
    }

    #[test]
    fn a_misspelled_variable_comes_with_those_that_are_defined() {
        let error = |name| variable(name, ["most", "users", "__loc__"].into_iter());
        assert_eq!(
            error("mots"),
            "the variable $mots is not defined; did you mean $most?"
        );
        assert_eq!(
            error("country"),
            "the variable $country is not defined; defined here: $most, $users"
        );
        assert_eq!(
            variable("x", std::iter::empty()),
            "the variable $x is not defined"
        );
    }
}
