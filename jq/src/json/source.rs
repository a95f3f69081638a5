//! Walking over the tape of a checked text. Reads only; every value it hands out borrows the text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::error::JsonError;
use super::string::unescape;
use super::tape::{Kind, Node, ScanLimits, scan};

/// Containers with more nodes inside than this get an index as soon as somebody looks for a single
/// child: below, walking is as fast.
const INDEXED_NODES: usize = 64;

/// A checked JSON text with its tape.
#[derive(Debug)]
pub struct Source<'a> {
    text: Cow<'a, str>,
    nodes: Cow<'a, [Node]>,
    /// Of large containers in which single children were looked for: the nodes of an array's
    /// elements in order, of an object's keys sorted by key.
    indices: RwLock<HashMap<u32, Arc<[u32]>>>,
}

/// One value of a text.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    source: &'a Source<'a>,
    index: u32,
}

impl<'a> Source<'a> {
    /// The text with the tape that [`scan`](super::tape::scan) made of it. The text must not have
    /// white space outside strings.
    pub fn new(text: &'a str, nodes: &'a [Node]) -> Self {
        Self {
            text: Cow::Borrowed(text),
            nodes: Cow::Borrowed(nodes),
            indices: RwLock::default(),
        }
    }

    /// Checks a text and keeps a copy of it, without white space outside strings.
    ///
    /// # Errors
    /// The first byte that is wrong.
    pub fn parse(text: &str, limits: ScanLimits) -> Result<Source<'static>, JsonError> {
        let mut nodes = Vec::new();
        if !scan(text, limits, &mut nodes)?.spaced {
            return Ok(Self::owned(text.to_owned(), nodes));
        }
        let compact = without_space(text, &nodes);
        scan(&compact, limits, &mut nodes)?;
        Ok(Self::owned(compact, nodes))
    }

    /// As [`Source::new`], keeping text and tape.
    pub fn owned(text: String, nodes: Vec<Node>) -> Source<'static> {
        Source {
            text: Cow::Owned(text),
            nodes: Cow::Owned(nodes),
            indices: RwLock::default(),
        }
    }

    /// The outermost value.
    pub fn root(&'a self) -> View<'a> {
        View {
            source: self,
            index: 0,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tape.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn index_of(&'a self, container: View<'a>) -> Arc<[u32]> {
        let known = self
            .indices
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&container.index)
            .cloned();
        known.unwrap_or_else(|| {
            let made = container.make_index();
            self.indices
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(container.index, made.clone());
            made
        })
    }
}

impl<'a> View<'a> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// The value's text as it stands in the source.
    pub fn text(self) -> &'a str {
        let node = self.node();
        &self.source.text[node.start as usize..node.end as usize]
    }

    /// The value of a string or key, escapes resolved.
    pub fn string(self) -> Cow<'a, str> {
        match self.plain_string() {
            Some(plain) => Cow::Borrowed(plain),
            None => unescape(self.text()),
        }
    }

    /// The value of a string or key that has no escapes.
    pub(crate) fn plain_string(self) -> Option<&'a str> {
        let node = self.node();
        (node.kind == Kind::PlainString)
            .then(|| &self.source.text[node.start as usize + 1..node.end as usize - 1])
    }

    /// Nodes inside this value: no fewer than it has elements.
    pub fn inner_nodes(self) -> usize {
        (self.node().next - self.index - 1) as usize
    }

    /// The elements of an array, in order; nothing for any other value.
    pub fn elements(self) -> ElementViews<'a> {
        ElementViews {
            next: self.index + 1,
            end: self.end_of(Kind::Array),
            source: self.source,
        }
    }

    /// The members of an object in the order of the text, repeated keys included; nothing for any
    /// other value.
    pub fn members(self) -> impl Iterator<Item = (View<'a>, View<'a>)> + Clone {
        let mut next = self.index + 1;
        let end = self.end_of(Kind::Object);
        let source = self.source;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let key = View {
                    source,
                    index: next,
                };
                let value = View {
                    source,
                    index: next + 1,
                };
                next = value.node().next;
                (key, value)
            })
        })
    }

    /// The element at `position`.
    pub(crate) fn element(self, position: usize) -> Option<View<'a>> {
        if position < INDEXED_NODES || self.inner_nodes() <= INDEXED_NODES {
            return self.elements().nth(position);
        }
        let index = *self.source.index_of(self).get(position)?;
        Some(View { index, ..self })
    }

    /// The member called `name`; of a repeated key the last one, as jq takes it.
    pub fn member(self, name: &str) -> Option<View<'a>> {
        if self.inner_nodes() > INDEXED_NODES {
            return self.indexed_member(name);
        }
        let mut found = None;
        for (key, value) in self.members() {
            if key.is_string(name) {
                found = Some(value);
            }
        }
        found
    }

    fn indexed_member(self, name: &str) -> Option<View<'a>> {
        let index = self.source.index_of(self);
        let key = |at: u32| View { index: at, ..self };
        // Equal keys stand in the order of the text, so the last one not above the name is the one.
        let behind = index.partition_point(|&at| *key(at).string() <= *name);
        let last = key(*index.get(behind.checked_sub(1)?)?);
        last.is_string(name).then_some(View {
            index: last.index + 1,
            ..self
        })
    }

    /// Whether this is a string or key with this value.
    pub fn is_string(self, value: &str) -> bool {
        match self.kind() {
            Kind::PlainString => {
                let node = self.node();
                // The length decides nearly always.
                (node.end - node.start) as usize == value.len() + 2
                    && &self.source.text[node.start as usize + 1..node.end as usize - 1] == value
            }
            Kind::EscapedString => *self.string() == *value,
            Kind::Null | Kind::False | Kind::True | Kind::Number | Kind::Array | Kind::Object => {
                false
            }
        }
    }

    /// Whether both are the same place of the same text.
    pub(crate) fn is(self, other: Self) -> bool {
        std::ptr::eq(self.source, other.source) && self.index == other.index
    }

    /// The members of an object with each key once: at its first place, with its last value.
    pub fn unique_members(self) -> Vec<(Cow<'a, str>, View<'a>)> {
        let members: Vec<(Cow<'a, str>, View<'a>)> = self
            .members()
            .map(|(key, value)| (key.string(), value))
            .collect();
        if !has_repeated(&members) {
            return members;
        }
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by(|&left, &right| members[left].0.cmp(&members[right].0));
        let mut values: Vec<Option<View<'a>>> = vec![None; members.len()];
        for same in order.chunk_by(|&left, &right| members[left].0 == members[right].0) {
            if let (Some(&first), Some(&last)) = (same.first(), same.last()) {
                values[first] = Some(members[last].1);
            }
        }
        members
            .into_iter()
            .zip(values)
            .filter_map(|((key, _), value)| Some((key, value?)))
            .collect()
    }

    /// Whether a key stands in this object twice; not what is inside its members.
    pub(crate) fn repeats_a_key(self) -> bool {
        let keys = self.members().map(|(key, _)| (key.string(), key));
        has_repeated(&keys.collect::<Vec<_>>())
    }

    fn make_index(self) -> Arc<[u32]> {
        if self.kind() == Kind::Array {
            return self.elements().map(|element| element.index).collect();
        }
        let mut keys: Vec<View<'a>> = self.members().map(|(key, _)| key).collect();
        keys.sort_by(|left, right| left.string().cmp(&right.string()));
        keys.into_iter().map(|key| key.index).collect()
    }

    fn end_of(self, kind: Kind) -> u32 {
        let node = self.node();
        if node.kind == kind {
            node.next
        } else {
            self.index + 1
        }
    }

    fn node(self) -> &'a Node {
        &self.source.nodes[self.index as usize]
    }
}

/// See [`View::elements`].
#[derive(Clone, Debug)]
pub struct ElementViews<'a> {
    next: u32,
    end: u32,
    source: &'a Source<'a>,
}

impl<'a> Iterator for ElementViews<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        (self.next < self.end).then(|| {
            let child = View {
                source: self.source,
                index: self.next,
            };
            self.next = child.node().next;
            child
        })
    }
}

/// Up to so many keys each is compared with each: no memory is taken, and lengths nearly always
/// differ.
const COMPARED_KEYS: usize = 16;

fn has_repeated<T>(members: &[(Cow<'_, str>, T)]) -> bool {
    if members.len() <= COMPARED_KEYS {
        return members.iter().enumerate().any(|(index, (key, _))| {
            members[..index]
                .iter()
                .any(|(other, _)| other.len() == key.len() && other == key)
        });
    }
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// The text without white space outside strings, which its tape knows.
fn without_space(text: &str, nodes: &[Node]) -> String {
    let mut compact = String::with_capacity(text.len());
    let mut from = 0;
    for node in nodes {
        if let Kind::PlainString | Kind::EscapedString = node.kind {
            let (start, end) = (node.start as usize, node.end as usize);
            compact.extend(text[from..start].split([' ', '\t', '\n', '\r']));
            compact.push_str(&text[start..end]);
            from = end;
        }
    }
    compact.extend(text[from..].split([' ', '\t', '\n', '\r']));
    compact
}
