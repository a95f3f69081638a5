//! Validates the columns of `select`, `drop` and `rename`.

use std::collections::{BTreeMap, BTreeSet};

use super::pipeline::{YAML_BOOLEANS, YAML_BOOLEANS_ALLOWED};
use crate::field_error::FieldError;
use crate::pipeline::{MAX_COLUMNS, StepSpec};
use crate::schema::MAX_COLUMN;

/// Everything that is wrong with the columns of a `select` or `drop`. `done` says what happens to a
/// column.
pub(super) fn list(path: &str, columns: &[String], done: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(number(path, columns.len()));
    let all: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    for (index, column) in columns.iter().enumerate() {
        let path = format!("{path}[{index}]");
        errors.extend(form(&path, column).or_else(|| {
            if !seen.insert(column) {
                return Some(
                    FieldError::new(&path, "names a column twice", "each column once").got(column),
                );
            }
            inside_another(&path, column, &all, done)
        }));
    }
    errors
}

/// Everything that is wrong with the columns of a `rename`.
pub(super) fn rename(path: &str, columns: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(number(path, columns.len()));
    let all: BTreeSet<&str> = columns.keys().map(String::as_str).collect();
    let mut new_names = BTreeSet::new();
    for (old, new) in columns {
        let path = format!("{path}.{old}");
        let is_new = new_names.insert(new);
        let fault = yaml_boolean(&path, old)
            .or_else(|| form(&path, old))
            .or_else(|| inside_another(&path, old, &all, "renamed"))
            .or_else(|| form(&path, new))
            .or_else(|| {
                let shown = |wrong: &str, allowed: String| {
                    Some(FieldError::new(&path, wrong, allowed).got(new))
                };
                if old == new {
                    shown("renames a column to itself", "another name".to_owned())
                } else if parent(old) != parent(new) {
                    let allowed = format!(
                        "a name beside it, such as {}; a map can move a column",
                        beside(old, new)
                    );
                    shown("renames a column into another object", allowed)
                } else if is_new {
                    None
                } else {
                    shown(
                        "is the new name of another column too",
                        "each new name once".to_owned(),
                    )
                }
            });
        errors.extend(fault);
    }
    errors
}

/// YAML makes `true` or `false` of some names, so the column that is meant is not known.
fn yaml_boolean(path: &str, name: &str) -> Option<FieldError> {
    let problem = "must not rename a column named true or false";
    YAML_BOOLEANS
        .contains(&name)
        .then(|| FieldError::new(path, problem, YAML_BOOLEANS_ALLOWED))
}

/// Reports columns that are renamed although the steps just before drop them.
pub(super) fn rename_after_drop(steps: &[StepSpec]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut dropped: BTreeSet<&str> = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        if let Some(columns) = &step.drop {
            dropped.extend(columns.iter().map(String::as_str));
            continue;
        }
        for column in step.rename.iter().flat_map(BTreeMap::keys) {
            let is_dropped = |name: &str| dropped.contains(name);
            if is_dropped(column) || outer(column).any(is_dropped) {
                let path = format!("spec.pipeline.steps[{index}].rename.{column}");
                let wrong = "renames a column that the step before it drops";
                errors.push(FieldError::new(path, wrong, "only one of the two"));
            }
        }
        dropped.clear();
    }
    errors
}

fn number(path: &str, columns: usize) -> Option<FieldError> {
    (columns == 0 || columns > MAX_COLUMNS).then(|| {
        FieldError::new(
            path,
            "has no columns, or too many",
            format!("1..{MAX_COLUMNS} columns"),
        )
        .got(columns)
    })
}

fn inside_another(
    path: &str,
    column: &str,
    all: &BTreeSet<&str>,
    done: &str,
) -> Option<FieldError> {
    let outer = outer(column).find(|outer| all.contains(outer))?;
    let wrong = format!("is inside the column {outer}, which is {done} as a whole");
    Some(FieldError::new(path, wrong, "only one of the two").got(column))
}

fn form(path: &str, column: &str) -> Option<FieldError> {
    let is_column = !column.split('.').any(str::is_empty) && !column.chars().any(char::is_control);
    if !is_column {
        let allowed = "names joined by dots, such as a or b.c";
        return Some(FieldError::new(path, "is not a valid column name", allowed).got(column));
    }
    let characters = column.chars().count();
    (characters > MAX_COLUMN).then(|| {
        let wrong = "is too long a column name";
        FieldError::new(path, wrong, format!("at most {MAX_COLUMN} characters")).got(characters)
    })
}

/// The columns that contain a column: `a` and `a.b` contain `a.b.c`.
fn outer(column: &str) -> impl Iterator<Item = &str> {
    column
        .match_indices('.')
        .filter_map(|(at, _)| column.get(..at))
}

/// The column that directly contains a column; `None` for a column of the record itself.
fn parent(column: &str) -> Option<&str> {
    outer(column).last()
}

/// The last name of `new` in the object that contains `old`.
fn beside(old: &str, new: &str) -> String {
    let name = new.rsplit('.').next().unwrap_or(new);
    match parent(old) {
        Some(parent) => format!("{parent}.{name}"),
        None => name.to_owned(),
    }
}
