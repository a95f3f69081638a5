//! Validates `groupBy` and `aggregate`. Compiles no expression.

use std::collections::BTreeMap;

use super::pipeline::{YAML_BOOLEANS, YAML_BOOLEANS_ALLOWED, exactly_one, shard_range};
use super::{numbers, text};
use crate::field_error::FieldError;
use crate::pipeline::{AGGREGATES, AggregateSpec, GroupBySpec, MAX_AGGREGATES, MAX_TOP};

/// Every error in a groupBy.
pub(super) fn group_by(path: &str, group: &GroupBySpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(text::expression(&format!("{path}.key"), &group.key));
    let aggregates = format!("{path}.aggregate");
    errors.extend(all(&aggregates, &group.aggregate));
    if group.aggregate.contains_key("key") {
        let allowed = "key is reserved for the key of the group";
        let wrong = "must not have an aggregate named key";
        errors.push(FieldError::new(&aggregates, wrong, allowed).got("key"));
    }
    errors.extend(order(path, group));
    errors.extend(
        group
            .shards
            .and_then(|shards| shard_range(&format!("{path}.shards"), shards)),
    );
    errors
}

/// Every error in the order of a group's records.
fn order(path: &str, group: &GroupBySpec) -> Vec<FieldError> {
    let Some(by) = &group.sort_by else {
        let direction = group.descending.map(|_| {
            let path = format!("{path}.descending");
            let allowed = "sortBy beside it, or no descending";
            FieldError::new(path, "has no effect without sortBy", allowed)
        });
        return direction.into_iter().collect();
    };
    let path = format!("{path}.sortBy");
    let mut errors: Vec<FieldError> = text::expression(&path, by).into_iter().collect();
    let follows = |aggregate: &AggregateSpec| {
        aggregate.first.is_some()
            || aggregate.last.is_some()
            || aggregate.collect.is_some()
            || aggregate.reduce.is_some()
    };
    if !group.aggregate.values().any(follows) {
        let wrong = "has no effect, because no aggregate depends on the order of the records";
        let allowed = "first, last, collect or reduce, or no sortBy";
        errors.push(FieldError::new(&path, wrong, allowed).got(by));
    }
    errors
}

/// Every error in the aggregates of a step.
pub(super) fn all(path: &str, aggregates: &BTreeMap<String, AggregateSpec>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if aggregates.is_empty() || aggregates.len() > MAX_AGGREGATES {
        let error = FieldError::new(
            path,
            "has no aggregates, or too many",
            format!("1..{MAX_AGGREGATES} aggregates"),
        );
        errors.push(error.got(aggregates.len()));
    }
    for (name, each) in aggregates {
        errors.extend(aggregate_name(path, name));
        errors.extend(aggregate(&format!("{path}.{name}"), each));
    }
    errors
}

fn aggregate_name(path: &str, name: &str) -> Option<FieldError> {
    if YAML_BOOLEANS.contains(&name) {
        let problem = "must not have an aggregate named true or false";
        return Some(FieldError::new(path, problem, YAML_BOOLEANS_ALLOWED));
    }
    let is_name = name.len() <= text::MAX_NAME && text::is_word(name);
    (!is_name).then(|| {
        let allowed = format!(
            "at most {} letters, digits and underscores, no digit first",
            text::MAX_NAME
        );
        FieldError::new(path, "has a name that is not valid", allowed).got(name)
    })
}

fn aggregate(path: &str, aggregate: &AggregateSpec) -> Vec<FieldError> {
    let AggregateSpec {
        count,
        sum,
        min,
        max,
        avg,
        collect,
        first,
        last,
        count_distinct,
        any,
        all,
        stddev,
        top_k,
        percentile,
        reduce,
    } = aggregate;
    let values = [
        sum,
        min,
        max,
        avg,
        collect,
        first,
        last,
        count_distinct,
        any,
        all,
        stddev,
    ];
    let mut set = vec![count.is_some()];
    set.extend(values.iter().map(|value| value.is_some()));
    set.extend([top_k.is_some(), percentile.is_some(), reduce.is_some()]);
    let fields: Vec<(&str, bool)> = AGGREGATES.iter().copied().zip(set).collect();
    let mut errors: Vec<FieldError> = exactly_one(path, &fields).into_iter().collect();
    let mut check = |name: &str, expression: &str| {
        errors.extend(text::expression(&format!("{path}.{name}"), expression));
    };
    for (name, expression) in AGGREGATES.iter().skip(1).zip(values) {
        if let Some(expression) = expression {
            check(name, expression);
        }
    }
    if let Some(top) = top_k {
        check("topK.by", &top.by);
    }
    if let Some(percentile) = percentile {
        check("percentile.of", &percentile.of);
    }
    if let Some(reduce) = reduce {
        check("reduce.init", &reduce.init);
        check("reduce.update", &reduce.update);
    }
    if let Some(top) = top_k {
        let path = format!("{path}.topK.k");
        errors.extend(numbers::range(&path, top.k.into(), 1, MAX_TOP.into()));
    }
    if let Some(p) = percentile.as_ref().map(|percentile| percentile.p)
        && p.per_million().is_none()
    {
        let path = format!("{path}.percentile.p");
        let allowed = "a number from 0 to 1 with at most six decimal places, such as 0.95";
        errors.push(FieldError::new(path, "is not a rank", allowed).got(p.value()));
    }
    errors
}
