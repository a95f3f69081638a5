//! Aggregates of groupBy, which are functions over the values of a group. Each function has its own
//! file. This file has the parts that they share.
//!
//! Null means that there is no value, as in SQL: sum, avg, min and max ignore it, and return null
//! if a group has no other value. But collect keeps null, and count counts all records. No result
//! depends on how records were distributed over shards, buffers and runs, because partial results
//! are exact and are combined in the order of (shard, position).

use crate::expr::{Expression, Value};
use crate::ops::error::OperatorError;
use crate::ops::expression::{self, Scope};
use crate::ops::keyed::ALLOCATION_BYTES;
use crate::ops::payload::{PayloadReader, StateError};
use crate::pipeline::Aggregate;
use crate::plan::path;
use crate::record::{Limits, Record, Row};

use average::Average;
use collect::Collected;
use count::Counted;
use extreme::{Extreme, Greatest, Least};
use sum::Sum;

mod average;
mod collect;
mod count;
mod extreme;
mod number;
mod sum;

/// One named aggregate, compiled.
pub(crate) struct CompiledAggregate {
    pub(crate) name: String,
    path: String,
    function: Function,
    argument: Expression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    Collect,
}

/// An aggregate while it is computed.
#[derive(Debug)]
pub(crate) enum Partial {
    Count(Counted),
    /// Boxed like `Avg`, because an exact sum is several times as large as the other variants, and
    /// most groups only count.
    Sum(Box<Sum>),
    Avg(Box<Average>),
    Min(Extreme<Least>),
    Max(Extreme<Greatest>),
    Collect(Collected),
}

/// The operations of every aggregate.
trait Combine {
    /// Adds one more value, after all others.
    fn add(&mut self, value: &Value<'_>) -> Result<(), StateError>;

    /// Adds the partial result of later values, which `encode` wrote. An empty aggregate becomes
    /// equal to that partial result.
    fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        limits: &Limits,
    ) -> Result<(), StateError>;

    /// Appends the aggregate to a payload.
    fn encode(&self, payload: &mut Vec<u8>);

    /// The result.
    fn finish(&self, limits: &Limits) -> Result<Record, StateError>;

    /// Bytes that the aggregate holds on the heap.
    fn memory_bytes(&self) -> usize;
}

impl CompiledAggregate {
    /// Compiles an aggregate. `step` is the path of the groupBy.
    pub(crate) fn compile(
        step: &str,
        name: &str,
        aggregate: &Aggregate,
        scope: &Scope<'_>,
    ) -> Result<Self, OperatorError> {
        let (function, word, argument) = match aggregate {
            // The value is ignored, and evaluating `.` costs nothing.
            Aggregate::Count => (Function::Count, "count", "."),
            Aggregate::Sum(argument) => (Function::Sum, "sum", argument.as_str()),
            Aggregate::Min(argument) => (Function::Min, "min", argument.as_str()),
            Aggregate::Max(argument) => (Function::Max, "max", argument.as_str()),
            Aggregate::Avg(argument) => (Function::Avg, "avg", argument.as_str()),
            Aggregate::Collect(argument) => (Function::Collect, "collect", argument.as_str()),
        };
        let path = path::aggregate(step, name, word);
        let argument = expression::compile(&path, argument, scope)?;
        Ok(Self {
            name: name.to_owned(),
            path,
            function,
            argument,
        })
    }

    /// The empty aggregate.
    pub(crate) fn begin(&self) -> Partial {
        match self.function {
            Function::Count => Partial::Count(Counted::default()),
            Function::Sum => Partial::Sum(Box::default()),
            Function::Avg => Partial::Avg(Box::default()),
            Function::Min => Partial::Min(Extreme::default()),
            Function::Max => Partial::Max(Extreme::default()),
            Function::Collect => Partial::Collect(Collected::default()),
        }
    }

    /// Adds the argument's value for one more record.
    pub(crate) fn add(&self, partial: &mut Partial, row: &Row<'_>) -> Result<(), OperatorError> {
        if let Partial::Count(count) = partial {
            count.add_one();
            return Ok(());
        }
        expression::one(&self.path, &self.argument, row, |value| {
            partial
                .combine()
                .add(&value)
                .map_err(|error| OperatorError::of_data(&self.path, error.to_string()))
        })
    }

    /// Whether the aggregate may hold more bytes on the heap after a value was added.
    pub(crate) fn grows(&self) -> bool {
        !matches!(self.function, Function::Count)
    }

    /// Adds this aggregate's path to the error of a result or a merge.
    pub(crate) fn refused(&self, error: StateError) -> StateError {
        match error {
            StateError::Refused(message) => {
                StateError::Refused(format!("{} ({})", message, self.path))
            }
            StateError::Damaged(_) => error,
        }
    }
}

impl Partial {
    pub(crate) fn absorb(
        &mut self,
        payload: &mut PayloadReader<'_>,
        limits: &Limits,
    ) -> Result<(), StateError> {
        self.combine().absorb(payload, limits)
    }

    pub(crate) fn encode(&self, payload: &mut Vec<u8>) {
        self.as_combine().encode(payload);
    }

    pub(crate) fn finish(&self, limits: &Limits) -> Result<Record, StateError> {
        self.as_combine().finish(limits)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let boxed = match self {
            Self::Sum(_) => size_of::<Sum>() + ALLOCATION_BYTES,
            Self::Avg(_) => size_of::<Average>() + ALLOCATION_BYTES,
            Self::Count(_) | Self::Min(_) | Self::Max(_) | Self::Collect(_) => 0,
        };
        boxed + self.as_combine().memory_bytes()
    }

    fn combine(&mut self) -> &mut dyn Combine {
        match self {
            Self::Count(count) => count,
            Self::Sum(sum) => sum.as_mut(),
            Self::Avg(average) => average.as_mut(),
            Self::Min(least) => least,
            Self::Max(greatest) => greatest,
            Self::Collect(values) => values,
        }
    }

    fn as_combine(&self) -> &dyn Combine {
        match self {
            Self::Count(count) => count,
            Self::Sum(sum) => sum.as_ref(),
            Self::Avg(average) => average.as_ref(),
            Self::Min(least) => least,
            Self::Max(greatest) => greatest,
            Self::Collect(values) => values,
        }
    }
}

#[cfg(test)]
mod tests;
