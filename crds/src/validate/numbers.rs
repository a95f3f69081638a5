//! Checks of numbers, durations and amounts between two bounds.

use crate::duration::{DurationBounds, DurationText};
use crate::field_error::FieldError;
use crate::pipeline::AmountBounds;
use crate::quantity::QuantityText;

pub(super) fn range(path: &str, value: i64, least: i64, greatest: i64) -> Option<FieldError> {
    (value < least || value > greatest).then(|| {
        FieldError::new(
            path,
            "is out of range",
            format!("must be {least}..{greatest}"),
        )
        .got(value)
    })
}

/// Checks that there are not too many of something, or that a text is not too long.
pub(super) fn at_most(path: &str, what: &str, count: usize, greatest: usize) -> Option<FieldError> {
    (count > greatest).then(|| {
        FieldError::new(
            path,
            format!("has too many {what}"),
            format!("at most {greatest}"),
        )
        .got(count)
    })
}

/// Checks an amount between two bounds.
pub(super) fn amount(
    path: &str,
    text: &QuantityText,
    AmountBounds { least, greatest }: AmountBounds,
) -> Option<FieldError> {
    let found = match text.parse() {
        Ok(found) => found,
        Err(error) => {
            let allowed = "a number with a suffix such as m, k, M, G, Ki, Mi, Gi";
            let wrong = format!("is not a quantity: {error}");
            return Some(FieldError::new(path, wrong, allowed).got(text.as_str()));
        }
    };
    let bound = |text| QuantityText::new(text).parse();
    let is_inside = bound(least).is_ok_and(|least| found >= least)
        && bound(greatest).is_ok_and(|greatest| found <= greatest);
    (!is_inside).then(|| {
        let allowed = format!("must be {least}..{greatest}");
        FieldError::new(path, "is out of range", allowed).got(text.as_str())
    })
}

pub(super) fn duration(
    path: &str,
    text: &DurationText,
    bounds: DurationBounds,
) -> Option<FieldError> {
    let DurationBounds { least, greatest } = bounds;
    let length = match text.parse() {
        Ok(length) => length,
        Err(error) => {
            let wrong = format!("is not a duration: {error}");
            return Some(
                FieldError::new(path, wrong, format!("from {least} to {greatest}"))
                    .got(text.as_str()),
            );
        }
    };
    let bound = |text| DurationText::new(text).parse();
    let is_inside = bound(least).is_ok_and(|least| length >= least)
        && bound(greatest).is_ok_and(|greatest| length <= greatest);
    (!is_inside).then(|| {
        FieldError::new(
            path,
            "is out of range",
            format!("must be {least}..{greatest}"),
        )
        .got(text.as_str())
    })
}
