//! Estimates from a text, before it is parsed, how much memory its record needs. This is done only
//! for long texts. The text may be invalid: the estimate is never less than what a parser allocates
//! before it finds the error.
//!
//! Values of jq are lazy: numbers and strings without escapes are parts of the text, and an array
//! or object is a position in the text until an expression changes it. `value_bytes` is the memory
//! that they take if an expression changes all of them.

use zephyr_jq::json::Node;
use zephyr_jq::{Text, Value};

/// Bytes of an array that an expression has made: the reference-counted box and the vector's head,
/// as the allocator rounds them.
const ARRAY_BYTES: usize = 48;
/// Bytes of one element of such an array.
const ELEMENT_BYTES: usize = size_of::<Value<'_>>();
/// The least capacity of a vector that is not empty.
const MIN_ELEMENTS: usize = 4;
/// Bytes of an object that an expression has made: the reference-counted box, the vector's head and
/// the pointer to an index.
const OBJECT_BYTES: usize = 64;
/// Bytes of one member of such an object.
const MEMBER_BYTES: usize = size_of::<(Text<'_>, Value<'_>)>();
/// Objects with more members have an index.
const MAX_UNINDEXED_MEMBERS: usize = 16;
/// Bytes of one cell of the index of an object: key, position and a byte, and its part of the cells
/// that stay free.
const INDEX_CELL_BYTES: usize = size_of::<(Text<'_>, usize)>() + 8;
/// Bytes that a string with escapes takes besides its text: the reference-counted box and the
/// allocator's overhead.
const STRING_BYTES: usize = 64;
/// Bytes that the key of a number takes besides its digits: kind, sign, exponent and end.
const KEY_NUMBER_BYTES: usize = 8;
/// Bytes that the search for repeated keys needs for each member of an object: the key with the
/// value, a position, and the value that is kept.
const SORTED_MEMBER_BYTES: usize = 100;

/// The estimates for a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Number of nodes of its tape.
    pub(crate) nodes: usize,
    /// Bytes of all its values, if an expression changes all of them.
    pub(crate) value_bytes: usize,
    /// The part of `value_bytes` that strings with escapes take. They are made even if an
    /// expression only reads them.
    pub(crate) string_bytes: usize,
    /// Bytes of its key.
    pub(crate) key_bytes: usize,
    /// Bytes that the search for repeated keys needs.
    pub(crate) sorting_bytes: usize,
}

struct Container {
    is_object: bool,
    /// Number of elements or members so far.
    count: usize,
}

impl Census {
    /// Counts one JSON text.
    pub(crate) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut census = Self::default();
        let mut open: Vec<Container> = Vec::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    let (length, has_escapes) = string_length(&bytes[at..]);
                    census.count_string(length, has_escapes);
                    at += length;
                    continue;
                }
                b'{' | b'[' => {
                    census.nodes += 1;
                    let behind = &bytes[at + 1..];
                    let first = behind.iter().find(|byte| !byte.is_ascii_whitespace());
                    let is_empty = matches!(first, Some(b'}' | b']'));
                    open.push(Container {
                        is_object: byte == b'{',
                        count: usize::from(!is_empty),
                    });
                }
                b'}' | b']' => {
                    if let Some(closed) = open.pop() {
                        census.count_container(&closed);
                    }
                }
                b',' => {
                    if let Some(container) = open.last_mut() {
                        container.count += 1;
                    }
                }
                b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => {
                    let length = word_length(&bytes[at..]);
                    census.count_word(&bytes[at..at + length]);
                    at += length;
                    continue;
                }
            }
            at += 1;
        }
        for left in &open {
            census.count_container(left);
        }
        census
    }

    /// Bytes of its tape.
    pub(crate) fn tape_bytes(&self) -> usize {
        self.nodes * size_of::<Node>()
    }

    fn count_string(&mut self, length: usize, has_escapes: bool) {
        self.nodes += 1;
        if has_escapes {
            let bytes = STRING_BYTES + length + length / 8;
            self.value_bytes += bytes;
            self.string_bytes += bytes;
        }
        self.key_bytes += length + 2;
    }

    fn count_word(&mut self, word: &[u8]) {
        self.nodes += 1;
        if matches!(word.first(), Some(b'-' | b'0'..=b'9')) {
            self.key_bytes += KEY_NUMBER_BYTES + word.len() / 2;
        }
    }

    fn count_container(&mut self, container: &Container) {
        let count = container.count;
        self.key_bytes += 2;
        // Vectors grow by doubling.
        let capacity = match count {
            0 => 0,
            _ => count.next_power_of_two().max(MIN_ELEMENTS),
        };
        if container.is_object {
            self.value_bytes += OBJECT_BYTES + capacity * MEMBER_BYTES;
            self.sorting_bytes = self.sorting_bytes.max(count * SORTED_MEMBER_BYTES);
            if count > MAX_UNINDEXED_MEMBERS {
                self.value_bytes += 2 * capacity * INDEX_CELL_BYTES;
            }
        } else {
            self.value_bytes += ARRAY_BYTES + capacity * ELEMENT_BYTES;
        }
    }
}

/// The length of the string at the beginning of `bytes`, with both quotes, and whether it has
/// escapes. If the string has no end, its length is that of `bytes`.
fn string_length(bytes: &[u8]) -> (usize, bool) {
    let mut from = 1;
    let mut has_escapes = false;
    loop {
        let Some(found) = bytes
            .get(from..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        else {
            return (bytes.len(), has_escapes);
        };
        if bytes[from + found] == b'"' {
            return (from + found + 1, has_escapes);
        }
        has_escapes = true;
        from += found + 2;
    }
}

/// The length of the number or the word at the beginning of `bytes`; at least 1.
fn word_length(bytes: &[u8]) -> usize {
    let ends = |byte: &u8| {
        matches!(
            byte,
            b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"' | b' ' | b'\t' | b'\n' | b'\r'
        )
    };
    bytes.iter().position(ends).unwrap_or(bytes.len()).max(1)
}
