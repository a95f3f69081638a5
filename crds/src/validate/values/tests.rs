//! Named values: their names, their contents, and paths that contain them.

use serde_json::{Value, json};

use crate::validate::{Place, validate as validate_spec};

fn spec(values: &Value, input: &str, sink: &str) -> crate::job::ZephyrJobSpec {
    serde_json::from_value(json!({
        "pipeline": {
            "source": {"files": {"paths": [input]}},
            "sink": {"files": {"path": sink}},
            "values": values,
        },
        "storage": {"uri": "s3://scratch/zephyr"},
        "workers": {"replicas": 1},
    }))
    .expect("the types take it")
}

fn errors(values: &Value, input: &str, sink: &str) -> Vec<String> {
    let spec = spec(values, input, sink);
    let errors = validate_spec(&spec, "nightly", Place::Cluster);
    errors.iter().map(ToString::to_string).collect()
}

const INPUT: &str = "s3://logs/{value:day}/*.jsonl";
const SINK: &str = "s3://reports/{value:day}/part-{shard}.jsonl";

#[test]
fn a_path_gets_strings_and_integers_and_is_checked_with_them() {
    for day in [
        json!("2026-11-27"),
        json!("2026/11/27"),
        json!(20_261_127),
        json!(-1),
    ] {
        let values = json!({"day": day, "other": [1]});
        assert_eq!(errors(&values, INPUT, SINK), [""; 0], "{day}");
    }
    let sink = "s3://r/{value:to}{value:day}-{shard:02}.txt";
    let mut pipeline = spec(&json!({"day": "d", "to": 5}), INPUT, sink).pipeline;
    assert_eq!(pipeline.put_values_in_paths(), []);
    assert_eq!(
        pipeline.source.files.unwrap().paths,
        ["s3://logs/d/*.jsonl"]
    );
    assert_eq!(pipeline.sink.files.path, "s3://r/5d-{shard:02}.txt");
    // A path with the values in it is checked like any other path.
    for (day, problem) in [
        ("..", "has . or .. in its path"),
        ("/x", "has an empty segment (//)"),
        ("", "which is empty"),
    ] {
        let found = errors(&json!({"day": day}), "s3://logs/x/*.jsonl", SINK);
        assert!(
            found[0].starts_with("spec.pipeline.sink.files.path: "),
            "{found:?}"
        );
        assert!(found[0].contains(problem), "{day}: {found:?}");
    }
    // With this value, the output would be in the folder that is read.
    let same = errors(
        &json!({"day": "d"}),
        "s3://logs/d/*.jsonl",
        "s3://logs/{value:day}/{shard}.jsonl",
    );
    assert!(same[0].contains("overlaps"), "{same:?}");
}

#[test]
fn a_value_that_no_path_can_take_is_named_with_the_path() {
    for (value, problem) in [
        (json!(true), "is true or false"),
        (json!([1]), "is a list"),
        (json!({"a": 1}), "is an object"),
        (json!(1.5), "is a number with a fraction or an exponent"),
        (
            json!("*"),
            "has a character that a path does not take as it is",
        ),
        (
            json!("a{b"),
            "has a character that a path does not take as it is",
        ),
        (
            json!("{shard}"),
            "has a character that a path does not take as it is",
        ),
        (
            json!("a\nb"),
            "has a character that a path does not take as it is",
        ),
    ] {
        let found = errors(&json!({"day": value}), INPUT, "s3://reports/{shard}.jsonl");
        let expected = format!(
            "spec.pipeline.source.files.paths[0]: contains {{value:day}}, which {problem} (got {INPUT}); \
             a string or an integer without * ? [ ] {{ }} \\ # % and without control characters"
        );
        assert_eq!(found, [expected], "{value}");
    }
    let found = errors(
        &json!({"date": "d", "to": 1}),
        INPUT,
        "s3://reports/{shard}.jsonl",
    );
    assert_eq!(
        found,
        [format!(
            "spec.pipeline.source.files.paths[0]: contains {{value:day}}, which has no value (got {INPUT}); spec.pipeline.values has date, to"
        )]
    );
    let found = errors(&json!({}), "s3://logs/x/*.jsonl", SINK);
    assert!(
        found[0].contains("spec.pipeline.values is empty"),
        "{found:?}"
    );
}

#[test]
fn names_must_be_variables_and_contents_arrive_unchanged() {
    let long = "a".repeat(64);
    for (values, problem) in [
        (
            json!({"a-b": 1}),
            "spec.pipeline.values.a-b: has a name that an expression cannot use (got a-b)",
        ),
        (
            json!({"1a": 1}),
            "spec.pipeline.values.1a: has a name that an expression cannot use",
        ),
        (json!({"": 1}), "has a name that an expression cannot use"),
        (json!({long: 1}), "has a name that an expression cannot use"),
        (
            json!({"ENV": 1}),
            "spec.pipeline.values.ENV: has a name that jq uses itself",
        ),
        (json!({"__loc__": 1}), "has a name that jq uses itself"),
        (
            json!({"a": null}),
            "spec.pipeline.values.a: is null inside an object, which `kubectl apply` drops",
        ),
        (
            json!({"a": [{"b": null}]}),
            "spec.pipeline.values.a[0].b: is null inside an object",
        ),
        (
            json!({"a": [1e30]}),
            "spec.pipeline.values.a[0]: is an integer that the API server does not keep exactly",
        ),
    ] {
        let found = errors(&values, "s3://logs/x/*.jsonl", "s3://reports/{shard}.jsonl");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(problem), "{found:?}");
    }
    let good = json!({"a": [null, 1.5, {"b": "c"}], "_B2": "", "if": false});
    assert_eq!(
        errors(&good, "s3://logs/x/*.jsonl", "s3://reports/{shard}.jsonl"),
        [""; 0]
    );
    let mut deep = json!(1);
    for _ in 0..101 {
        deep = json!([deep]);
    }
    let found = errors(
        &json!({"a": deep}),
        "s3://logs/x/*.jsonl",
        "s3://reports/{shard}.jsonl",
    );
    assert!(
        found[0].contains("spec.pipeline.values.a: nests too deep (got 101 levels)"),
        "{found:?}"
    );
    let many: serde_json::Map<_, _> = (0..101).map(|n| (format!("v{n}"), json!(n))).collect();
    let found = errors(
        &json!(many),
        "s3://logs/x/*.jsonl",
        "s3://reports/{shard}.jsonl",
    );
    assert!(
        found[0].contains("has too many values (got 101)"),
        "{found:?}"
    );
}

#[test]
fn a_value_that_apply_dropped_is_found_in_the_manifest_that_it_keeps() {
    let stored = spec(
        &json!({"a": {}}),
        "s3://logs/x/*.jsonl",
        "s3://reports/{shard}.jsonl",
    );
    let applied = json!({"spec": {"pipeline": {"values": {"a": {"b": null}, "c": null}}}});
    let errors = crate::validate::dropped_by_apply(&stored, &applied.to_string());
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        ["spec.pipeline.values.a.b", "spec.pipeline.values.c"]
    );
}
