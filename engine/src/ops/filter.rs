//! `filter`: keeps a record if the expression's only value is neither false nor null. The record
//! keeps its text.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression;
use crate::record::Row;

/// Whether the record stays.
pub(crate) fn keeps(
    path: &str,
    expression: &Expression,
    row: &Row<'_>,
) -> Result<bool, OperatorError> {
    expression::one(path, expression, row, |value| Ok(value.is_truthy()))
}
