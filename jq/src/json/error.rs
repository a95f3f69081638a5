//! Errors in a JSON text, with their position. The reader of the text adds the text's name.

use std::fmt;

/// Why a text is not JSON. It contains the position of the first bad byte, and the error there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {problem}")]
pub struct JsonError {
    /// How many bytes of the text are before the bad byte.
    pub offset: usize,
    /// The error at that byte.
    pub problem: JsonProblem,
}

/// An error in a text. Its display text says what was found and what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonProblem {
    /// The text has only white space.
    Empty,
    /// The text has more bytes than the limit.
    TooLong {
        /// How many bytes are allowed.
        limit: usize,
    },
    /// More arrays and objects are inside each other than the limit allows.
    TooDeep {
        /// How many levels are allowed.
        limit: usize,
    },
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// The three bytes of a byte order mark at the start.
    ByteOrderMark,
    /// The text ends in the middle of a value.
    UnexpectedEnd,
    /// A character with which no JSON value can begin.
    NotAValue(u8),
    /// NaN, Infinity and similar words, which some programs write and JSON does not have.
    NotFinite,
    /// A number that begins with a superfluous zero.
    LeadingZero,
    /// A number that begins with a plus sign.
    LeadingPlus,
    /// A sign, a decimal point or an exponent without a digit after it.
    MissingDigit,
    /// Something other than `,` or `]` after an array's element.
    ExpectedCommaOrBracket(u8),
    /// Something other than `,` or `}` after an object's member.
    ExpectedCommaOrBrace(u8),
    /// Something other than `:` after an object's key.
    ExpectedColon(u8),
    /// An object's key that is not a string.
    ExpectedKey(u8),
    /// A comma without anything after it.
    TrailingComma,
    /// A raw control character inside a string.
    ControlCharacter(u8),
    /// A backslash before a character that JSON does not escape.
    UnknownEscape,
    /// `\u` not followed by four hexadecimal digits.
    BadUnicodeEscape,
    /// Half of a pair of `\u` escapes, which is not a character.
    LoneSurrogate,
    /// Something after the end of the value.
    TrailingText(u8),
}

impl fmt::Display for JsonProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = |byte: u8| -> String {
            match byte {
                0x21..=0x7e => format!("'{}'", char::from(byte)),
                0x00..=0x20 | 0x7f..=0xff => format!("byte 0x{byte:02x}"),
            }
        };
        match *self {
            Self::Empty => f.write_str("the text is empty; one JSON value is expected"),
            Self::TooLong { limit } => {
                write!(f, "the text is too long; at most {limit} bytes are allowed")
            }
            Self::TooDeep { limit } => write!(
                f,
                "arrays and objects nest too deep; at most {limit} levels are allowed"
            ),
            Self::NotUtf8 => f.write_str("the text is not valid UTF-8"),
            Self::ByteOrderMark => {
                f.write_str("the text starts with a byte order mark; UTF-8 without it is expected")
            }
            Self::UnexpectedEnd => f.write_str("the JSON value is cut off"),
            Self::NotAValue(byte) => write!(f, "a JSON value is expected (got {})", got(byte)),
            Self::NotFinite => {
                f.write_str("NaN and Infinity are not JSON; a number, null or a string is expected")
            }
            Self::LeadingZero => f.write_str("a number may not begin with a superfluous 0"),
            Self::LeadingPlus => f.write_str("a number may not begin with +"),
            Self::MissingDigit => f.write_str("a digit is expected in this number"),
            Self::ExpectedCommaOrBracket(byte) => write!(
                f,
                "',' or ']' is expected after an element (got {})",
                got(byte)
            ),
            Self::ExpectedCommaOrBrace(byte) => write!(
                f,
                "',' or '}}' is expected after a member (got {})",
                got(byte)
            ),
            Self::ExpectedColon(byte) => {
                write!(f, "':' is expected after a key (got {})", got(byte))
            }
            Self::ExpectedKey(byte) => {
                write!(f, "a key in double quotes is expected (got {})", got(byte))
            }
            Self::TrailingComma => f.write_str("a value or a key is expected after the comma"),
            Self::ControlCharacter(byte) => write!(
                f,
                "control character U+{byte:04X} in a string must be written as an escape"
            ),
            Self::UnknownEscape => f.write_str(
                "unknown escape in a string; \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX are allowed",
            ),
            Self::BadUnicodeEscape => {
                f.write_str("\\u must be followed by four hexadecimal digits")
            }
            Self::LoneSurrogate => f.write_str("half of a \\u surrogate pair is not a character"),
            Self::TrailingText(byte) => write!(
                f,
                "only one JSON value is allowed (got {} after it)",
                got(byte)
            ),
        }
    }
}
