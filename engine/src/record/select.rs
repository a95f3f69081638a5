//! `select`: the projection of a record to some of its fields. Values are copied as text, never
//! changed. The paths of fields are defined here too; `drop` and `rename` use them.

use std::fmt;
use std::str::FromStr;

use zephyr_jq::json::{Kind, View, push_least_escaped};

use super::Record;

/// The most names in one path. A column has at most 256 characters, so nobody can write more.
const MAX_NAMES: usize = 128;

/// The path of a field: names from the outside in, separated by dots (`b.c`). A name that contains
/// a dot cannot be written in this way. A `map` can select such a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    names: Vec<String>,
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldPathError {
    /// Two dots in a row, or one at an end.
    #[error(
        "the path {path:?} has an empty name; names separated by single dots are expected, such as user.name"
    )]
    EmptyName {
        /// The text.
        path: String,
    },
    /// More names than a path may have.
    #[error("the path {path:?} has {names} names; at most {MAX_NAMES} are allowed")]
    TooManyNames {
        /// The text.
        path: String,
        /// How many names it has.
        names: usize,
    },
}

/// Why paths cannot be combined in one projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// The same path is listed twice.
    #[error("the path {path} is listed twice; each field is allowed once")]
    Repeated {
        /// The path.
        path: FieldPath,
    },
    /// One path is inside another.
    #[error("{outer} already contains {inner}; only one of the two is allowed")]
    Overlap {
        /// The shorter path.
        outer: FieldPath,
        /// The longer path.
        inner: FieldPath,
    },
}

/// Why a record cannot be projected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("select needs an object (got {got})")]
pub struct SelectError {
    /// The record's type as jq names it.
    pub got: &'static str,
}

/// A checked list of paths. The projection has the fields in the order of the list, nested as in
/// the source: `[a, b.c]` gives `{"a": …, "b": {"c": …}}`. Paths with a common beginning share
/// their outer object, at the position of the first of them. Fields that a record does not have are
/// left out, and so is an outer object that would be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    name: String,
    /// The selected fields inside this field. If there are none, its whole value is selected.
    inner: Vec<Field>,
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(path: &str) -> Result<Self, FieldPathError> {
        let names: Vec<String> = path.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(FieldPathError::EmptyName {
                path: path.to_owned(),
            });
        }
        if names.len() > MAX_NAMES {
            return Err(FieldPathError::TooManyNames {
                path: path.to_owned(),
                names: names.len(),
            });
        }
        Ok(Self { names })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("."))
    }
}

impl FieldPath {
    /// The names from the outside in; never empty.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl Field {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn inner(&self) -> &[Field] {
        &self.inner
    }
}

impl Selection {
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The selection of these paths, in this order.
    ///
    /// # Errors Two of them select the same field, or one contains another.
    pub fn new(paths: &[FieldPath]) -> Result<Self, SelectionError> {
        for (index, path) in paths.iter().enumerate() {
            for other in &paths[..index] {
                if path == other {
                    return Err(SelectionError::Repeated { path: path.clone() });
                }
                if path.names.starts_with(&other.names) {
                    return Err(SelectionError::Overlap {
                        outer: other.clone(),
                        inner: path.clone(),
                    });
                }
                if other.names.starts_with(&path.names) {
                    return Err(SelectionError::Overlap {
                        outer: path.clone(),
                        inner: other.clone(),
                    });
                }
            }
        }
        let mut fields = Vec::new();
        for path in paths {
            insert(&mut fields, &path.names);
        }
        Ok(Self { fields })
    }
}

impl Record {
    /// The projection of this record; see [`Selection`]. Fails for a record that is not an object.
    pub fn select(&self, selection: &Selection) -> Result<Record, SelectError> {
        let source = self.source();
        let view = source.root();
        if view.kind() != Kind::Object {
            return Err(SelectError {
                got: self.type_name(),
            });
        }
        let mut text = String::with_capacity(self.text.len());
        text.push('{');
        push_fields(&mut text, view, &selection.fields);
        text.push('}');
        Ok(Record::trusted(text))
    }
}

fn insert(fields: &mut Vec<Field>, names: &[String]) {
    let Some((name, rest)) = names.split_first() else {
        return;
    };
    if let Some(field) = fields.iter_mut().find(|field| field.name == *name) {
        insert(&mut field.inner, rest);
    } else {
        let mut inner = Vec::new();
        insert(&mut inner, rest);
        fields.push(Field {
            name: name.clone(),
            inner,
        });
    }
}

/// Appends the selected members after an opening brace. Returns whether there were any.
fn push_fields(text: &mut String, object: View<'_>, fields: &[Field]) -> bool {
    let mut any = false;
    for field in fields {
        let Some(value) = object.member(&field.name) else {
            continue;
        };
        let undo = text.len();
        if any {
            text.push(',');
        }
        push_least_escaped(text, &field.name);
        text.push(':');
        if field.inner.is_empty() {
            text.push_str(value.text());
            any = true;
        } else {
            text.push('{');
            if push_fields(text, value, &field.inner) {
                text.push('}');
                any = true;
            } else {
                text.truncate(undo);
            }
        }
    }
    any
}
