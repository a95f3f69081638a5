//! `metadata` as Kubernetes defines it for every object: its fields, their types, and the syntax of
//! labels and annotations. The rules for the job's name are in [`crate::validate`].

use serde_json::{Map, Value};

use super::check::unknown_field;
use crate::field_error::FieldError;
use crate::validate::text::{label_value, qualified_key};

/// The largest number of bytes of all annotations of an object together.
const MAX_ANNOTATIONS_BYTES: usize = 256 << 10;

/// What is allowed in a field with text.
const TEXT: &str = "text, in quotes if YAML would read it as another type";

/// The type of a field of metadata.
#[derive(Clone, Copy)]
enum Of {
    Text,
    Texts,
    Number,
    /// Names with an optional prefix.
    Names,
    Owners,
    /// A field that only the API server writes; a value in a manifest is ignored.
    Anything,
}

const FIELDS: [(&str, Of); 15] = [
    ("name", Of::Text),
    ("generateName", Of::Text),
    ("namespace", Of::Text),
    ("selfLink", Of::Text),
    ("uid", Of::Text),
    ("resourceVersion", Of::Text),
    ("generation", Of::Number),
    ("creationTimestamp", Of::Text),
    ("deletionTimestamp", Of::Text),
    ("deletionGracePeriodSeconds", Of::Number),
    ("labels", Of::Texts),
    ("annotations", Of::Texts),
    ("ownerReferences", Of::Owners),
    ("finalizers", Of::Names),
    ("managedFields", Of::Anything),
];

/// Everything that is wrong with the metadata of an object.
pub(super) fn check(metadata: Option<&Value>) -> Vec<FieldError> {
    let fields = match metadata {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            return vec![wrong_type("metadata", other, "a map with the job's name")];
        }
    };
    let mut errors = Vec::new();
    for (name, value) in fields {
        let path = format!("metadata.{name}");
        if let Some((_, of)) = FIELDS.iter().find(|(known, _)| known == name) {
            errors.extend(field(&path, value, *of));
        } else {
            let known: Vec<String> = FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
            errors.push(unknown_field(&path, name, known.iter()));
        }
    }
    let texts = |name: &str| fields.get(name).and_then(Value::as_object);
    for (key, value) in texts("labels").into_iter().flatten() {
        errors.extend(qualified_key("metadata.labels", key));
        errors.extend(
            value
                .as_str()
                .and_then(|value| label_value(&format!("metadata.labels[{key}]"), value)),
        );
    }
    if let Some(annotations) = texts("annotations") {
        errors.extend(annotation_faults(annotations));
    }
    errors
}

/// How the server treats nulls: a label or an annotation becomes empty, any other field is removed.
pub(super) fn without_nulls(metadata: &mut Value) {
    let Some(fields) = metadata.as_object_mut() else {
        return;
    };
    fields.retain(|_, value| !value.is_null());
    for name in ["labels", "annotations"] {
        let texts = fields.get_mut(name).and_then(Value::as_object_mut);
        for value in texts.into_iter().flat_map(Map::values_mut) {
            if value.is_null() {
                *value = Value::String(String::new());
            }
        }
    }
}

fn field(path: &str, value: &Value, of: Of) -> Vec<FieldError> {
    let (fits, wanted) = match of {
        _ if value.is_null() => return Vec::new(),
        Of::Anything => return Vec::new(),
        Of::Texts => return texts(path, value),
        Of::Names => return entries(path, value, finalizer),
        Of::Owners => return entries(path, value, owner),
        Of::Text => (value.is_string(), TEXT),
        Of::Number => (value.is_i64(), "a whole number"),
    };
    if fits {
        Vec::new()
    } else {
        vec![wrong_type(path, value, wanted)]
    }
}

fn entries(
    path: &str,
    value: &Value,
    check: impl Fn(&str, &Value) -> Vec<FieldError>,
) -> Vec<FieldError> {
    let Value::Array(entries) = value else {
        return vec![wrong_type(path, value, "a list")];
    };
    entries
        .iter()
        .enumerate()
        .flat_map(|(index, entry)| check(&format!("{path}[{index}]"), entry))
        .collect()
}

fn finalizer(path: &str, value: &Value) -> Vec<FieldError> {
    match value.as_str() {
        Some(name) => qualified_key(path, name).into_iter().collect(),
        None => vec![wrong_type(path, value, TEXT)],
    }
}

fn owner(path: &str, value: &Value) -> Vec<FieldError> {
    if !value.is_object() {
        return vec![wrong_type(path, value, "a map")];
    }
    ["apiVersion", "kind", "name", "uid"]
        .iter()
        .filter_map(|name| {
            let path = format!("{path}.{name}");
            match value.get(name) {
                Some(Value::String(text)) if !text.is_empty() => None,
                None | Some(Value::Null | Value::String(_)) => {
                    Some(FieldError::new(path, "is missing", "required: text"))
                }
                Some(other) => Some(wrong_type(&path, other, TEXT)),
            }
        })
        .collect()
}

fn texts(path: &str, value: &Value) -> Vec<FieldError> {
    let Value::Object(fields) = value else {
        return vec![wrong_type(path, value, "a map with text values")];
    };
    fields
        .iter()
        .filter(|(_, value)| !value.is_string() && !value.is_null())
        .map(|(key, value)| {
            wrong_type(
                &format!("{path}[{key}]"),
                value,
                "text, so put the value in quotes",
            )
        })
        .collect()
}

fn wrong_type(path: &str, value: &Value, wanted: &str) -> FieldError {
    FieldError::new(
        path,
        super::check::found(value),
        format!("must be {wanted}"),
    )
    .got(value.to_string())
}

fn annotation_faults(annotations: &Map<String, Value>) -> Vec<FieldError> {
    let path = "metadata.annotations";
    let mut errors: Vec<_> = annotations
        .keys()
        // Kubernetes accepts capital letters in the key of an annotation.
        .filter_map(|key| qualified_key(path, &key.to_ascii_lowercase()))
        .collect();
    let bytes: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > MAX_ANNOTATIONS_BYTES {
        let allowed = format!("at most {MAX_ANNOTATIONS_BYTES} bytes");
        errors.push(FieldError::new(path, "is too long", allowed).got(format!("{bytes} bytes")));
    }
    errors
}
