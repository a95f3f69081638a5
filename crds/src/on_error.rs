//! What happens to bad records: `onError` of a step, and of the files of the source. Counts
//! nothing.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rules;

/// The greatest `maxSkipped`, which is also the greatest number of records of `takePerShard`.
pub const MAX_SKIPPED: i64 = 1_000_000_000_000;

/// One percent is this many millionths.
const PER_PERCENT: f64 = 10_000.0;

/// What happens to a record that is bad: a line that is no record, or a record on which an
/// expression fails.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::on_error(), validation = rules::dead_letter_has_a_path())]
pub struct OnErrorSpec {
    /// Fail = the job fails, as without onError; Skip = the record is left out and counted in
    /// status; `DeadLetter` = it is also written to a file. Immutable.
    pub action: OnErrorAction,
    /// For `DeadLetter`: path of the files with bad records, in the folder of the output or below
    /// it, such as `s3://bucket/out/bad/part-{shard:05}.jsonl.gz`. `{shard}` is the number of the
    /// shard that read them; a shard without bad records writes no file. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::dead_letter_path())]
    pub path: Option<String>,
    /// If more records than this are skipped here, the job fails: 0 to 1000000000000; not set = no
    /// limit. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    #[x_kube(validation = rules::range("onError.maxSkipped", 0, MAX_SKIPPED))]
    pub max_skipped: Option<u64>,
    /// If more than this share of the records that arrive here is skipped, the job fails at the end
    /// of the stage: 0 to 100 percent with at most four decimal places, such as 0.1; not set = no
    /// limit. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skipped_percent: Option<Percent>,
    /// Show = status has the first message, which can contain a part of a record; Hide = status has
    /// only the file and the line. Not set = Show. Immutable.
    #[serde(default, skip_serializing_if = "OnErrorMessages::is_default")]
    pub messages: OnErrorMessages,
}

/// What happens to a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum OnErrorAction {
    // The job fails.
    Fail,
    // The record is left out.
    Skip,
    // The record is left out and written to a file.
    DeadLetter,
}

/// Whether messages about bad records are shown. The default is not written out, so that an object
/// without the field stays unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum OnErrorMessages {
    // With the message.
    #[default]
    Show,
    // Without it.
    Hide,
}

impl OnErrorMessages {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A percentage as the manifest has it, which may be out of range.
/// [`per_million`](Self::per_million) checks it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(f64);

// JSON has no NaN.
impl Eq for Percent {}

impl Percent {
    /// Takes the number as it is.
    pub fn new(percent: f64) -> Self {
        Self(percent)
    }

    /// The percentage as a number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The percentage in millionths. `None` if the percentage is not from 0 to 100 or has more than
    /// four decimal places.
    pub fn per_million(self) -> Option<u32> {
        let parts = (self.0 * PER_PERCENT).round();
        #[expect(
            clippy::float_cmp,
            reason = "the manifest's number and the quotient are both the double nearest to the same decimal"
        )]
        let is_exact = parts / PER_PERCENT == self.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to a million"
        )]
        ((0.0..=100.0).contains(&self.0) && is_exact).then_some(parts as u32)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A whole number is written without a decimal point.
        match self.per_million() {
            Some(parts) if parts % 10_000 == 0 => serializer.serialize_u32(parts / 10_000),
            Some(_) | None => serializer.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 100})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_has_at_most_four_decimal_places_and_keeps_its_form() {
        for (text, per_million) in [
            ("0", Some(0)),
            ("0.1", Some(1_000)),
            ("0.0001", Some(1)),
            ("33.3333", Some(333_333)),
            ("100", Some(1_000_000)),
            ("0.00001", None),
            ("100.1", None),
            ("-1", None),
        ] {
            let percent: Percent = serde_json::from_str(text).unwrap();
            assert_eq!(percent.per_million(), per_million, "{text}");
            if per_million.is_some() {
                assert_eq!(serde_json::to_string(&percent).unwrap(), text);
            }
        }
    }
}
