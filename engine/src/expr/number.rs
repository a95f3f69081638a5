//! Between texts of numbers and jaq's numbers, without losing what the text says.

use std::borrow::Cow;

use jaq_json::Num;

use crate::number::push_float;
use crate::record::{Kind, Record};

/// jaq's number for a checked JSON number: integers exact, everything else by its text until somebody calculates.
pub(super) fn from_text(text: &str) -> Num {
    // jaq would make an integer 0 of it and lose the sign that the text has.
    let keeps_text = text == "-0" || text.contains(['.', 'e', 'E']);
    let integer = if keeps_text {
        None
    } else {
        Num::from_str_radix(text, 10)
    };
    integer.unwrap_or_else(|| Num::Dec(text.to_owned().into()))
}

/// The number that a person's text means: besides JSON's numbers with a plus sign, superfluous zeros, a missing zero
/// before or digit behind the point, and white space around it.
pub(super) fn lenient(text: &str) -> Option<Num> {
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let point = digits
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(point);
    let any_digit = !whole.is_empty()
        || rest
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()));
    if !any_digit {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let rest: Cow<'_, str> = match rest.strip_prefix('.') {
        Some(behind) if !behind.starts_with(|next: char| next.is_ascii_digit()) => behind.into(),
        Some(_) | None => rest.into(),
    };
    let record = Record::parse(format!("{sign}{whole}{rest}").as_bytes()).ok()?;
    (record.view().kind() == Kind::Number).then(|| from_text(record.as_json_str()))
}

/// Appends a number's text in the canonical form.
pub(super) fn push(text: &mut String, number: &Num) {
    match number {
        Num::Int(integer) => text.push_str(&integer.to_string()),
        Num::BigInt(integer) => text.push_str(&integer.to_string()),
        Num::Float(float) => push_float(text, *float),
        Num::Dec(decimal) => text.push_str(decimal),
    }
}
