//! `flatMap`: makes any number of outputs from an input, one by one, so that only one is in memory
//! at a time.

use std::ops::ControlFlow;

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression;
use crate::record::Record;

/// Passes each output to `receive` until it stops.
pub(crate) fn each(
    path: &str,
    expression: &Expression,
    record: &Record,
    receive: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<(), OperatorError> {
    let mut refused = Ok(());
    expression::each(
        path,
        expression,
        record,
        &mut |value| match value.to_record() {
            Ok(record) => receive(record),
            Err(error) => {
                refused = Err(expression::unusable(path, &error));
                ControlFlow::Break(())
            }
        },
    )?;
    refused
}
