//! Keys: makes a byte string from each JSON value, so that grouping, deduplicating and sorting only
//! compare bytes. Uses neither groups nor files.
//!
//! Two values have the same bytes exactly if pipelines treat them as equal. Numbers are equal if
//! their exact decimal values are: `1`, `1.0` and `1e0` are one key, ids above 2^53 are not merged,
//! `-0` is `0`, and NaN is equal to NaN. Strings are equal if their characters are, whatever
//! escapes they contain. Arrays and objects are equal if their values are. The order of an object's
//! keys does not matter, and of a repeated key the last value is used. The order of the bytes is
//! jq's order of values: null, false, true, numbers (NaN first), strings by code point, and arrays
//! element by element. Objects are ordered by their sorted keys first, and then by the values in
//! that order.
//!
//! The encoding must never change within a format version, because shuffles contain it, and because
//! it determines the shard of each key.
//!
//! ```text
//! null 01 | false 02 | true 03
//! number 04, then NaN 00 | negative 01 | zero 02 | positive 03
//!   After 01 and 03: the exponent e of 0.DIGITS × 10^e, as a big-endian u32 of e + 2^31. Then the
//!   digits in pairs, with one byte 01..64 for each pair. Then 00. After 01, all these bytes are
//!   inverted.
//! string 05, UTF-8 with 00 written as 00 FF, closed by 00 00
//! array 06, elements, 00
//! object 07, the sorted keys as strings, 00, the values in that order
//! ```

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zephyr_jq::{Type, Value};

use crate::number::{Decimal, MAX_KEY_EXPONENT, NumberError};
use crate::record::Record;

/// The seed of the hash that assigns keys to shards. It must never change, because workers,
/// versions and machines must agree on it. The value is arbitrary.
const SHARD_SEED: u64 = 0x7a65_7068_7972_0001;

const NULL: u8 = 0x01;
const FALSE: u8 = 0x02;
const TRUE: u8 = 0x03;
const NUMBER: u8 = 0x04;
const STRING: u8 = 0x05;
const ARRAY: u8 = 0x06;
const OBJECT: u8 = 0x07;
const END: u8 = 0x00;

const NOT_A_NUMBER: u8 = 0x00;
const NEGATIVE: u8 = 0x01;
const ZERO: u8 = 0x02;
const POSITIVE: u8 = 0x03;

/// A value as bytes that can be compared, as the beginning of this file describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyBytes(Box<[u8]>);

impl KeyBytes {
    /// Restores a key from the bytes of [`KeyBytes::as_bytes`] in a shuffle file. The bytes are not
    /// checked.
    pub fn from_encoded(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }

    /// The bytes. They have the same order as the keys.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }
}

/// Returns the shard of a key, from 0 to below `shards`. It is the same on every machine and in
/// every version. If `shards` is 0, it is shard 0.
pub fn shard_of(key: &KeyBytes, shards: u32) -> u32 {
    shard_of_bytes(key.as_bytes(), shards)
}

/// [`shard_of`] for the bytes of a key.
pub(crate) fn shard_of_bytes(key: &[u8], shards: u32) -> u32 {
    let hash = xxh3_64_with_seed(key, SHARD_SEED);
    let shard = hash.checked_rem(u64::from(shards)).unwrap_or(0);
    u32::try_from(shard).unwrap_or(0)
}

/// Why a value has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The value nests deeper than the caller allows.
    #[error("arrays and objects nest too deep for a key")]
    TooDeep,
    /// A number in the value cannot be compared.
    #[error(transparent)]
    Number(#[from] NumberError),
}

impl Record {
    /// The key of the whole record.
    ///
    /// # Errors
    /// A number has an exponent beyond ±[`MAX_KEY_EXPONENT`].
    pub fn key(&self) -> Result<KeyBytes, KeyError> {
        self.with_value(|value| KeyBytes::of(&value, usize::MAX))
    }
}

impl KeyBytes {
    /// The key of a value of jq, which may nest up to `levels` deep.
    pub(crate) fn of(value: &Value<'_>, levels: usize) -> Result<Self, KeyError> {
        let mut writer = KeyWriter::default();
        writer.value(value, levels)?;
        Ok(writer.finish())
    }
}

/// A string shorter than this is searched without a call.
const SHORT_BYTES: usize = 16;

fn position_of_zero(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < SHORT_BYTES {
        return bytes.iter().position(|byte| *byte == 0);
    }
    memchr::memchr(0, bytes)
}

/// An integer with at most this many digits is written without a copy of its digits.
const MAX_SHORT_DIGITS: usize = 64;

/// Writes the encoding of one value, part by part.
#[derive(Default)]
pub(crate) struct KeyWriter {
    bytes: Vec<u8>,
}

impl KeyWriter {
    pub(crate) fn finish(self) -> KeyBytes {
        KeyBytes(self.bytes.into_boxed_slice())
    }

    /// Replaces `bytes` by the key of a value, which may nest up to `levels` deep.
    pub(crate) fn replace(
        bytes: &mut Vec<u8>,
        value: &Value<'_>,
        levels: usize,
    ) -> Result<(), KeyError> {
        bytes.clear();
        let mut writer = Self {
            bytes: std::mem::take(bytes),
        };
        let written = writer.value(value, levels);
        *bytes = writer.bytes;
        written
    }

    /// Writes a value with at most `levels` arrays and objects inside each other.
    fn value(&mut self, value: &Value<'_>, levels: usize) -> Result<(), KeyError> {
        match value.kind() {
            Type::Null => self.bytes.push(NULL),
            Type::False => self.bytes.push(FALSE),
            Type::True => self.bytes.push(TRUE),
            Type::Number => self.any_number(value)?,
            Type::String => self.string(value.as_str().unwrap_or_default()),
            Type::Array => {
                let inner = levels.checked_sub(1).ok_or(KeyError::TooDeep)?;
                self.bytes.push(ARRAY);
                for element in value.children() {
                    self.value(&element, inner)?;
                }
                self.bytes.push(END);
            }
            Type::Object => {
                let inner = levels.checked_sub(1).ok_or(KeyError::TooDeep)?;
                let mut members = value.members();
                members.sort_unstable_by(|left, right| left.0.cmp(&right.0));
                self.bytes.push(OBJECT);
                for (key, _) in &members {
                    self.string(key);
                }
                self.bytes.push(END);
                for (_, member) in members {
                    self.value(&member, inner)?;
                }
            }
        }
        Ok(())
    }

    fn any_number(&mut self, value: &Value<'_>) -> Result<(), NumberError> {
        if let Value::Float(float) = value
            && float.is_nan()
        {
            self.bytes.extend([NUMBER, NOT_A_NUMBER]);
            return Ok(());
        }
        self.number(&value.number_text().unwrap_or_default())
    }

    /// Writes the number that this text represents.
    pub(crate) fn number(&mut self, text: &str) -> Result<(), NumberError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let is_short = (1..=MAX_SHORT_DIGITS).contains(&digits.len());
        if is_short && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let significant = digits.trim_start_matches('0');
            let exponent = i32::try_from(significant.len()).unwrap_or(i32::MAX);
            let digits = significant.trim_end_matches('0').as_bytes();
            self.decimal(negative, digits, exponent);
        } else {
            let decimal = Decimal::parse(text, MAX_KEY_EXPONENT)?;
            self.decimal(decimal.negative, &decimal.digits, decimal.exponent);
        }
        Ok(())
    }

    /// Writes the number ± 0.DIGITS × 10^exponent. The digits must neither begin nor end with
    /// zeros.
    fn decimal(&mut self, negative: bool, digits: &[u8], exponent: i32) {
        if digits.is_empty() {
            self.bytes.extend([NUMBER, ZERO]);
            return;
        }
        // Kind, sign, exponent, pairs of digits, end.
        self.bytes.reserve(7 + digits.len().div_ceil(2));
        let sign = if negative { NEGATIVE } else { POSITIVE };
        self.bytes.extend([NUMBER, sign]);
        let magnitude_from = self.bytes.len();
        let exponent = exponent.cast_unsigned() ^ 0x8000_0000;
        self.bytes.extend(exponent.to_be_bytes());
        self.bytes.extend(digits.chunks(2).map(|pair| {
            let low = pair.get(1).map_or(0, |digit| digit - b'0');
            (pair[0] - b'0') * 10 + low + 1
        }));
        self.bytes.push(END);
        if negative {
            for byte in &mut self.bytes[magnitude_from..] {
                *byte = !*byte;
            }
        }
    }

    #[inline]
    fn string(&mut self, value: &str) {
        // The kind and the end. The keys of most records are one string, which needs no more than
        // this.
        self.bytes.reserve(value.len() + 3);
        self.bytes.push(STRING);
        let mut rest = value.as_bytes();
        while let Some(at) = position_of_zero(rest) {
            self.bytes.extend_from_slice(&rest[..at]);
            self.bytes.extend_from_slice(&[0x00, 0xff]);
            rest = &rest[at + 1..];
        }
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(&[0x00, 0x00]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(json: &str) -> KeyBytes {
        Record::parse(json.as_bytes()).unwrap().key().unwrap()
    }

    #[test]
    fn values_are_ordered_as_jq_orders_them() {
        let ascending = [
            "null",
            "false",
            "true",
            "-1e400",
            "-10",
            "-2",
            "-1.5",
            "-1",
            "-0.1",
            "-1e-400",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000001",
            "1",
            "2",
            "10",
            "11",
            "12.5",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            r#""""#,
            r#""\u0000""#,
            r#""\u0000a""#,
            r#""\u0001""#,
            r#""a""#,
            r#""a\u0000""#,
            r#""a\u0000b""#,
            r#""aa""#,
            r#""b""#,
            r#""é""#,
            r#""\uffff""#,
            r#""😀""#,
            "[]",
            "[null]",
            "[null,1]",
            "[0]",
            "[0,[]]",
            "[1]",
            "[[]]",
            "{}",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":1,"b":0}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"a":0,"c":0}"#,
            r#"{"b":0}"#,
        ];
        for pair in ascending.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn equal_values_have_equal_keys_however_they_are_written() {
        for (left, right) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("100", "1E2"),
            ("-0", "0"),
            ("-0.0e9", "0"),
            ("0.10", "1e-1"),
            (r#""a\/b""#, r#""a/b""#),
            (r#""😀""#, r#""\ud83d\ude00""#),
            (r#"{"a":1,"b":[2]}"#, r#"{ "b" : [2.0], "a" : 1e0 }"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
        ] {
            assert_eq!(key(left), key(right), "{left} {right}");
        }
    }

    #[test]
    fn ids_above_two_to_the_53_are_not_merged() {
        assert_ne!(key("9007199254740993"), key("9007199254740992"));
        assert_ne!(key("12345678901234567890"), key("12345678901234567891"));
    }

    #[test]
    fn a_number_beyond_the_limit_of_exponents_is_an_error_that_names_it() {
        let record = Record::parse(b"[1e9999999999]").unwrap();
        assert!(
            record
                .key()
                .unwrap_err()
                .to_string()
                .contains("1e9999999999")
        );
    }

    #[test]
    fn shards_of_keys_never_change() {
        // Stored shuffles depend on these values.
        let shards: Vec<u32> = ["null", "1", r#""zephyr""#, r#"["a",{"b":2}]"#]
            .map(|json| shard_of(&key(json), 1000))
            .into();
        assert_eq!(shards, PINNED_SHARDS);
        assert_eq!(shard_of(&key("1"), 1), 0);
        assert_eq!(shard_of(&key("1"), 0), 0);
    }

    const PINNED_SHARDS: [u32; 4] = [946, 447, 147, 489];
}
