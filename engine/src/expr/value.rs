//! Results of expressions, and the way between them and records.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jaq_json::{Map, Num, Val};

use super::error::ValueError;
use super::number;
use crate::key::{KeyBytes, KeyWriter};
use crate::record::{Kind, Limits, PRESIZED, Record, View, push_quoted};

/// One result of an expression. Opaque: it can be asked for a record, a key, a number or its truth.
pub struct Value<'record> {
    inner: Inner<'record>,
    limits: Limits,
}

enum Inner<'record> {
    /// The input itself, never converted.
    Source(&'record Record),
    /// A part of the input, never converted.
    Inside(View<'record>),
    Computed(Val),
}

impl<'record> Value<'record> {
    pub(super) fn source(record: &'record Record, limits: Limits) -> Self {
        let inner = Inner::Source(record);
        Self { inner, limits }
    }

    pub(super) fn inside(view: View<'record>, limits: Limits) -> Self {
        let inner = Inner::Inside(view);
        Self { inner, limits }
    }

    pub(super) fn computed(value: Val, limits: Limits) -> Self {
        let inner = Inner::Computed(value);
        Self { inner, limits }
    }

    /// What a record made of it may be at most.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// False for null and false, true for everything else.
    pub fn is_truthy(&self) -> bool {
        match &self.inner {
            Inner::Source(record) => record.is_truthy(),
            Inner::Inside(view) => !matches!(view.kind(), Kind::Null | Kind::False),
            Inner::Computed(value) => !matches!(value, Val::Null | Val::Bool(false)),
        }
    }

    /// What kind of value this is, as jq's `type` names it.
    pub fn type_name(&self) -> &'static str {
        match &self.inner {
            Inner::Source(record) => record.type_name(),
            Inner::Inside(view) => view.type_name(),
            Inner::Computed(Val::Null) => "null",
            Inner::Computed(Val::Bool(_)) => "boolean",
            Inner::Computed(Val::Num(_)) => "number",
            Inner::Computed(Val::BStr(_) | Val::TStr(_)) => "string",
            Inner::Computed(Val::Arr(_)) => "array",
            Inner::Computed(Val::Obj(_)) => "object",
        }
    }

    /// The value as a record, in the canonical form.
    pub fn to_record(&self) -> Result<Record, ValueError> {
        match &self.inner {
            Inner::Source(record) => Ok(record.to_canonical()),
            Inner::Inside(view) => Ok(view.to_canonical()),
            Inner::Computed(value) => to_text(value, &self.limits).map(Record::trusted),
        }
    }

    /// The value as a key.
    pub fn key(&self) -> Result<KeyBytes, ValueError> {
        match &self.inner {
            Inner::Source(record) => record.key().map_err(ValueError::Number),
            Inner::Inside(view) => view.key().map_err(ValueError::Number),
            Inner::Computed(value) => {
                let mut writer = KeyWriter::default();
                write_key(&mut writer, &self.limits, value, 0)?;
                Ok(writer.finish())
            }
        }
    }

    /// The text of a value that is a number, for sums: as it is written in the record, or as jq prints it when it was
    /// computed, or `NaN`, `Infinity` or `-Infinity`, which no sum accepts. `None` for any other value.
    pub fn number_text(&self) -> Option<Cow<'_, str>> {
        match &self.inner {
            Inner::Source(record) => {
                (record.type_name() == "number").then(|| record.as_json_str().into())
            }
            Inner::Inside(view) => (view.kind() == Kind::Number).then(|| view.text().into()),
            Inner::Computed(Val::Num(Num::Dec(decimal))) => Some(decimal.as_str().into()),
            Inner::Computed(Val::Num(Num::Float(float))) if float.is_nan() => Some("NaN".into()),
            Inner::Computed(Val::Num(Num::Float(float))) if float.is_infinite() => Some(
                if *float > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                }
                .into(),
            ),
            Inner::Computed(Val::Num(number)) => {
                let mut text = String::new();
                number::push(&mut text, number);
                Some(text.into())
            }
            Inner::Computed(
                Val::Null | Val::Bool(_) | Val::BStr(_) | Val::TStr(_) | Val::Arr(_) | Val::Obj(_),
            ) => None,
        }
    }
}

/// jaq's value of a record; of an object only the members called `names`, where they are given.
pub(super) fn of_record(view: View<'_>, names: Option<&BTreeSet<String>>) -> Val {
    match names {
        Some(names) if view.kind() == Kind::Object => members(wanted(view, names)),
        Some(_) | None => from_view(view),
    }
}

/// The members of an object that are called `names`.
pub(super) fn wanted<'record>(
    object: View<'record>,
    names: &BTreeSet<String>,
) -> impl Iterator<Item = (View<'record>, View<'record>)> {
    object
        .members()
        .filter(|(key, _)| names.iter().any(|name| key.is_string(name)))
}

/// jaq's value of a record. Recurses no deeper than records nest. A long array is made with its final size: growing would
/// take twice of it.
pub(super) fn from_view(view: View<'_>) -> Val {
    match view.kind() {
        Kind::Null => Val::Null,
        Kind::False => Val::Bool(false),
        Kind::True => Val::Bool(true),
        Kind::Number => Val::Num(number::from_text(view.text())),
        Kind::PlainString | Kind::EscapedString => {
            Val::utf8_str(view.string().into_owned().into_bytes())
        }
        Kind::Array if view.inner_nodes() > PRESIZED => {
            let mut elements = Vec::with_capacity(view.elements().count());
            elements.extend(view.elements().map(from_view));
            elements.into_iter().collect()
        }
        Kind::Array => view.elements().map(from_view).collect(),
        Kind::Object => members(view.members()),
    }
}

/// An object; a repeated key keeps its first place and takes its last value, as in jq.
fn members<'record>(members: impl Iterator<Item = (View<'record>, View<'record>)>) -> Val {
    let members = members.map(|(key, value)| {
        let key = Val::utf8_str(key.string().into_owned().into_bytes());
        (key, from_view(value))
    });
    Val::obj(members.collect::<Map>())
}

/// The canonical text of a value.
pub(super) fn to_text(value: &Val, limits: &Limits) -> Result<String, ValueError> {
    let mut text = String::new();
    push_value(&mut text, limits, value, 0)?;
    Ok(text)
}

fn push_value(
    text: &mut String,
    limits: &Limits,
    value: &Val,
    depth: usize,
) -> Result<(), ValueError> {
    match value {
        Val::Null => text.push_str("null"),
        Val::Bool(true) => text.push_str("true"),
        Val::Bool(false) => text.push_str("false"),
        Val::Num(number) => number::push(text, number),
        Val::TStr(string) => push_quoted(text, &String::from_utf8_lossy(string)),
        Val::BStr(_) => return Err(ValueError::Bytes),
        Val::Arr(elements) => {
            let inner = deeper(limits, depth)?;
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_value(text, limits, element, inner)?;
            }
            text.push(']');
        }
        Val::Obj(members) => {
            let inner = deeper(limits, depth)?;
            text.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_quoted(text, &key_string(key)?);
                text.push(':');
                push_value(text, limits, member, inner)?;
            }
            text.push('}');
        }
    }
    let limit = limits.bytes;
    if text.len() > limit {
        return Err(ValueError::TooLong { limit });
    }
    Ok(())
}

fn write_key(
    writer: &mut KeyWriter,
    limits: &Limits,
    value: &Val,
    depth: usize,
) -> Result<(), ValueError> {
    match value {
        Val::Null => writer.null(),
        Val::Bool(boolean) => writer.boolean(*boolean),
        Val::Num(Num::Float(float)) if float.is_nan() => writer.nan(),
        Val::Num(computed) => {
            let mut text = String::new();
            number::push(&mut text, computed);
            writer.number(&text).map_err(ValueError::Number)?;
        }
        Val::TStr(string) => writer.string(&String::from_utf8_lossy(string)),
        Val::BStr(_) => return Err(ValueError::Bytes),
        Val::Arr(elements) => {
            let inner = deeper(limits, depth)?;
            writer.array();
            for element in elements.iter() {
                write_key(writer, limits, element, inner)?;
            }
            writer.end();
        }
        Val::Obj(members) => {
            let inner = deeper(limits, depth)?;
            let members = members
                .iter()
                .map(|(key, member)| Ok((key_string(key)?, member)));
            let mut members = members.collect::<Result<Vec<_>, ValueError>>()?;
            members.sort_by(|left, right| left.0.cmp(&right.0));
            writer.object();
            for (key, _) in &members {
                writer.string(key);
            }
            writer.end();
            for (_, member) in members {
                write_key(writer, limits, member, inner)?;
            }
        }
    }
    Ok(())
}

fn key_string(key: &Val) -> Result<Cow<'_, str>, ValueError> {
    match key {
        Val::TStr(string) => Ok(String::from_utf8_lossy(string)),
        Val::Null | Val::Bool(_) | Val::Num(_) | Val::BStr(_) | Val::Arr(_) | Val::Obj(_) => {
            Err(ValueError::KeyNotAString {
                key: super::error::excerpt(&key.to_string()),
            })
        }
    }
}

fn deeper(limits: &Limits, depth: usize) -> Result<usize, ValueError> {
    let limit = limits.nesting;
    if depth == limit {
        Err(ValueError::TooDeep { limit })
    } else {
        Ok(depth + 1)
    }
}
