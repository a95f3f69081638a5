//! What a YAML scalar means to `kubectl`: the rules of the Go library with which it reads manifests
//! (go-yaml v2, mostly YAML 1.1). `y`, `no` and `on` are booleans, `017` is fifteen, `1_000` is a
//! thousand, a date stays text. Pure.

use serde_json::{Number, Value};

use super::number;

/// The tag prefix that `!!` stands for.
const CORE_TAG: &str = "tag:yaml.org,2002:";

/// The tag of a merge key.
pub(super) const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// A scalar's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    Null,
    Bool(bool),
    Integer(i64),
    /// An integer of 2^63 or more.
    Unsigned(u64),
    Double(f64),
    Text(String),
}

/// The error for a scalar whose tag does not match its text, as a sentence for the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TagMismatch(pub(super) String);

/// The meaning of a scalar. `tag` is its full tag, if it has one; `is_plain` is false for quoted
/// and block scalars.
pub(super) fn meaning(
    tag: Option<&str>,
    is_plain: bool,
    text: &str,
) -> Result<Meaning, TagMismatch> {
    let Some(tag) = tag else {
        return Ok(if is_plain {
            untagged(text)
        } else {
            Meaning::Text(text.to_owned())
        });
    };
    let mismatch = |what: &str| Err(TagMismatch(format!("is tagged {what} but is not one")));
    let found = untagged(text);
    match (tag.strip_prefix(CORE_TAG), found) {
        (Some("bool"), found @ Meaning::Bool(_))
        | (Some("int"), found @ (Meaning::Integer(_) | Meaning::Unsigned(_)))
        | (Some("float"), found @ Meaning::Double(_))
        | (Some("null"), found @ Meaning::Null) => Ok(found),
        #[expect(
            clippy::cast_precision_loss,
            reason = "the library of kubectl does the same"
        )]
        (Some("float"), Meaning::Integer(whole)) => Ok(Meaning::Double(whole as f64)),
        (Some("bool"), _) => mismatch("!!bool"),
        (Some("int"), _) => mismatch("!!int"),
        (Some("float"), _) => mismatch("!!float"),
        (Some("null"), _) => mismatch("!!null"),
        (Some("timestamp"), _) if !is_date(text) => mismatch("!!timestamp"),
        (Some("binary"), _) => match binary(text) {
            Some(text) => Ok(Meaning::Text(text)),
            None => Err(TagMismatch(
                "is tagged !!binary and is not text in base64".to_owned(),
            )),
        },
        _ => Ok(Meaning::Text(text.to_owned())),
    }
}

/// The meaning of a scalar without quotes.
fn untagged(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Meaning::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Meaning::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Meaning::Double(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Meaning::Double(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Double(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = match text.as_bytes().first() {
        Some(b'+' | b'-' | b'0'..=b'9') => text.replace('_', ""),
        Some(b'.') => match without_underscores(text) {
            Some(digits) => digits,
            None => return Meaning::Text(text.to_owned()),
        },
        _ => return Meaning::Text(text.to_owned()),
    };
    integer(&digits)
        .or_else(|| double(&digits))
        .unwrap_or_else(|| Meaning::Text(text.to_owned()))
}

/// The text without underscores. Each underscore must be between two digits.
fn without_underscores(text: &str) -> Option<String> {
    let is_digit = |part: Option<u8>| part.is_some_and(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('_').collect();
    let fits = parts.windows(2).all(|pair| match pair {
        [before, after] => is_digit(before.bytes().next_back()) && is_digit(after.bytes().next()),
        _ => false,
    });
    fits.then(|| parts.concat())
}

/// An integer of 64 bits: decimal, `0x1f`, `0o17`, `017` or `0b11`.
fn integer(text: &str) -> Option<Meaning> {
    let (is_negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (radix, digits) = radix(unsigned);
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if is_negative {
        return 0_i64.checked_sub_unsigned(size).map(Meaning::Integer);
    }
    match i64::try_from(size) {
        Ok(whole) => Some(Meaning::Integer(whole)),
        // The library does not accept a sign before an integer of 2^63 or more.
        Err(_) => (unsigned.len() == text.len()).then_some(Meaning::Unsigned(size)),
    }
}

fn radix(text: &str) -> (u32, &str) {
    for (prefix, radix) in [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return (radix, digits);
        }
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (8, digits),
        _ => (10, text),
    }
}

/// A decimal number within the range of a double.
fn double(text: &str) -> Option<Meaning> {
    if !number::is_decimal(text) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Meaning::Double(value))
}

/// Whether an untagged plain scalar is written as a number, but the cluster would store another
/// value: it stores `1e400` as text, and `0.1000000000000000055` as `0.1`.
pub(super) fn changes(meaning: &Meaning, text: &str) -> bool {
    let decimal = text.replace('_', "");
    match meaning {
        Meaning::Null | Meaning::Bool(_) => false,
        Meaning::Unsigned(_) => true,
        Meaning::Integer(whole) => *whole == 0 && text.starts_with('-'),
        Meaning::Double(value) => {
            number::stored(*value).is_some_and(|stored| !number::is_kept(&decimal, &stored))
        }
        Meaning::Text(_) => {
            let unsigned = decimal.trim_start_matches(['+', '-']);
            let (radix, digits) = radix(unsigned);
            let is_large_integer = radix != 10
                && !digits.is_empty()
                && digits.chars().all(|digit| digit.is_digit(radix));
            let starts_as_number = text.starts_with(['+', '-', '.'])
                || text.starts_with(|first: char| first.is_ascii_digit());
            starts_as_number && (is_large_integer || number::is_decimal(&decimal))
        }
    }
}

/// The value as JSON; `None` for NaN and infinities, which JSON does not have.
pub(super) fn json(meaning: &Meaning) -> Option<Value> {
    Some(match meaning {
        Meaning::Null => Value::Null,
        Meaning::Bool(value) => Value::Bool(*value),
        Meaning::Integer(whole) => Value::from(*whole),
        #[expect(clippy::cast_precision_loss, reason = "as the API server does")]
        Meaning::Unsigned(whole) => Value::Number(Number::from_f64(*whole as f64)?),
        Meaning::Double(value) => Value::Number(number::stored(*value)?),
        Meaning::Text(text) => Value::String(text.clone()),
    })
}

/// The value as the key of a JSON object; `None` for null and integers of 2^63 or more, which the
/// library refuses.
pub(super) fn key(meaning: &Meaning) -> Option<String> {
    match meaning {
        Meaning::Null | Meaning::Unsigned(_) => None,
        Meaning::Bool(value) => Some(value.to_string()),
        Meaning::Integer(whole) => Some(whole.to_string()),
        Meaning::Double(value) => Some(number::key_text(*value)),
        Meaning::Text(text) => Some(text.clone()),
    }
}

/// Whether a key is a number that cannot be recovered from its text in JSON.
pub(super) fn key_changes(meaning: &Meaning, text: &str) -> bool {
    let Meaning::Double(value) = meaning else {
        return changes(meaning, text);
    };
    if !value.is_finite() {
        return false;
    }
    let kept = number::same_decimal(&number::key_text(*value), &text.replace('_', ""));
    !kept
}

/// Approximately the dates that the library recognizes. They stay text, so this only decides
/// whether the tag is refused.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let is_number = |part: Option<&str>, most: usize| {
        part.is_some_and(|part| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    text.find('-') == Some(4)
        && is_number(parts.next(), 4)
        && is_number(parts.next(), 2)
        && parts
            .next()
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Text from base64 with padding; line breaks are ignored.
fn binary(text: &str) -> Option<String> {
    let symbols: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    if !symbols.len().is_multiple_of(4) {
        return None;
    }
    let padding = symbols
        .iter()
        .rev()
        .take_while(|byte| **byte == b'=')
        .count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(symbols.len() / 4 * 3);
    for group in symbols.chunks(4) {
        let mut bits = 0_u32;
        for symbol in group {
            bits = bits << 6 | base64_digit(*symbol, padding > 0)?;
        }
        bytes.extend_from_slice(bits.to_be_bytes().get(1..)?);
    }
    bytes.truncate(bytes.len().saturating_sub(padding));
    let end = symbols.len() - padding;
    if symbols.get(..end)?.contains(&b'=') {
        return None;
    }
    String::from_utf8(bytes).ok()
}

fn base64_digit(symbol: u8, may_be_padding: bool) -> Option<u32> {
    let digit = match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        b'=' if may_be_padding => 0,
        _ => return None,
    };
    Some(u32::from(digit))
}
