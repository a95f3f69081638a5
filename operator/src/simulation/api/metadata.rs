//! Handles the metadata of every object as the API server does: it drops some fields, and lets no
//! writer change others.

use serde_json::{Map, Value};

use super::answer::Answer;
use super::kinds::{CONFIG_MAPS, Kind};

/// Drops what the server does not store: null or empty fields of metadata and of built-in kinds.
pub(super) fn tidy(kind: Kind, object: &mut Value) {
    if let Some(fields) = object["metadata"].as_object_mut() {
        drop_empty(
            fields,
            &["labels", "annotations", "finalizers", "ownerReferences"],
        );
        fields.retain(|_, value| !value.is_null());
    }
    if kind.facts().is_built_in {
        without_null(object);
    }
    if let Some(fields) = object.as_object_mut().filter(|_| kind == CONFIG_MAPS) {
        drop_empty(fields, &["data", "binaryData"]);
    }
}

fn drop_empty(fields: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        let is_empty = match &fields.get(*name) {
            Some(Value::Object(all)) => all.is_empty(),
            Some(Value::Array(all)) => all.is_empty(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {
                false
            }
        };
        if is_empty {
            fields.remove(*name);
        }
    }
}

fn without_null(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_null);
        }
        Value::Array(all) => all.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Refuses a change of immutable fields.
pub(super) fn refuse_change(
    kind: Kind,
    name: &str,
    before: &Value,
    after: &Value,
) -> Option<Answer> {
    let (before, after) = (&before["metadata"], &after["metadata"]);
    for field in ["deletionTimestamp", "uid"] {
        let given = &after[field];
        // If the field is missing in the write, it stays unchanged.
        if text(given).is_empty() || *given == before[field] {
            continue;
        }
        let path = format!("metadata.{field}");
        let why = format!("Invalid value: \"{}\": field is immutable", text(given));
        return Some(Answer::invalid(
            kind,
            name,
            &path,
            "FieldValueInvalid",
            &why,
        ));
    }
    let finalizers = |metadata: &Value| metadata["finalizers"].as_array().cloned();
    let known = finalizers(before).unwrap_or_default();
    let mut late = finalizers(after).unwrap_or_default();
    late.retain(|one| !known.contains(one));
    if late.is_empty() || before["deletionTimestamp"].is_null() {
        return None;
    }
    let late: Vec<String> = late
        .iter()
        .map(|one| format!("\"{}\"", text(one)))
        .collect();
    let why = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        late.join(", ")
    );
    let path = "metadata.finalizers";
    Some(Answer::invalid(
        kind,
        name,
        path,
        "FieldValueForbidden",
        &why,
    ))
}

/// Returns the text of a value, or an empty text if the value is not a text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Removes a field from an object.
pub(super) fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}
