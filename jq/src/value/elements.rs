//! The elements of an array that was made. Counts the memory that they take, and frees them without
//! recursion, however deep they nest.

use std::ops::{Deref, Range};

use super::Value;
use crate::Exhausted;
use crate::meter::{self, ALLOCATION_BYTES, Held};

/// The elements of an array.
#[derive(Clone, Debug, Default)]
pub struct Elements<'a> {
    values: Vec<Value<'a>>,
    held: Held,
}

/// The capacity of an array with one element.
const MIN_CAPACITY: usize = 4;

impl<'a> Elements<'a> {
    pub(crate) fn with_capacity(capacity: usize) -> Result<Self, Exhausted> {
        meter::room(bytes(capacity))?;
        Ok(Self::from(Vec::with_capacity(capacity)))
    }

    #[inline]
    pub(crate) fn push(&mut self, value: Value<'a>) -> Result<(), Exhausted> {
        if self.values.len() == self.values.capacity() {
            self.reserve(1)?;
        }
        self.values.push(value);
        Ok(())
    }

    /// Makes room for more elements. If there is not enough room, the capacity is about doubled.
    fn reserve(&mut self, more: usize) -> Result<(), Exhausted> {
        let wanted = self.values.len() + more;
        if wanted <= self.values.capacity() {
            return Ok(());
        }
        let capacity = wanted.max(self.values.len() * 2).max(MIN_CAPACITY);
        self.held.set(bytes(capacity));
        meter::room(0)?;
        self.values.reserve_exact(capacity - self.values.len());
        Ok(())
    }

    pub(crate) fn extend(
        &mut self,
        values: impl Iterator<Item = Value<'a>>,
    ) -> Result<(), Exhausted> {
        self.reserve(values.size_hint().0)?;
        for value in values {
            self.push(value)?;
        }
        Ok(())
    }

    /// Sets the element at a position. Missing elements before it become null.
    pub(crate) fn set(&mut self, position: usize, value: Value<'a>) -> Result<(), Exhausted> {
        if let Some(missing) = (position + 1).checked_sub(self.values.len()) {
            self.reserve(missing)?;
            self.values.resize(self.values.len() + missing, Value::Null);
        }
        self.values[position] = value;
        Ok(())
    }

    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut Value<'a>> {
        self.values.get_mut(position)
    }

    /// Replaces some elements by others.
    pub(crate) fn replace(
        &mut self,
        range: Range<usize>,
        by: impl ExactSizeIterator<Item = Value<'a>>,
    ) -> Result<(), Exhausted> {
        self.reserve(by.len())?;
        self.values.splice(range, by);
        Ok(())
    }

    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut() -> bool) {
        self.values.retain(|_| is_kept());
    }

    pub(crate) fn take(&mut self) -> Vec<Value<'a>> {
        std::mem::take(&mut self.values)
    }
}

/// Returns how many bytes of memory an array with room for this number of elements takes.
fn bytes(capacity: usize) -> usize {
    ALLOCATION_BYTES + capacity * size_of::<Value<'_>>()
}

impl<'a> From<Vec<Value<'a>>> for Elements<'a> {
    fn from(values: Vec<Value<'a>>) -> Self {
        let held = Held::new(bytes(values.capacity()));
        Self { values, held }
    }
}

impl<'a> Deref for Elements<'a> {
    type Target = [Value<'a>];

    fn deref(&self) -> &[Value<'a>] {
        &self.values
    }
}

impl Drop for Elements<'_> {
    fn drop(&mut self) {
        if self.values.iter().any(Value::holds_values) {
            free(std::mem::take(&mut self.values));
        }
    }
}

impl Value<'_> {
    /// Whether dropping the value may drop other containers.
    pub(super) fn holds_values(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Object(_))
    }
}

/// Drops values and everything that only they hold. Uses a list instead of recursion.
pub(super) fn free(mut values: Vec<Value<'_>>) {
    while let Some(value) = values.pop() {
        if let Value::Array(elements) = value {
            if let Some(mut elements) = std::rc::Rc::into_inner(elements) {
                values.append(&mut elements.values);
            }
        } else if let Value::Object(object) = value
            && let Some(mut object) = std::rc::Rc::into_inner(object)
        {
            values.extend(object.take_entries().into_iter().map(|(_, value)| value));
        }
    }
}
