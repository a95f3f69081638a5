//! The formats of jq, such as `@csv`, `@uri` and `@base64`. This module sees only strings, not JSON
//! values. For `@csv` and `@tsv`, the caller joins the elements of a list into a row. An error of
//! this module is the end of jq's error message, which begins with the value.

use std::fmt::Write as _;

/// How a format quotes a string and which characters it replaces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Escape {
    /// `@csv`: the string is in quotes, and quotes inside it are doubled.
    Csv,
    /// `@tsv`: tab, newline, carriage return and backslash are written with a backslash.
    Tsv,
    /// `@html`: `& < > ' "` are written as entities.
    Html,
    /// `@sh`: the string is in single quotes.
    Sh,
}

impl Escape {
    /// Appends `text` to `out`, escaped and quoted.
    pub(crate) fn write(self, text: &str, out: &mut String) {
        let quote = match self {
            Self::Csv => "\"",
            Self::Sh => "'",
            Self::Tsv | Self::Html => "",
        };
        out.reserve(text.len() + 2 * quote.len());
        out.push_str(quote);
        let mut plain_from = 0;
        // All characters that are replaced are ASCII, so it is enough to look at bytes.
        for (at, byte) in text.bytes().enumerate() {
            if let Some(replacement) = self.replacement(byte) {
                out.push_str(&text[plain_from..at]);
                out.push_str(replacement);
                plain_from = at + 1;
            }
        }
        out.push_str(&text[plain_from..]);
        out.push_str(quote);
    }

    fn replacement(self, byte: u8) -> Option<&'static str> {
        Some(match (self, byte) {
            // A NUL is replaced in every format, because jq's tables end with it.
            (_, 0) => "\\0",
            (Self::Csv, b'"') => "\"\"",
            (Self::Tsv, b'\t') => "\\t",
            (Self::Tsv, b'\n') => "\\n",
            (Self::Tsv, b'\r') => "\\r",
            (Self::Tsv, b'\\') => "\\\\",
            (Self::Html, b'&') => "&amp;",
            (Self::Html, b'<') => "&lt;",
            (Self::Html, b'>') => "&gt;",
            (Self::Html, b'\'') => "&apos;",
            (Self::Html, b'"') => "&quot;",
            (Self::Sh, b'\'') => "'\\''",
            _ => return None,
        })
    }
}

/// `@uri`: appends `text` to `out`. Every byte that is not a letter, a digit or one of `-_.~` is
/// written in percent notation.
pub(crate) fn write_uri(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// `@urid`: decodes percent notation. As in jq, a NUL ends the text, and a byte beyond
/// ASCII that is not in percent notation becomes U+FFFD.
///
/// # Errors
/// A percent sign without two digits, or digits that are not UTF-8.
pub(crate) fn from_uri(text: &str) -> Result<String, &'static str> {
    const REFUSED: &str = "is not a valid uri encoding";
    let mut out = String::with_capacity(text.len());
    let mut rest = text.split('\0').next().unwrap_or_default().as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'%' {
            let mut character = Vec::with_capacity(4);
            loop {
                character.push(percent(&mut rest).ok_or(REFUSED)?);
                if character.len() == length_of(character[0]) {
                    break;
                }
            }
            out.push_str(std::str::from_utf8(&character).map_err(|_| REFUSED)?);
        } else {
            out.push(if byte.is_ascii() {
                char::from(byte)
            } else {
                char::REPLACEMENT_CHARACTER
            });
            rest = behind;
        }
    }
    Ok(out)
}

/// Removes a byte in percent notation from the beginning of `rest` and returns it.
fn percent(rest: &mut &[u8]) -> Option<u8> {
    let [b'%', high, low, behind @ ..] = *rest else {
        return None;
    };
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let byte = digit(*high)? << 4 | digit(*low)?;
    *rest = behind;
    Some(byte)
}

/// Returns the number of bytes of the character that begins with the byte `first`. Returns 1 if no
/// character begins with `first`.
fn length_of(first: u8) -> usize {
    usize::try_from(first.leading_ones())
        .unwrap_or_default()
        .clamp(1, 4)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `@base64`.
pub(crate) fn write_base64(text: &str, out: &mut String) {
    out.reserve(text.len().div_ceil(3) * 4);
    for group in text.as_bytes().chunks(3) {
        let byte = |index: usize| group.get(index).map_or(0, |&byte| u32::from(byte));
        let code = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = code >> (18 - 6 * index) & 0x3F;
            out.push(if index > group.len() {
                '='
            } else {
                char::from(BASE64[digit as usize])
            });
        }
    }
}

/// `@base64d`: decodes base64 up to the first `=`. Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// A character that is not base64, or a last group with only one character.
pub(crate) fn from_base64(text: &str) -> Result<String, &'static str> {
    let digits = text.bytes().take_while(|&byte| byte != b'=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut code, mut read) = (0_u32, 0);
    for digit in digits {
        let value = base64_digit(digit).ok_or("is not valid base64 data")?;
        code = code << 6 | value;
        read += 1;
        if read == 4 {
            bytes.extend_from_slice(&code.to_be_bytes()[1..]);
            (code, read) = (0, 0);
        }
    }
    match read {
        1 => return Err("trailing base64 byte found"),
        2 => bytes.extend_from_slice(&(code << 12).to_be_bytes()[1..2]),
        3 => bytes.extend_from_slice(&(code << 6).to_be_bytes()[1..3]),
        _ => {}
    }
    Ok(to_text(bytes))
}

fn base64_digit(byte: u8) -> Option<u32> {
    Some(match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Converts bytes to text. Invalid UTF-8 is replaced by U+FFFD as in jq. There is one U+FFFD for an
/// encoded surrogate or a character beyond Unicode, one for a truncated sequence, and one for each
/// byte that cannot begin a sequence.
pub(crate) fn to_text(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some(&first) = rest.first() {
        let length = if matches!(first, 0xC2..=0xF4) {
            length_of(first)
        } else {
            1
        };
        let Some(sequence) = rest.get(..length) else {
            // The sequence is truncated at the end: jq replaces the whole rest of the text by one
            // character.
            out.push(char::REPLACEMENT_CHARACTER);
            break;
        };
        let continued = sequence[1..]
            .iter()
            .take_while(|&&byte| byte & 0xC0 == 0x80)
            .count();
        let (sequence, behind) = rest.split_at(1 + continued);
        match std::str::from_utf8(sequence) {
            Ok(text) => out.push_str(text),
            Err(_) => out.push(char::REPLACEMENT_CHARACTER),
        }
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: Escape, text: &str) -> String {
        let mut out = String::new();
        escape.write(text, &mut out);
        out
    }

    #[test]
    fn strings_are_escaped_as_in_jq() {
        assert_eq!(escaped(Escape::Csv, "a\"b\té\0"), "\"a\"\"b\té\\0\"");
        assert_eq!(escaped(Escape::Tsv, "x\ty\\z\r\n\""), "x\\ty\\\\z\\r\\n\"");
        assert_eq!(
            escaped(Escape::Html, "<&'\"> é"),
            "&lt;&amp;&apos;&quot;&gt; é"
        );
        assert_eq!(escaped(Escape::Sh, "a'b"), "'a'\\''b'");
        let mut out = String::new();
        write_uri("<é😀/~-_.a b", &mut out);
        assert_eq!(out, "%3C%C3%A9%F0%9F%98%80%2F~-_.a%20b");
    }

    #[test]
    fn percent_notation_is_read_as_in_jq() {
        for (text, expected) in [
            ("%41", "A"),
            ("%E2%82%AC", "€"),
            ("a+b", "a+b"),
            ("%00x", "\0x"),
            ("%F0%9F%98%80", "😀"),
            ("a\0b", "a"),
            ("é%41", "\u{fffd}\u{fffd}A"),
        ] {
            assert_eq!(from_uri(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "%e2%82",
            "%",
            "%4",
            "%zz",
            "%80",
            "%C0%80",
            "%ED%A0%80",
            "%E2%82a",
            "%FF%FF%FF%FF",
        ] {
            assert_eq!(from_uri(text), Err("is not a valid uri encoding"), "{text}");
        }
    }

    #[test]
    fn base64_is_written_and_read_as_in_jq() {
        for (text, expected) in [
            ("", ""),
            ("a", "YQ=="),
            ("ab", "YWI="),
            ("abc", "YWJj"),
            ("é€", "w6nigqw="),
        ] {
            let mut out = String::new();
            write_base64(text, &mut out);
            assert_eq!(out, expected);
            assert_eq!(from_base64(&out).as_deref(), Ok(text));
        }
        for (text, expected) in [
            ("YQ", "a"),
            ("YQ==x", "a"),
            ("=", ""),
            ("4pyTIA", "✓ "),
            ("/+8=", "\u{fffd}\u{fffd}"),
            ("7aCA", "\u{fffd}"),
            ("wIA=", "\u{fffd}\u{fffd}"),
            ("8J8=", "\u{fffd}"),
            ("null", "\u{fffd}\u{fffd}"),
            ("4oKs8J8", "€\u{fffd}"),
        ] {
            assert_eq!(from_base64(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["!", "_-", "Y W", "YWI\n"] {
            assert_eq!(from_base64(text), Err("is not valid base64 data"), "{text}");
        }
        for text in ["Y", "YWJjZ"] {
            assert_eq!(
                from_base64(text),
                Err("trailing base64 byte found"),
                "{text}"
            );
        }
    }
}
