//! `groupBy`: makes one record `{"key": K, "<name>": value, …}` for each key. K is the key as the
//! group's first record spells it. The first record is that of the lowest shard, and in this shard
//! the one at the lowest position. A key that is NaN is written as null, because JSON has no NaN,
//! but it is a separate group. The aggregates compute the values.
//!
//! `aggregate` is the same for all records together, without a key.

use crate::expr::{Expression, Value};
use crate::ops::aggregate::{CompiledAggregate, Partial};
use crate::ops::error::{OperatorError, shown};
use crate::ops::expression::{self, Scope};
use crate::ops::keyed::{ALLOCATION_BYTES, Keyed};
use crate::ops::payload::{PayloadReader, StateError, push_bytes};
use crate::pipeline;
use crate::plan::path;
use crate::record::{Limits, Record, Row};

/// The output's field that holds the key; no aggregate may have this name.
pub const KEY_FIELD: &str = "key";

/// The compiled step.
pub(crate) struct GroupBy {
    path: String,
    /// `None` if all records are one group, and the result has no key.
    key: Option<Keys>,
    order: Option<Box<Keys>>,
    aggregates: Vec<CompiledAggregate>,
    limits: Limits,
}

/// An expression whose values are keys.
struct Keys {
    path: String,
    expression: Expression,
}

impl Keys {
    fn compile(path: String, source: &str, scope: &Scope<'_>) -> Result<Self, OperatorError> {
        let expression = expression::compile(&path, source, scope)?.for_keys();
        Ok(Self { path, expression })
    }

    /// Writes the key of a record to `bytes` and passes its value to `take`.
    fn write<T>(
        &self,
        row: &Row<'_>,
        bytes: &mut Vec<u8>,
        take: impl FnOnce(&[u8], &Value<'_>) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        expression::one(&self.path, &self.expression, row, |value| {
            let unusable = |error| expression::unusable(&self.path, &error);
            value.write_key(bytes).map_err(unusable)?;
            take(bytes, &value)
        })
    }
}

/// One group while it is built.
pub(crate) struct Group {
    key: Box<str>,
    partials: Partials,
}

/// The partial results, in the order of the step's aggregates. A single one needs no allocation.
enum Partials {
    One(Partial),
    Many(Box<[Partial]>),
}

impl Partials {
    fn begin(aggregates: &[CompiledAggregate]) -> Self {
        match aggregates {
            [one] => Self::One(one.begin()),
            many => Self::Many(many.iter().map(CompiledAggregate::begin).collect()),
        }
    }

    #[inline]
    fn as_slice(&self) -> &[Partial] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [Partial] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// Bytes on the heap, with the allocator's overhead.
    fn memory_bytes(&self) -> usize {
        let partials: usize = self.as_slice().iter().map(Partial::memory_bytes).sum();
        match self {
            Self::Many(many) if !many.is_empty() => {
                size_of_val(&**many) + ALLOCATION_BYTES + partials
            }
            Self::One(_) | Self::Many(_) => partials,
        }
    }
}

impl GroupBy {
    pub(crate) fn compile(
        path: &str,
        step: &pipeline::GroupBy,
        scope: &Scope<'_>,
    ) -> Result<Self, OperatorError> {
        let key = Keys::compile(path::key(path), &step.key, scope)?;
        let order = match &step.order {
            Some(order) => {
                let keys = Keys::compile(path::order(path), &order.by, scope)?;
                Some(Box::new(keys))
            }
            None => None,
        };
        let descending = step.order.as_ref().map(|order| order.descending);
        let all = &step.aggregates;
        let aggregates = compile_all(&path::aggregates(path), all, descending, scope)?;
        Ok(Self {
            path: path.to_owned(),
            key: Some(key),
            order,
            aggregates,
            limits: scope.limits,
        })
    }

    /// All records as one group without a key, which exists even if there are no records.
    pub(crate) fn compile_whole(
        path: &str,
        aggregates: &[(String, pipeline::Aggregate)],
        scope: &Scope<'_>,
    ) -> Result<Self, OperatorError> {
        Ok(Self {
            path: path.to_owned(),
            key: None,
            order: None,
            aggregates: compile_all(path, aggregates, None, scope)?,
            limits: scope.limits,
        })
    }

    /// Adds the key of the group to an error that the values of the group cause.
    fn in_group(&self, error: StateError, key: &str) -> StateError {
        match error {
            StateError::Refused(message) if self.key.is_some() => {
                let key = Record::parse_written(key.as_bytes())
                    .map_or_else(|_| "?".to_owned(), |key| shown(&key));
                StateError::Refused(format!("the group of key {key}: {message}"))
            }
            StateError::Refused(_) | StateError::Damaged(_) => error,
        }
    }

    fn absorb_partials(
        &self,
        group: &mut Group,
        mut reader: PayloadReader<'_>,
    ) -> Result<(), StateError> {
        for (aggregate, partial) in self.aggregates.iter().zip(group.partials.as_mut_slice()) {
            partial
                .absorb(&mut reader, &self.limits)
                .map_err(|error| self.in_group(aggregate.refused(error), &group.key))?;
        }
        reader.end()
    }
}

impl Keyed for GroupBy {
    type State = Group;
    type KeyText = Record;

    fn path(&self) -> &str {
        &self.path
    }

    fn key<T>(
        &self,
        row: &Row<'_>,
        bytes: &mut Vec<u8>,
        use_key: impl FnOnce(
            &[u8],
            &dyn Fn() -> Result<Record, OperatorError>,
        ) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        let Some(keys) = &self.key else {
            bytes.clear();
            return use_key(bytes, &|| Ok(Record::null()));
        };
        let unusable = |error| expression::unusable(&keys.path, &error);
        keys.write(row, bytes, |key, value| {
            use_key(key, &|| value.to_record().map_err(unusable))
        })
    }

    fn begin(&self, key: Record, row: &Row<'_>) -> Result<Group, OperatorError> {
        let partials = Partials::begin(&self.aggregates);
        let mut group = Group {
            key: key.as_json_str().into(),
            partials,
        };
        self.add(&mut group, row)?;
        Ok(group)
    }

    fn add(&self, group: &mut Group, row: &Row<'_>) -> Result<(), OperatorError> {
        let mut order = Vec::new();
        if let Some(keys) = &self.order {
            keys.write(row, &mut order, |_, _| Ok(()))?;
        }
        for (aggregate, partial) in self.aggregates.iter().zip(group.partials.as_mut_slice()) {
            aggregate.add(partial, row, &order)?;
        }
        Ok(())
    }

    fn encode(&self, group: &Group) -> Vec<u8> {
        let mut payload = Vec::with_capacity(group.key.len() + 16);
        push_bytes(&mut payload, group.key.as_bytes());
        for partial in group.partials.as_slice() {
            partial.encode(&mut payload);
        }
        payload
    }

    fn decode(&self, payload: &[u8]) -> Result<Group, StateError> {
        let mut reader = PayloadReader::new(payload);
        let key = reader.text()?.into();
        let partials = Partials::begin(&self.aggregates);
        let mut group = Group { key, partials };
        self.absorb_partials(&mut group, reader)?;
        Ok(group)
    }

    fn absorb(&self, group: &mut Group, payload: &[u8]) -> Result<(), StateError> {
        let mut reader = PayloadReader::new(payload);
        reader.text()?;
        self.absorb_partials(group, reader)
    }

    fn finish(&self, group: Group) -> Result<Record, StateError> {
        let key = Record::parse_written(group.key.as_bytes())
            .map_err(|_| StateError::Damaged("a key is not JSON"))?;
        let results =
            self.aggregates
                .iter()
                .zip(group.partials.as_slice())
                .map(|(aggregate, partial)| {
                    let result = aggregate
                        .finish(partial)
                        .map_err(|error| self.in_group(aggregate.refused(error), &group.key))?;
                    Ok((aggregate.name.as_str(), result))
                });
        let results = results.collect::<Result<Vec<_>, StateError>>()?;
        let members = results.iter().map(|(name, result)| (*name, result));
        let key = self.key.is_some().then_some((KEY_FIELD, &key));
        let members = key.into_iter().chain(members);
        Record::object(&self.limits, members).map_err(|error| {
            self.in_group(StateError::Refused(error.problem.to_string()), &group.key)
        })
    }

    fn finish_empty(&self) -> Option<Result<Record, StateError>> {
        self.key.is_none().then(|| {
            self.finish(Group {
                key: "null".into(),
                partials: Partials::begin(&self.aggregates),
            })
        })
    }

    fn grows(&self) -> bool {
        self.aggregates.iter().any(CompiledAggregate::grows)
    }

    fn memory_bytes(group: &Group) -> usize {
        group.key.len() + ALLOCATION_BYTES + group.partials.memory_bytes()
    }
}

/// Compiles the aggregates of a step. `order` says whether the records of a group are ordered, and
/// then whether greater keys come first.
fn compile_all(
    path: &str,
    aggregates: &[(String, pipeline::Aggregate)],
    order: Option<bool>,
    scope: &Scope<'_>,
) -> Result<Vec<CompiledAggregate>, OperatorError> {
    aggregates
        .iter()
        .map(|(name, aggregate)| CompiledAggregate::compile(path, name, aggregate, order, scope))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Aggregate;
    use crate::record::{DEFAULT_NESTING, DEFAULT_RECORD_BYTES};

    fn record(text: &str) -> Record {
        Record::parse(text.as_bytes()).unwrap()
    }

    fn step(key: &str, aggregate: Aggregate) -> GroupBy {
        let step = pipeline::GroupBy {
            key: key.to_owned(),
            aggregates: vec![("x".to_owned(), aggregate)],
            shards: None,
            order: None,
        };
        GroupBy::compile("spec.pipeline.steps[3].groupBy", &step, &Scope::of_test()).unwrap()
    }

    /// Returns a group of exactly these records, even if their keys differ.
    fn group(step: &GroupBy, records: &[&str]) -> Group {
        let first = Row::from(record(records[0]));
        let key = step.key(&first, &mut Vec::new(), |_, text| text()).unwrap();
        let mut group = step.begin(key, &first).unwrap();
        for text in &records[1..] {
            step.add(&mut group, &record(text).into()).unwrap();
        }
        group
    }

    #[test]
    fn a_group_survives_its_encoding_with_the_key_as_first_written() {
        let step = step(".k", Aggregate::Collect(".v".to_owned()));
        let first = group(&step, &[r#"{"k":1.0,"v":[1]}"#, r#"{"k":1,"v":null}"#]);
        let later = group(&step, &[r#"{"k":1e0,"v":"\u0062"}"#]);
        let mut merged = step.decode(&step.encode(&first)).unwrap();
        step.absorb(&mut merged, &step.encode(&later)).unwrap();
        assert_eq!(
            step.finish(merged).unwrap().as_json_str(),
            r#"{"key":1.0,"x":[[1],null,"b"]}"#
        );
    }

    #[test]
    fn a_group_without_aggregates_is_its_key() {
        let step = pipeline::GroupBy {
            key: ".".to_owned(),
            aggregates: vec![],
            shards: None,
            order: None,
        };
        let step =
            GroupBy::compile("spec.pipeline.steps[3].groupBy", &step, &Scope::of_test()).unwrap();
        let group = step.decode(&step.encode(&group(&step, &["[1]"]))).unwrap();
        assert_eq!(step.finish(group).unwrap().as_json_str(), r#"{"key":[1]}"#);
    }

    #[test]
    fn an_expression_that_fails_names_its_place() {
        let step = step(".k.l", Aggregate::Sum(".n".to_owned()));
        let key = |text: &str| {
            step.key(&record(text).into(), &mut Vec::new(), |key, _| {
                Ok(key.to_vec())
            })
            .unwrap_err()
            .to_string()
        };
        assert!(
            key(r#"{"k":"x"}"#).starts_with("spec.pipeline.steps[3].groupBy.key: "),
            "{}",
            key(r#"{"k":"x"}"#)
        );
        let error = step
            .begin(Record::null(), &record(r#"{"n":"7"}"#).into())
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "spec.pipeline.steps[3].groupBy.aggregate.x.sum: not a number (got \"7\"); numbers and null are allowed"
        );
    }

    #[test]
    fn a_sum_that_no_number_can_hold_names_the_group() {
        let step = step(".k", Aggregate::Sum(".n".to_owned()));
        let error = step
            .finish(group(&step, &[r#"{"k":"big","n":1e400}"#]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the group of key \"big\": "), "{error}");
        assert!(
            error.ends_with("(spec.pipeline.steps[3].groupBy.aggregate.x.sum)"),
            "{error}"
        );
    }

    #[test]
    fn fault_3994_a_list_longer_than_a_record_is_refused_while_it_grows_and_while_it_is_merged() {
        let step = step("\"k\"", Aggregate::Collect(".".to_owned()));
        let text = format!("\"{}\"", "x".repeat(DEFAULT_RECORD_BYTES / 2));
        let mut first = group(&step, &[&text]);
        let error = step
            .add(&mut first, &record(&text).into())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("longer than a record may be; at most 67108864 bytes are allowed"),
            "{error}"
        );
        let payload = step.encode(&first);
        let error = step.absorb(&mut first, &payload).unwrap_err().to_string();
        assert!(
            error.starts_with("the group of key \"k\": the collected values"),
            "{error}"
        );
        assert!(step.finish(first).is_ok());
    }

    #[test]
    fn a_list_that_nests_too_deep_is_refused() {
        let step = step("\"k\"", Aggregate::Collect(".".to_owned()));
        let levels = DEFAULT_NESTING - 1;
        let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let error = step.finish(group(&step, &[&text])).unwrap_err().to_string();
        assert!(error.starts_with("the group of key \"k\": "), "{error}");
        assert!(error.contains("at most 256 levels"), "{error}");
    }
}
