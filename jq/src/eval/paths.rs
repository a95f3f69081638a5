//! Reads, sets and deletes values by their paths. Changes a value in place if nothing else holds
//! it.

use super::access::{bounds, index, slice_bound, whole};
use super::flow::{Failure, Output, error};
use crate::stack;
use crate::value::{Type, Value};

/// A position that is set must be below this. jq allows far larger positions, but even an array of
/// half that size takes gigabytes.
const MAX_POSITION: i64 = 1 << 25;

/// `getpath`
pub(crate) fn get_path<'v>(value: &Value<'v>, path: &Value<'v>) -> Output<'v> {
    if path.kind() != Type::Array {
        return Err(error("Path must be specified as an array"));
    }
    let mut found = value.clone();
    for key in path.children() {
        found = index(&found, &key)?;
    }
    Ok(found)
}

/// `setpath`
pub(crate) fn set_path<'v>(value: Value<'v>, path: &[Value<'v>], new: Value<'v>) -> Output<'v> {
    change_path(value, path, &mut |_| Ok(new.clone()))
}

/// Returns `value` after `change` has replaced the value at a path.
pub(crate) fn change_path<'v>(
    mut value: Value<'v>,
    path: &[Value<'v>],
    change: &mut dyn FnMut(Value<'v>) -> Output<'v>,
) -> Output<'v> {
    let Some((key, rest)) = path.split_first() else {
        return change(value);
    };
    stack::check()?;
    // The change is made in place: the old value is taken out, changed and put back.
    if let Some(slot) = slot(&mut value, key) {
        let old = std::mem::replace(slot, Value::Null);
        *slot = change_path(old, rest, change)?;
        return Ok(value);
    }
    let old = index(&value, key)?;
    if key.kind() != Type::Object {
        // A key that cannot be set is refused before anything inside is changed.
        value = match set(value, key, Value::Null) {
            Ok(value) => value,
            Err(failure) => {
                change_path(old, rest, change)?;
                return Err(failure);
            }
        };
    }
    let new = change_path(old, rest, change)?;
    set(value, key, new)
}

/// Returns the place of an existing member or element.
fn slot<'s, 'v>(value: &'s mut Value<'v>, key: &Value<'v>) -> Option<&'s mut Value<'v>> {
    match key.kind() {
        Type::String if value.kind() == Type::Object => {
            let name = key.as_str()?;
            if let Value::Object(object) = &*value
                && object.get(name).is_none()
            {
                return None;
            }
            value.object_mut()?.get_mut(name)
        }
        Type::Number if value.kind() == Type::Array => {
            let at = super::access::position(value, key)?;
            value.elements_mut()?.get_mut(at)
        }
        _ => None,
    }
}

/// Returns `value` with `new` at a key.
fn set<'v>(mut value: Value<'v>, key: &Value<'v>, new: Value<'v>) -> Output<'v> {
    let is_null = value.kind() == Type::Null;
    match (key, value.kind()) {
        (Value::String(name), Type::Object | Type::Null) => {
            if is_null {
                value = Value::Object(std::rc::Rc::default());
            }
            if let Some(object) = value.object_mut() {
                object.insert(name.clone(), new);
            }
            Ok(value)
        }
        (key, Type::Array | Type::Null) if key.kind() == Type::Number => {
            if is_null {
                value = Value::array(Vec::new());
            }
            set_element(value, key, new)
        }
        (key, Type::Array | Type::Null) if key.kind() == Type::Object => {
            if is_null {
                value = Value::array(Vec::new());
            }
            set_slice(value, key, &new)
        }
        (key, Type::String) if key.kind() == Type::Object => {
            Err(error("Cannot update string slices"))
        }
        _ => Err(error(format!(
            "Cannot update field at {} index of {}",
            key.type_name(),
            value.type_name()
        ))),
    }
}

fn set_element<'v>(mut array: Value<'v>, key: &Value<'v>, new: Value<'v>) -> Output<'v> {
    let Some(wanted) = whole(key) else {
        return Err(error("Cannot set array element at NaN index"));
    };
    if wanted >= MAX_POSITION {
        return Err(error("Array index too large"));
    }
    let Some(elements) = array.elements_mut() else {
        return Ok(array);
    };
    let count = i64::try_from(elements.len()).unwrap_or(i64::MAX);
    let at = if wanted < 0 { wanted + count } else { wanted };
    let Ok(at) = usize::try_from(at) else {
        return Err(error("Out of bounds negative array index"));
    };
    elements.set(at, new)?;
    Ok(array)
}

fn set_slice<'v>(mut array: Value<'v>, key: &Value<'v>, new: &Value<'v>) -> Output<'v> {
    let (from, to) = slice_bounds(&array, key)?;
    if new.kind() != Type::Array {
        return Err(error(
            "A slice of an array can only be assigned another array",
        ));
    }
    if let Some(elements) = array.elements_mut() {
        let new: Vec<Value<'v>> = new.children().collect();
        elements.replace(from..to, new.into_iter())?;
    }
    Ok(array)
}

fn slice_bounds<'v>(array: &Value<'v>, key: &Value<'v>) -> Result<(usize, usize), Failure<'v>> {
    bounds(
        array.child_count(),
        &slice_bound(key, "start"),
        &slice_bound(key, "end"),
    )
}

/// `delpaths`
pub(crate) fn delete_paths<'v>(value: Value<'v>, paths: Value<'v>) -> Output<'v> {
    if paths.kind() != Type::Array {
        return Err(error("Paths must be specified as an array"));
    }
    let mut paths = paths.into_elements();
    Value::sort(&mut paths, &|path| path)?;
    if let Some(other) = paths.iter().find(|path| path.kind() != Type::Array) {
        return Err(error(format!(
            "Path must be specified as array, not {}",
            other.type_name()
        )));
    }
    let paths: Vec<Vec<Value<'v>>> = paths.into_iter().map(Value::into_elements).collect();
    match paths.first() {
        None => Ok(value),
        Some(first) if first.is_empty() => Ok(Value::Null),
        Some(_) => delete_sorted(value, &paths, 0),
    }
}

/// Deletes the values at sorted paths. The first `depth` keys of each path were already followed.
fn delete_sorted<'v>(
    mut value: Value<'v>,
    mut paths: &[Vec<Value<'v>>],
    depth: usize,
) -> Output<'v> {
    stack::check()?;
    let mut deleted = Vec::new();
    while let Some(first) = paths.first() {
        let key = &first[depth];
        let mut same = 1;
        while same < paths.len() && paths[same][depth].equals(key)? {
            same += 1;
        }
        if first.len() == depth + 1 {
            deleted.push(key.clone());
        } else {
            let inner = index(&value, key)?;
            if inner.kind() != Type::Null {
                let inner = delete_sorted(inner, &paths[..same], depth + 1)?;
                value = set(value, key, inner)?;
            }
        }
        paths = &paths[same..];
    }
    delete_keys(value, &deleted)
}

fn delete_keys<'v>(mut value: Value<'v>, keys: &[Value<'v>]) -> Output<'v> {
    if keys.is_empty() || value.kind() == Type::Null {
        return Ok(value);
    }
    match value.kind() {
        Type::Array => delete_elements(value, keys),
        Type::Object => {
            if let Some(other) = keys.iter().find(|key| key.as_str().is_none()) {
                return Err(error(format!(
                    "Cannot delete {} field of object",
                    other.type_name()
                )));
            }
            if let Some(object) = value.object_mut() {
                object.remove(|name| keys.iter().any(|key| key.as_str() == Some(name)));
            }
            Ok(value)
        }
        Type::Null | Type::False | Type::True | Type::Number | Type::String => Err(error(format!(
            "Cannot delete fields from {}",
            value.type_name()
        ))),
    }
}

fn delete_elements<'v>(mut array: Value<'v>, keys: &[Value<'v>]) -> Output<'v> {
    let mut is_deleted = vec![false; array.child_count()];
    for key in keys {
        match key.kind() {
            Type::Number => {
                let at = super::access::position(&array, key);
                if let Some(flag) = at.and_then(|at| is_deleted.get_mut(at)) {
                    *flag = true;
                }
            }
            Type::Object => {
                let (from, to) = slice_bounds(&array, key)?;
                is_deleted[from..to].fill(true);
            }
            Type::Null | Type::False | Type::True | Type::String | Type::Array => {
                return Err(error(format!(
                    "Cannot delete {} element of array",
                    key.type_name()
                )));
            }
        }
    }
    if let Some(elements) = array.elements_mut() {
        let mut flags = is_deleted.into_iter();
        elements.retain(|| !flags.next().unwrap_or(false));
    }
    Ok(array)
}
