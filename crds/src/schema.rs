//! Schemas of the fields for which the API must set tighter bounds than the Rust type. No rule in
//! CEL is here: those are in [`crate::rules`].

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::exec::{MAX_VARIABLE, MAX_VARIABLES, MAX_WORD, MAX_WORDS};
use crate::pipeline::{
    AggregateSpec, MAX_AGGREGATES, MAX_COLUMNS, MAX_ITEMS, MAX_PATH, MAX_PATHS, MAX_TABLE_PATHS,
    MAX_TABLES, MAX_VALUES, TableSpec,
};
use crate::pod_template::{MAX_ANNOTATION_VALUE, MAX_LABELS};
use crate::rules;

/// The longest name of a column.
pub(crate) const MAX_COLUMN: usize = 256;
/// The longest value of a label, as in Kubernetes.
const MAX_LABEL_VALUE: usize = 63;

pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    texts(MAX_LABEL_VALUE)
}

pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    texts(MAX_ANNOTATION_VALUE)
}

fn texts(max_length: usize) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": {"type": "string", "maxLength": max_length},
    })
}

pub(crate) fn json_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ITEMS,
        // An item may be null, so the schema must say `nullable`. Otherwise the server could not
        // compare the old and the new items on a write, and would refuse the write.
        "items": {"x-kubernetes-preserve-unknown-fields": true, "nullable": true},
        "x-kubernetes-list-type": "atomic",
    })
}

pub(crate) fn named_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_VALUES,
        "additionalProperties": {"nullable": true, "x-kubernetes-preserve-unknown-fields": true},
    })
}

pub(crate) fn tables(generator: &mut SchemaGenerator) -> Schema {
    let mut table = TableSpec::json_schema(generator);
    let files = table.pointer_mut("/properties/files/properties");
    if let Some(files) = files.and_then(Value::as_object_mut) {
        // A table is read as a whole.
        for name in ["splitBytes", "combineBytes"] {
            files.remove(name);
        }
    }
    let paths = table.pointer_mut("/properties/files/properties/paths");
    if let Some(paths) = paths.and_then(Value::as_object_mut) {
        paths.insert("maxItems".to_owned(), MAX_TABLE_PATHS.into());
    }
    // A table without some of its records would change what expressions find.
    if let Some(fields) = table
        .pointer_mut("/properties/files/properties")
        .and_then(Value::as_object_mut)
    {
        fields.remove("onError");
    }
    json_schema!({
        "type": "object",
        "maxProperties": MAX_TABLES,
        "additionalProperties": table,
    })
}

pub(crate) fn source_paths(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_PATHS,
        "items": {
            "type": "string",
            "maxLength": MAX_PATH,
            "x-kubernetes-validations": [rules::source_path()],
        },
        "x-kubernetes-list-type": "atomic",
    })
}

pub(crate) fn columns(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_COLUMNS,
        "items": {
            "type": "string",
            "maxLength": MAX_COLUMN,
            "x-kubernetes-validations": [rules::column()],
        },
        "x-kubernetes-list-type": "atomic",
    })
}

pub(crate) fn renamed(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_COLUMNS,
        "additionalProperties": {
            "type": "string",
            "maxLength": MAX_COLUMN,
            "x-kubernetes-validations": [rules::column()],
        },
    })
}

pub(crate) fn command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_WORDS,
        "items": {"type": "string", "maxLength": MAX_WORD},
        "x-kubernetes-list-type": "atomic",
    })
}

pub(crate) fn command_environment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_VARIABLES,
        "additionalProperties": {"type": "string", "maxLength": MAX_VARIABLE},
    })
}

pub(crate) fn aggregates(generator: &mut SchemaGenerator) -> Schema {
    let aggregate = generator.subschema_for::<AggregateSpec>();
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_AGGREGATES,
        "additionalProperties": aggregate,
    })
}
