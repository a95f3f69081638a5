//! Validates the steps whose result depends on a record's position in its shard: `sample`,
//! `takePerShard`, `window` and `windowBy`. Compiles no expression.

use super::{numbers, text};
use crate::field_error::FieldError;
use crate::pipeline::{MAX_SEED, MAX_TAKE, MAX_WINDOW, SampleSpec, StepSpec, WindowBySpec};

/// Every error in a sample.
pub(super) fn sample(path: &str, sample: &SampleSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if sample.fraction.checked().is_none() {
        let path = format!("{path}.fraction");
        let allowed = "a number from 0 to 1, such as 0.01";
        errors
            .push(FieldError::new(path, "is not a fraction", allowed).got(sample.fraction.value()));
    }
    errors.extend(sample.seed.and_then(|seed| {
        let seed = i64::try_from(seed).unwrap_or(i64::MAX);
        numbers::range(&format!("{path}.seed"), seed, 0, MAX_SEED)
    }));
    errors
}

/// Every error in the numbers of records of the step at this path.
pub(super) fn counts(path: &str, step: &StepSpec) -> Vec<FieldError> {
    let counts = [
        ("takePerShard", step.take_per_shard, MAX_TAKE),
        ("window", step.window, MAX_WINDOW),
    ];
    let check = |(name, count, most): (&str, Option<u64>, i64)| {
        let count = i64::try_from(count?).unwrap_or(i64::MAX);
        numbers::range(&format!("{path}.{name}"), count, 1, most)
    };
    counts.into_iter().filter_map(check).collect()
}

/// Every error in the expressions of windows.
pub(super) fn window_by(path: &str, window: &WindowBySpec) -> Vec<FieldError> {
    let expressions = [
        ("init", &window.init),
        ("update", &window.update),
        ("while", &window.r#while),
    ];
    let check = |(name, expression): (&str, &String)| {
        text::expression(&format!("{path}.{name}"), expression)
    };
    expressions.into_iter().filter_map(check).collect()
}
