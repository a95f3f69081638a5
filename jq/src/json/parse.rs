//! The JSON parser of `fromjson` and `tonumber`. It accepts the same forms of numbers as jq, and
//! limits the depth. It never recurses.

use std::rc::Rc;

use crate::value::object::Object;
use crate::value::{Text, Value};

/// How many arrays and objects may be inside each other, as in jq.
const MAX_NESTING: usize = 10_000;

/// How many digits an integer may have to be stored as an integer. Longer ones are stored as text.
const SMALL_DIGITS: usize = 18;

/// Why a text is not JSON. The text is that of jq.
type Refusal = &'static str;

/// Parses a text that contains exactly one value. The error has the position, in the words of jq.
pub(crate) fn value<'v>(text: &str) -> Result<Value<'v>, String> {
    let mut reader = Reader {
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
        position: 0,
        open: Vec::new(),
        value: None,
    };
    let first = reader.next()?;
    let Some(first) = first else {
        return Err("Expected JSON value".to_owned());
    };
    match reader.next()? {
        None => Ok(first),
        Some(_) => Err("Unexpected extra JSON values".to_owned()),
    }
}

/// Parses a number. Unlike a number of JSON, it may have a plus sign, superfluous zeros, or no
/// digit on one side of the point. It may also be NaN or an infinity.
pub(crate) fn number<'v>(text: &str) -> Option<Value<'v>> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    match rest.to_ascii_lowercase().as_str() {
        "nan" => return Some(Value::Float(f64::NAN)),
        "inf" | "infinity" => {
            let infinity = f64::INFINITY;
            return Some(Value::Float(if sign.is_empty() {
                infinity
            } else {
                -infinity
            }));
        }
        _ => {}
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent.is_empty() || digits(exponent) < exponent.len() {
            return None;
        }
    } else if !rest.is_empty() {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let mut number = format!("{sign}{whole}");
    if fraction.is_empty() && rest.is_empty() && whole.len() <= SMALL_DIGITS && number != "-0" {
        return number.parse().map(Value::Integer).ok();
    }
    if !fraction.is_empty() {
        number.push('.');
        number.push_str(fraction);
    }
    number.push_str(rest);
    Some(Value::decimal(number))
}

struct Reader<'t, 'v> {
    text: &'t str,
    position: usize,
    /// The open arrays and objects, from the outermost inwards.
    open: Vec<Open<'v>>,
    /// The last value, if it was not yet added to an array or object.
    value: Option<Value<'v>>,
}

enum Open<'v> {
    Array(Vec<Value<'v>>),
    Object(Object<'v>),
    /// A key of the object before it.
    Key(Text<'v>),
}

impl<'v> Reader<'_, 'v> {
    /// Returns the next outermost value. `None` at the end of the text.
    fn next(&mut self) -> Result<Option<Value<'v>>, String> {
        while let Some(&byte) = self.text.as_bytes().get(self.position) {
            let read = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.position += 1;
                    Ok(())
                }
                b'"' => {
                    let Some(read) = self.string() else {
                        self.position = self.text.len();
                        return Err(self.place("Unfinished string at EOF"));
                    };
                    read
                }
                b'[' | b'{' | b':' | b',' | b']' | b'}' => {
                    self.position += 1;
                    self.structure(byte)
                }
                _ => {
                    let read = self.literal();
                    if self.position == self.text.len() {
                        read.map_err(|refusal| self.place(&format!("{refusal} at EOF")))?;
                        break;
                    }
                    // jq checks a literal only when it reads the character after it.
                    self.position += usize::from(read.is_err());
                    read
                }
            };
            read.map_err(|refusal| self.place(refusal))?;
            if self.open.is_empty()
                && let Some(value) = self.value.take()
            {
                return Ok(Some(value));
            }
        }
        if !self.open.is_empty() {
            return Err(self.place("Unfinished JSON term at EOF"));
        }
        Ok(self.value.take())
    }

    /// Makes an error with the line and byte of the last character that was read.
    fn place(&self, refusal: &str) -> String {
        let read = &self.text[..self.position];
        let line = read.matches('\n').count() + 1;
        let column = read.len() - read.rfind('\n').map_or(0, |at| at + 1);
        format!("{refusal} at line {line}, column {column}")
    }

    fn put(&mut self, value: Value<'v>) -> Result<(), Refusal> {
        if self.value.is_some() {
            return Err("Expected separator between values");
        }
        self.value = Some(value);
        Ok(())
    }

    fn structure(&mut self, byte: u8) -> Result<(), Refusal> {
        match byte {
            b'[' | b'{' => {
                if self.open.len() >= MAX_NESTING {
                    return Err("Exceeds depth limit for parsing");
                }
                if self.value.is_some() {
                    return Err("Expected separator between values");
                }
                self.open.push(if byte == b'[' {
                    Open::Array(Vec::new())
                } else {
                    Open::Object(Object::default())
                });
                Ok(())
            }
            b':' => {
                let Some(key) = self.value.take() else {
                    return Err("Expected string key before ':'");
                };
                match (self.open.last(), key) {
                    (Some(Open::Object(_)), Value::String(key)) => {
                        self.open.push(Open::Key(key));
                        Ok(())
                    }
                    (Some(Open::Object(_)), _) => Err("Object keys must be strings"),
                    _ => Err("':' not as part of an object"),
                }
            }
            b',' => {
                let Some(value) = self.value.take() else {
                    return Err("Expected value before ','");
                };
                self.add(value)
            }
            b']' => {
                let Some(Open::Array(mut elements)) = self.open.pop() else {
                    return Err("Unmatched ']'");
                };
                match self.value.take() {
                    Some(value) => elements.push(value),
                    None if elements.is_empty() => {}
                    None => return Err("Expected another array element"),
                }
                self.value = Some(Value::array(elements));
                Ok(())
            }
            _ => self.close_object(),
        }
    }

    /// Adds a value to the innermost open array or object.
    fn add(&mut self, value: Value<'v>) -> Result<(), Refusal> {
        match self.open.pop() {
            None => Err("',' not as part of an object or array"),
            Some(Open::Array(mut elements)) => {
                elements.push(value);
                self.open.push(Open::Array(elements));
                Ok(())
            }
            Some(Open::Key(key)) => {
                if let Some(Open::Object(object)) = self.open.last_mut() {
                    object.insert(key, value);
                }
                Ok(())
            }
            Some(Open::Object(_)) => Err("Objects must consist of key:value pairs"),
        }
    }

    fn close_object(&mut self) -> Result<(), Refusal> {
        let value = self.value.take();
        let has_value = value.is_some();
        match (self.open.last(), value) {
            (None, _) => return Err("Unmatched '}'"),
            (Some(Open::Key(_)), Some(value)) => self.add(value)?,
            (Some(_), Some(_)) => return Err("Objects must consist of key:value pairs"),
            (Some(_), None) => {}
        }
        let Some(Open::Object(object)) = self.open.pop() else {
            return Err("Unmatched '}'");
        };
        if !has_value && object.len() > 0 {
            return Err("Expected another key-value pair");
        }
        self.value = Some(Value::Object(Rc::new(object)));
        Ok(())
    }

    fn literal(&mut self) -> Result<(), Refusal> {
        let rest = &self.text[self.position..];
        let ends = |character: char| {
            matches!(
                character,
                ' ' | '\t' | '\r' | '\n' | '"' | '[' | ',' | ']' | '{' | ':' | '}'
            )
        };
        let literal = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.position += literal.len();
        let value = match literal {
            "null" => Value::Null,
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            _ if literal.starts_with(['t', 'f']) || literal.starts_with("nu") => {
                return Err("Invalid literal");
            }
            _ if literal.starts_with('\'') => {
                return Err("Invalid string literal; expected \", but got '");
            }
            _ => number(literal).ok_or("Invalid numeric literal")?,
        };
        self.put(value)
    }

    /// Reads a string with its quotes. `None` if the string has no end.
    fn string(&mut self) -> Option<Result<(), Refusal>> {
        let mut string = String::new();
        let mut refusal = None;
        let bytes = self.text.as_bytes();
        let mut at = self.position + 1;
        loop {
            let rest = &self.text[at..];
            let plain = rest
                .bytes()
                .take_while(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\')
                .count();
            string.push_str(&rest[..plain]);
            at += plain;
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => match escape(&self.text[at..]) {
                    Ok((character, length)) => {
                        string.push(character);
                        at += length;
                    }
                    Err(message) => {
                        refusal = refusal.or(Some(message));
                        // Skips the escaped character, because it does not end the string.
                        let escaped = self.text[at + 1..].chars().next()?;
                        at += 1 + escaped.len_utf8();
                    }
                },
                _ => {
                    refusal = refusal.or(Some(CONTROL_CHARACTER));
                    at += 1;
                }
            }
        }
        // jq checks a string only after it has read all of it.
        self.position = at + 1;
        Some(match refusal {
            Some(refusal) => Err(refusal),
            None => self.put(Value::from(string)),
        })
    }
}

const CONTROL_CHARACTER: Refusal =
    "Invalid string: control characters from U+0000 through U+001F must be escaped";

/// Returns the character of the escape at the beginning of `text`, and the length of the escape.
fn escape(text: &str) -> Result<(char, usize), Refusal> {
    let character = match text.as_bytes().get(1) {
        Some(b'u') => {
            return match (crate::lex::unicode(text), crate::lex::code_unit(text)) {
                (Some(found), _) => Ok(found),
                (None, Some(_)) => Err("Invalid \\uXXXX\\uXXXX surrogate pair escape"),
                (None, None) if text.len() < 6 => Err("Invalid \\uXXXX escape"),
                (None, None) => Err("Invalid characters in \\uXXXX escape"),
            };
        }
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(&plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
        Some(_) | None => return Err("Invalid escape"),
    };
    Ok((character, 2))
}
