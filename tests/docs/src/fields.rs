//! Makes the page about the fields of a `ZephyrJob`, from the schema of its
//! `CustomResourceDefinition`. Pure.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

const HEAD: &str = "<!-- Written by `make generate` from crds/zephyrjobs.yaml. Change the types in crds/src instead. -->

# Fields of a ZephyrJob

`kubectl explain zj.spec --recursive` prints the same. A name with `[]` is a list, and what follows
is inside each of its elements; `NAME` is any name that you choose. \"Immutable\" fields cannot be changed once the job has begun.
";

/// Returns the page.
pub(crate) fn page(definition: &Value) -> Result<String> {
    let schema = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties")
        .context("the definition has no schema")?;
    let mut page = HEAD.to_owned();
    for part in ["spec", "status"] {
        let schema = schema
            .get(part)
            .with_context(|| format!("the schema has no {part}"))?;
        let (mut own, mut sections) = (Vec::new(), Vec::new());
        for (name, field) in children(schema) {
            let path = format!("{part}.{name}");
            own.push(row(name, field, is_required(schema, name)));
            let mut rows = Vec::new();
            walk("", field, &mut rows);
            if !rows.is_empty() {
                sections.push((path, description(field), rows));
            }
        }
        section(&mut page, part, "", &own);
        for (path, about, rows) in &sections {
            section(&mut page, path, about, rows);
        }
    }
    Ok(page)
}

fn section(page: &mut String, path: &str, about: &str, rows: &[String]) {
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("{about}\n\n")
    };
    let _ = write!(
        page,
        "\n## {path}\n\n{about}| field | type | default | what it is |\n| --- | --- | --- | --- |\n{}\n",
        rows.join("\n")
    );
}

/// Adds one row for each field below `schema`, parents before children.
fn walk(path: &str, schema: &Value, rows: &mut Vec<String>) {
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, rows);
        return;
    }
    if let Some(members) = schema.get("additionalProperties") {
        walk(&format!("{path}.NAME"), members, rows);
        return;
    }
    for (name, field) in children(schema) {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        rows.push(row(&path, field, is_required(schema, name)));
        walk(&path, field, rows);
    }
}

fn children(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.as_str(), field))
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required == name))
}

fn row(path: &str, field: &Value, is_required: bool) -> String {
    let default = match field.get("default") {
        _ if is_required => "required".to_owned(),
        // The default of an object consists of the defaults of its fields, which have their own
        // rows.
        Some(Value::Object(_)) | None => String::new(),
        Some(value) => format!("`{value}`"),
    };
    format!(
        "| `{path}` | {} | {default} | {} |",
        kind(field),
        description(field)
    )
}

/// Returns the type in words, with the bounds that the schema sets.
fn kind(field: &Value) -> String {
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        let words = values
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(" or ");
    }
    if let Some(items) = field.get("items") {
        let most = field
            .get("maxItems")
            .map(|most| format!(", at most {most}"));
        return format!("list of {}{}", kind(items), most.unwrap_or_default());
    }
    if field.get("x-kubernetes-int-or-string").is_some() {
        return "number or text".to_owned();
    }
    let name = match field.get("type").and_then(Value::as_str) {
        Some("string") => "text",
        Some("integer") => "integer",
        Some("boolean") => "true or false",
        Some("object") => "object",
        Some(other) => other,
        None => "any JSON value",
    };
    // The schema contains bounds as floating-point numbers.
    let amount = |key: &str| {
        let text = field.get(key)?.to_string();
        Some(text.strip_suffix(".0").unwrap_or(&text).to_owned())
    };
    let bounds = match (amount("minimum"), amount("maximum"), amount("maxLength")) {
        (Some(least), Some(most), _) => format!(", {least} to {most}"),
        (Some(least), None, _) => format!(", at least {least}"),
        (None, Some(most), _) => format!(", at most {most}"),
        (None, None, Some(most)) => format!(", at most {most} characters"),
        (None, None, None) => String::new(),
    };
    format!("{name}{bounds}")
}

fn description(field: &Value) -> String {
    let text = field.get("description").and_then(Value::as_str);
    in_a_table(text.unwrap_or_default())
}

/// Escapes text for one line of a table, so that no character of it is read as Markdown.
pub(crate) fn in_a_table(text: &str) -> String {
    let mut line = String::new();
    let mut is_code = false;
    for character in text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
    {
        match character {
            '|' => line.push_str("\\|"),
            '<' if !is_code => line.push_str("&lt;"),
            _ => line.push(character),
        }
        is_code ^= character == '`';
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_has_a_row_with_type_bounds_default_and_description() {
        let spec = json!({
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": {"type": "object", "description": "About  a.\n", "required": ["c"], "properties": {
                    "b": {"type": "integer", "minimum": 1.0, "maximum": 9.0, "default": 2, "description": "x | <y> `<z>`"},
                    "c": {"type": "array", "maxItems": 3, "items": {"type": "object", "properties": {
                        "d": {"enum": ["X", "Y"], "description": "d"}}}},
                    "m": {"type": "object", "description": "m", "additionalProperties": {"type": "object", "properties": {
                        "n": {"type": "boolean", "description": "n"}}}}}},
                "e": {"type": "string", "maxLength": 5, "description": "e"}}});
        let definition = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties":
            {"spec": spec, "status": {"type": "object", "properties": {}}}}}}]}});
        let page = page(&definition).unwrap();
        for row in [
            "\n| `a` | object | required | About a. |\n| `e` | text, at most 5 characters |  | e |\n",
            "\n## spec.a\n\nAbout a.\n\n",
            "\n| `b` | integer, 1 to 9 | `2` | x \\| &lt;y> `<z>` |\n",
            "| `m.NAME.n` |",
            "\n| `c` | list of object, at most 3 | required |  |\n| `c[].d` | `X` or `Y` |  | d |\n",
        ] {
            assert!(page.contains(row), "{row}\nis not in\n{page}");
        }
    }
}
