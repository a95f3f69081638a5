//! `filter`: keeps a record if the expression's only value is neither false nor null. The record
//! keeps its text.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression;
use crate::record::Record;

/// Whether the record stays.
pub(crate) fn keeps(
    path: &str,
    expression: &Expression,
    record: &Record,
) -> Result<bool, OperatorError> {
    expression::one(path, expression, record, |value| Ok(value.is_truthy()))
}
