//! `drop` and `rename`: a record without some of its fields, or with other names for some of them.
//! All other members keep their text and their order.

use std::fmt;

use zephyr_jq::json::{Kind, View, push_least_escaped};

use super::select::{Field, FieldPath, Selection};
use super::{Limits, Record, RecordProblem};

/// Why a record cannot be reshaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReshapeError {
    /// The record is not an object.
    NotAnObject {
        /// The step.
        step: &'static str,
        /// The record's type as jq names it.
        got: &'static str,
    },
    /// The record already has a field of the new name.
    Exists {
        /// The field.
        from: FieldPath,
        /// Its new name, as a path.
        to: FieldPath,
    },
    /// The new names make the record too long.
    TooLong {
        /// Bytes that are allowed.
        limit: usize,
    },
}

impl fmt::Display for ReshapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject { step, got } => write!(f, "{step} needs an object (got {got})"),
            Self::Exists { from, to } => write!(
                f,
                "{from} cannot be renamed to {to}, because the record already has a field {to}; drop that field first, or choose another name"
            ),
            Self::TooLong { limit } => RecordProblem::TooLong { limit: *limit }.fmt(f),
        }
    }
}

/// Why renamings cannot be combined in one step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenamingError {
    /// The old paths overlap.
    #[error(transparent)]
    Selection(#[from] super::SelectionError),
    /// The new path is in another object than the old one.
    #[error(
        "{from} cannot be renamed to {to}, which is in another object; only its last name can change, and a map can move it"
    )]
    Elsewhere {
        /// The field.
        from: FieldPath,
        /// The new path.
        to: FieldPath,
    },
    /// The new name is the old one.
    #[error("{path} is renamed to itself; another name is expected")]
    Same {
        /// The path.
        path: FieldPath,
    },
    /// Two fields get the same name.
    #[error("two fields are renamed to {to}; each new name may be used once")]
    Twice {
        /// The new path.
        to: FieldPath,
    },
}

/// A checked list of renamings, each within one object. All of them refer to the record as it
/// arrives, so two fields may exchange their names. A field that a record does not have is not
/// renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    fields: Vec<Renamed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Renamed {
    name: String,
    /// The new name, and both paths for an error. `None` if only fields inside are renamed.
    to: Option<NewName>,
    inner: Vec<Renamed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NewName {
    name: String,
    paths: Box<(FieldPath, FieldPath)>,
}

impl Renaming {
    /// The renaming of the first path of each pair to the second.
    ///
    /// # Errors
    /// Two fields overlap or get the same name, or a new path is the old one or is in another
    /// object.
    pub fn new(pairs: &[(FieldPath, FieldPath)]) -> Result<Self, RenamingError> {
        let old: Vec<FieldPath> = pairs.iter().map(|(from, _)| from.clone()).collect();
        Selection::new(&old)?;
        let mut fields = Vec::new();
        for (index, (from, to)) in pairs.iter().enumerate() {
            if from == to {
                return Err(RenamingError::Same { path: from.clone() });
            }
            let (Some((_, parent)), Some((name, new_parent))) =
                (from.names().split_last(), to.names().split_last())
            else {
                continue;
            };
            if parent != new_parent {
                return Err(RenamingError::Elsewhere {
                    from: from.clone(),
                    to: to.clone(),
                });
            }
            if pairs[..index].iter().any(|(_, other)| other == to) {
                return Err(RenamingError::Twice { to: to.clone() });
            }
            let to = NewName {
                name: name.clone(),
                paths: Box::new((from.clone(), to.clone())),
            };
            insert(&mut fields, from.names(), to);
        }
        Ok(Self { fields })
    }
}

fn insert(fields: &mut Vec<Renamed>, names: &[String], to: NewName) {
    let Some((name, rest)) = names.split_first() else {
        return;
    };
    let position = fields.iter().position(|field| field.name == *name);
    let position = position.unwrap_or_else(|| {
        fields.push(Renamed {
            name: name.clone(),
            to: None,
            inner: Vec::new(),
        });
        fields.len() - 1
    });
    if rest.is_empty() {
        fields[position].to = Some(to);
    } else {
        insert(&mut fields[position].inner, rest, to);
    }
}

impl Record {
    /// The record without these fields. If a key is repeated, all its members are dropped. Fields
    /// that the record does not have are no error.
    ///
    /// # Errors
    /// The record is not an object.
    pub fn without(&self, dropped: &Selection) -> Result<Record, ReshapeError> {
        self.need_object("drop")?;
        let mut text = String::with_capacity(self.text.len());
        push_rest(&mut text, self.source().root(), dropped.fields());
        Ok(Record::trusted(text))
    }

    /// The record with other names for these fields, each at its place.
    ///
    /// # Errors
    /// The record is not an object, has a field with a new name already, or becomes too long.
    pub fn renamed(&self, renaming: &Renaming, limits: &Limits) -> Result<Record, ReshapeError> {
        self.need_object("rename")?;
        let mut text = String::with_capacity(self.text.len());
        push_renamed(&mut text, self.source().root(), &renaming.fields)?;
        if text.len() > limits.bytes {
            return Err(ReshapeError::TooLong {
                limit: limits.bytes,
            });
        }
        Ok(Record::trusted(text))
    }

    fn need_object(&self, step: &'static str) -> Result<(), ReshapeError> {
        match self.type_name() {
            "object" => Ok(()),
            got => Err(ReshapeError::NotAnObject { step, got }),
        }
    }
}

/// Appends an object without these fields.
fn push_rest(text: &mut String, object: View<'_>, dropped: &[Field]) {
    text.push('{');
    let mut any = false;
    for (key, value) in object.members() {
        let field = dropped.iter().find(|field| key.is_string(field.name()));
        if field.is_some_and(|field| field.inner().is_empty()) {
            continue;
        }
        if any {
            text.push(',');
        }
        any = true;
        text.push_str(key.text());
        text.push(':');
        match field {
            Some(field) if value.kind() == Kind::Object => push_rest(text, value, field.inner()),
            Some(_) | None => text.push_str(value.text()),
        }
    }
    text.push('}');
}

/// Appends an object with other names for these fields.
fn push_renamed(
    text: &mut String,
    object: View<'_>,
    fields: &[Renamed],
) -> Result<(), ReshapeError> {
    for field in fields {
        if let Some(to) = &field.to
            && object.member(&field.name).is_some()
            && object.member(&to.name).is_some()
            && !is_renamed(fields, &to.name)
        {
            let (from, to) = (*to.paths).clone();
            return Err(ReshapeError::Exists { from, to });
        }
    }
    text.push('{');
    for (index, (key, value)) in object.members().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let field = fields.iter().find(|field| key.is_string(&field.name));
        match field.and_then(|field| field.to.as_ref()) {
            Some(to) => push_least_escaped(text, &to.name),
            None => text.push_str(key.text()),
        }
        text.push(':');
        match field {
            Some(field) if value.kind() == Kind::Object => {
                push_renamed(text, value, &field.inner)?;
            }
            Some(_) | None => text.push_str(value.text()),
        }
    }
    text.push('}');
    Ok(())
}

/// Whether a field of this name gets another name.
fn is_renamed(fields: &[Renamed], name: &str) -> bool {
    let mut fields = fields.iter();
    fields.any(|field| field.name == name && field.to.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record::parse(text.as_bytes()).unwrap()
    }

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    fn without(text: &str, paths: &[&str]) -> Result<String, String> {
        let paths: Vec<FieldPath> = paths.iter().map(|text| path(text)).collect();
        let selection = Selection::new(&paths).map_err(|error| error.to_string())?;
        let dropped = record(text).without(&selection);
        let dropped = dropped.map_err(|error| error.to_string())?;
        Ok(dropped.as_json_str().to_owned())
    }

    fn renamed(text: &str, pairs: &[(&str, &str)]) -> Result<String, String> {
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (path(a), path(b))).collect();
        let renaming = Renaming::new(&pairs).map_err(|error| error.to_string())?;
        let limits = Limits {
            bytes: 60,
            ..Limits::default()
        };
        let renamed = record(text).renamed(&renaming, &limits);
        let renamed = renamed.map_err(|error| error.to_string())?;
        Ok(renamed.as_json_str().to_owned())
    }

    #[test]
    fn drop_removes_fields_and_keeps_the_text_of_the_rest() {
        for (text, paths, expected) in [
            (r#"{"a":1.0,"b":2}"#, &["b"][..], r#"{"a":1.0}"#),
            (r#"{"a":1,"b":2}"#, &["a", "b"], "{}"),
            (
                r#"{"a":{"b":1,"c":2},"d":3}"#,
                &["a.b"],
                r#"{"a":{"c":2},"d":3}"#,
            ),
            (r#"{"a":{"b":1}}"#, &["a.b"], r#"{"a":{}}"#),
            (r#"{"a":5}"#, &["a.b", "x", "y.z"], r#"{"a":5}"#),
            (r#"{"a":[{"b":1}]}"#, &["a.b"], r#"{"a":[{"b":1}]}"#),
            (r#"{"a":1,"\u0061":2,"b":3}"#, &["a"], r#"{"b":3}"#),
            (r#"{"\u0062":1,"c":null}"#, &["c"], r#"{"\u0062":1}"#),
            ("{}", &["a"], "{}"),
        ] {
            assert_eq!(without(text, paths), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(
            without("[1]", &["a"]),
            Err("drop needs an object (got array)".to_owned())
        );
    }

    #[test]
    fn rename_changes_names_in_place_and_all_at_once() {
        for (text, pairs, expected) in [
            (
                r#"{"a":1.0,"b":2}"#,
                &[("a", "x")][..],
                r#"{"x":1.0,"b":2}"#,
            ),
            (
                r#"{"a":1,"b":2}"#,
                &[("a", "b"), ("b", "a")],
                r#"{"b":1,"a":2}"#,
            ),
            (
                r#"{"a":1,"b":2}"#,
                &[("a", "b"), ("b", "c")],
                r#"{"b":1,"c":2}"#,
            ),
            (
                r#"{"a":{"b":1,"c":2},"b":3}"#,
                &[("a.b", "a.x"), ("b", "y")],
                r#"{"a":{"x":1,"c":2},"y":3}"#,
            ),
            (r#"{"b":1}"#, &[("a", "b")], r#"{"b":1}"#),
            (r#"{"a":5}"#, &[("a.b", "a.c")], r#"{"a":5}"#),
            (r#"{"\u0061":1}"#, &[("a", "é\"")], r#"{"é\"":1}"#),
            (r#"{"a":1,"a":2}"#, &[("a", "b")], r#"{"b":1,"b":2}"#),
        ] {
            assert_eq!(renamed(text, pairs), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_renaming_that_could_lose_a_field_is_refused() {
        for (text, pairs, expected) in [
            (
                r#"{"a":1,"b":2}"#,
                &[("a", "b")][..],
                "a cannot be renamed to b, because the record already has a field b; drop that field first, or choose another name",
            ),
            (
                r#"{"a":{"b":1,"c":null}}"#,
                &[("a.b", "a.c")],
                "a.b cannot be renamed to a.c, because the record already has a field a.c; drop that field first, or choose another name",
            ),
            (
                "{}",
                &[("a", "c"), ("b", "c")],
                "two fields are renamed to c; each new name may be used once",
            ),
            (
                "{}",
                &[("a", "a")],
                "a is renamed to itself; another name is expected",
            ),
            (
                "{}",
                &[("a.b", "b")],
                "a.b cannot be renamed to b, which is in another object; only its last name can change, and a map can move it",
            ),
            (
                "{}",
                &[("a", "x"), ("a.b", "a.c")],
                "a already contains a.b; only one of the two is allowed",
            ),
            ("7", &[("a", "b")], "rename needs an object (got number)"),
            (
                r#"{"a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#,
                &[("a", "a_longer_name_of_a")],
                "the record is too long; at most 60 bytes are allowed (spec.pipeline.limits.lineBytes)",
            ),
        ] {
            assert_eq!(renamed(text, pairs), Err(expected.to_owned()), "{text}");
        }
    }
}
