//! Splits a file into objects as `kubectl` does, and finds the one job among them. Reads no spec.

use super::tree::{Kind, Node};
use super::yaml::YamlError;
use super::{ManifestError, json, yaml};

/// The version and the kind that this program supports.
const API_VERSION: &str = "zephyr.dev/v1alpha1";
const KIND: &str = "ZephyrJob";
/// The line that begins a document.
const SEPARATOR: &str = "---";
/// How deep lists of objects may nest. `kubectl` flattens such lists.
const MAX_LISTS: usize = 10;
/// The largest number of objects that an error names.
const MAX_NAMED: usize = 20;

/// One object of the file, with its own version and kind, or with those that its list implies.
struct Object {
    api_version: String,
    kind: String,
    node: Node,
}

impl Object {
    fn name(&self) -> &str {
        self.node
            .field("metadata")
            .and_then(|metadata| metadata.field("name"))
            .and_then(Node::text)
            .unwrap_or_default()
    }

    fn is_job(&self) -> bool {
        self.kind == KIND && self.api_version == API_VERSION
    }
}

/// The job of the file, or the one called `name`.
pub(super) fn job(path: &str, text: &str, name: Option<&str>) -> Result<Node, ManifestError> {
    let objects = objects(path, text)?;
    if objects.is_empty() {
        return Err(ManifestError::Empty {
            path: path.to_owned(),
        });
    }
    if let Some(other) = objects
        .iter()
        .find(|object| !object.is_job() && is_ours(object))
    {
        return Err(kind_error(path, &[other]));
    }
    let jobs: Vec<&Object> = objects.iter().filter(|object| object.is_job()).collect();
    let meant: Vec<&Object> = jobs
        .iter()
        .filter(|job| name.is_none_or(|name| job.name() == name))
        .copied()
        .collect();
    match (meant.as_slice(), name) {
        ([job], _) => Ok(job.node.clone()),
        ([], None) => Err(kind_error(path, &objects.iter().collect::<Vec<_>>())),
        ([], Some(name)) => Err(ManifestError::NoSuchName {
            path: path.to_owned(),
            name: name.to_owned(),
            names: names(&jobs),
        }),
        (_, None) => Err(ManifestError::Several {
            path: path.to_owned(),
            count: jobs.len(),
            names: names(&jobs),
        }),
        (meant, Some(name)) => Err(ManifestError::SeveralOfName {
            path: path.to_owned(),
            count: meant.len(),
            name: name.to_owned(),
        }),
    }
}

/// Whether an object belongs to this program's API, perhaps with an unknown version or kind.
fn is_ours(object: &Object) -> bool {
    object.kind == KIND || object.api_version.split('/').next() == Some("zephyr.dev")
}

fn kind_error(path: &str, found: &[&Object]) -> ManifestError {
    let found: Vec<_> = found
        .iter()
        .take(MAX_NAMED)
        .map(|object| format!("apiVersion {}, kind {}", object.api_version, object.kind))
        .collect();
    ManifestError::Kind {
        path: path.to_owned(),
        found: zephyr_crds::field_error::shown(&found.join("; ")),
    }
}

fn names(jobs: &[&Object]) -> String {
    if jobs.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<_> = jobs
        .iter()
        .take(MAX_NAMED)
        .map(|job| zephyr_crds::field_error::shown(job.name()))
        .collect();
    let more = if jobs.len() > MAX_NAMED { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn objects(path: &str, text: &str) -> Result<Vec<Object>, ManifestError> {
    let mut objects = Vec::new();
    for node in documents(path, text)? {
        if !node.is_null() {
            flatten(path, node, None, 0, &mut objects)?;
        }
    }
    Ok(objects)
}

/// Adds an object, or the objects of a list.
fn flatten(
    path: &str,
    node: Node,
    list: Option<(&str, &str)>,
    depth: usize,
    objects: &mut Vec<Object>,
) -> Result<(), ManifestError> {
    let fault = |message: String| ManifestError::Syntax {
        path: path.to_owned(),
        position: node.position,
        message,
    };
    if !matches!(node.kind, Kind::Map(_)) {
        return Err(fault(
            "is not an object; each document is a map with apiVersion and kind".to_owned(),
        ));
    }
    let word = |key: &str, of_list: Option<&str>| match node.field(key) {
        Some(field) if !field.is_null() => field
            .text()
            .map(ToOwned::to_owned)
            .ok_or_else(|| fault(format!("has a {key} that is not text; {key} must be text"))),
        _ => of_list.map(ToOwned::to_owned).ok_or_else(|| {
            fault(format!(
                "has no {key}; each document has apiVersion and kind"
            ))
        }),
    };
    let kind = word("kind", list.map(|(_, kind)| kind))?;
    let api_version = word("apiVersion", list.map(|(version, _)| version))?;
    let items = node.field("items").map(|items| &items.kind);
    let (Some(of), Some(Kind::List(items))) = (kind.strip_suffix("List"), items) else {
        objects.push(Object {
            api_version,
            kind,
            node,
        });
        return Ok(());
    };
    if depth >= MAX_LISTS {
        return Err(fault(format!(
            "has lists within lists; at most {MAX_LISTS} levels"
        )));
    }
    let list = (!of.is_empty()).then_some((api_version.as_str(), of));
    for item in items {
        flatten(path, item.clone(), list, depth + 1, objects)?;
    }
    Ok(())
}

/// Every document of the text: JSON values in a row, or documents of YAML.
fn documents(path: &str, text: &str) -> Result<Vec<Node>, ManifestError> {
    let fault = |error: YamlError| ManifestError::Syntax {
        path: path.to_owned(),
        position: error.position,
        message: error.message,
    };
    if text.trim_start().starts_with('{')
        && let Some(nodes) = json::read(text)
    {
        return nodes.map_err(fault);
    }
    let mut nodes = Vec::new();
    // kubectl adds a missing line break at the end. A block scalar that ends there contains it.
    let ended = format!("{text}\n");
    let lines = if text.ends_with('\n') { text } else { &ended };
    for chunk in chunks(path, lines)? {
        let read = yaml::read(chunk.text, chunk.lines_before).map_err(|error| {
            let is_json = std::path::Path::new(path)
                .extension()
                .is_some_and(|name| name == "json");
            fault(json::syntax(text).filter(|_| is_json).unwrap_or(error))
        })?;
        nodes.extend(read);
    }
    Ok(nodes)
}

/// One document's text.
struct Chunk<'text> {
    text: &'text str,
    lines_before: usize,
}

/// The parts between lines that begin with `---`, as `kubectl` splits the text before it parses it:
/// only a comment may follow on such a line.
fn chunks<'text>(path: &str, text: &'text str) -> Result<Vec<Chunk<'text>>, ManifestError> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut lines_before = 0;
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = line.strip_prefix(SEPARATOR) {
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                return Err(ManifestError::Syntax {
                    path: path.to_owned(),
                    position: super::tree::Position {
                        line: index + 1,
                        column: SEPARATOR.len() + 1,
                    },
                    message: format!(
                        "has text after --- (got {}); begin the document on the next line",
                        zephyr_crds::field_error::shown(rest)
                    ),
                });
            }
            chunks.push(Chunk {
                text: text.get(start..at).unwrap_or_default(),
                lines_before,
            });
            start = at + line.len();
            lines_before = index + 1;
        }
        at += line.len();
    }
    chunks.push(Chunk {
        text: text.get(start..).unwrap_or_default(),
        lines_before,
    });
    Ok(chunks)
}
