//! Tables: their names, their files and their keys. Reads no file and evaluates no expression.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Place, pipeline, text, values};
use crate::field_error::FieldError;
use crate::pipeline::{MAX_TABLE_PATHS, MAX_TABLES, TableSpec, table_files};

/// The field of tables.
const TABLES: &str = "spec.pipeline.tables";

/// Every error in the tables; `values` are the named values, which share their names with tables.
pub(super) fn validate(
    tables: &BTreeMap<String, TableSpec>,
    named: &BTreeMap<String, Value>,
    place: Place,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if tables.len() > MAX_TABLES {
        let allowed = format!("at most {MAX_TABLES}");
        errors.push(FieldError::new(TABLES, "has too many tables", allowed).got(tables.len()));
    }
    for (name, table) in tables {
        let path = format!("{TABLES}.{name}");
        errors.extend(values::name_fault(&path, name));
        if named.contains_key(name) {
            let problem = format!("has the name of a value, {}.{name}", values::VALUES);
            let allowed = "another name, because an expression finds both as $name";
            errors.push(FieldError::new(&path, problem, allowed));
        }
        errors.extend(pipeline::files_read(
            &table_files(name),
            &table.files,
            MAX_TABLE_PATHS,
            place,
        ));
        if table.files.on_error.is_some() {
            let path = format!("{}.onError", table_files(name));
            let problem = "is not allowed for a table";
            let allowed =
                "no onError: without some of its records a table would give other results";
            errors.push(FieldError::new(path, problem, allowed));
        }
        errors.extend(text::expression(&format!("{path}.key"), &table.key));
    }
    errors
}

#[cfg(test)]
mod tests;
