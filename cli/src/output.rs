//! The formats of `-o`: JSON, YAML and names. Pure.

use std::fmt::Write as _;

use serde_json::Value;

/// The format of a result that names jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
    /// Only the names, as `kubectl get -o name` prints them.
    Name,
}

/// The format of a result that has only data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Data {
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A job as `-o name` prints it.
pub(crate) fn name_of(job: &str) -> String {
    format!("zephyrjob.zephyr.dev/{job}")
}

impl Format {
    /// The text of a result about these jobs.
    pub(crate) fn text<'a>(
        self,
        value: &Value,
        names: impl IntoIterator<Item = &'a str>,
    ) -> String {
        match self {
            Self::Json => Data::Json.text(value),
            Self::Yaml => Data::Yaml.text(value),
            Self::Name => {
                let names = names.into_iter().map(name_of);
                names.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

impl Data {
    /// The text of a result.
    pub(crate) fn text(self, value: &Value) -> String {
        match self {
            Self::Json => format!("{value:#}"),
            Self::Yaml => yaml(value),
        }
    }
}

/// The value as YAML in block style. A scalar that some reader could mistake for another value is
/// in double quotes, as in JSON.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_node(value, 0, false, &mut text);
    text
}

/// Writes a node. `is_begun` says that the line has the indentation already.
fn write_node(value: &Value, depth: usize, is_begun: bool, text: &mut String) {
    let indent = |is_first: bool| if is_first && is_begun { 0 } else { 2 * depth };
    // Writing to a String cannot fail.
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, value)) in fields.iter().enumerate() {
                let _ = write!(text, "{:1$}{2}:", "", indent(index == 0), plain(name));
                write_value(value, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let _ = write!(text, "{:1$}- ", "", indent(index == 0));
                write_node(item, depth + 1, true, text);
            }
        }
        Value::String(string) => {
            let _ = writeln!(text, "{}", plain(string));
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = writeln!(text, "{value}");
        }
    }
}

/// Writes the value of a field, after its colon.
fn write_value(value: &Value, depth: usize, text: &mut String) {
    let has_parts = value.as_object().is_some_and(|fields| !fields.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty());
    text.push(if has_parts { '\n' } else { ' ' });
    write_node(value, depth + 1, false, text);
}

/// The string without quotes, if every YAML reader then reads this string, and otherwise in double
/// quotes.
fn plain(string: &str) -> String {
    const OTHERS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = string.starts_with(|c: char| c.is_ascii_alphabetic())
        && !string.ends_with(' ')
        && string
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_./ -".contains(c))
        && !OTHERS.contains(&string.to_ascii_lowercase().as_str());
    if is_word {
        return string.to_owned();
    }
    Value::from(string).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_the_same_value() {
        let value = json!({
            "name": "count", "empty": {}, "none": [], "null": null, "n": 1.5, "yes": "no",
            "list": [{"a": 1, "b": [1, [2, "3"], {}]}, "x: y", "- z", "#", " a", "a ", "1e3", "é\n\u{7}"],
            "deep": {"a": {"b": {"c": "2026-01-01T00:00:00Z"}}}, "12": true, "~": "~",
        });
        let text = yaml(&value);
        let read: Value = serde_saphyr::from_str(&text).expect(&text);
        assert_eq!(read, value, "{text}");
    }

    #[test]
    fn yaml_looks_as_people_write_it() {
        let value = json!({"name": "count", "jobs": [{"phase": "Running", "tasks": 3}], "of": {"a": "b: c"}});
        assert_eq!(
            yaml(&value),
            "jobs:\n  - phase: Running\n    tasks: 3\nname: count\nof:\n  a: \"b: c\"\n"
        );
    }

    #[test]
    fn a_name_is_that_of_kubectl() {
        let names = ["a", "b"];
        let text = Format::Name.text(&Value::Null, names);
        assert_eq!(text, "zephyrjob.zephyr.dev/a\nzephyrjob.zephyr.dev/b");
    }
}
