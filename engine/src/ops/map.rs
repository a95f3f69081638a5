//! `map`: makes exactly one output from each input.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression;
use crate::record::Record;

/// The result of the expression for one record.
pub(crate) fn apply(
    path: &str,
    expression: &Expression,
    record: &Record,
) -> Result<Record, OperatorError> {
    expression::one(path, expression, record, |value| {
        value
            .to_record()
            .map_err(|error| expression::unusable(path, &error))
    })
}
