//! Filters for regular expressions. They convert values for `regex`, and convert the matches to
//! values.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::eval::flow::{Failure, Output, error};
use crate::eval::operate::{add, unfit};
use crate::regex::{Capture, Match, Regex};
use crate::value::object::Object;
use crate::value::{Text, Type, Value};

/// How many compiled patterns a thread keeps at most. A program has few patterns, and records
/// rarely contain patterns.
const KEPT_PATTERNS: usize = 256;

type Compiled = HashMap<String, HashMap<String, Rc<Regex>>>;

thread_local! {
    /// The compiled patterns, by flags and pattern.
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

/// Returns the compiled pattern, from this thread's patterns if it is there.
pub(crate) fn compiled(pattern: &str, flags: &str) -> Result<Rc<Regex>, String> {
    let known = COMPILED.with_borrow(|compiled| {
        compiled
            .get(flags)
            .and_then(|patterns| patterns.get(pattern))
            .cloned()
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let regex = Rc::new(Regex::compile(pattern, flags)?);
    COMPILED.with_borrow_mut(|compiled| {
        let patterns = compiled.entry(flags.to_owned()).or_default();
        if patterns.len() >= KEPT_PATTERNS {
            patterns.clear();
        }
        patterns.insert(pattern.to_owned(), regex.clone());
    });
    Ok(regex)
}

/// Returns the pattern and the flags that the arguments contain. A single argument may be an array
/// of both.
pub(crate) fn pattern_and_flags<'v>(
    arguments: &[Value<'v>],
) -> Result<(Value<'v>, Value<'v>), Failure<'v>> {
    match arguments {
        [pattern, flags] => Ok((pattern.clone(), flags.clone())),
        [one] => match one.kind() {
            Type::String => Ok((one.clone(), Value::Null)),
            Type::Array if one.child_count() > 0 => Ok((
                one.element(0).unwrap_or(Value::Null),
                one.element(1).unwrap_or(Value::Null),
            )),
            _ => Err(error(format!("{} not a string or array", one.type_name()))),
        },
        _ => Err(error("a regular expression has a pattern and flags")),
    }
}

/// Returns the characters of the input, and the compiled pattern.
fn prepare<'i, 'v>(
    input: &'i Value<'v>,
    pattern: &Value<'v>,
    flags: &Value<'v>,
) -> Result<(&'i Text<'v>, Rc<Regex>), Failure<'v>> {
    let Value::String(text) = input else {
        return Err(unfit(input, "cannot be matched, as it is not a string"));
    };
    let Some(pattern) = pattern.as_str() else {
        return Err(unfit(pattern, "is not a string"));
    };
    let flags = match flags {
        Value::Null => "",
        flags => match flags.as_str() {
            Some(flags) => flags,
            None => return Err(unfit(flags, "is not a string")),
        },
    };
    let regex = compiled(pattern, flags).map_err(error)?;
    Ok((text, regex))
}

/// Returns the first match of a pattern, or all matches if the flag `g` is given.
pub(crate) fn matches<'i, 'v>(
    input: &'i Value<'v>,
    pattern: &Value<'v>,
    flags: &Value<'v>,
) -> Result<(Rc<Regex>, Vec<Match<'i>>), Failure<'v>> {
    let (text, regex) = prepare(input, pattern, flags)?;
    let found = regex.find_all(text, regex.is_global()).map_err(error)?;
    Ok((regex, found))
}

pub(super) fn test<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let (pattern, flags) = pattern_and_flags(arguments)?;
    let (text, regex) = prepare(&input, &pattern, &flags)?;
    regex.is_match(text).map(Value::Boolean).map_err(error)
}

pub(super) fn find<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let (pattern, flags) = pattern_and_flags(arguments)?;
    let (regex, found) = matches(&input, &pattern, &flags)?;
    let found = found.into_iter().map(|found| {
        let captures = found
            .captures
            .iter()
            .zip(regex.names())
            .map(|(capture, name)| capture_object(capture, name));
        object(vec![
            ("offset", Value::count(found.offset)),
            ("length", Value::count(found.length)),
            ("string", Value::from(found.text.into_owned())),
            ("captures", Value::array(captures.collect())),
        ])
    });
    Ok(Value::collect(found)?)
}

/// Returns the object that describes a capture. The members of an empty capture have another order,
/// as in jq.
fn capture_object<'v>(capture: &Capture<'_>, name: Option<&str>) -> Value<'v> {
    let offset = ("offset", Value::Integer(capture.offset));
    let length = ("length", Value::count(capture.length));
    let string = ("string", string(capture));
    let name = (
        "name",
        name.map_or(Value::Null, |name| Value::from(name.to_owned())),
    );
    object(if capture.length == 0 {
        vec![offset, string, length, name]
    } else {
        vec![offset, length, string, name]
    })
}

fn string<'v>(capture: &Capture<'_>) -> Value<'v> {
    capture
        .text
        .as_ref()
        .map_or(Value::Null, |text| Value::from(text.clone().into_owned()))
}

fn object<'v>(members: Vec<(&'static str, Value<'v>)>) -> Value<'v> {
    let members = members
        .into_iter()
        .map(|(key, value)| (Text::Borrowed(key), value));
    Value::Object(Rc::new(Object::from_unique(members.collect())))
}

/// Returns an object with the name of each named group and the text that it matched.
pub(crate) fn named<'v>(regex: &Regex, found: &Match<'_>) -> Value<'v> {
    let mut object = Object::default();
    for (capture, name) in found.captures.iter().zip(regex.names()) {
        if let Some(name) = name {
            object.insert(Text::from(name.to_owned()), string(capture));
        }
    }
    Value::Object(Rc::new(object))
}

pub(super) fn capture<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let (pattern, flags) = pattern_and_flags(arguments)?;
    let (regex, found) = matches(&input, &pattern, &flags)?;
    Ok(Value::collect(
        found.iter().map(|found| named(&regex, found)),
    )?)
}

pub(super) fn scan<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let flags = add(
        Value::from("g"),
        arguments.get(1).cloned().unwrap_or(Value::Null),
    )?;
    let (_, found) = matches(&input, &arguments[0], &flags)?;
    let found = found.into_iter().map(|found| {
        if found.captures.is_empty() {
            return Value::from(found.text.into_owned());
        }
        Value::array(found.captures.iter().map(string).collect())
    });
    Ok(Value::collect(found)?)
}

pub(super) fn split<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let flags = add(
        arguments.get(1).cloned().unwrap_or(Value::Null),
        Value::from("g"),
    )?;
    let (_, found) = matches(&input, &arguments[0], &flags)?;
    let Value::String(text) = &input else {
        return Ok(Value::Null);
    };
    let mut parts = Vec::with_capacity(found.len() + 1);
    let mut rest = Rest::new(text);
    for found in &found {
        parts.push(Value::String(rest.up_to(found.offset)));
        rest.skip(found.length);
    }
    parts.push(Value::String(rest.all()));
    Ok(Value::array(parts))
}

/// The rest of a string after pieces were cut off its beginning. Positions count characters.
pub(crate) struct Rest<'t, 'v> {
    text: &'t Text<'v>,
    /// How many characters and bytes were cut off.
    characters: usize,
    bytes: usize,
}

impl<'t, 'v> Rest<'t, 'v> {
    pub(crate) fn new(text: &'t Text<'v>) -> Self {
        Self {
            text,
            characters: 0,
            bytes: 0,
        }
    }

    /// Cuts off the text before the character at `offset` and returns it. The text is empty if it
    /// was cut off earlier.
    pub(crate) fn up_to(&mut self, offset: usize) -> Text<'v> {
        let from = self.bytes;
        self.skip(offset.saturating_sub(self.characters));
        self.text.part(from..self.bytes)
    }

    pub(crate) fn skip(&mut self, characters: usize) {
        let rest = &self.text[self.bytes..];
        let length = rest
            .char_indices()
            .nth(characters)
            .map_or(rest.len(), |(at, _)| at);
        self.bytes += length;
        self.characters += characters;
    }

    pub(crate) fn all(self) -> Text<'v> {
        self.text.part(self.bytes..self.text.len())
    }
}
