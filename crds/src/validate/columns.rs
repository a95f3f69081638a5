//! Validates the columns of `select`.

use std::collections::BTreeSet;

use crate::field_error::FieldError;
use crate::pipeline::MAX_COLUMNS;

/// Everything that is wrong with the columns of a `select`.
pub(super) fn select(path: &str, columns: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if columns.is_empty() || columns.len() > MAX_COLUMNS {
        errors.push(
            FieldError::new(
                path,
                "has no columns, or too many",
                format!("1..{MAX_COLUMNS} columns"),
            )
            .got(columns.len()),
        );
    }
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
            outer(column)
                .find(|outer| all.contains(outer))
                .map(|outer| {
                    FieldError::new(
                        &path,
                        format!("is inside the column {outer}, which is selected as a whole"),
                        "only one of the two",
                    )
                    .got(column)
                })
        }));
    }
    errors
}

fn form(path: &str, column: &str) -> Option<FieldError> {
    let is_column = !column.split('.').any(str::is_empty) && !column.chars().any(char::is_control);
    (!is_column).then(|| {
        let allowed = "names joined by dots, such as a or b.c";
        FieldError::new(path, "is not a valid column name", allowed).got(column)
    })
}

/// The columns that contain a column: `a` and `a.b` contain `a.b.c`.
fn outer(column: &str) -> impl Iterator<Item = &str> {
    column
        .match_indices('.')
        .filter_map(|(at, _)| column.get(..at))
}
