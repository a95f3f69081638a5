//! The elements of an array that was made. Frees them without recursion, however deep they nest.

use std::ops::Deref;
use std::rc::Rc;

use super::Value;

/// The elements of an array.
#[derive(Clone, Debug, Default)]
pub struct Elements<'a>(Vec<Value<'a>>);

impl<'a> Elements<'a> {
    pub(crate) fn as_vec(&mut self) -> &mut Vec<Value<'a>> {
        &mut self.0
    }

    pub(crate) fn take(&mut self) -> Vec<Value<'a>> {
        std::mem::take(&mut self.0)
    }
}

impl<'a> From<Vec<Value<'a>>> for Elements<'a> {
    fn from(elements: Vec<Value<'a>>) -> Self {
        Self(elements)
    }
}

impl<'a> Deref for Elements<'a> {
    type Target = [Value<'a>];

    fn deref(&self) -> &[Value<'a>] {
        &self.0
    }
}

impl Drop for Elements<'_> {
    fn drop(&mut self) {
        if self.0.iter().any(Value::holds_values) {
            free(std::mem::take(&mut self.0));
        }
    }
}

impl Value<'_> {
    /// Whether dropping it may drop other containers.
    pub(super) fn holds_values(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Object(_))
    }
}

/// Drops values and all that only they hold, with a list in place of recursion.
pub(super) fn free(mut values: Vec<Value<'_>>) {
    while let Some(value) = values.pop() {
        if let Value::Array(elements) = value {
            if let Ok(mut elements) = Rc::try_unwrap(elements) {
                values.append(&mut elements.0);
            }
        } else if let Value::Object(object) = value
            && let Ok(mut object) = Rc::try_unwrap(object)
        {
            values.extend(object.take_entries().into_iter().map(|(_, value)| value));
        }
    }
}
