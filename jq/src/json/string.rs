//! JSON strings: the value behind a text with escapes, and the text with the fewest escapes of a value. Nothing else.

use std::borrow::Cow;

use super::tape::code_unit;

/// The value of a checked JSON string; `quoted` is its text with the quotes.
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

/// Appends the character of the escape that `text` begins with, and returns what is behind the escape.
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
        // Quote, backslash and slash stand for themselves.
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

/// A control character beyond the others, which jq escapes too.
const DELETE: u8 = 0x7f;

/// Appends `value` as a JSON string with quotes and the fewest escapes: quote, backslash and the control characters
/// of ASCII, the five with a letter of their own by it.
pub fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    let mut plain_from = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != DELETE {
            continue;
        }
        text.push_str(&value[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            0x08 => text.push_str("\\b"),
            0x0c => text.push_str("\\f"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            control => {
                text.push_str("\\u00");
                text.push(char::from(b'0' + (control >> 4)));
                text.push(char::from_digit(u32::from(control & 0xf), 16).unwrap_or('0'));
            }
        }
    }
    text.push_str(&value[plain_from..]);
    text.push('"');
}
