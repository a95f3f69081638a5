//! Finds, without an API server, the values that the server would refuse because of their type. For
//! this it compares the object with the schema of the definition that this release installs. It
//! also computes how the server changes an object before it stores it. Pure. Rules in CEL are not
//! evaluated here; [`crate::validate`] repeats them.

mod check;
mod expected;
mod metadata;
pub mod served;

use std::sync::LazyLock;

use serde_json::Value;

use crate::crd;
use crate::field_error::FieldError;

/// An object as the API server would store it, and the reasons for which the server would refuse
/// it.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The object without the nulls that the server drops, with whole numbers as integers.
    pub object: Value,
    /// Every fault, in the order of the fields; empty if the server accepts the types.
    pub errors: Vec<FieldError>,
}

/// The schema of the object, as JSON.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    crd::definition()
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref())
        .and_then(|schema| serde_json::to_value(&schema.open_api_v3_schema).ok())
        .unwrap_or_default()
});

/// Compares a whole object, with its apiVersion, kind and metadata, with the schema.
pub fn admit(object: &Value) -> Admitted {
    let mut errors = metadata::check(object.get("metadata"));
    let mut object = check::stored(object, &SCHEMA, "", &mut errors);
    if let Some(metadata) = object.get_mut("metadata") {
        metadata::without_nulls(metadata);
    }
    Admitted { object, errors }
}

/// The fields of a spec that the schema of this release does not have, each with its path from
/// `spec` on.
pub fn unknown_in_spec(spec: &Value) -> Vec<String> {
    let schema = SCHEMA.pointer("/properties/spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    check::stored(spec, schema, "spec", &mut errors);
    errors
        .into_iter()
        .filter(|error| error.wrong == check::UNKNOWN_FIELD)
        .map(|error| error.path)
        .collect()
}

#[cfg(test)]
mod tests;
