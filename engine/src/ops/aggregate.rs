//! Aggregates of groupBy and of aggregate, which are functions over the values of a group. Each
//! function has its own file. This file has the parts that they share.
//!
//! Null means that there is no value, as in SQL: sum, avg, min, max, stddev and percentile ignore
//! it, and return null if a group has no other value; countDistinct ignores it too. But collect,
//! first and last keep null, any and all take it for false, and count counts all records. No result
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
use chosen::{Choice, Chosen};
use collect::Collected;
use count::Counted;
use distinct::Distinct;
use extreme::{Extreme, Greatest, Least};
use fold::Fold;
use percentile::Percentile;
use ranked::{Rank, Ranked};
use spread::Spread;
use sum::Sum;
use truth::Truth;

mod average;
mod best;
mod chosen;
mod collect;
mod count;
mod distinct;
mod extreme;
mod fold;
mod number;
mod percentile;
mod ranked;
mod spread;
mod sum;
mod truth;

/// One named aggregate, compiled.
pub(crate) struct CompiledAggregate {
    pub(crate) name: String,
    path: String,
    function: Function,
    argument: Expression,
    limits: Limits,
}

enum Function {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    /// The order is that of `sortBy`, if there is one.
    Collect(Option<Rank>),
    Choose(Choice),
    CountDistinct,
    Any,
    All,
    Stddev,
    TopK(Rank),
    Percentile(u32),
    Reduce(Option<Rank>, Box<Fold>),
}

/// An aggregate while it is computed.
#[derive(Debug)]
pub(crate) enum Partial {
    Count(Counted),
    /// Boxed like others, because an exact sum is several times as large as the other variants, and
    /// most groups only count.
    Sum(Box<Sum>),
    Avg(Box<Average>),
    Min(Extreme<Least>),
    Max(Extreme<Greatest>),
    Collect(Collected),
    Chosen(Box<Chosen>),
    Distinct(Box<Distinct>),
    Truth(Truth),
    Spread(Box<Spread>),
    Ranked(Box<Ranked>),
    Percentile(Box<Percentile>),
}

/// The operations of every aggregate.
trait Combine {
    /// Adds one more value, after all others. Aggregates that need more than the value are added to
    /// in another way.
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
    /// Compiles an aggregate. `aggregates` is the path of all aggregates of the step. With `order`,
    /// the step orders the records of a group; it says whether greater keys come first.
    pub(crate) fn compile(
        aggregates: &str,
        name: &str,
        aggregate: &Aggregate,
        order: Option<bool>,
        scope: &Scope<'_>,
    ) -> Result<Self, OperatorError> {
        let ordered = order.map(|descending| Rank {
            descending,
            keep: None,
        });
        let choice = |last| {
            let descending = order.unwrap_or_default();
            Function::Choose(Choice { last, descending })
        };
        let function = match aggregate {
            Aggregate::Count => Function::Count,
            Aggregate::Sum(_) => Function::Sum,
            Aggregate::Min(_) => Function::Min,
            Aggregate::Max(_) => Function::Max,
            Aggregate::Avg(_) => Function::Avg,
            Aggregate::Collect(_) => Function::Collect(ordered),
            Aggregate::First(_) => choice(false),
            Aggregate::Last(_) => choice(true),
            Aggregate::CountDistinct(_) => Function::CountDistinct,
            Aggregate::Any(_) => Function::Any,
            Aggregate::All(_) => Function::All,
            Aggregate::Stddev(_) => Function::Stddev,
            Aggregate::TopK { k, .. } => Function::TopK(Rank {
                descending: true,
                keep: Some(usize::try_from(*k).unwrap_or(usize::MAX)),
            }),
            Aggregate::Percentile { per_million, .. } => Function::Percentile(*per_million),
            Aggregate::Reduce(fold) => {
                let path = path::aggregate(aggregates, name, aggregate.word());
                Function::Reduce(ordered, Box::new(Fold::compile(&path, fold, scope)?))
            }
        };
        let expressions = aggregate.expressions();
        // A count and a fold need the record itself, and evaluating `.` costs nothing.
        let (word, argument) = match expressions.as_slice() {
            [(word, argument)] => (word.as_str(), *argument),
            [] | [_, _, ..] => (aggregate.word(), "."),
        };
        let path = path::aggregate(aggregates, name, word);
        let argument = expression::compile(&path, argument, scope)?;
        Ok(Self {
            name: name.to_owned(),
            path,
            function,
            argument,
            limits: scope.limits,
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
            Function::Collect(None) | Function::Reduce(None, _) => {
                Partial::Collect(Collected::default())
            }
            Function::Collect(Some(rank)) | Function::Reduce(Some(rank), _) => {
                Partial::Ranked(Box::new(Ranked::new(rank)))
            }
            Function::TopK(rank) => Partial::Ranked(Box::new(Ranked::new(rank))),
            Function::Choose(choice) => Partial::Chosen(Box::new(Chosen::new(choice))),
            Function::CountDistinct => Partial::Distinct(Box::default()),
            Function::Any => Partial::Truth(Truth::any()),
            Function::All => Partial::Truth(Truth::all()),
            Function::Stddev => Partial::Spread(Box::default()),
            Function::Percentile(per_million) => {
                Partial::Percentile(Box::new(Percentile::new(per_million)))
            }
        }
    }

    /// Adds the argument's value for one more record. `order` is the key by which the step orders
    /// the records of a group, or empty.
    pub(crate) fn add(
        &self,
        partial: &mut Partial,
        row: &Row<'_>,
        order: &[u8],
    ) -> Result<(), OperatorError> {
        if let Partial::Count(count) = partial {
            count.add_one();
            return Ok(());
        }
        expression::one(&self.path, &self.argument, row, |value| {
            self.add_value(partial, &value, row, order)
                .map_err(|error| OperatorError::of_data(&self.path, error.to_string()))
        })
    }

    fn add_value(
        &self,
        partial: &mut Partial,
        value: &Value<'_>,
        row: &Row<'_>,
        order: &[u8],
    ) -> Result<(), StateError> {
        match partial {
            Partial::Chosen(chosen) => {
                let record = value.to_record()?;
                chosen.add(order, record.as_json_str());
                Ok(())
            }
            Partial::Ranked(ranked) if matches!(self.function, Function::TopK(_)) => {
                let key = value.key()?;
                let record = row.to_record();
                ranked.add(key.as_bytes(), record.as_json_str(), &self.limits)
            }
            Partial::Ranked(ranked) => {
                let record = value.to_record()?;
                ranked.add(order, record.as_json_str(), &self.limits)
            }
            Partial::Count(_)
            | Partial::Sum(_)
            | Partial::Avg(_)
            | Partial::Min(_)
            | Partial::Max(_)
            | Partial::Collect(_)
            | Partial::Distinct(_)
            | Partial::Truth(_)
            | Partial::Spread(_)
            | Partial::Percentile(_) => partial.combine().add(value),
        }
    }

    /// The result.
    pub(crate) fn finish(&self, partial: &Partial) -> Result<Record, StateError> {
        if let Function::Reduce(_, fold) = &self.function {
            // The array of the records is no part of the result, so its level does not count.
            let limits = self.limits.of_state_and_record();
            let records = partial.as_combine().finish(&limits)?;
            return fold.of_array(&records);
        }
        partial.as_combine().finish(&self.limits)
    }

    /// Whether the aggregate may hold more bytes on the heap after a value was added.
    pub(crate) fn grows(&self) -> bool {
        !matches!(
            self.function,
            Function::Count | Function::Any | Function::All
        )
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

    pub(crate) fn memory_bytes(&self) -> usize {
        let size = match self {
            Self::Sum(_) => size_of::<Sum>(),
            Self::Avg(_) => size_of::<Average>(),
            Self::Chosen(_) => size_of::<Chosen>(),
            Self::Distinct(_) => size_of::<Distinct>(),
            Self::Spread(_) => size_of::<Spread>(),
            Self::Ranked(_) => size_of::<Ranked>(),
            Self::Percentile(_) => size_of::<Percentile>(),
            Self::Count(_) | Self::Min(_) | Self::Max(_) | Self::Collect(_) | Self::Truth(_) => 0,
        };
        let boxed = if size > 0 { size + ALLOCATION_BYTES } else { 0 };
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
            Self::Chosen(chosen) => chosen.as_mut(),
            Self::Distinct(distinct) => distinct.as_mut(),
            Self::Truth(truth) => truth,
            Self::Spread(spread) => spread.as_mut(),
            Self::Ranked(ranked) => ranked.as_mut(),
            Self::Percentile(percentile) => percentile.as_mut(),
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
            Self::Chosen(chosen) => chosen.as_ref(),
            Self::Distinct(distinct) => distinct.as_ref(),
            Self::Truth(truth) => truth,
            Self::Spread(spread) => spread.as_ref(),
            Self::Ranked(ranked) => ranked.as_ref(),
            Self::Percentile(percentile) => percentile.as_ref(),
        }
    }
}

/// Refuses the values of a group that take more memory than a task has for a record.
fn within_memory(bytes: usize, limits: &Limits) -> Result<(), StateError> {
    if bytes <= limits.memory_bytes {
        return Ok(());
    }
    Err(StateError::Refused(format!(
        "the values of one group and their keys take more than {} MiB of memory, and a task has no more for them; raise \
         spec.workers.resources.limits.memory or set fewer spec.workers.slots",
        limits.memory_bytes >> 20
    )))
}

#[cfg(test)]
mod tests;
