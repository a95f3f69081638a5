//! The tape: one pass that checks a JSON text and records where each of its values begins and ends.
//! This module copies nothing, converts nothing and never recurses.

use super::error::{JsonError, JsonProblem};

/// The kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `null`.
    Null,
    /// `false`.
    False,
    /// `true`.
    True,
    /// A number, as text.
    Number,
    /// A string whose text between the quotes is its value.
    PlainString,
    /// A string with at least one backslash.
    EscapedString,
    /// `[…]`.
    Array,
    /// `{…}`.
    Object,
}

/// One value, or one key of an object. Nodes are in the order of their text: an array is followed
/// by its elements, an object by key, value, key, value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Offset of the first byte, quotes and brackets included.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
    /// The index of the first node after this node and everything inside it. While a container is
    /// open, this is the index of the container around it.
    pub next: u32,
    /// What the node represents.
    pub kind: Kind,
}

/// What a pass returns, in addition to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Whether there is white space outside strings.
    pub spaced: bool,
}

/// Limits of a text: how long it may be, and how deep it may nest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// How many bytes the text may have.
    pub bytes: usize,
    /// How many arrays and objects may be inside each other.
    pub nesting: usize,
}

impl ScanLimits {
    /// The widest limits that the tape allows: the longest text whose offsets have 32 bits, and any
    /// depth.
    pub const WIDEST: Self = Self {
        bytes: (1 << 30) + 2,
        nesting: usize::MAX,
    };
}

/// The index in place of an outer container, for the outermost container.
const NO_CONTAINER: u32 = u32::MAX;

/// Checks that `text` is exactly one JSON value within `limits` and fills `nodes` (emptied first)
/// with its tape.
///
/// # Errors
/// The text is not JSON or exceeds a limit. The error names the first byte that is wrong.
pub fn scan(text: &str, limits: ScanLimits, nodes: &mut Vec<Node>) -> Result<Scan, JsonError> {
    nodes.clear();
    let longest = limits.bytes.min(ScanLimits::WIDEST.bytes);
    if text.len() > longest {
        return Err(error_at(longest, JsonProblem::TooLong { limit: longest }));
    }
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        position: 0,
        spaced: false,
        nesting: limits.nesting,
    };
    scanner.value_and_end(nodes)?;
    Ok(Scan {
        spaced: scanner.spaced,
    })
}

struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    spaced: bool,
    nesting: usize,
}

/// The open containers, from the innermost outwards. They are linked on the tape itself by
/// [`Node::next`].
struct OpenContainers {
    innermost: u32,
    depth: usize,
}

impl Scanner<'_> {
    fn value_and_end(&mut self, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
        let mut open = OpenContainers {
            innermost: NO_CONTAINER,
            depth: 0,
        };
        if self.bytes.first_chunk() == Some(b"\xef\xbb\xbf") {
            return Err(self.error(JsonProblem::ByteOrderMark));
        }
        self.skip_space();
        if self.position == self.bytes.len() {
            return Err(self.error(JsonProblem::Empty));
        }
        loop {
            // A value begins at the next byte, because white space was skipped.
            let first = self.peek()?;
            match first {
                b'{' | b'[' => {
                    if self.open_container(nodes, &mut open, first)? {
                        continue;
                    }
                }
                b'"' => self.string(nodes)?,
                b'-' | b'0'..=b'9' => self.number(nodes)?,
                _ => self.word(nodes, first)?,
            }
            if self.is_end_behind_value(nodes, &mut open)? {
                return Ok(());
            }
        }
    }

    /// Opens a container. Returns whether its first value begins at the next byte. If not, the next
    /// byte is its closing bracket.
    #[expect(
        clippy::inline_always,
        reason = "the scanner runs over every byte of every record; what is open stays in registers"
    )]
    #[inline(always)]
    fn open_container(
        &mut self,
        nodes: &mut Vec<Node>,
        open: &mut OpenContainers,
        first: u8,
    ) -> Result<bool, JsonError> {
        if open.depth == self.nesting {
            let limit = self.nesting;
            return Err(self.error(JsonProblem::TooDeep { limit }));
        }
        open.depth += 1;
        let kind = if first == b'{' {
            Kind::Object
        } else {
            Kind::Array
        };
        let container = offset(nodes.len());
        nodes.push(Node {
            start: offset(self.position),
            end: offset(self.position),
            next: open.innermost,
            kind,
        });
        open.innermost = container;
        self.position += 1;
        self.skip_space();
        let next = self.peek()?;
        if first == b'{' && next != b'}' {
            self.key_and_colon(nodes)?;
            return Ok(true);
        }
        Ok(first == b'[' && next != b']')
    }

    /// Continues after the end of a value: closes containers, or begins the next value. Returns
    /// whether the text has ended.
    #[expect(
        clippy::inline_always,
        reason = "the scanner runs over every byte of every record; what is open stays in registers"
    )]
    #[inline(always)]
    fn is_end_behind_value(
        &mut self,
        nodes: &mut Vec<Node>,
        open: &mut OpenContainers,
    ) -> Result<bool, JsonError> {
        loop {
            self.skip_space();
            let Some(container) = nodes.get(open.innermost as usize) else {
                return match self.bytes.get(self.position) {
                    None => Ok(true),
                    Some(&byte) => Err(self.error(JsonProblem::TrailingText(byte))),
                };
            };
            let in_object = container.kind == Kind::Object;
            match (self.peek()?, in_object) {
                // This is also reached for an empty container: its closing bracket is the next
                // byte.
                (b'}', true) | (b']', false) => {
                    self.position += 1;
                    open.depth -= 1;
                    let behind = offset(nodes.len());
                    let closed = &mut nodes[open.innermost as usize];
                    open.innermost = closed.next;
                    closed.end = offset(self.position);
                    closed.next = behind;
                }
                (b',', true) => {
                    self.position += 1;
                    self.skip_space();
                    if self.peek()? == b'}' {
                        return Err(self.error(JsonProblem::TrailingComma));
                    }
                    self.key_and_colon(nodes)?;
                    return Ok(false);
                }
                (b',', false) => {
                    self.position += 1;
                    self.skip_space();
                    if self.peek()? == b']' {
                        return Err(self.error(JsonProblem::TrailingComma));
                    }
                    return Ok(false);
                }
                (byte, true) => {
                    return Err(self.error(JsonProblem::ExpectedCommaOrBrace(byte)));
                }
                (byte, false) => {
                    return Err(self.error(JsonProblem::ExpectedCommaOrBracket(byte)));
                }
            }
        }
    }

    fn key_and_colon(&mut self, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
        let byte = self.peek()?;
        if byte != b'"' {
            return Err(self.error(JsonProblem::ExpectedKey(byte)));
        }
        self.string(nodes)?;
        self.skip_space();
        let byte = self.peek()?;
        if byte != b':' {
            return Err(self.error(JsonProblem::ExpectedColon(byte)));
        }
        self.position += 1;
        self.skip_space();
        Ok(())
    }

    fn string(&mut self, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
        let start = self.position;
        let mut kind = Kind::PlainString;
        self.position += 1;
        loop {
            self.position += plain_length(&self.bytes[self.position..]);
            match self.peek()? {
                b'"' => {
                    self.position += 1;
                    self.push(nodes, start, kind);
                    return Ok(());
                }
                b'\\' => {
                    kind = Kind::EscapedString;
                    self.escape()?;
                }
                control => return Err(self.error(JsonProblem::ControlCharacter(control))),
            }
        }
    }

    /// Skips an escape, from its backslash to its end. A pair of surrogates counts as one escape.
    fn escape(&mut self) -> Result<(), JsonError> {
        let start = self.position;
        match self.bytes.get(start + 1) {
            None => Err(error_at(self.bytes.len(), JsonProblem::UnexpectedEnd)),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.position += 2;
                Ok(())
            }
            Some(b'u') => match self.unicode_escape(start)? {
                0xd800..=0xdbff => {
                    let paired = self.bytes.get(start + 6..start + 8) == Some(b"\\u")
                        && matches!(self.unicode_escape(start + 6)?, 0xdc00..=0xdfff);
                    if !paired {
                        return Err(self.error(JsonProblem::LoneSurrogate));
                    }
                    self.position += 12;
                    Ok(())
                }
                0xdc00..=0xdfff => Err(self.error(JsonProblem::LoneSurrogate)),
                _ => {
                    self.position += 6;
                    Ok(())
                }
            },
            Some(_) => Err(self.error(JsonProblem::UnknownEscape)),
        }
    }

    /// Returns the code unit of the `\uXXXX` whose backslash is at `start`.
    fn unicode_escape(&self, start: usize) -> Result<u32, JsonError> {
        let Some(digits) = self.bytes.get(start + 2..start + 6) else {
            return Err(error_at(self.bytes.len(), JsonProblem::UnexpectedEnd));
        };
        code_unit(digits).ok_or_else(|| error_at(start, JsonProblem::BadUnicodeEscape))
    }

    fn number(&mut self, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
        let start = self.position;
        if self.bytes[start] == b'-' {
            self.position += 1;
            if self.bytes.get(self.position) == Some(&b'I') {
                return Err(error_at(start, JsonProblem::NotFinite));
            }
        }
        let leading_zero = self.bytes.get(self.position) == Some(&b'0');
        let digits = self.digits()?;
        if leading_zero && digits > 1 {
            return Err(error_at(start, JsonProblem::LeadingZero));
        }
        if self.bytes.get(self.position) == Some(&b'.') {
            self.position += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.position) {
            self.position += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.position) {
                self.position += 1;
            }
            self.digits()?;
        }
        self.push(nodes, start, Kind::Number);
        Ok(())
    }

    fn digits(&mut self) -> Result<usize, JsonError> {
        let count = self.bytes[self.position..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if count == 0 {
            return Err(self.error(JsonProblem::MissingDigit));
        }
        self.position += count;
        Ok(count)
    }

    fn word(&mut self, nodes: &mut Vec<Node>, first: u8) -> Result<(), JsonError> {
        let rest = &self.bytes[self.position..];
        // Arrays of a fixed length are compared as one number, without a call.
        let (length, kind) = if rest.first_chunk() == Some(b"null") {
            (4, Kind::Null)
        } else if rest.first_chunk() == Some(b"true") {
            (4, Kind::True)
        } else if rest.first_chunk() == Some(b"false") {
            (5, Kind::False)
        } else {
            return Err(self.error(no_word(rest, first)));
        };
        let start = self.position;
        self.position += length;
        self.push(nodes, start, kind);
        Ok(())
    }

    fn push(&self, nodes: &mut Vec<Node>, start: usize, kind: Kind) {
        let next = offset(nodes.len() + 1);
        nodes.push(Node {
            start: offset(start),
            end: offset(self.position),
            next,
            kind,
        });
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.position) {
            self.position += 1;
            self.spaced = true;
        }
    }

    fn peek(&self) -> Result<u8, JsonError> {
        self.bytes
            .get(self.position)
            .copied()
            .ok_or_else(|| self.error(JsonProblem::UnexpectedEnd))
    }

    fn error(&self, problem: JsonProblem) -> JsonError {
        error_at(self.position, problem)
    }
}

/// Returns why no value begins with `rest`, of which `first` is the first byte.
fn no_word(rest: &[u8], first: u8) -> JsonProblem {
    let word: &[u8] = match first {
        b't' => b"true",
        b'f' => b"false",
        b'n' if !rest.starts_with(b"nan") => b"null",
        b'N' | b'n' | b'I' => return JsonProblem::NotFinite,
        b'+' => return JsonProblem::LeadingPlus,
        _ => return JsonProblem::NotAValue(first),
    };
    if word.starts_with(rest) {
        JsonProblem::UnexpectedEnd
    } else {
        JsonProblem::NotAValue(first)
    }
}

fn error_at(offset: usize, problem: JsonProblem) -> JsonError {
    JsonError { offset, problem }
}

/// Returns the code unit that four hexadecimal digits express.
pub(crate) fn code_unit(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |unit, &byte| {
        Some(unit * 16 + char::from(byte).to_digit(16)?)
    })
}

/// Returns how many bytes at the start of `bytes` are neither quote, backslash nor control
/// character. Most strings are short, so the first bytes are looked at in words of eight. What
/// follows is looked at in blocks, for which the compiler uses vector instructions.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    const SPACES: u64 = ONES * b' ' as u64;
    const WORDS_BEFORE_BLOCKS: usize = 3;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut index = 0;
    while let Some(&word) = words.get(index) {
        let word = u64::from_le_bytes(word);
        let quote = word ^ QUOTES;
        let backslash = word ^ BACKSLASHES;
        // Each of the three terms marks the high bit of bytes that are zero, or below a space. The
        // first mark is exact. The borrow of the subtraction may mark later bytes wrongly. This
        // does not matter, because only the first mark is used.
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(SPACES) & !word);
        let marks = special & HIGHS;
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
        index += 1;
        if index == WORDS_BEFORE_BLOCKS {
            let (blocks, _) = bytes[index * 8..].as_chunks::<32>();
            index += 4 * blocks.iter().take_while(|block| is_plain(block)).count();
        }
    }
    let plain = tail.iter().take_while(|&&byte| !is_special(byte)).count();
    words.len() * 8 + plain
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Returns whether no byte is special. It looks at all bytes, because a loop that ends early would
/// not be compiled to vector instructions.
fn is_plain(block: &[u8; 32]) -> bool {
    !block
        .iter()
        .fold(false, |any, &byte| any | is_special(byte))
}

/// Offsets fit because a text is at most [`ScanLimits::WIDEST`] long and has fewer nodes than
/// bytes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded by ScanLimits::WIDEST, checked in scan"
)]
fn offset(position: usize) -> u32 {
    position as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_length_is_that_of_a_search_byte_by_byte() {
        for length in 0..160 {
            for special in [b'"', b'\\', 0x1f, 0, b'\n'] {
                for place in 0..=length {
                    // The bytes after the special one are special too, or nearly so.
                    let mut bytes = vec![0x7f; length];
                    for (offset, byte) in bytes.iter_mut().skip(place).enumerate() {
                        *byte = [special, 0x20, 0x21, 0xff][offset % 4];
                    }
                    let found = bytes.iter().position(|&byte| is_special(byte));
                    assert_eq!(plain_length(&bytes), found.unwrap_or(length), "{bytes:?}");
                }
            }
        }
    }
}
