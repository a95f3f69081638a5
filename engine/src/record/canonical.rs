//! The canonical text of a record that passes through an expression unchanged: compact, strings with the fewest
//! escapes, each key once. Numbers keep their text. It must agree byte for byte with what `expr` writes for `.`.

use super::Record;
use super::string::push_quoted;
use super::tape::{Kind, Node};
use super::view::View;

/// Whether the compact `text` with these nodes is certainly canonical already; false means that
/// this is not known.
pub(crate) fn is_surely_canonical(view: View<'_>, nodes: &[Node]) -> bool {
    let escapes = nodes.iter().any(|node| node.kind == Kind::EscapedString);
    !escapes && !has_repeated_key(view)
}

impl View<'_> {
    /// This value as a record of its own, in the canonical form.
    pub(crate) fn to_canonical(self) -> Record {
        let mut text = String::with_capacity(self.text().len());
        push_canonical(&mut text, self);
        Record::trusted(text)
    }
}

/// Appends the canonical text of `view`; a repeated key keeps its first place and its last value.
pub(crate) fn push_canonical(text: &mut String, view: View<'_>) {
    match view.kind() {
        Kind::Null | Kind::False | Kind::True | Kind::Number | Kind::PlainString => {
            text.push_str(view.text());
        }
        Kind::EscapedString => push_quoted(text, &view.string()),
        Kind::Array => {
            text.push('[');
            for (index, element) in view.elements().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_canonical(text, element);
            }
            text.push(']');
        }
        Kind::Object => {
            text.push('{');
            for (index, (key, value)) in unique_members(view).into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_quoted(text, &key);
                text.push(':');
                push_canonical(text, value);
            }
            text.push('}');
        }
    }
}

/// The members of an object with each key once: at its first place, with its last value.
pub(crate) fn unique_members(view: View<'_>) -> Vec<(std::borrow::Cow<'_, str>, View<'_>)> {
    let members: Vec<_> = view
        .members()
        .map(|(key, value)| (key.string(), value))
        .collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&left, &right| {
        members[left]
            .0
            .cmp(&members[right].0)
            .then(left.cmp(&right))
    });
    let mut values: Vec<Option<View<'_>>> = vec![None; members.len()];
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

fn has_repeated_key(view: View<'_>) -> bool {
    match view.kind() {
        Kind::Object => {
            let mut keys: Vec<&str> = view.members().map(|(key, _)| key.text()).collect();
            keys.sort_unstable();
            keys.windows(2).any(|pair| pair[0] == pair[1])
                || view.members().any(|(_, value)| has_repeated_key(value))
        }
        Kind::Array => view.elements().any(has_repeated_key),
        Kind::Null
        | Kind::False
        | Kind::True
        | Kind::Number
        | Kind::PlainString
        | Kind::EscapedString => false,
    }
}
