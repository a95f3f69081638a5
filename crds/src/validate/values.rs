//! Named values of a pipeline: their names, what the API server would change in them, and paths
//! that contain them as `{value:name}`. Evaluates no expression.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::pipeline::{YAML_BOOLEANS, YAML_BOOLEANS_ALLOWED};
use super::text::{self, MAX_NAME};
use super::{items, pipeline};
use crate::field_error::FieldError;
use crate::pipeline::{MAX_VALUES, PipelineSpec, SOURCE_FILES, table_files};

/// The field of named values.
pub(super) const VALUES: &str = "spec.pipeline.values";
/// How a path refers to a value.
const PLACEHOLDER: &str = "{value:";
/// Names that have a meaning in jq.
const RESERVED_NAMES: [&str; 3] = ["ENV", "__loc__", "__prog_args"];
/// Characters that have a meaning in a path, so that a value in a path must not contain them.
const MEANINGFUL: [char; 9] = ['*', '?', '[', ']', '{', '}', '\\', '#', '%'];

/// Every error in the values themselves.
pub(super) fn validate(values: &BTreeMap<String, Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if values.len() > MAX_VALUES {
        let allowed = format!("at most {MAX_VALUES}, put several into one object");
        errors.push(FieldError::new(VALUES, "has too many values", allowed).got(values.len()));
    }
    for (name, value) in values {
        let path = format!("{VALUES}.{name}");
        errors.extend(name_fault(&path, name));
        errors.extend(pipeline::nests_too_deep(&path, value));
    }
    let map: Map<String, Value> = values.clone().into_iter().collect();
    errors.extend(items::changed_values(VALUES, &map));
    errors
}

/// What is wrong with the name of a variable.
pub(super) fn name_fault(path: &str, name: &str) -> Option<FieldError> {
    if RESERVED_NAMES.contains(&name) {
        let allowed = format!("any name except {}", RESERVED_NAMES.join(", "));
        return Some(FieldError::new(
            path,
            "has a name that jq uses itself",
            allowed,
        ));
    }
    if YAML_BOOLEANS.contains(&name) {
        return Some(FieldError::new(
            path,
            "must not have the name true or false",
            YAML_BOOLEANS_ALLOWED,
        ));
    }
    let is_name = name.len() <= MAX_NAME && text::is_word(name);
    (!is_name).then(|| {
        FieldError::new(
            path,
            "has a name that an expression cannot use",
            format!("a letter or _, then letters, digits and _; at most {MAX_NAME} characters"),
        )
        .got(name)
    })
}

impl PipelineSpec {
    /// Replaces every `{value:name}` in the paths of the pipeline by the value, and returns an
    /// error for each one that cannot be replaced. Such a placeholder is replaced by a plain word,
    /// so that the rest of the path can be checked.
    pub fn put_values_in_paths(&mut self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let Self {
            source,
            steps,
            tables,
            sink,
            values,
            ..
        } = self;
        let of_source = source
            .files
            .iter_mut()
            .map(|files| (SOURCE_FILES.to_owned(), files));
        let of_tables = tables
            .iter_mut()
            .map(|(name, table)| (table_files(name), &mut table.files));
        for (field, files) in of_source.chain(of_tables) {
            for (index, path) in files.paths.iter_mut().enumerate() {
                let field = format!("{field}.paths[{index}]");
                *path = replaced(&field, path, values, &mut errors);
            }
        }
        let of_source = source.files.iter_mut();
        let of_source = of_source.map(|files| (SOURCE_FILES.to_owned(), &mut files.on_error));
        let of_steps = steps.iter_mut().enumerate();
        let of_steps = of_steps
            .map(|(index, step)| (format!("spec.pipeline.steps[{index}]"), &mut step.on_error));
        for (field, on_error) in of_source.chain(of_steps) {
            let path = on_error
                .as_mut()
                .and_then(|on_error| on_error.path.as_mut());
            if let Some(path) = path {
                let field = format!("{field}.onError.path");
                *path = replaced(&field, path, values, &mut errors);
            }
        }
        let sink = &mut sink.files.path;
        *sink = replaced("spec.pipeline.sink.files.path", sink, values, &mut errors);
        errors
    }
}

fn replaced(
    field: &str,
    path: &str,
    values: &BTreeMap<String, Value>,
    errors: &mut Vec<FieldError>,
) -> String {
    let mut text = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once(PLACEHOLDER) {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        text.push_str(before);
        match values.get(name).map(as_text) {
            Some(Ok(value)) => text.push_str(&value),
            Some(Err(wrong)) => {
                text.push_str(name);
                let wrong = format!("contains {{value:{name}}}, which {wrong}");
                let allowed = "a string or an integer without * ? [ ] { } \\ # % and without control characters";
                errors.push(FieldError::new(field, wrong, allowed).got(path));
            }
            None => {
                text.push_str("value");
                errors.push(unknown(field, name, values).got(path));
            }
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

fn unknown(field: &str, name: &str, values: &BTreeMap<String, Value>) -> FieldError {
    let names: Vec<&str> = values.keys().map(String::as_str).collect();
    let allowed = if names.is_empty() {
        format!("{VALUES} is empty; add a value of this name")
    } else {
        format!("{VALUES} has {}", names.join(", "))
    };
    FieldError::new(
        field,
        format!("contains {{value:{name}}}, which has no value"),
        allowed,
    )
}

/// Returns the text of a value in a path, or why the value cannot be in a path.
fn as_text(value: &Value) -> Result<String, &'static str> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        Value::Number(_) => return Err("is a number with a fraction or an exponent"),
        Value::Null => return Err("is null"),
        Value::Bool(_) => return Err("is true or false"),
        Value::Array(_) => return Err("is a list"),
        Value::Object(_) => return Err("is an object"),
    };
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains(MEANINGFUL) || text.chars().any(char::is_control) {
        return Err("has a character that a path does not take as it is");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
