//! Tables: their names, keys and files, and what these must not overlap.

use serde_json::{Value, json};

use crate::validate::{Place, validate as validate_spec};

fn errors(pipeline: &Value) -> Vec<String> {
    let mut whole = json!({
        "source": {"files": {"paths": ["s3://logs/*.jsonl"]}},
        "sink": {"files": {"path": "s3://reports/part-{shard}.jsonl"}},
    });
    for (name, value) in pipeline.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    let spec = json!({
        "pipeline": whole,
        "storage": {"uri": "s3://scratch/zephyr"},
        "workers": {"replicas": 1},
    });
    let spec = serde_json::from_value(spec).expect("the types take it");
    let errors = validate_spec(&spec, "nightly", Place::Cluster);
    errors.iter().map(ToString::to_string).collect()
}

fn table(path: &str) -> Value {
    json!({"files": {"paths": [path]}, "key": ".id"})
}

#[test]
fn tables_of_any_files_with_a_key_are_accepted() {
    let users = json!({"files": {"paths": ["s3://tab/{value:day}/*"], "format": "jsonl", "emptyOk": true}, "key": ".id"});
    let pipeline = json!({
        "tables": {"users": users, "_2": table("s3://logs/a.jsonl.gz")},
        "values": {"day": "d"},
    });
    assert_eq!(errors(&pipeline), [""; 0]);
}

#[test]
fn each_fault_of_a_table_is_named_with_its_field() {
    let many: serde_json::Map<String, Value> = (0..9)
        .map(|number| (format!("t{number}"), table("s3://tab/a.jsonl")))
        .collect();
    for (pipeline, expected) in [
        (
            json!({"tables": many}),
            "spec.pipeline.tables: has too many tables (got 9); at most 8",
        ),
        (
            json!({"tables": {"a-b": table("s3://tab/a.jsonl")}}),
            "spec.pipeline.tables.a-b: has a name that an expression cannot use (got a-b); a letter or _, then letters, digits and _; at most 63 characters",
        ),
        (
            json!({"tables": {"false": table("s3://tab/a.jsonl")}}),
            "spec.pipeline.tables.false: must not have the name true or false; YAML reads y, n, yes, no, on and off as these, so put such a name in quotes",
        ),
        (
            json!({"tables": {"ENV": table("s3://tab/a.jsonl")}}),
            "spec.pipeline.tables.ENV: has a name that jq uses itself; any name except ENV, __loc__, __prog_args",
        ),
        (
            json!({"tables": {"day": table("s3://tab/a.jsonl")}, "values": {"day": 1}}),
            "spec.pipeline.tables.day: has the name of a value, spec.pipeline.values.day; another name, because an expression finds both as $name",
        ),
        (
            json!({"tables": {"users": table("s3://tab/a.csv")}}),
            "spec.pipeline.tables.users.files.paths[0]: has an extension that does not imply a format (got s3://tab/a.csv); .jsonl, .ndjson, .txt or .text, before .gz or .zst if compressed; or set spec.pipeline.tables.users.files.format to text, and take the lines apart in a map step",
        ),
        (
            json!({"tables": {"users": {
                "files": {"paths": ["s3://tab/a.jsonl"], "onError": {"action": "Skip"}},
                "key": ".id",
            }}}),
            "spec.pipeline.tables.users.files.onError: is not allowed for a table; no onError: without some of its records a table would give other results",
        ),
        (
            json!({"tables": {"users": table("s3://tab/{value:day}.jsonl")}}),
            "spec.pipeline.tables.users.files.paths[0]: contains {value:day}, which has no value (got s3://tab/{value:day}.jsonl); spec.pipeline.values is empty; add a value of this name",
        ),
    ] {
        assert_eq!(errors(&pipeline), [expected]);
    }
    let keyless =
        json!({"tables": {"users": {"files": {"paths": ["s3://tab/a.jsonl"]}, "key": ""}}});
    let found = errors(&keyless);
    assert!(
        found[0].starts_with("spec.pipeline.tables.users.key: "),
        "{found:?}"
    );
    let pathless = json!({"tables": {"users": {"files": {"paths": []}, "key": "."}}});
    let found = errors(&pathless);
    assert!(
        found[0].starts_with("spec.pipeline.tables.users.files.paths: "),
        "{found:?}"
    );
}

#[test]
fn files_of_a_table_must_not_be_output_of_the_job() {
    for (path, field, other) in [
        (
            "s3://reports/*",
            "spec.pipeline.sink.files.path",
            "spec.pipeline.tables.users.files.paths[0]",
        ),
        (
            "s3://reports/_SUCCESS.json",
            "spec.pipeline.sink.files.path",
            "spec.pipeline.tables.users.files.paths[0]",
        ),
        (
            "s3://scratch/zephyr/a.jsonl",
            "spec.pipeline.tables.users.files.paths[0]",
            "spec.storage.uri",
        ),
        (
            "s3://scratch/**",
            "spec.storage.uri",
            "spec.pipeline.tables.users.files.paths[0]",
        ),
    ] {
        let mut users = table(path);
        users["files"]["format"] = json!("jsonl");
        let found = errors(&json!({"tables": {"users": users}}));
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = format!("{field}: overlaps {other}, ");
        assert!(found[0].starts_with(&expected), "{found:?}");
    }
    // Two places that are only read may overlap.
    let pipeline = json!({"tables": {"users": table("s3://logs/*.jsonl")}});
    assert_eq!(errors(&pipeline), [""; 0]);
}
