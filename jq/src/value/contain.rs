//! jq's `contains`, for two values of one type.

use super::{Type, Value};
use crate::{Exhausted, meter, stack};

impl Value<'_> {
    /// Whether `self` contains `other`. A value does not contain a value of another type.
    pub(crate) fn contains(&self, other: &Self) -> Result<bool, Exhausted> {
        let kind = self.kind();
        if kind != other.kind() {
            return Ok(false);
        }
        match kind {
            Type::Object => {
                stack::check()?;
                for (key, wanted) in other.members() {
                    let held = match self.member(&key) {
                        Some(value) => value.contains(&wanted)?,
                        None => false,
                    };
                    if !held {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Type::Array => {
                stack::check()?;
                for wanted in other.children() {
                    let mut held = false;
                    for value in self.children() {
                        meter::step(1)?;
                        if value.contains(&wanted)? {
                            held = true;
                            break;
                        }
                    }
                    if !held {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Type::String => Ok(match (self.as_str(), other.as_str()) {
                (Some(value), Some(wanted)) => {
                    memchr::memmem::find(value.as_bytes(), wanted.as_bytes()).is_some()
                }
                _ => false,
            }),
            Type::Null | Type::False | Type::True | Type::Number => self.equals(other),
        }
    }
}
