//! The formats `@text`, `@json`, `@csv` and so on, applied to values.

use crate::eval::flow::{Failure, Output, error};
use crate::eval::operate::unfit;
use crate::format::{Escape, from_base64, from_uri, write_base64, write_uri};
use crate::meter;
use crate::value::print::push_number;
use crate::value::{Text, Type, Value};

use super::convert::json_text;

/// A conversion of a value to a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
    Csv,
    Tsv,
    Html,
    Uri,
    UriDecoded,
    Sh,
    Base64,
    Base64Decoded,
}

impl Format {
    /// Returns the format with this name. The name has no `@`.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Self::Text,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "html" => Self::Html,
            "uri" => Self::Uri,
            "urid" => Self::UriDecoded,
            "sh" => Self::Sh,
            "base64" => Self::Base64,
            "base64d" => Self::Base64Decoded,
            _ => return None,
        })
    }
}

/// `format(name)`
pub(super) fn by_name<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let Some(name) = arguments[0].as_str() else {
        return Err(unfit(&arguments[0], "is not a valid format"));
    };
    match Format::find(name) {
        Some(format) => apply(format, input).map(Value::String),
        None => Err(error(format!("{name} is not a valid format"))),
    }
}

/// Converts a value to a string in this format.
pub(crate) fn apply(format: Format, value: Value<'_>) -> Result<Text<'_>, Failure<'_>> {
    let mut text = String::new();
    match format {
        Format::Text => {
            return match value {
                Value::String(string) => Ok(string),
                other => Ok(made(json_text(&other)?)),
            };
        }
        Format::Json => text = json_text(&value)?,
        Format::Csv => push_row(&mut text, &value, Escape::Csv)?,
        Format::Tsv => push_row(&mut text, &value, Escape::Tsv)?,
        Format::Sh => push_words(&mut text, &value)?,
        Format::Html => Escape::Html.write(&plain(value)?, &mut text),
        Format::Uri => write_uri(&plain(value)?, &mut text),
        Format::Base64 => write_base64(&plain(value)?, &mut text),
        Format::UriDecoded | Format::Base64Decoded => {
            let string = plain(value)?;
            let decoded = if format == Format::UriDecoded {
                from_uri(&string)
            } else {
                from_base64(&string)
            };
            text = decoded.map_err(|message| unfit(&Value::String(string), message))?;
        }
    }
    Ok(made(text))
}

fn made<'v>(text: String) -> Text<'v> {
    Text::from(text)
}

fn plain(value: Value<'_>) -> Result<Text<'_>, Failure<'_>> {
    apply(Format::Text, value)
}

/// Appends the elements of an array as a line of CSV or TSV.
fn push_row<'v>(text: &mut String, value: &Value<'v>, escape: Escape) -> Result<(), Failure<'v>> {
    let (separator, refused) = match escape {
        Escape::Tsv => ("\t", "cannot be tsv-formatted, only array"),
        Escape::Csv | Escape::Html | Escape::Sh => (",", "cannot be csv-formatted, only array"),
    };
    if value.kind() != Type::Array {
        return Err(unfit(value, refused));
    }
    for (at, column) in value.children().enumerate() {
        meter::room(text.len())?;
        if at > 0 {
            text.push_str(separator);
        }
        match &column {
            Value::Null => {}
            Value::Boolean(boolean) => text.push_str(if *boolean { "true" } else { "false" }),
            Value::String(string) => escape.write(string, text),
            number if number.kind() == Type::Number => {
                if !number.is_nan() {
                    push_number(text, number);
                }
            }
            other => return Err(unfit(other, "is not valid in a csv row")),
        }
    }
    Ok(())
}

/// Appends a value, or each element of an array, as a word of a shell.
fn push_words<'v>(text: &mut String, value: &Value<'v>) -> Result<(), Failure<'v>> {
    if value.kind() != Type::Array {
        return push_word(text, value);
    }
    for (at, word) in value.children().enumerate() {
        meter::room(text.len())?;
        if at > 0 {
            text.push(' ');
        }
        push_word(text, &word)?;
    }
    Ok(())
}

fn push_word<'v>(text: &mut String, word: &Value<'v>) -> Result<(), Failure<'v>> {
    match word {
        Value::String(string) => Escape::Sh.write(string, text),
        other if matches!(other.kind(), Type::Array | Type::Object) => {
            return Err(unfit(other, "can not be escaped for shell"));
        }
        other => other.push_json(text)?,
    }
    Ok(())
}
