//! Implements label and field selectors, in the forms that are used in the simulation. Any other
//! form is an error with a sentence.

use serde_json::Value;

use super::answer::Answer;
use super::kinds::{EVENTS, Kind, PODS};

/// The fields by which objects of all kinds can be selected.
const OF_ALL: [&str; 2] = ["metadata.name", "metadata.namespace"];
const OF_PODS: [&str; 3] = ["spec.nodeName", "spec.schedulerName", "status.phase"];
const OF_EVENTS: [&str; 8] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "reason",
    "type",
];

/// A selector of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTerm {
    Exists(String),
    Absent(String),
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
}

impl Selector {
    pub(crate) fn read(labels: &str, fields: &str) -> Result<Self, String> {
        Ok(Self {
            labels: terms(labels)
                .into_iter()
                .map(|term| LabelTerm::read(&term))
                .collect::<Result<_, _>>()?,
            fields: terms(fields)
                .iter()
                .map(|term| {
                    term.split_once("==")
                        .or_else(|| term.split_once('='))
                        .map(|(path, value)| (path.to_owned(), value.to_owned()))
                        .filter(|(path, _)| !path.ends_with('!'))
                        .ok_or_else(|| format!("field selector {term} is not served here"))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Refuses fields by which objects of this kind cannot be selected.
    pub(crate) fn refuse(&self, kind: Kind) -> Option<Answer> {
        let known: &[&str] = if kind == EVENTS {
            &OF_EVENTS
        } else if kind == PODS {
            &OF_PODS
        } else {
            &[]
        };
        let (path, _) = self
            .fields
            .iter()
            .find(|(path, _)| !OF_ALL.contains(&&**path) && !known.contains(&&**path))?;
        let message = if known.is_empty() {
            format!(
                "\"{path}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )
        } else {
            format!("field label not supported: {path}")
        };
        Some(Answer::fail(400, "BadRequest", &message))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels))
            && self
                .fields
                .iter()
                .all(|(path, value)| field(object, path) == *value)
    }
}

impl LabelTerm {
    fn read(term: &str) -> Result<Self, String> {
        let term = term.trim();
        let own = |text: &str| text.trim().to_owned();
        if let Some((key, values)) = term.split_once(" in ") {
            let values = values.trim().trim_start_matches('(').trim_end_matches(')');
            return Ok(Self::In(own(key), values.split(',').map(own).collect()));
        }
        if term.contains(" notin ") {
            return Err(format!("label selector {term} is not served here"));
        }
        Ok(if let Some((key, value)) = term.split_once("!=") {
            Self::IsNot(own(key), own(value))
        } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            Self::Is(own(key), own(value))
        } else if let Some(key) = term.strip_prefix('!') {
            Self::Absent(own(key))
        } else {
            Self::Exists(own(term))
        })
    }

    fn matches(&self, labels: &Value) -> bool {
        let label = |key: &String| labels.get(key).and_then(Value::as_str);
        match self {
            Self::Exists(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
            Self::Is(key, value) => label(key) == Some(value),
            Self::IsNot(key, value) => label(key) != Some(value),
            Self::In(key, values) => {
                label(key).is_some_and(|label| values.iter().any(|value| value == label))
            }
        }
    }
}

/// Splits a text at commas outside of brackets.
fn terms(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut depth = 0_u32;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if character == ',' && depth == 0 {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push(character);
        }
    }
    all.retain(|term| !term.trim().is_empty());
    all
}

/// Returns the value of a field. Events have two formats, and both name the object that the event
/// is about.
fn field(object: &Value, path: &str) -> String {
    let path = path.replacen("involvedObject.", "regarding.", 1);
    let found = path.split('.').fold(object, |value, part| &value[part]);
    match found {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => found.to_string(),
    }
}
