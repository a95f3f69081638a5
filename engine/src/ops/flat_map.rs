//! `flatMap`: makes any number of outputs from an input, one by one, so that only one is in memory
//! at a time.

use std::ops::ControlFlow;

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression;
use crate::record::Row;

/// Passes each output to `receive`, until `receive` asks to stop.
pub(crate) fn each(
    path: &str,
    expression: &Expression,
    row: &Row<'_>,
    receive: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>,
) -> Result<(), OperatorError> {
    let mut refused = Ok(());
    expression::each(path, expression, row, &mut |value| match value.to_row() {
        Ok(output) => receive(output),
        Err(error) => {
            refused = Err(expression::unusable(path, &error));
            ControlFlow::Break(())
        }
    })?;
    refused
}
