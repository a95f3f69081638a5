//! `reduce`: goes through the records of a group in their order, with a state. The state after the
//! last record is the result. The order of records cannot be changed, so all of them are brought
//! together first.

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression::{self, Scope};
use crate::ops::payload::StateError;
use crate::pipeline::{self, INIT, UPDATE};
use crate::plan::path;
use crate::record::{Limits, Record};

/// The compiled expressions.
pub(crate) struct Fold {
    init: Expression,
    update: Expression,
    /// The limits of the input of `update`.
    limits: Limits,
}

impl Fold {
    pub(crate) fn compile(
        path: &str,
        fold: &pipeline::Fold,
        scope: &Scope<'_>,
    ) -> Result<Self, OperatorError> {
        let compile = |field: &str, source: &str| {
            expression::compile(&path::inside(path, field), source, scope)
        };
        Ok(Self {
            init: compile(INIT, &fold.init)?,
            update: compile(UPDATE, &fold.update)?,
            limits: scope.limits.of_state_and_record(),
        })
    }

    /// The last state over the records of this array.
    pub(crate) fn of_array(&self, array: &Record) -> Result<Record, StateError> {
        let mut state = evaluate(&self.init, INIT, &Record::null())?;
        for record in array.elements() {
            let members = [("state", &state), ("record", &record)];
            let input = Record::object(&self.limits, members).map_err(|error| {
                StateError::Refused(format!("the state with the record: {}", error.problem))
            })?;
            state = evaluate(&self.update, UPDATE, &input)?;
        }
        Ok(state)
    }
}

fn evaluate(expression: &Expression, field: &str, input: &Record) -> Result<Record, StateError> {
    let refused = |problem: String| StateError::Refused(format!("{field}: {problem}"));
    let value = expression.evaluate_one(input, |value| value.to_record());
    let record = value.map_err(|error| refused(error.to_string()))?;
    record.map_err(|error| refused(error.to_string()))
}
