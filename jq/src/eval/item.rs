//! The inputs and outputs of a program's parts: values alone, or values with their paths. The
//! evaluator is generic over the two.

use std::rc::Rc;

use super::flow::{Failure, error};
use crate::value::Value;

/// An input or output of a part.
pub(crate) trait Item<'v>: Clone {
    /// Whether items of this type have paths.
    const HAS_PATHS: bool;

    fn value(&self) -> &Value<'v>;

    fn into_value(self) -> Value<'v>;

    /// Makes an item of a value. If items have paths, the path of this item is empty.
    fn plain(value: Value<'v>) -> Self;

    /// Replaces the value of the item by another value, which has no path.
    fn replaced(self, value: Value<'v>) -> Self;

    /// Returns the item at a key of this item.
    fn child(&self, key: impl FnOnce() -> Value<'v>, value: Value<'v>) -> Self;

    /// Returns the item at a path of several keys below this item.
    fn descendant(&self, keys: &Value<'v>, value: Value<'v>) -> Self;

    /// Fails if this item has no path, so that no path can continue from it.
    fn check(&self, attempt: &dyn Fn(String) -> String) -> Result<(), Failure<'v>>;
}

impl<'v> Item<'v> for Value<'v> {
    const HAS_PATHS: bool = false;

    fn value(&self) -> &Value<'v> {
        self
    }

    fn into_value(self) -> Value<'v> {
        self
    }

    fn plain(value: Value<'v>) -> Self {
        value
    }

    fn replaced(self, value: Value<'v>) -> Self {
        value
    }

    fn child(&self, _: impl FnOnce() -> Value<'v>, value: Value<'v>) -> Self {
        value
    }

    fn descendant(&self, _: &Value<'v>, value: Value<'v>) -> Self {
        value
    }

    fn check(&self, _: &dyn Fn(String) -> String) -> Result<(), Failure<'v>> {
        Ok(())
    }
}

/// A value and its path.
#[derive(Clone)]
pub(crate) struct Placed<'v> {
    value: Value<'v>,
    path: Option<Rc<Step<'v>>>,
    /// The value at the path, if the item's value is another one.
    other: Option<Value<'v>>,
}

/// The last key of a path and those before it.
struct Step<'v> {
    key: Value<'v>,
    before: Option<Rc<Self>>,
}

/// Frees the steps without recursion, because a path may be long.
impl Drop for Step<'_> {
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(step) = next {
            next = match Rc::try_unwrap(step) {
                Ok(mut step) => step.before.take(),
                Err(_) => None,
            };
        }
    }
}

/// Values in the errors of this module are cut to fewer bytes than this, as in jq.
pub(crate) const SHOWN_VALUE_BYTES: usize = 30;

impl<'v> Placed<'v> {
    /// Returns the keys from the root to this item. Fails if the item's value is not the value at
    /// the path.
    pub(crate) fn into_path(self) -> Result<Vec<Value<'v>>, Failure<'v>> {
        self.check(&|value| format!("Invalid path expression with result {value}"))?;
        let mut keys = Vec::new();
        let mut step = self.path.as_ref();
        while let Some(last) = step {
            keys.push(last.key.clone());
            step = last.before.as_ref();
        }
        keys.reverse();
        Ok(keys)
    }

    fn is_intact(&self) -> bool {
        self.other
            .as_ref()
            .is_none_or(|other| other.is(&self.value))
    }
}

impl<'v> Item<'v> for Placed<'v> {
    const HAS_PATHS: bool = true;

    fn value(&self) -> &Value<'v> {
        &self.value
    }

    fn into_value(self) -> Value<'v> {
        self.value
    }

    fn plain(value: Value<'v>) -> Self {
        Self {
            value,
            path: None,
            other: None,
        }
    }

    fn replaced(self, value: Value<'v>) -> Self {
        Self {
            other: Some(self.other.unwrap_or(self.value)),
            value,
            path: self.path,
        }
    }

    fn child(&self, key: impl FnOnce() -> Value<'v>, value: Value<'v>) -> Self {
        let key = key();
        let before = self.path.clone();
        Self {
            value,
            path: Some(Rc::new(Step { key, before })),
            other: None,
        }
    }

    fn descendant(&self, keys: &Value<'v>, value: Value<'v>) -> Self {
        if !self.is_intact() {
            return self.clone().replaced(value);
        }
        let path = keys.children().fold(self.path.clone(), |before, key| {
            Some(Rc::new(Step { key, before }))
        });
        Self {
            value,
            path,
            other: None,
        }
    }

    fn check(&self, attempt: &dyn Fn(String) -> String) -> Result<(), Failure<'v>> {
        if self.is_intact() {
            return Ok(());
        }
        Err(error(attempt(self.value.excerpt(SHOWN_VALUE_BYTES))))
    }
}
