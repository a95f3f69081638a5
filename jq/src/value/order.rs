//! The order and the equality of values, as in jq. The order of the types is null, false, true,
//! numbers, strings, arrays, objects.

use std::cmp::Ordering;
use std::rc::Rc;

use super::number::compare_numbers;
use super::{Type, Value};
use crate::{Exhausted, meter, stack};

impl<'a> Value<'a> {
    /// Compares two values. NaN is less than any number, and also less than itself.
    pub(crate) fn compare(&self, other: &Self) -> Result<Ordering, Exhausted> {
        let (left, right) = (self.kind(), other.kind());
        if left != right {
            return Ok(left.cmp(&right));
        }
        match left {
            Type::Null | Type::False | Type::True => Ok(Ordering::Equal),
            Type::Number => {
                if self.is_nan() {
                    return Ok(Ordering::Less);
                }
                if other.is_nan() {
                    return Ok(Ordering::Greater);
                }
                Ok(compare_numbers(self, other))
            }
            Type::String => Ok(self.as_str().cmp(&other.as_str())),
            Type::Array => {
                stack::check()?;
                let (mut left, mut right) = (self.children(), other.children());
                loop {
                    match (left.next(), right.next()) {
                        (None, None) => return Ok(Ordering::Equal),
                        (None, Some(_)) => return Ok(Ordering::Less),
                        (Some(_), None) => return Ok(Ordering::Greater),
                        (Some(left), Some(right)) => match left.stepped(&right)? {
                            Ordering::Equal => {}
                            unequal @ (Ordering::Less | Ordering::Greater) => return Ok(unequal),
                        },
                    }
                }
            }
            Type::Object => self.compare_objects(other),
        }
    }

    fn stepped(&self, other: &Self) -> Result<Ordering, Exhausted> {
        meter::step(1)?;
        self.compare(other)
    }

    fn compare_objects(&self, other: &Self) -> Result<Ordering, Exhausted> {
        stack::check()?;
        let mut left = self.members();
        let mut right = other.members();
        left.sort_by(|one, two| one.0.cmp(&two.0));
        right.sort_by(|one, two| one.0.cmp(&two.0));
        let keys = left
            .iter()
            .map(|(key, _)| &**key)
            .cmp(right.iter().map(|(key, _)| &**key));
        if keys != Ordering::Equal {
            return Ok(keys);
        }
        for ((_, left), (_, right)) in left.iter().zip(&right) {
            let order = left.compare(right)?;
            if order != Ordering::Equal {
                return Ok(order);
            }
        }
        Ok(Ordering::Equal)
    }

    /// Whether two values are equal. NaN equals nothing.
    pub(crate) fn equals(&self, other: &Self) -> Result<bool, Exhausted> {
        match (self, other) {
            (Self::Array(left), Self::Array(right)) if Rc::ptr_eq(left, right) => return Ok(true),
            (Self::Object(left), Self::Object(right)) if Rc::ptr_eq(left, right) => {
                return Ok(true);
            }
            (Self::Lazy(left), Self::Lazy(right)) if left.is(*right) => return Ok(true),
            _ => {}
        }
        let kind = self.kind();
        if kind != other.kind() {
            return Ok(false);
        }
        match kind {
            Type::Null | Type::False | Type::True => Ok(true),
            Type::Number => Ok(!self.is_nan()
                && !other.is_nan()
                && compare_numbers(self, other) == Ordering::Equal),
            Type::String => Ok(self.as_str() == other.as_str()),
            Type::Array => {
                stack::check()?;
                let (mut left, mut right) = (self.children(), other.children());
                loop {
                    match (left.next(), right.next()) {
                        (None, None) => return Ok(true),
                        (Some(left), Some(right)) => {
                            meter::step(1)?;
                            if !left.equals(&right)? {
                                return Ok(false);
                            }
                        }
                        (None, Some(_)) | (Some(_), None) => return Ok(false),
                    }
                }
            }
            Type::Object => {
                stack::check()?;
                if self.child_count() != other.child_count() {
                    return Ok(false);
                }
                for (key, value) in self.members() {
                    let Some(counterpart) = other.member(&key) else {
                        return Ok(false);
                    };
                    if !value.equals(&counterpart)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Returns the values in ascending order of `key`. Values with equal keys keep their order.
    /// There is no total order if there is a NaN, or if exact and rounded numbers are mixed; then
    /// the sorts of the standard library may panic. Therefore this function is a separate merge
    /// sort.
    pub(crate) fn sort<T: Clone>(
        items: &mut Vec<T>,
        key: &impl Fn(&T) -> &Value<'a>,
    ) -> Result<(), Exhausted> {
        meter::room(items.len() * size_of::<T>())?;
        let rounds = items.len().checked_ilog2().unwrap_or(0) as usize;
        meter::step(items.len() * rounds)?;
        let mut width = 1;
        let mut from = std::mem::take(items);
        while width < from.len() {
            let mut to = Vec::with_capacity(from.len());
            for pair in from.chunks(2 * width) {
                let (left, right) = pair.split_at(width.min(pair.len()));
                merge(left, right, &mut to, key)?;
            }
            from = to;
            width *= 2;
        }
        *items = from;
        Ok(())
    }
}

fn merge<'a, T: Clone>(
    mut left: &[T],
    mut right: &[T],
    to: &mut Vec<T>,
    key: &impl Fn(&T) -> &Value<'a>,
) -> Result<(), Exhausted> {
    while let (Some((first, rest)), Some((second, behind))) =
        (left.split_first(), right.split_first())
    {
        if key(first).compare(key(second))? == Ordering::Greater {
            to.push(second.clone());
            right = behind;
        } else {
            to.push(first.clone());
            left = rest;
        }
    }
    to.extend_from_slice(left);
    to.extend_from_slice(right);
    Ok(())
}
