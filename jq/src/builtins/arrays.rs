//! Filters of arrays.

use std::cmp::Ordering;
use std::rc::Rc;

use super::Special;
use super::strings::positions;
use super::values::length;
use crate::eval::access::{index, slice};
use crate::eval::flow::{Failure, Output, error};
use crate::eval::operate::{SHOWN_BYTES, mismatch, unfit};
use crate::eval::special::{arrange, extreme, not_an_array};
use crate::value::elements::Elements;
use crate::value::{Type, Value};
use crate::{meter, stack};

pub(super) fn sort<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if input.kind() != Type::Array {
        return Err(not_an_array(&input));
    }
    let mut elements = input.into_elements();
    Value::sort(&mut elements, &|element| element)?;
    Ok(Value::array(elements))
}

pub(super) fn unique<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if input.kind() != Type::Array {
        return Err(not_an_array(&input));
    }
    let mut elements = input.into_elements();
    Value::sort(&mut elements, &|element| element)?;
    let keyed = elements
        .into_iter()
        .map(|element| (element.clone(), element));
    arrange(Special::UniqueBy, keyed.collect())
}

pub(super) fn min<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    most(input, true)
}

pub(super) fn max<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    most(input, false)
}

fn most(input: Value<'_>, is_least: bool) -> Output<'_> {
    if input.kind() != Type::Array {
        return Err(mismatch(&input, &input, "cannot be iterated over"));
    }
    let keyed = input.children().map(|element| (element.clone(), element));
    extreme(keyed.collect(), is_least)
}

pub(super) fn reverse<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    if input.kind() == Type::Array {
        let mut elements = input.into_elements();
        elements.reverse();
        return Ok(Value::array(elements));
    }
    // jq reads the elements from the last one to the first one, so an empty array gives no output.
    let count = length(input.clone(), arguments)?.to_float().unwrap_or(0.0);
    if count > 0.0 {
        index(&input, &Value::Integer(0))?;
    }
    Ok(Value::array(Vec::new()))
}

pub(super) fn flatten<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let depth = match arguments.first() {
        None => f64::INFINITY,
        Some(depth) if depth.compare(&Value::Integer(0))? == Ordering::Less => {
            return Err(error("flatten depth must not be negative"));
        }
        Some(depth) => match depth.to_float() {
            Some(float) => float,
            None if input.children().any(|child| child.kind() == Type::Array) => {
                return Err(mismatch(depth, &Value::Integer(1), "cannot be subtracted"));
            }
            None => 0.0,
        },
    };
    let mut flat = Elements::default();
    flatten_into(&mut flat, &input, depth)?;
    Ok(Value::Array(Rc::new(flat)))
}

fn flatten_into<'v>(
    flat: &mut Elements<'v>,
    value: &Value<'v>,
    depth: f64,
) -> Result<(), Failure<'v>> {
    stack::check()?;
    if !matches!(value.kind(), Type::Array | Type::Object) {
        return Err(error(format!(
            "Cannot iterate over {}",
            value.shown(SHOWN_BYTES)
        )));
    }
    for element in value.children() {
        if element.kind() == Type::Array && depth != 0.0 {
            flatten_into(flat, &element, depth - 1.0)?;
        } else {
            flat.push(element)?;
        }
    }
    Ok(())
}

pub(super) fn transpose<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    if !matches!(input.kind(), Type::Array | Type::Object) {
        return Err(error(format!(
            "Cannot iterate over {}",
            input.shown(SHOWN_BYTES)
        )));
    }
    let rows: Vec<Value<'v>> = input.children().collect();
    let mut width = 0.0_f64;
    for row in &rows {
        width = width.max(length(row.clone(), arguments)?.to_float().unwrap_or(0.0));
    }
    let mut columns = Elements::default();
    let mut at = 0_i64;
    #[expect(clippy::cast_precision_loss, reason = "no array is so long")]
    while (at as f64) < width {
        meter::step(rows.len())?;
        let mut column = Elements::with_capacity(rows.len())?;
        for row in &rows {
            column.push(index(row, &Value::Integer(at))?)?;
        }
        columns.push(Value::Array(Rc::new(column)))?;
        at += 1;
    }
    Ok(Value::Array(Rc::new(columns)))
}

pub(super) fn binary_search<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    if input.kind() != Type::Array {
        return Err(unfit(&input, "cannot be searched from"));
    }
    let elements = input.into_elements();
    let (mut from, mut to) = (0, elements.len());
    while from < to {
        let middle = usize::midpoint(from, to);
        match arguments[0].compare(&elements[middle])? {
            Ordering::Equal => return Ok(Value::count(middle)),
            Ordering::Less => to = middle,
            Ordering::Greater => from = middle + 1,
        }
    }
    Ok(Value::Integer(
        -1 - i64::try_from(from).unwrap_or(i64::MAX - 1),
    ))
}

pub(super) fn indices<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let wanted = &arguments[0];
    match (input.kind(), wanted.kind()) {
        (Type::Array, Type::Array) => index(&input, wanted),
        (Type::Array, _) => index(&input, &Value::array(vec![wanted.clone()])),
        (Type::String, Type::String) => positions(
            input.as_str().unwrap_or_default(),
            wanted.as_str().unwrap_or_default(),
        ),
        _ => index(&input, wanted),
    }
}

pub(super) fn first_index<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    index(&indices(input, arguments)?, &Value::Integer(0))
}

pub(super) fn last_index<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let found = indices(input, arguments)?;
    let last = slice(&found, &Value::Integer(-1), &Value::Null)?;
    index(&last, &Value::Integer(0))
}

/// `tostream`: the events of a value. There is an event for each of its leaves with its path, and
/// one for the end of each container that is not empty.
pub(super) fn to_stream<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    let mut events = Elements::default();
    push_events(&mut events, &mut Vec::new(), &input)?;
    Ok(Value::Array(Rc::new(events)))
}

fn push_events<'v>(
    events: &mut Elements<'v>,
    path: &mut Vec<Value<'v>>,
    value: &Value<'v>,
) -> Result<(), Failure<'v>> {
    stack::check()?;
    let keyed: Vec<(Value<'v>, Value<'v>)> = if value.kind() == Type::Array {
        let elements = value.children().enumerate();
        elements
            .map(|(at, element)| (Value::count(at), element))
            .collect()
    } else {
        let members = value.members().into_iter();
        members
            .map(|(key, member)| (Value::String(key), member))
            .collect()
    };
    let last = keyed.last().map(|(key, _)| key.clone());
    for (key, child) in keyed {
        path.push(key);
        push_events(events, path, &child)?;
        path.pop();
    }
    match last {
        None => events.push(Value::array(vec![
            Value::array(path.clone()),
            value.clone(),
        ]))?,
        Some(last) => {
            path.push(last);
            events.push(Value::array(vec![Value::array(path.clone())]))?;
            path.pop();
        }
    }
    Ok(())
}
