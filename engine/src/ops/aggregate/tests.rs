//! Tests the result of every aggregate, and that the encoding of a partial result loses nothing.

use super::*;
use crate::ops::payload::push_number;

fn compiled(aggregate: &Aggregate) -> CompiledAggregate {
    CompiledAggregate::compile("step", "x", aggregate, &Scope::of_test()).unwrap()
}

fn record(text: &str) -> Record {
    Record::parse(text.as_bytes()).unwrap()
}

/// Returns every aggregate. If there is a new one, this function does not compile until it is added
/// here.
fn every(argument: &str) -> [Aggregate; 6] {
    let argument = || argument.to_owned();
    let listed = |aggregate: &Aggregate| match aggregate {
        Aggregate::Count => 0,
        Aggregate::Sum(_) => 1,
        Aggregate::Min(_) => 2,
        Aggregate::Max(_) => 3,
        Aggregate::Avg(_) => 4,
        Aggregate::Collect(_) => 5,
    };
    let every = [
        Aggregate::Count,
        Aggregate::Sum(argument()),
        Aggregate::Min(argument()),
        Aggregate::Max(argument()),
        Aggregate::Avg(argument()),
        Aggregate::Collect(argument()),
    ];
    for (position, aggregate) in every.iter().enumerate() {
        assert_eq!(listed(aggregate), position);
    }
    every
}

/// Returns the results of [`every`] aggregate over `values`, in its order. A new partial result
/// begins at each position in `cuts`.
fn results(values: &[&str], cuts: &[usize]) -> Vec<String> {
    let result = |aggregate: &Aggregate| {
        let aggregate = compiled(aggregate);
        let mut whole = aggregate.begin();
        let mut partial = aggregate.begin();
        for position in 0..=values.len() {
            if cuts.contains(&position) || position == values.len() {
                let mut payload = Vec::new();
                partial.encode(&mut payload);
                let mut reader = PayloadReader::new(&payload);
                whole.absorb(&mut reader, &Limits::default()).unwrap();
                reader.end().unwrap();
                partial = aggregate.begin();
            }
            if let Some(value) = values.get(position) {
                aggregate.add(&mut partial, &record(value).into()).unwrap();
            }
        }
        whole
            .finish(&Limits::default())
            .unwrap()
            .as_json_str()
            .to_owned()
    };
    every(".").iter().map(result).collect()
}

#[test]
fn results_are_the_same_however_the_values_are_cut_and_encoded() {
    for (values, expected) in [
        (&[][..], ["0", "null", "null", "null", "null", "[]"]),
        (
            &["null", "null"],
            ["2", "null", "null", "null", "null", "[null,null]"],
        ),
        (
            &["1", "2.0", "null", "3"],
            ["4", "6", "1", "3", "2", "[1,2.0,null,3]"],
        ),
        (
            &["2", "1.0", "1", "2.0"],
            ["4", "6", "1.0", "2", "1.5", "[2,1.0,1,2.0]"],
        ),
        (
            &["0.1", "0.2", "0.3"],
            ["3", "0.6", "0.1", "0.3", "0.2", "[0.1,0.2,0.3]"],
        ),
        (
            &["9007199254740993", "9007199254740992"],
            [
                "2",
                "18014398509481985",
                "9007199254740992",
                "9007199254740993",
                "9007199254740992",
                "[9007199254740993,9007199254740992]",
            ],
        ),
    ] {
        for first in 0..=values.len() {
            for second in first..=values.len() {
                assert_eq!(
                    results(values, &[first, second]),
                    expected,
                    "{values:?} cut at {first} and {second}"
                );
            }
        }
    }
}

#[test]
fn sum_and_avg_refuse_what_is_not_a_number_and_show_it() {
    let long = format!("\"{}\"", "x".repeat(100));
    for aggregate in [
        Aggregate::Sum(".".to_owned()),
        Aggregate::Avg(".".to_owned()),
    ] {
        let aggregate = compiled(&aggregate);
        for (value, expected) in [
            (
                "true",
                "not a number (got true); numbers and null are allowed".to_owned(),
            ),
            (
                "[1]",
                "not a number (got [1]); numbers and null are allowed".to_owned(),
            ),
            (
                &long,
                format!(
                    "not a number (got \"{}…); numbers and null are allowed",
                    "x".repeat(63)
                ),
            ),
        ] {
            let error = aggregate
                .add(&mut aggregate.begin(), &record(value).into())
                .unwrap_err();
            assert_eq!(error.message, expected);
            assert!(error.path.starts_with("step.aggregate.x."), "{error}");
        }
    }
    let nan = compiled(&Aggregate::Sum("nan".to_owned()));
    let error = nan.add(&mut nan.begin(), &record("1").into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "step.aggregate.x.sum: NaN is not a finite number"
    );
}

#[test]
fn an_argument_must_have_one_value() {
    for aggregate in every(".[]") {
        let compiled = compiled(&aggregate);
        let result = compiled.add(&mut compiled.begin(), &record("[1,2]").into());
        if aggregate == Aggregate::Count {
            assert_eq!(result, Ok(()));
        } else {
            let message = result.unwrap_err().message;
            assert_eq!(
                message,
                "the expression must have exactly one result for each record (got 2)"
            );
        }
    }
}

#[test]
fn min_and_max_order_values_of_all_kinds_as_jq_does() {
    let values = ["[]", "\"a\"", "{}", "false", "null", "-1", "\"NaN\""];
    let argument = "if . == \"NaN\" then nan else . end";
    let result = |aggregate: Aggregate, values: &[&str]| {
        let aggregate = compiled(&aggregate);
        let mut partial = aggregate.begin();
        for value in values {
            aggregate.add(&mut partial, &record(value).into()).unwrap();
        }
        partial
            .finish(&Limits::default())
            .unwrap()
            .as_json_str()
            .to_owned()
    };
    assert_eq!(
        result(Aggregate::Min(argument.to_owned()), &values),
        "false"
    );
    assert_eq!(result(Aggregate::Max(argument.to_owned()), &values), "{}");
    // NaN is the least number, and JSON writes it as null.
    assert_eq!(
        result(Aggregate::Min(argument.to_owned()), &["-1e300", "\"NaN\""]),
        "null"
    );
    assert_eq!(
        result(Aggregate::Max(argument.to_owned()), &["\"NaN\"", "-1e300"]),
        "-1e300"
    );
}

#[test]
fn damaged_bytes_are_refused_by_every_aggregate() {
    for aggregate in every(".") {
        let compiled = compiled(&aggregate);
        let absorb = |payload: &[u8]| {
            let mut partial = compiled.begin();
            let mut reader = PayloadReader::new(payload);
            partial
                .absorb(&mut reader, &Limits::default())
                .and_then(|()| reader.end())
                .and_then(|()| partial.finish(&Limits::default()).map(|_| ()))
        };
        assert!(
            matches!(absorb(&[]), Err(StateError::Damaged(_))),
            "{aggregate:?}"
        );
        let mut long = Vec::new();
        push_number(&mut long, 1 << 40);
        long.push(1);
        assert!(
            matches!(absorb(&long), Err(StateError::Damaged(_))),
            "{aggregate:?}"
        );
    }
}
