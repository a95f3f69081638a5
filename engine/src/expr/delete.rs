//! Deleting by paths, in the order of keys that jq keeps: jaq's own way moves an object's last member into the gap.

use jaq_core::{Error, ValR};
use jaq_json::{Num, Rc, Val};

type Failure = Error<Val>;

/// `value` without what the array `paths` of paths leads to. What is not there is no error.
pub(super) fn delete_paths(value: Val, paths: &Val) -> ValR<Val> {
    let mut paths: Vec<Rc<Vec<Val>>> = elements(paths)?
        .iter()
        .map(elements)
        .collect::<Result<_, _>>()?;
    // Backwards, so that no deletion moves what a later path means.
    paths.sort_unstable_by(|left, right| right.cmp(left));
    paths.dedup();
    paths
        .iter()
        .try_fold(value, |value, path| delete(value, path))
}

fn elements(value: &Val) -> Result<Rc<Vec<Val>>, Failure> {
    match value {
        Val::Arr(elements) => Ok(elements.clone()),
        Val::Null | Val::Bool(_) | Val::Num(_) | Val::BStr(_) | Val::TStr(_) | Val::Obj(_) => {
            Err(Error::typ(value.clone(), "array of paths"))
        }
    }
}

fn delete(value: Val, path: &[Val]) -> Result<Val, Failure> {
    let Some((step, rest)) = path.split_first() else {
        return Ok(Val::Null);
    };
    match (value, step) {
        (Val::Null, _) => Ok(Val::Null),
        (Val::Obj(mut members), key @ Val::TStr(_)) => {
            if rest.is_empty() {
                Rc::make_mut(&mut members).shift_remove(key);
            } else if let Some(member) = Rc::make_mut(&mut members).get_mut(key) {
                *member = delete(std::mem::take(member), rest)?;
            }
            Ok(Val::Obj(members))
        }
        (Val::Arr(mut elements), Val::Num(Num::Int(index))) => {
            let at = position(*index, elements.len());
            if let Some(at) = at.filter(|at| *at < elements.len()) {
                let elements = Rc::make_mut(&mut elements);
                if rest.is_empty() {
                    elements.remove(at);
                } else {
                    elements[at] = delete(std::mem::take(&mut elements[at]), rest)?;
                }
            }
            Ok(Val::Arr(elements))
        }
        (Val::Arr(mut elements), Val::Obj(range)) if rest.is_empty() => {
            let bound =
                |name: &str, default: usize| match range.get(&Val::utf8_str(name.to_owned())) {
                    None | Some(Val::Null) => Ok(default),
                    Some(Val::Num(Num::Int(index))) => Ok(position(*index, elements.len())
                        .unwrap_or(0)
                        .min(elements.len())),
                    Some(other) => Err(Error::typ(other.clone(), "integer")),
                };
            let (start, end) = (bound("start", 0)?, bound("end", elements.len())?);
            if start < end {
                Rc::make_mut(&mut elements).drain(start..end);
            }
            Ok(Val::Arr(elements))
        }
        (value, step) => Err(Error::index(value, step.clone())),
    }
}

/// Where `index` points in an array of `length`, counted from the end when it is negative; `None` before the start.
fn position(index: isize, length: usize) -> Option<usize> {
    if index < 0 {
        length.checked_sub(index.unsigned_abs())
    } else {
        Some(index.unsigned_abs())
    }
}
