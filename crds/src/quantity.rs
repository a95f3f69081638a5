//! Amounts of CPU and memory as Kubernetes writes them: `500m`, `2`, `1Gi`. Chooses no amount for a
//! pod.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// The longest text of a quantity; the longest that Kubernetes itself prints is shorter.
pub const MAX_QUANTITY_TEXT: usize = 32;

/// A quantity as it is written; a bare number is kept as its text. [`parse`](Self::parse) returns
/// the amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct QuantityText(String);

/// An amount in thousandths of a core or of a byte. Kubernetes has the same precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    thousandths: i128,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text is not a number with a suffix.
    #[error("a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi")]
    Malformed,
    /// A suffix that people write for bytes and Kubernetes does not know, such as `GB`.
    #[error("{suffix} is not a suffix of a quantity; write {instead}")]
    BytesSuffix {
        /// The suffix as written.
        suffix: String,
        /// The suffix that Kubernetes knows.
        instead: String,
    },
    /// Another suffix that Kubernetes does not know.
    #[error("{suffix} is not a suffix of a quantity")]
    SuffixUnknown {
        /// The suffix as written.
        suffix: String,
    },
    /// White space between the number and its suffix.
    #[error("a quantity has no space before its suffix; write {instead}")]
    Spaced {
        /// The same without the space.
        instead: String,
    },
    /// The value does not fit 64 bits.
    #[error("the quantity is too large")]
    TooLarge,
}

impl QuantityText {
    /// Takes the text as it is; [`parse`](Self::parse) says whether it is a quantity.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount that the text denotes.
    pub fn parse(&self) -> Result<Quantity, QuantityError> {
        parse(&self.0)
    }
}

impl Quantity {
    /// `mebibytes` times 1024 times 1024 bytes.
    pub const fn mebibytes(mebibytes: i64) -> Self {
        Self {
            thousandths: mebibytes as i128 * 1024 * 1024 * 1000,
        }
    }

    /// Thousandths of the unit: millicores of a CPU amount.
    pub fn thousandths(self) -> i128 {
        self.thousandths
    }

    /// Whole units, rounded up: bytes of a memory amount.
    pub fn units(self) -> i128 {
        self.thousandths.div_euclid(1000) + i128::from(self.thousandths.rem_euclid(1000) > 0)
    }

    /// Whether it is greater than zero.
    pub fn is_positive(self) -> bool {
        self.thousandths > 0
    }
}

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a quantity such as 2, 500m or 1Gi")]
        enum Written {
            Integer(i64),
            Text(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Integer(number) => Self(number.to_string()),
            Written::Text(text) => Self(text),
        })
    }
}

impl JsonSchema for QuantityText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": MAX_QUANTITY_TEXT,
        })
    }
}

fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.len() > MAX_QUANTITY_TEXT {
        return Err(QuantityError::TooLarge);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number_length = unsigned
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, suffix) = unsigned.split_at(number_length);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Malformed);
    }
    if suffix.starts_with(char::is_whitespace) {
        return Err(spaced(number, suffix.trim()));
    }
    let scale = suffix_scale(suffix)?;
    let digits: i128 = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| QuantityError::TooLarge)?;
    let fraction_length = u32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
    let divisor = 10_i128
        .checked_pow(fraction_length)
        .ok_or(QuantityError::TooLarge)?;
    let scaled = digits.checked_mul(scale).ok_or(QuantityError::TooLarge)?;
    // Kubernetes rounds up amounts that are finer than its smallest unit.
    let thousandths = scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) > 0);
    Ok(Quantity {
        thousandths: if text.starts_with('-') {
            -thousandths
        } else {
            thousandths
        },
    })
}

/// The error for a space before the suffix. If the suffix is unknown, the error for the suffix.
fn spaced(number: &str, suffix: &str) -> QuantityError {
    let instead = match suffix_scale(suffix) {
        Ok(_) => format!("{number}{suffix}"),
        Err(QuantityError::BytesSuffix { suffix: _, instead }) => format!("{number}{instead}"),
        Err(error) => return error,
    };
    QuantityError::Spaced { instead }
}

/// The number of thousandths in one unit with this suffix.
fn suffix_scale(suffix: &str) -> Result<i128, QuantityError> {
    const THOUSAND: i128 = 1000;
    const KIBI: i128 = 1024;
    let power = |base: i128, exponent: u32| Ok(THOUSAND * base.pow(exponent));
    match suffix {
        "m" => Ok(1),
        "" => power(THOUSAND, 0),
        "k" => power(THOUSAND, 1),
        "M" => power(THOUSAND, 2),
        "G" => power(THOUSAND, 3),
        "T" => power(THOUSAND, 4),
        "P" => power(THOUSAND, 5),
        "E" => power(THOUSAND, 6),
        "Ki" => power(KIBI, 1),
        "Mi" => power(KIBI, 2),
        "Gi" => power(KIBI, 3),
        "Ti" => power(KIBI, 4),
        "Pi" => power(KIBI, 5),
        "Ei" => power(KIBI, 6),
        "KB" | "MB" | "GB" | "TB" | "kB" | "KiB" | "MiB" | "GiB" | "TiB" | "K" | "ki" | "mi"
        | "gi" => {
            let instead = format!("{}i", suffix[..1].to_uppercase());
            Err(QuantityError::BytesSuffix {
                suffix: suffix.to_owned(),
                instead,
            })
        }
        other => Err(QuantityError::SuffixUnknown {
            suffix: other.chars().take(8).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, thousandths) in [
            ("1", 1_000),
            ("0", 0),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("1.", 1_000),
            ("+1", 1_000),
            ("-1", -1_000),
            ("0.0001", 1),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("128Mi", 134_217_728_000),
            ("2E", 2_000_000_000_000_000_000_000),
        ] {
            assert_eq!(
                parse(text).map(Quantity::thousandths),
                Ok(thousandths),
                "{text}"
            );
        }
    }

    #[test]
    fn a_text_that_is_not_a_quantity_is_refused_with_the_reason() {
        for (text, message) in [
            (
                "",
                "a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
            ),
            (
                "lots",
                "a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
            ),
            (
                ".",
                "a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
            ),
            (
                "1.2.3",
                "a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
            ),
            (
                "--1",
                "a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
            ),
            (
                "64 MiB",
                "a quantity has no space before its suffix; write 64Mi",
            ),
            (
                "1.5 Gi",
                "a quantity has no space before its suffix; write 1.5Gi",
            ),
            ("1 x", "x is not a suffix of a quantity"),
            ("1 ", "a quantity has no space before its suffix; write 1"),
            ("1GB", "GB is not a suffix of a quantity; write Gi"),
            ("1kB", "kB is not a suffix of a quantity; write Ki"),
            ("1x", "x is not a suffix of a quantity"),
            (
                "1 Gi",
                "a quantity has no space before its suffix; write 1Gi",
            ),
            ("999999999999999999999999Ei", "the quantity is too large"),
            (
                "1000000000000000000000000000000000",
                "the quantity is too large",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), message, "{text}");
        }
    }

    #[test]
    fn bytes_are_rounded_up_to_whole_bytes() {
        assert_eq!(parse("1500m").map(Quantity::units), Ok(2));
        assert_eq!(parse("1Ki").map(Quantity::units), Ok(1024));
        assert_eq!(Quantity::mebibytes(1), parse("1Mi").expect("1Mi"));
    }

    #[test]
    fn a_bare_number_and_its_text_are_the_same_quantity() {
        let written: Vec<QuantityText> = serde_json::from_str(r#"[2, "2"]"#).expect("quantities");
        assert_eq!(written[0], written[1]);
        assert!(serde_json::from_str::<QuantityText>("1.5").is_err());
    }
}
