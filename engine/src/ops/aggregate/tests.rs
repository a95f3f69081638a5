//! Tests the result of every aggregate, and that the encoding of a partial result loses nothing.

use super::*;
use crate::ops::payload::push_number;
use crate::pipeline::Fold;

fn compiled(aggregate: &Aggregate) -> CompiledAggregate {
    CompiledAggregate::compile("step.aggregate", "x", aggregate, None, &Scope::of_test()).unwrap()
}

fn record(text: &str) -> Record {
    Record::parse(text.as_bytes()).unwrap()
}

/// Returns every aggregate. If there is a new one, this function does not compile until it is added
/// here.
fn every(argument: &str) -> [Aggregate; 15] {
    let argument = || argument.to_owned();
    let listed = |aggregate: &Aggregate| match aggregate {
        Aggregate::Count => 0,
        Aggregate::Sum(_) => 1,
        Aggregate::Min(_) => 2,
        Aggregate::Max(_) => 3,
        Aggregate::Avg(_) => 4,
        Aggregate::Collect(_) => 5,
        Aggregate::First(_) => 6,
        Aggregate::Last(_) => 7,
        Aggregate::CountDistinct(_) => 8,
        Aggregate::Any(_) => 9,
        Aggregate::All(_) => 10,
        Aggregate::Stddev(_) => 11,
        Aggregate::TopK { .. } => 12,
        Aggregate::Percentile { .. } => 13,
        Aggregate::Reduce(_) => 14,
    };
    let every = [
        Aggregate::Count,
        Aggregate::Sum(argument()),
        Aggregate::Min(argument()),
        Aggregate::Max(argument()),
        Aggregate::Avg(argument()),
        Aggregate::Collect(argument()),
        Aggregate::First(argument()),
        Aggregate::Last(argument()),
        Aggregate::CountDistinct(argument()),
        Aggregate::Any(argument()),
        Aggregate::All(argument()),
        Aggregate::Stddev(argument()),
        Aggregate::TopK {
            by: argument(),
            k: 2,
        },
        Aggregate::Percentile {
            of: argument(),
            per_million: 500_000,
        },
        Aggregate::Reduce(Fold {
            init: "[]".to_owned(),
            update: "[.record] + .state".to_owned(),
        }),
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
                aggregate
                    .add(&mut partial, &record(value).into(), &[])
                    .unwrap();
            }
        }
        aggregate.finish(&whole).unwrap().as_json_str().to_owned()
    };
    every(".").iter().map(result).collect()
}

/// Values, and the results of [`every`] aggregate over them.
const RESULTS: [(&[&str], [&str; 15]); 6] = [
    (
        &[],
        [
            "0", "null", "null", "null", "null", "[]", "null", "null", "0", "false", "true",
            "null", "[]", "null", "[]",
        ],
    ),
    (
        &["null", "null"],
        [
            "2",
            "null",
            "null",
            "null",
            "null",
            "[null,null]",
            "null",
            "null",
            "0",
            "false",
            "false",
            "null",
            "[null,null]",
            "null",
            "[null,null]",
        ],
    ),
    (
        &["1", "2.0", "null", "3"],
        [
            "4",
            "6",
            "1",
            "3",
            "2",
            "[1,2.0,null,3]",
            "1",
            "3",
            "3",
            "true",
            "false",
            "1",
            "[3,2.0]",
            "2.0",
            "[3,null,2.0,1]",
        ],
    ),
    (
        &["2", "1.0", "1", "2.0"],
        [
            "4",
            "6",
            "1.0",
            "2",
            "1.5",
            "[2,1.0,1,2.0]",
            "2",
            "2.0",
            "2",
            "true",
            "true",
            "0.5773502691896257",
            "[2,2.0]",
            "1.0",
            "[2.0,1,1.0,2]",
        ],
    ),
    (
        &["0.1", "0.2", "0.3"],
        [
            "3",
            "0.6",
            "0.1",
            "0.3",
            "0.2",
            "[0.1,0.2,0.3]",
            "0.1",
            "0.3",
            "3",
            "true",
            "true",
            "0.1",
            "[0.3,0.2]",
            "0.2",
            "[0.3,0.2,0.1]",
        ],
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
            "9007199254740993",
            "9007199254740992",
            "2",
            "true",
            "true",
            "0.7071067811865476",
            "[9007199254740993,9007199254740992]",
            "9007199254740992",
            "[9007199254740992,9007199254740993]",
        ],
    ),
];

#[test]
fn results_are_the_same_however_the_values_are_cut_and_encoded() {
    for (values, expected) in RESULTS {
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
fn sum_avg_and_stddev_refuse_what_is_not_a_number_and_show_it() {
    let long = format!("\"{}\"", "x".repeat(100));
    for aggregate in [
        Aggregate::Sum(".".to_owned()),
        Aggregate::Avg(".".to_owned()),
        Aggregate::Stddev(".".to_owned()),
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
                .add(&mut aggregate.begin(), &record(value).into(), &[])
                .unwrap_err();
            assert_eq!(error.message, expected);
            assert!(error.path.starts_with("step.aggregate.x."), "{error}");
        }
    }
    let nan = compiled(&Aggregate::Sum("nan".to_owned()));
    let error = nan
        .add(&mut nan.begin(), &record("1").into(), &[])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "step.aggregate.x.sum: NaN is not a finite number"
    );
}

#[test]
fn an_argument_must_have_one_value() {
    for aggregate in every(".[]") {
        let compiled = compiled(&aggregate);
        let result = compiled.add(&mut compiled.begin(), &record("[1,2]").into(), &[]);
        if matches!(aggregate, Aggregate::Count | Aggregate::Reduce(_)) {
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
            aggregate
                .add(&mut partial, &record(value).into(), &[])
                .unwrap();
        }
        aggregate.finish(&partial).unwrap().as_json_str().to_owned()
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
                .and_then(|()| compiled.finish(&partial).map(|_| ()))
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

/// Returns the result of an aggregate over pairs of a value and the key by which they are ordered,
/// cut at each position.
fn ordered(aggregate: &Aggregate, descending: bool, pairs: &[(&str, u8)]) -> String {
    let scope = Scope::of_test();
    let aggregate =
        CompiledAggregate::compile("step.aggregate", "x", aggregate, Some(descending), &scope);
    let aggregate = aggregate.unwrap();
    let results: Vec<String> = (0..=pairs.len())
        .map(|cut| {
            let mut whole = aggregate.begin();
            for part in [&pairs[..cut], &pairs[cut..]] {
                let mut partial = aggregate.begin();
                for (value, key) in part {
                    let row = record(value).into();
                    aggregate.add(&mut partial, &row, &[*key]).unwrap();
                }
                let mut payload = Vec::new();
                partial.encode(&mut payload);
                let mut reader = PayloadReader::new(&payload);
                whole.absorb(&mut reader, &Limits::default()).unwrap();
            }
            aggregate.finish(&whole).unwrap().as_json_str().to_owned()
        })
        .collect();
    assert!(
        results.iter().all(|result| *result == results[0]),
        "{results:?}"
    );
    results[0].clone()
}

#[test]
fn first_last_collect_and_reduce_follow_the_order_of_the_group_and_equal_keys_keep_theirs() {
    let pairs = [("1", 7), ("2", 3), ("3", 9), ("4", 3), ("5", 9)];
    let result = |aggregate: Aggregate| {
        [false, true].map(|descending| ordered(&aggregate, descending, &pairs))
    };
    let x = || ".".to_owned();
    assert_eq!(
        result(Aggregate::Collect(x())),
        ["[2,4,1,3,5]", "[3,5,1,2,4]"]
    );
    assert_eq!(result(Aggregate::First(x())), ["2", "3"]);
    assert_eq!(result(Aggregate::Last(x())), ["5", "4"]);
    let joined = Aggregate::Reduce(Fold {
        init: "\"\"".to_owned(),
        update: ".state + (.record | tostring)".to_owned(),
    });
    assert_eq!(result(joined), ["\"24135\"", "\"35124\""]);
    // The order of the group is not that of these.
    let top = Aggregate::TopK { by: x(), k: 2 };
    assert_eq!(result(top), ["[5,4]", "[5,4]"]);
}

/// Found by an attack: only the texts counted, and short values with long keys took any memory.
#[test]
fn keys_and_short_values_of_a_group_count_for_memory() {
    let limits = Limits {
        memory_bytes: 64 << 10,
        ..Limits::default()
    };
    let scope = Scope {
        limits,
        ..Scope::of_test()
    };
    let long_key = || "\"x\" * 2000 + tostring".to_owned();
    let of = || ".".to_owned();
    for (aggregate, order) in [
        (
            Aggregate::TopK {
                by: long_key(),
                k: 1000,
            },
            false,
        ),
        (Aggregate::Collect(of()), true),
        (Aggregate::CountDistinct(of()), false),
        (
            Aggregate::Percentile {
                of: of(),
                per_million: 500_000,
            },
            false,
        ),
    ] {
        let order = order.then_some(false);
        let compiled =
            CompiledAggregate::compile("step.aggregate", "x", &aggregate, order, &scope).unwrap();
        let mut partial = compiled.begin();
        let key = [b'k'; 2000];
        let error = (0..5_000).find_map(|number: u32| {
            let row = record(&number.to_string()).into();
            compiled.add(&mut partial, &row, &key).err()
        });
        let message = format!("{error:?}");
        assert!(
            message.contains("MiB of memory"),
            "{aggregate:?}: {message}"
        );
        assert!(partial.as_combine().memory_bytes() < 256 << 10);
    }
}

#[test]
fn the_records_of_a_reduce_may_nest_as_deep_as_any_record() {
    let limits = Limits {
        nesting: 1,
        ..Limits::default()
    };
    let scope = Scope {
        limits,
        ..Scope::of_test()
    };
    let reduce = Aggregate::Reduce(Fold {
        init: "0".to_owned(),
        update: ".state + .record.n".to_owned(),
    });
    let compiled =
        CompiledAggregate::compile("step.aggregate", "x", &reduce, None, &scope).unwrap();
    let mut partial = compiled.begin();
    for text in ["{\"n\":1}", "{\"n\":2}"] {
        compiled
            .add(&mut partial, &record(text).into(), &[])
            .unwrap();
    }
    assert_eq!(compiled.finish(&partial).unwrap().as_json_str(), "3");
}

#[test]
fn a_percentile_is_the_value_at_the_nearest_rank() {
    let values: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    for (per_million, count, expected) in [
        (0, 100, "1"),
        (1, 100, "1"),
        (70_000, 100, "7"),
        (950_000, 100, "95"),
        (999_999, 100, "100"),
        (1_000_000, 100, "100"),
        (500_000, 1, "1"),
        (500_000, 2, "1"),
        (500_000, 3, "2"),
        (250_000, 4, "1"),
        (250_001, 4, "2"),
    ] {
        let of = ".".to_owned();
        let aggregate = compiled(&Aggregate::Percentile { of, per_million });
        let mut partial = aggregate.begin();
        for value in &values[..count] {
            aggregate
                .add(&mut partial, &record(value).into(), &[])
                .unwrap();
        }
        let found = aggregate.finish(&partial).unwrap();
        assert_eq!(found.as_json_str(), expected, "{per_million} of {count}");
    }
}

#[test]
fn the_greatest_records_are_kept_whole_and_the_first_of_equal_ones() {
    let aggregate = compiled(&Aggregate::TopK {
        by: ".n".to_owned(),
        k: 3,
    });
    let mut partial = aggregate.begin();
    for number in 0..500 {
        let text = format!(r#"{{"n":{},"i":{number}}}"#, number * 7 % 100);
        aggregate
            .add(&mut partial, &record(&text).into(), &[])
            .unwrap();
    }
    for text in ["{\"i\":1}", "{\"n\":null}"] {
        aggregate
            .add(&mut partial, &record(text).into(), &[])
            .unwrap();
    }
    assert_eq!(
        aggregate.finish(&partial).unwrap().as_json_str(),
        r#"[{"n":99,"i":57},{"n":99,"i":157},{"n":99,"i":257}]"#
    );
}

#[test]
fn what_a_group_holds_is_limited_to_the_length_of_a_record() {
    let limits = Limits {
        bytes: 40,
        ..Limits::default()
    };
    let scope = Scope {
        limits,
        ..Scope::of_test()
    };
    let [.., distinct, _, _, _, top, percentile, reduce] = every(".");
    for aggregate in [distinct, top, percentile, reduce] {
        let compiled = CompiledAggregate::compile("step.aggregate", "x", &aggregate, None, &scope);
        let compiled = compiled.unwrap();
        let mut partial = compiled.begin();
        let results: Vec<_> = ["\"aaaaaaaaaaaaaaaaaaaaaa\"", "\"bbbbbbbbbbbbbbbbbbbbbb\""]
            .map(|text| compiled.add(&mut partial, &record(text).into(), &[]))
            .into();
        assert_eq!(results[0], Ok(()), "{aggregate:?}");
        let message = results[1].as_ref().unwrap_err().to_string();
        assert!(
            message.contains("at most 40 bytes are allowed (spec.pipeline.limits.lineBytes)"),
            "{message}"
        );
    }
}

#[test]
fn an_error_of_a_fold_names_its_expression() {
    let fold = |init: &str, update: &str| {
        let (init, update) = (init.to_owned(), update.to_owned());
        let aggregate = compiled(&Aggregate::Reduce(Fold { init, update }));
        let mut partial = aggregate.begin();
        for text in ["1", "\"a\""] {
            aggregate
                .add(&mut partial, &record(text).into(), &[])
                .unwrap();
        }
        let error = aggregate.finish(&partial).unwrap_err();
        aggregate.refused(error).to_string()
    };
    let message = fold("0", ".state + .record");
    assert!(
        message.starts_with("update: number (1) and string (\"a\")"),
        "{message}"
    );
    assert!(message.ends_with("(step.aggregate.x.reduce)"), "{message}");
    assert!(fold("empty", ".").starts_with("init: the expression must have exactly one result"));
}
