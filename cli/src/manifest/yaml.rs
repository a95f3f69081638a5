//! Reads one YAML document as a tree. Resolves anchors and merge keys, refuses duplicate fields,
//! and applies limits. [`super::scalar`] decides what a scalar means.

use std::collections::BTreeMap;

use granit_parser::{
    Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag,
};
use serde_json::Value;

use super::scalar::{self, TagMismatch};
use super::tree::{Entry, Fields, Kind, Node, Position};
use super::{dialect, number};

/// The greatest nesting of maps and lists. JSON readers stop at 128 levels, and the frozen job has
/// a few more levels than its manifest.
pub(super) const MAX_NESTING: usize = 120;
/// The greatest size of a document after its aliases are expanded, in bytes; a manifest has at most
/// 1 MiB.
const MAX_EXPANDED_BYTES: usize = 16 << 20;
/// The size of a value in addition to its text.
const NODE_BYTES: usize = 32;
/// Line breaks of YAML 1.1 that are not line breaks in YAML 1.2. Readers interpret them
/// differently.
const ODD_LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Why a text is not a document that `kubectl` and this program read in the same way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) position: Position,
    pub(super) message: String,
}

type Result<T> = std::result::Result<T, YamlError>;

fn error<T>(position: Position, message: impl Into<String>) -> Result<T> {
    Err(YamlError {
        position,
        message: message.into(),
    })
}

/// Reads one document, which begins after `lines_before` lines of the file; `None` if it contains
/// only comments.
pub(super) fn read(text: &str, lines_before: usize) -> Result<Option<Node>> {
    if let Some(at) = text.find(ODD_LINE_BREAKS) {
        let mut position = place(text, at);
        position.line += lines_before;
        return error(
            position,
            "has a line separator of Unicode (U+0085, U+2028 or U+2029), which YAML readers interpret differently; in double quotes write it as \\u2028",
        );
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    // kubectl splits the file at --- first, so a directive has no document.
    options.disallow_directives = true;
    options.emit_anchor_events = true;
    options.flow_nesting_limit = MAX_NESTING;
    options.block_nesting_limit = MAX_NESTING;
    let mut reader = Reader {
        text,
        flow_depth: 0,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: BTreeMap::new(),
        expanded_bytes: 0,
        lines_before,
    };
    reader.document()
}

/// The position of a byte of the text.
pub(super) fn place(text: &str, byte: usize) -> Position {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Position {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}

/// The value of an anchor, with the number of bytes that each use of it adds.
struct Anchored {
    node: Node,
    bytes: usize,
}

struct Reader<'text> {
    text: &'text str,
    /// The number of open brackets and braces.
    flow_depth: usize,
    parser: Parser<'text, StrInput<'text>>,
    anchors: BTreeMap<usize, Anchored>,
    expanded_bytes: usize,
    lines_before: usize,
}

/// A node with the scalar as it was written, which decides whether the node can be a key.
struct Read {
    node: Node,
    key: Key,
}

enum Key {
    Text {
        text: String,
        changed_from: Option<String>,
    },
    /// `<<` without quotes.
    Merge,
    Unusable,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, Span)> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Anchor(_, name), span))) => {
                    if !name.chars().all(dialect::is_anchor) {
                        return error(
                            self.position(&span),
                            "has an anchor whose name kubectl does not read; letters, digits, - and _",
                        );
                    }
                }
                Some(Ok(next)) => return Ok(next),
                Some(Err(error)) => return Err(self.syntax(&error)),
                None => return error(Position::default(), "ends too early"),
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the events of the reader are an open set"
    )]
    fn document(&mut self) -> Result<Option<Node>> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd | Event::DocumentStart(..) => {}
                _ if root.is_some() => {
                    return error(
                        self.position(&span),
                        "has content after the end of the document, which kubectl does not read; begin a document with ---",
                    );
                }
                event => root = Some(self.node(event, &span, 0)?.node),
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the events of the reader are an open set"
    )]
    fn node(&mut self, event: Event<'text>, span: &Span, depth: usize) -> Result<Read> {
        let position = self.position(span);
        if depth > MAX_NESTING {
            return error(
                position,
                format!("is nested too deeply; at most {MAX_NESTING} levels"),
            );
        }
        let before = self.expanded_bytes;
        self.charge(position, NODE_BYTES)?;
        if self.flow_depth == 0 && dialect::is_behind_tab(self.text, span) {
            return error(
                position,
                "is indented with a tab, which kubectl refuses; indent with spaces",
            );
        }
        let (read, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(position, text.len())?;
                let source = span.slice(self.text).unwrap_or_default();
                if let Some(fault) = dialect::fault(&text, style, source, self.flow_depth > 0) {
                    return error(position, fault);
                }
                if self.flow_depth > 0
                    && tag.is_some()
                    && dialect::is_tag_without_space(self.text, span)
                {
                    return error(
                        position,
                        "has a tag without a space after it inside of [ ] or { }, which kubectl refuses; write a space there",
                    );
                }
                (scalar(&text, style, tag.as_deref(), position)?, anchor)
            }
            Event::SequenceStart(style, anchor, _) => {
                self.flow_depth += usize::from(style == StructureStyle::Flow);
                let list = self.list(position, depth)?;
                self.flow_depth -= usize::from(style == StructureStyle::Flow);
                (list, anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                self.flow_depth += usize::from(style == StructureStyle::Flow);
                let map = self.map(position, depth)?;
                self.flow_depth -= usize::from(style == StructureStyle::Flow);
                (map, anchor)
            }
            Event::Alias(id) => return self.alias(id, position, depth),
            _ => return error(position, "has no value here"),
        };
        if anchor != 0 {
            let bytes = self.expanded_bytes - before;
            let node = read.node.clone();
            self.anchors.insert(anchor, Anchored { node, bytes });
        }
        Ok(read)
    }

    fn list(&mut self, position: Position, depth: usize) -> Result<Read> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, &span, depth + 1)?.node);
        }
        Ok(Read {
            node: Node {
                position,
                kind: Kind::List(items),
            },
            key: Key::Unusable,
        })
    }

    fn map(&mut self, position: Position, depth: usize) -> Result<Read> {
        let mut fields = Fields::default();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let is_plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            if self.flow_depth > 0 && is_plain && dialect::has_tight_colon(self.text, &span) {
                return error(
                    self.position(&span),
                    "has a field without a space after its colon, which YAML readers interpret differently; write a space there",
                );
            }
            let key = self.node(event, &span, depth + 1)?;
            let at = key.node.position;
            let (event, span) = self.next()?;
            let is_alias = matches!(event, Event::Alias(_));
            let value = self.node(event, &span, depth + 1)?.node;
            match key.key {
                Key::Merge => merge(&mut fields, value, is_alias)?,
                Key::Unusable => {
                    return error(
                        at,
                        "has a key that is neither text nor a number nor a boolean; put the key in quotes",
                    );
                }
                Key::Text { text, changed_from } => {
                    let shown = zephyr_crds::field_error::shown(&text);
                    let entry = Entry {
                        key: text,
                        position: at,
                        changed_from,
                        value,
                    };
                    if let Err(first) = fields.add(entry) {
                        return error(
                            at,
                            format!(
                                "has the field {shown} twice, first at {first}; each field once"
                            ),
                        );
                    }
                }
            }
        }
        Ok(Read {
            node: Node {
                position,
                kind: Kind::Map(fields.into_entries()),
            },
            key: Key::Unusable,
        })
    }

    fn alias(&mut self, id: usize, position: Position, depth: usize) -> Result<Read> {
        let Some(anchored) = self.anchors.get(&id) else {
            return error(position, "has an alias of a value that contains itself");
        };
        let (node, bytes) = (anchored.node.clone(), anchored.bytes);
        if depth + levels(&node) > MAX_NESTING {
            return error(
                position,
                format!("is nested too deeply; at most {MAX_NESTING} levels"),
            );
        }
        self.charge(position, bytes)?;
        let key = match &node.kind {
            Kind::Scalar {
                value,
                changed_from,
            } => json_key(value, changed_from.as_deref()),
            Kind::List(_) | Kind::Map(_) => Key::Unusable,
        };
        Ok(Read { node, key })
    }

    fn position(&self, span: &Span) -> Position {
        Position {
            line: span.start.line() + self.lines_before,
            column: span.start.col() + 1,
        }
    }

    fn syntax(&self, error: &ScanError) -> YamlError {
        let at = error.marker();
        YamlError {
            position: Position {
                line: at.line() + self.lines_before,
                column: at.col() + 1,
            },
            message: format!("is not valid YAML here: {}", error.info()),
        }
    }

    fn charge(&mut self, position: Position, bytes: usize) -> Result<()> {
        self.expanded_bytes = self.expanded_bytes.saturating_add(bytes);
        if self.expanded_bytes > MAX_EXPANDED_BYTES {
            return error(
                position,
                format!(
                    "grows beyond {} MiB by its aliases; use fewer aliases",
                    MAX_EXPANDED_BYTES >> 20
                ),
            );
        }
        Ok(())
    }
}

/// The nesting of maps and lists.
fn levels(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::List(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Kind::Map(entries) => {
            1 + entries
                .iter()
                .map(|entry| levels(&entry.value))
                .max()
                .unwrap_or(0)
        }
    }
}

/// Merges a map, or each map of a list; earlier maps of the list take precedence.
fn merge(fields: &mut Fields, value: Node, is_alias: bool) -> Result<()> {
    let position = value.position;
    let wrong = "has a merge key << of something that is neither a map nor a list of maps";
    match value.kind {
        Kind::Map(entries) => merge_all(fields, entries),
        Kind::List(items) if !is_alias => {
            for item in items.into_iter().rev() {
                match item.kind {
                    Kind::Map(entries) => merge_all(fields, entries),
                    Kind::Scalar { .. } | Kind::List(_) => return error(item.position, wrong),
                }
            }
        }
        Kind::Scalar { .. } | Kind::List(_) => return error(position, wrong),
    }
    Ok(())
}

fn merge_all(fields: &mut Fields, entries: Vec<Entry>) {
    for entry in entries {
        fields.merge(entry);
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, position: Position) -> Result<Read> {
    let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
    if tag.as_deref().is_some_and(|tag| tag.contains('#')) {
        return error(
            position,
            "has a # in a tag, which kubectl refuses; a tag has letters and digits",
        );
    }
    let is_plain = style == ScalarStyle::Plain;
    let meaning = scalar::meaning(tag.as_deref(), is_plain, text).or_else(
        |TagMismatch(message): TagMismatch| {
            let shown = zephyr_crds::field_error::shown(text);
            error(position, format!("has a value ({shown}) that {message}"))
        },
    )?;
    let is_read_as_number = is_plain && tag.is_none();
    let written = |is_changed: bool| (is_read_as_number && is_changed).then(|| text.to_owned());
    let Some(value) = scalar::json(&meaning) else {
        return error(
            position,
            format!("has the number {text}, which JSON does not have; put it in quotes"),
        );
    };
    let is_merge = is_read_as_number || tag.as_deref() == Some(scalar::MERGE_TAG);
    let key = if is_merge && text == "<<" {
        Key::Merge
    } else {
        scalar::key(&meaning).map_or(Key::Unusable, |key| Key::Text {
            text: key,
            changed_from: written(scalar::key_changes(&meaning, text)),
        })
    };
    Ok(Read {
        node: Node {
            position,
            kind: Kind::Scalar {
                value,
                changed_from: written(scalar::changes(&meaning, text)),
            },
        },
        key,
    })
}

/// The scalar to which an alias refers, used as a key.
fn json_key(value: &Value, changed_from: Option<&str>) -> Key {
    let text = match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value
            .as_i64()
            .map(|whole| whole.to_string())
            .or_else(|| value.as_f64().map(number::key_text))
            .unwrap_or_default(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Array(_) | Value::Object(_) => return Key::Unusable,
    };
    Key::Text {
        text,
        changed_from: changed_from.map(ToOwned::to_owned),
    }
}
