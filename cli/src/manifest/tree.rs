//! A document as a tree that keeps positions in the file. Made from YAML or JSON, and converted
//! into a JSON value. Knows no field of a job.

use std::fmt;

use serde_json::Value;

/// A position in the file; line and column are counted from one. Columns are characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// One value of a document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar {
        value: Value,
        /// The text in the file, if the cluster would store another value.
        changed_from: Option<String>,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One field of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    /// The text in the file, if the cluster would store another key.
    pub(super) changed_from: Option<String>,
    pub(super) value: Node,
}

/// A number that the cluster would store as another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) written: String,
    pub(super) arrives: String,
}

impl Node {
    /// The document as JSON.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar { value, .. } => value.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect(),
            ),
        }
    }

    pub(super) fn field(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            Kind::Scalar { .. } | Kind::List(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => value.as_str(),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether the document is empty or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { value, .. } if value.is_null())
    }

    /// The position of the deepest part of `path` that the document has. A path is written as in
    /// error messages (`spec.pipeline.steps[0].map`, `spec.workers.template.labels[a]`). `None` if
    /// the document does not even have the first part.
    pub(super) fn locate(&self, path: &str) -> Option<Position> {
        let mut node = self;
        let mut rest = path;
        let mut found = None;
        while let Some((position, next, remainder)) = node.step(rest) {
            found = Some(position);
            node = next;
            rest = remainder;
        }
        found
    }

    /// The child with which `path` begins, and the rest of the path. The longest matching key is
    /// chosen, because keys may contain dots.
    fn step<'path>(&self, path: &'path str) -> Option<(Position, &Self, &'path str)> {
        match &self.kind {
            Kind::Scalar { .. } => None,
            Kind::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item.position, item, rest))
            }
            Kind::Map(entries) => entries
                .iter()
                .filter_map(|entry| {
                    let rest = match path.strip_prefix('[') {
                        Some(inner) => inner.strip_prefix(&*entry.key)?.strip_prefix(']')?,
                        None => path.trim_start_matches('.').strip_prefix(&*entry.key)?,
                    };
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some((
                        entry.position,
                        &entry.value,
                        rest,
                    ))
                })
                .min_by_key(|(_, _, rest)| rest.len()),
        }
    }

    /// Every number below `path` that the cluster would store as another value.
    pub(super) fn changes(&self, path: &str) -> Vec<Change> {
        let mut found = Vec::new();
        self.collect_changes(path, &mut found);
        found
    }

    fn collect_changes(&self, path: &str, found: &mut Vec<Change>) {
        match &self.kind {
            Kind::Scalar {
                value,
                changed_from,
            } => found.extend(changed_from.iter().map(|written| Change {
                path: path.to_owned(),
                written: written.clone(),
                arrives: value.to_string(),
            })),
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect_changes(&format!("{path}[{index}]"), found);
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    let path = format!("{path}.{}", entry.key);
                    found.extend(entry.changed_from.iter().map(|written| Change {
                        path: path.clone(),
                        written: written.clone(),
                        arrives: format!("{:?}", entry.key),
                    }));
                    entry.value.collect_changes(&path, found);
                }
            }
        }
    }
}

/// The fields of a map while it is built. A duplicate field is an error. A field from a merge key
/// is replaced by later fields and replaces earlier ones, as in the library of `kubectl`.
#[derive(Default)]
pub(super) struct Fields {
    entries: Vec<Entry>,
    places: std::collections::BTreeMap<String, (usize, bool)>,
}

impl Fields {
    /// Adds a field that is written in this map; returns the position of an earlier field with the
    /// same name.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), Position> {
        if let Some((at, true)) = self.places.get(&entry.key) {
            let first = self.entries.get(*at);
            return Err(first.map_or(entry.position, |first| first.position));
        }
        self.set(entry, true);
        Ok(())
    }

    /// Adds a field of a map that is merged into this one.
    pub(super) fn merge(&mut self, entry: Entry) {
        let is_written = self
            .places
            .get(&entry.key)
            .is_some_and(|(_, is_written)| *is_written);
        self.set(entry, is_written);
    }

    fn set(&mut self, entry: Entry, is_written: bool) {
        let next = self.entries.len();
        let place = self
            .places
            .entry(entry.key.clone())
            .or_insert((next, is_written));
        place.1 = is_written;
        match self.entries.get_mut(place.0) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}
