//! JSON strings. Resolves the escapes of a text, and writes a value with as few escapes as
//! possible.

use std::borrow::Cow;

use super::tape::{code_unit, plain_length};

/// Returns the value of a checked JSON string. `quoted` is its text with the quotes.
pub fn unescape(quoted: &str) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else {
        return Cow::Borrowed(inner);
    };
    let mut value = String::with_capacity(inner.len());
    let mut rest = inner;
    let mut backslash = Some(first);
    while let Some(at) = backslash {
        value.push_str(&rest[..at]);
        rest = push_escaped(&mut value, &rest[at..]);
        backslash = memchr::memchr(b'\\', rest.as_bytes());
    }
    value.push_str(rest);
    Cow::Owned(value)
}

/// Appends the character of the escape at the beginning of `text`, and returns the rest.
fn push_escaped<'a>(value: &mut String, text: &'a str) -> &'a str {
    let bytes = text.as_bytes();
    let unit = |from: usize| {
        bytes
            .get(from..from + 4)
            .and_then(code_unit)
            .unwrap_or(0xfffd)
    };
    let (character, length) = match bytes.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => match unit(2) {
            high @ 0xd800..=0xdbff => {
                let code =
                    0x1_0000 + ((high - 0xd800) << 10) + (unit(8).wrapping_sub(0xdc00) & 0x3ff);
                (
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                    12,
                )
            }
            code => (
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                6,
            ),
        },
        // Quote, backslash and slash represent themselves.
        other => (
            other
                .copied()
                .map_or(char::REPLACEMENT_CHARACTER, char::from),
            2,
        ),
    };
    value.push(character);
    text.get(length..).unwrap_or("")
}

/// A control character that jq escapes, although JSON does not require it.
const DELETE: u8 = 0x7f;

/// Appends `value` as jq writes a string: with quotes and the fewest escapes that JSON allows, and
/// with an escape for U+007F.
pub fn push_quoted(text: &mut String, value: &str) {
    let mut rest = value;
    text.push('"');
    while let Some(at) = memchr::memchr(DELETE, rest.as_bytes()) {
        push_inner(text, &rest[..at]);
        push_code(text, DELETE);
        rest = &rest[at + 1..];
    }
    push_inner(text, rest);
    text.push('"');
}

/// Whether a checked JSON text without escapes has a character that [`push_quoted`] escapes.
pub(crate) fn needs_escape(text: &str) -> bool {
    memchr::memchr(DELETE, text.as_bytes()).is_some()
}

/// Appends `value` as a JSON string with quotes and the fewest escapes. Only quote, backslash and
/// the control characters below U+0020 are escaped, five of these with a letter such as `\n`.
pub fn push_least_escaped(text: &mut String, value: &str) {
    text.push('"');
    push_inner(text, value);
    text.push('"');
}

fn push_inner(text: &mut String, value: &str) {
    let mut rest = value;
    loop {
        let (plain, special) = rest.split_at(plain_length(rest.as_bytes()));
        text.push_str(plain);
        let Some(&byte) = special.as_bytes().first() else {
            return;
        };
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            0x08 => text.push_str("\\b"),
            0x0c => text.push_str("\\f"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            control => push_code(text, control),
        }
        // All characters that are escaped have one byte.
        rest = &special[1..];
    }
}

fn push_code(text: &mut String, control: u8) {
    text.push_str("\\u00");
    text.push(char::from(b'0' + (control >> 4)));
    text.push(char::from_digit(u32::from(control & 0xf), 16).unwrap_or('0'));
}
