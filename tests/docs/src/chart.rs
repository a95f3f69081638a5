//! Makes the page about the values of the chart: their names, defaults and comments in values.yaml,
//! and what the schema allows. Pure.
//!
//! A comment belongs to the key on the next line. Comments, keys and defaults are read line by
//! line, because a YAML parser drops comments.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::fields::in_a_table;

/// The values, with their comments.
pub(crate) const VALUES: &str = "charts/zephyr-operator/values.yaml";
/// The schema of the values.
pub(crate) const SCHEMA: &str = "charts/zephyr-operator/values.schema.json";

const HEAD: &str = "<!-- Written by `make generate` from values.yaml and values.schema.json of the chart. Change these instead. -->

# Values of the chart

Others are refused. [Install, upgrade, remove](../install.md) says which ones most clusters need.

| value | default | allowed | what it is |
| --- | --- | --- | --- |
";

/// Returns the page.
pub(crate) fn page(values: &str, schema: &Value) -> Result<String> {
    let mut page = HEAD.to_owned();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let about = in_a_table(&std::mem::take(&mut comment).join(" "));
        let Some((key, default)) = text.split_once(':') else {
            ensure!(
                text.is_empty(),
                "{VALUES}: is not a key with a value (got {line:?})"
            );
            continue;
        };
        let indent = line.len() - text.len();
        parents.retain(|(above, _)| *above < indent);
        parents.push((indent, key));
        let path: Vec<&str> = parents.iter().map(|(_, key)| *key).collect();
        let default = match default.trim() {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let (name, allowed) = (path.join("."), allowed(schema, &path));
        let _ = writeln!(page, "| `{name}` | {default} | {allowed} | {about} |");
    }
    Ok(page)
}

/// Returns the values that the schema allows at `path`, in words. Empty if the schema states only
/// the type of the default.
fn allowed(schema: &Value, path: &[&str]) -> String {
    let mut place = Some(schema);
    for key in path {
        place = place.and_then(|place| place.get("properties")?.get(key));
    }
    let Some(place) = place else {
        return String::new();
    };
    if let Some(words) = place.get("enum").and_then(Value::as_array) {
        let words = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    match (
        place.get("minimum"),
        place.get("maximum"),
        place.get("type"),
    ) {
        (Some(least), Some(most), _) => format!("{least} to {most}"),
        (Some(least), None, _) => format!("at least {least}"),
        (_, _, Some(kind)) if kind == "boolean" => "`true`, `false`".to_owned(),
        _ => match place.get("pattern").and_then(Value::as_str) {
            Some(pattern) => format!("`{}`", in_a_table(pattern)),
            None => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_has_its_default_its_bounds_and_the_comment_above_it() {
        let values = "# The file.\n\n# An image,\n# by name.\nimage:\n  # Its tag.\n  tag: \"\"\n\nreplicas: 1\nmode: a\n";
        let schema = json!({"properties": {
            "replicas": {"type": "integer", "minimum": 0},
            "mode": {"enum": ["a", "b"]},
            "image": {"properties": {"tag": {"type": "string", "pattern": "^(a|b)$"}}}}});
        let page = page(values, &schema).unwrap();
        let rows = [
            "| `image` |  |  | An image, by name. |",
            "| `image.tag` | `\"\"` | `^(a\\|b)$` | Its tag. |",
            "| `replicas` | `1` | at least 0 |  |",
            "| `mode` | `a` | `a`, `b` |  |",
        ];
        assert!(page.ends_with(&format!("{}\n", rows.join("\n"))), "{page}");
    }

    #[test]
    fn a_line_that_is_not_a_key_is_refused() {
        let error = page("- a\n", &json!({})).unwrap_err();
        assert!(error.to_string().contains("is not a key"), "{error}");
    }
}
