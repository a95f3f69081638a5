//! The memory that a record needs, estimated from its text before it is parsed. Only long texts are
//! counted, and the text may be invalid: the estimate is never less than what a parser allocates
//! before it finds the error.

use super::tape::Node;

/// An array of jq: the counted box and the vector's head, as the allocator rounds them.
const ARRAY_BYTES: usize = 48;
/// One element of an array.
const ELEMENT_BYTES: usize = 16;
/// Elements of a vector that has any, at least.
const ELEMENTS_MIN: usize = 4;
/// An object of jq: the counted box and the map's head.
const OBJECT_BYTES: usize = 96;
/// One member: hash, key, value, and its cell in the index. Both grow by doubling.
const MEMBER_BYTES: usize = 50;
/// Members of a map that has any, at least.
const MEMBERS_MIN: usize = 4;
/// A string: the box, the shared head and what the allocator adds to the bytes.
const STRING_BYTES: usize = 72;
/// A number that is no small integer keeps its text.
const NUMBER_BYTES: usize = 64;
/// Digits of a number that is surely kept as an integer.
const SMALL_DIGITS: usize = 18;
/// A number as a key: kind, sign, exponent and end.
const KEY_NUMBER_BYTES: usize = 8;
/// What is noted of each member of an object while repeated keys are looked for.
const SORTED_MEMBER_BYTES: usize = 100;
/// Containers beyond this are made with their final size.
pub(crate) const PRESIZED: usize = 1024;

/// The contents of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Number of nodes of its tape.
    pub(crate) nodes: usize,
    /// Bytes of its values in jq's representation.
    pub(crate) value_bytes: usize,
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
                    let length = string_length(&bytes[at..]);
                    census.count_string(length);
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

    fn count_string(&mut self, length: usize) {
        self.nodes += 1;
        self.value_bytes += STRING_BYTES + length + length / 8;
        self.key_bytes += length + 2;
    }

    fn count_word(&mut self, word: &[u8]) {
        self.nodes += 1;
        if matches!(word.first(), Some(b'-' | b'0'..=b'9')) {
            self.key_bytes += KEY_NUMBER_BYTES + word.len() / 2;
            if !is_small_integer(word) {
                self.value_bytes += NUMBER_BYTES + word.len();
            }
        }
    }

    fn count_container(&mut self, container: &Container) {
        let count = container.count;
        self.key_bytes += 2;
        if container.is_object {
            self.value_bytes += OBJECT_BYTES;
            self.sorting_bytes = self.sorting_bytes.max(count * SORTED_MEMBER_BYTES);
            if count > 0 {
                self.value_bytes += count.next_power_of_two().max(MEMBERS_MIN) * MEMBER_BYTES;
            }
        } else {
            self.value_bytes += ARRAY_BYTES;
            if count > PRESIZED {
                self.value_bytes += count * ELEMENT_BYTES;
            } else if count > 0 {
                self.value_bytes += count.next_power_of_two().max(ELEMENTS_MIN) * ELEMENT_BYTES;
            }
        }
    }
}

/// Whether jq stores the number without its text; it does not for `-0`.
fn is_small_integer(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let is_integer = digits.len() <= SMALL_DIGITS && digits.iter().all(u8::is_ascii_digit);
    is_integer && word != b"-0"
}

/// The length of the string at the beginning of `bytes`, with both quotes; the whole length if it
/// has no end.
fn string_length(bytes: &[u8]) -> usize {
    let mut from = 1;
    loop {
        let Some(found) = bytes
            .get(from..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        else {
            return bytes.len();
        };
        if bytes[from + found] == b'"' {
            return from + found + 1;
        }
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
