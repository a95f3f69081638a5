//! The inputs and outputs of a program's parts: values alone, or values with their paths. The
//! evaluator is generic over the two.

use std::rc::Rc;

use super::flow::{Failure, error};
use crate::value::Value;

/// An input or output of a part.
pub(crate) trait Item<'v>: Clone {
    /// Whether it has a path.
    const HAS_PATHS: bool;

    fn value(&self) -> &Value<'v>;

    fn into_value(self) -> Value<'v>;

    /// An item of a value. If items have paths, the path begins here.
    fn plain(value: Value<'v>) -> Self;

    /// An item of another value, which has no path.
    fn replaced(self, value: Value<'v>) -> Self;

    /// The item at a key of this one.
    fn child(&self, key: impl FnOnce() -> Value<'v>, value: Value<'v>) -> Self;

    /// The item at a path of keys below this one.
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
    /// The value at the path, if it is not the value itself.
    other: Option<Value<'v>>,
}

/// The last key of a path and those before it.
struct Step<'v> {
    key: Value<'v>,
    before: Option<Rc<Self>>,
}

/// Freed without recursion: a path may be long.
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

/// Values in these errors are cut to fewer bytes, as in jq.
pub(crate) const SHOWN_VALUE_BYTES: usize = 30;

impl<'v> Placed<'v> {
    /// The keys from the root to here. Fails if the value is not the one at the path.
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
