//! A fraction of something, from 0 to 1, as a number in the manifest. Samples nothing.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A fraction as the manifest has it, which may be out of range. [`checked`](Self::checked) checks
/// it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction(f64);

// JSON has no NaN.
impl Eq for Fraction {}

impl Fraction {
    /// Takes the number as it is.
    pub fn new(fraction: f64) -> Self {
        Self(fraction)
    }

    /// The number as it is.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The number, if it is from 0 to 1.
    pub fn checked(self) -> Option<f64> {
        (0.0..=1.0).contains(&self.0).then_some(self.0)
    }
}

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A whole number is written without a decimal point, as the API server writes it.
        match self.0 {
            0.0 => serializer.serialize_u32(0),
            1.0 => serializer.serialize_u32(1),
            other => serializer.serialize_f64(other),
        }
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Fraction {
    fn schema_name() -> Cow<'static, str> {
        "Fraction".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_from_0_to_1_and_keeps_its_form() {
        for (text, is_allowed) in [
            ("0", true),
            ("0.1", true),
            ("1e-9", true),
            ("1", true),
            ("1.0000001", false),
            ("-0.1", false),
            ("50", false),
        ] {
            let fraction: Fraction = serde_json::from_str(text).unwrap();
            assert_eq!(fraction.checked().is_some(), is_allowed, "{text}");
            if is_allowed {
                assert_eq!(serde_json::to_string(&fraction).unwrap(), text);
            }
        }
    }
}
