//! Access to the values of a checked text through its tape. This module only reads. Every returned
//! value borrows the text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::error::JsonError;
use super::string::{needs_escape, unescape};
use super::tape::{Kind, Node, ScanLimits, scan};

/// A container with more nodes inside than this may get an index. For a smaller container, walking
/// over the nodes is as fast.
const MIN_INDEXED_NODES: usize = 64;

/// How many nodes may be visited before containers get indices, as a multiple of all nodes of the
/// text. Most programs look at few members of a record, which costs less than an index.
const MAX_WALKS: usize = 8;

/// The index of each container, by the container's node. Hashes are the same in every run.
type Indices = HashMap<u32, Arc<Index>, BuildHasherDefault<DefaultHasher>>;

/// The index of a large container.
#[derive(Debug)]
struct Index {
    /// The nodes of an array's elements in order, or the nodes of an object's keys, sorted by key.
    places: Box<[u32]>,
    /// The number of an array's elements, or of an object's different keys.
    children: usize,
}

/// A checked JSON text with its tape.
#[derive(Debug)]
pub struct Source<'a> {
    text: Cow<'a, str>,
    nodes: Cow<'a, [Node]>,
    /// How many nodes were visited to find or count children of large containers.
    walked: AtomicUsize,
    /// Indices of large containers whose children are often searched or counted.
    indices: RwLock<Indices>,
}

/// One value of a text.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    source: &'a Source<'a>,
    index: u32,
}

impl<'a> Source<'a> {
    /// Makes a source of a text and the tape that [`scan`](super::tape::scan) made of it. The text
    /// must not have white space outside strings.
    pub fn new(text: &'a str, nodes: &'a [Node]) -> Self {
        Self {
            text: Cow::Borrowed(text),
            nodes: Cow::Borrowed(nodes),
            walked: AtomicUsize::new(0),
            indices: RwLock::default(),
        }
    }

    /// Checks a text and keeps a copy of it, without white space outside strings.
    ///
    /// # Errors
    /// The text is not JSON. The error names the first byte that is wrong.
    pub fn parse(
        text: impl AsRef<str> + Into<String>,
        limits: ScanLimits,
    ) -> Result<Source<'static>, JsonError> {
        let mut nodes = Vec::new();
        if !scan(text.as_ref(), limits, &mut nodes)?.spaced {
            return Ok(Self::owned(text.into(), nodes));
        }
        let compact = without_space(text.as_ref());
        scan(&compact, limits, &mut nodes)?;
        Ok(Self::owned(compact, nodes))
    }

    /// Like [`Source::new`], but the source owns text and tape.
    pub fn owned(text: String, nodes: Vec<Node>) -> Source<'static> {
        Source {
            text: Cow::Owned(text),
            nodes: Cow::Owned(nodes),
            walked: AtomicUsize::new(0),
            indices: RwLock::default(),
        }
    }

    /// Returns the outermost value.
    pub fn root(&'a self) -> View<'a> {
        View {
            source: self,
            index: 0,
        }
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the tape.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Counts a walk over `nodes` nodes. Returns whether walking is still cheaper than an index.
    fn may_walk(&self, nodes: usize) -> bool {
        let walked = self.walked.fetch_add(nodes, Ordering::Relaxed);
        walked <= MAX_WALKS * self.nodes.len()
    }

    fn index_of(&'a self, container: View<'a>) -> Arc<Index> {
        let known = self
            .indices
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&container.index)
            .cloned();
        known.unwrap_or_else(|| {
            let made = Arc::new(container.make_index());
            self.indices
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(container.index, made.clone());
            made
        })
    }
}

impl<'a> View<'a> {
    /// Returns the kind of the value.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Returns the value's text as it is in the source.
    pub fn text(self) -> &'a str {
        let node = self.node();
        &self.source.text[node.start as usize..node.end as usize]
    }

    /// Returns the value of a string or key, with its escapes resolved.
    pub fn string(self) -> Cow<'a, str> {
        match self.plain_string() {
            Some(plain) => Cow::Borrowed(plain),
            None => unescape(self.text()),
        }
    }

    /// Returns the value of a string or key, if it has no escapes.
    pub(crate) fn plain_string(self) -> Option<&'a str> {
        let node = self.node();
        (node.kind == Kind::PlainString)
            .then(|| &self.source.text[node.start as usize + 1..node.end as usize - 1])
    }

    /// Whether this is the outermost value.
    pub fn is_root(self) -> bool {
        self.index == 0
    }

    /// Returns the nodes inside this value, in the order of the text.
    pub(crate) fn inside(self) -> &'a [Node] {
        let next = self.node().next;
        &self.source.nodes[self.index as usize + 1..next as usize]
    }

    /// Returns the number of nodes inside this value. This is at least the number of its elements.
    pub fn inner_nodes(self) -> usize {
        (self.node().next - self.index - 1) as usize
    }

    /// Returns the elements of an array in order. Any other value has no elements.
    pub fn elements(self) -> ElementViews<'a> {
        ElementViews {
            next: self.index + 1,
            end: self.end_of(Kind::Array),
            source: self.source,
        }
    }

    /// Returns the members of an object in the order of the text. If a key is repeated, all its
    /// members are returned. Any other value has no members.
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

    /// Returns the element at `position` of an array.
    pub(crate) fn element(self, position: usize) -> Option<View<'a>> {
        let walk = position.min(self.inner_nodes());
        if walk <= MIN_INDEXED_NODES || self.source.may_walk(walk) {
            return self.elements().nth(position);
        }
        let index = *self.source.index_of(self).places.get(position)?;
        Some(View { index, ..self })
    }

    /// Returns the number of an array's elements, or of an object's different keys.
    pub(crate) fn child_count(self) -> usize {
        let nodes = self.inner_nodes();
        if nodes > MIN_INDEXED_NODES && !self.source.may_walk(nodes) {
            self.source.index_of(self).children
        } else if self.kind() == Kind::Array {
            self.elements().count()
        } else if self.repeats_a_key() {
            self.unique_members().len()
        } else {
            self.members().count()
        }
    }

    /// Returns the member with the key `name`. If the key is repeated, returns the last member, as
    /// in jq.
    pub fn member(self, name: &str) -> Option<View<'a>> {
        let nodes = self.inner_nodes();
        if nodes > MIN_INDEXED_NODES && !self.source.may_walk(nodes) {
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
        let places = &index.places;
        let key = |at: u32| View { index: at, ..self };
        // Equal keys are in the order of the text, so the wanted key is the last one that is not
        // greater than the name.
        let behind = places.partition_point(|&at| *key(at).string() <= *name);
        let last = key(*places.get(behind.checked_sub(1)?)?);
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
                // In nearly all cases the length decides.
                (node.end - node.start) as usize == value.len() + 2
                    && &self.source.text[node.start as usize + 1..node.end as usize - 1] == value
            }
            Kind::EscapedString => *self.string() == *value,
            Kind::Null | Kind::False | Kind::True | Kind::Number | Kind::Array | Kind::Object => {
                false
            }
        }
    }

    /// Whether both are the same position in the same text.
    pub(crate) fn is(self, other: Self) -> bool {
        std::ptr::eq(self.source, other.source) && self.index == other.index
    }

    /// Returns the members of an object, each key once. If a key is repeated, it has its first
    /// position and its last value.
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

    /// Whether this object itself, not a value inside it, repeats a key.
    pub(crate) fn repeats_a_key(self) -> bool {
        let mut keys = [self; MAX_COMPARED_KEYS];
        for (count, (key, _)) in self.members().enumerate() {
            if count == MAX_COMPARED_KEYS {
                let keys = self.members().map(|(key, _)| (key.string(), key));
                return has_repeated(&keys.collect::<Vec<_>>());
            }
            if keys[..count].iter().any(|other| other.is_same_string(key)) {
                return true;
            }
            keys[count] = key;
        }
        false
    }

    /// Whether the text of this value is its canonical form: no escapes and no character that needs
    /// one, and no key twice.
    pub(crate) fn is_canonical(self) -> bool {
        if self.kind() == Kind::EscapedString || needs_escape(self.text()) {
            return false;
        }
        let views = (self.index..self.node().next).map(|index| View { index, ..self });
        views
            .filter(|view| view.kind() == Kind::Object)
            .all(|object| !object.repeats_a_key())
            && self
                .inside()
                .iter()
                .all(|node| node.kind != Kind::EscapedString)
    }

    /// Whether two strings or keys have the same value.
    fn is_same_string(self, other: Self) -> bool {
        match (self.plain_string(), other.plain_string()) {
            (Some(left), Some(right)) => left.len() == right.len() && left == right,
            _ => self.string() == other.string(),
        }
    }

    fn make_index(self) -> Index {
        if self.kind() == Kind::Array {
            let places: Box<[u32]> = self.elements().map(|element| element.index).collect();
            return Index {
                children: places.len(),
                places,
            };
        }
        let mut keys: Vec<View<'a>> = self.members().map(|(key, _)| key).collect();
        keys.sort_by(|left, right| left.string().cmp(&right.string()));
        let same = |pair: &&[View<'a>]| pair[0].is_same_string(pair[1]);
        Index {
            children: keys.len() - keys.windows(2).filter(same).count(),
            places: keys.into_iter().map(|key| key.index).collect(),
        }
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

/// Up to this number of keys, each key is compared with every other key. This takes no memory, and
/// is fast because the lengths nearly always differ.
const MAX_COMPARED_KEYS: usize = 16;

fn has_repeated<T>(members: &[(Cow<'_, str>, T)]) -> bool {
    if members.len() <= MAX_COMPARED_KEYS {
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

/// Returns the checked JSON `text` without white space outside strings.
pub fn without_space(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let string_at = rest.find('"').unwrap_or(rest.len());
        let (outside, from_quote) = rest.split_at(string_at);
        compact.extend(outside.split([' ', '\t', '\n', '\r']));
        let string_length = quoted_length(from_quote);
        compact.push_str(&from_quote[..string_length]);
        rest = &from_quote[string_length..];
    }
    compact
}

/// Returns `text` without white space outside strings, and moves its tape to the returned text. So
/// that text needs no second scan.
pub fn compacted(text: &str, nodes: &mut [Node]) -> String {
    let mut compact = String::with_capacity(text.len());
    let mut open = Vec::new();
    let mut copied = 0;
    for index in 0..nodes.len() {
        let Node {
            start, end, kind, ..
        } = nodes[index];
        push_marks(
            &mut compact,
            &text[copied..start as usize],
            &mut open,
            nodes,
        );
        nodes[index].start = offset_of_end(&compact);
        let is_container = matches!(kind, Kind::Array | Kind::Object);
        copied = if is_container { start + 1 } else { end } as usize;
        compact.push_str(&text[start as usize..copied]);
        if is_container {
            open.push(index);
        } else {
            nodes[index].end = offset_of_end(&compact);
        }
    }
    push_marks(&mut compact, &text[copied..], &mut open, nodes);
    compact
}

/// Appends the text between two nodes, without its white space. A bracket ends the innermost open
/// container.
fn push_marks(compact: &mut String, between: &str, open: &mut Vec<usize>, nodes: &mut [Node]) {
    for mark in between.bytes() {
        if matches!(mark, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        }
        compact.push(char::from(mark));
        if matches!(mark, b']' | b'}')
            && let Some(container) = open.pop()
        {
            nodes[container].end = offset_of_end(compact);
        }
    }
}

/// Returns the length of a text that is no longer than a text with a tape.
fn offset_of_end(compact: &str) -> u32 {
    u32::try_from(compact.len()).unwrap_or(u32::MAX)
}

/// Returns the length of the string at the beginning of `text`, including both quotes. 0 if `text`
/// is empty.
fn quoted_length(text: &str) -> usize {
    let mut from = 1;
    loop {
        let Some(found) = text
            .get(from..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest.as_bytes()))
        else {
            return text.len();
        };
        if text.as_bytes()[from + found] == b'"' {
            return from + found + 1;
        }
        from += found + 2;
    }
}
