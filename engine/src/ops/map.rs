//! `map`: makes exactly one output from each input.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression;
use crate::record::{Record, Row};

/// The result of the expression for one record, as a record.
pub(crate) fn apply(
    path: &str,
    expression: &Expression,
    row: &Row<'_>,
) -> Result<Record, OperatorError> {
    expression::one(path, expression, row, |value| {
        value
            .to_record()
            .map_err(|error| expression::unusable(path, &error))
    })
}

/// Passes the result of the expression to `take`. A string is passed as it is, and not written as
/// JSON text. The expression must be [single](Expression::is_single).
pub(crate) fn then<T>(
    path: &str,
    expression: &Expression,
    row: &Row<'_>,
    take: impl FnOnce(Row<'_>) -> T,
) -> Result<T, OperatorError> {
    expression::one(path, expression, row, |value| match value.to_row() {
        Ok(output) => Ok(take(output)),
        Err(error) => Err(expression::unusable(path, &error)),
    })
}
