//! Walks over the tape of a checked record. Reads only; every returned value borrows the record.

use std::borrow::Cow;

use super::string::unescape;
use super::tape::{Kind, Node};

/// One value of a record.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    text: &'a str,
    nodes: &'a [Node],
    index: usize,
}

impl<'a> View<'a> {
    pub(crate) fn root(text: &'a str, nodes: &'a [Node]) -> Self {
        Self {
            text,
            nodes,
            index: 0,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.node().kind
    }

    /// The kind of the value, as jq's `type` names it.
    pub(crate) fn type_name(self) -> &'static str {
        match self.kind() {
            Kind::Null => "null",
            Kind::False | Kind::True => "boolean",
            Kind::Number => "number",
            Kind::PlainString | Kind::EscapedString => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }

    /// The value's text as it stands in the record.
    pub(crate) fn text(self) -> &'a str {
        let node = self.node();
        &self.text[node.start as usize..node.end as usize]
    }

    /// The value of a string or key, escapes resolved.
    pub(crate) fn string(self) -> Cow<'a, str> {
        unescape(self.text())
    }

    /// Number of nodes inside this value: at least the number of its elements.
    pub(crate) fn inner_nodes(self) -> usize {
        self.node().next as usize - self.index - 1
    }

    /// The elements of an array, in order; nothing for any other value.
    pub(crate) fn elements(self) -> impl Iterator<Item = View<'a>> {
        let node = self.node();
        let mut index = self.index + 1;
        let end = if node.kind == Kind::Array {
            node.next as usize
        } else {
            index
        };
        std::iter::from_fn(move || {
            (index < end).then(|| {
                let element = View { index, ..self };
                index = element.node().next as usize;
                element
            })
        })
    }

    /// The members of an object in the order of the text, repeated keys included; nothing for any other value.
    pub(crate) fn members(self) -> impl Iterator<Item = (View<'a>, View<'a>)> {
        let node = self.node();
        let mut index = self.index + 1;
        let end = if node.kind == Kind::Object {
            node.next as usize
        } else {
            index
        };
        std::iter::from_fn(move || {
            (index < end).then(|| {
                let key = View { index, ..self };
                let value = View {
                    index: index + 1,
                    ..self
                };
                index = value.node().next as usize;
                (key, value)
            })
        })
    }

    /// The member with the key `name`; for a repeated key the last one, as in jq.
    pub(crate) fn member(self, name: &str) -> Option<View<'a>> {
        self.members()
            .filter(|(key, _)| key.is_string(name))
            .last()
            .map(|(_, value)| value)
    }

    /// Whether this is a string or key with this value.
    pub(crate) fn is_string(self, value: &str) -> bool {
        match self.kind() {
            Kind::PlainString => {
                let text = self.text();
                &text[1..text.len() - 1] == value
            }
            Kind::EscapedString => self.string() == value,
            Kind::Null | Kind::False | Kind::True | Kind::Number | Kind::Array | Kind::Object => {
                false
            }
        }
    }

    fn node(self) -> &'a Node {
        &self.nodes[self.index]
    }
}
