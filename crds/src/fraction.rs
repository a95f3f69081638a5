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

    /// The number in millionths. `None` if it is not from 0 to 1 or has more than six decimal
    /// places.
    pub fn per_million(self) -> Option<u32> {
        let parts = (self.checked()? * 1e6).round();
        #[expect(
            clippy::float_cmp,
            reason = "a number with at most six decimal places is exactly the nearest one to its millionths"
        )]
        let is_exact = parts / 1e6 == self.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number is a whole one from 0 to a million"
        )]
        is_exact.then_some(parts as u32)
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
    fn a_fraction_in_millionths_has_at_most_six_decimal_places() {
        for (text, per_million) in [
            ("0", Some(0)),
            ("0.07", Some(70_000)),
            ("0.5", Some(500_000)),
            ("0.95", Some(950_000)),
            ("0.999999", Some(999_999)),
            ("1", Some(1_000_000)),
            ("0.9999999", None),
            ("95", None),
        ] {
            let fraction: Fraction = serde_json::from_str(text).unwrap();
            assert_eq!(fraction.per_million(), per_million, "{text}");
        }
        for parts in (0..1_000_000).step_by(7) {
            let fraction: Fraction = serde_json::from_str(&format!("0.{parts:06}")).unwrap();
            assert_eq!(fraction.per_million(), Some(parts));
        }
    }

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
