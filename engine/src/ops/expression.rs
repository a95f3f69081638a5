//! Compiles and evaluates the expressions of operators, and adds the path of the step to errors.
//! Contains no operator.

use std::ops::ControlFlow;

use crate::expr::{Expression, Value, ValueError, Variables};
use crate::ops::error::OperatorError;
use crate::record::{Limits, Row};

/// The settings that all expressions of a stage share.
pub(crate) struct Scope<'a> {
    /// The limits for their inputs and outputs.
    pub(crate) limits: Limits,
    /// The named values and tables that the expressions may use.
    pub(crate) variables: &'a Variables,
}

#[cfg(test)]
impl Scope<'_> {
    /// A scope with the default limits and without values.
    pub(crate) fn of_test() -> Self {
        static NONE: std::sync::LazyLock<Variables> = std::sync::LazyLock::new(Variables::default);
        Self {
            limits: Limits::default(),
            variables: &NONE,
        }
    }
}

pub(crate) fn compile(
    path: &str,
    source: &str,
    scope: &Scope<'_>,
) -> Result<Expression, OperatorError> {
    let compiled = Expression::compile_with(source, scope.variables)
        .map(|expression| expression.within(scope.limits));
    compiled.map_err(|error| OperatorError::of_data(path, error.to_string()))
}

/// Passes the only result of the expression to `take`. If there is no result, or several, this is
/// an error that says how many there are.
pub(crate) fn one<T>(
    path: &str,
    expression: &Expression,
    row: &Row<'_>,
    take: impl FnOnce(Value<'_>) -> Result<T, OperatorError>,
) -> Result<T, OperatorError> {
    expression
        .evaluate_one_operand(row.operand(), take)
        .map_err(|error| OperatorError::of_data(path, error.to_string()))?
}

/// Passes every result to `receive` until it stops.
pub(crate) fn each(
    path: &str,
    expression: &Expression,
    row: &Row<'_>,
    receive: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
) -> Result<(), OperatorError> {
    expression
        .evaluate_operand(row.operand(), receive)
        .map_err(|error| OperatorError::of_data(path, error.to_string()))
}

/// The error of a result that the operator cannot use.
pub(crate) fn unusable(path: &str, error: &ValueError) -> OperatorError {
    OperatorError::of_data(path, error.to_string())
}
