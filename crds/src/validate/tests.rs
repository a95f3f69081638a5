//! Each test puts one bad value into a good spec and checks the error.

use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "pipeline": {
            "source": {"files": {"paths": ["s3://corpus/en/**/*.jsonl.zst"]}},
            "steps": [
                {"filter": ".score > 0.5"},
                {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 16}},
            ],
            "sink": {"files": {"path": "s3://out/wordcount/part-{shard:05}-of-{total:05}.jsonl.gz"}},
        },
        "storage": {"uri": "s3://scratch/zephyr", "credentialsSecret": "s3-credentials"},
        "workers": {"replicas": 4},
    })
}

/// Sets the value at a pointer, making the objects on the way.
fn set(spec: &mut Value, pointer: &str, value: Value) {
    let mut place = spec;
    for part in pointer.split('/') {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    *place = value;
}

fn errors_of(changes: &[(&str, Value)], place: Place) -> Vec<String> {
    let mut spec = good();
    for (pointer, value) in changes {
        set(&mut spec, pointer, value.clone());
    }
    let spec: ZephyrJobSpec = serde_json::from_value(spec).expect("the types take it");
    validate(&spec, "wordcount", place)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "tables read better without a borrow in each row"
)]
fn check(pointer: &str, value: Value, message: &str) {
    assert_eq!(
        errors_of(&[(pointer, value.clone())], Place::Cluster),
        [message],
        "{pointer} = {value}"
    );
}

#[test]
fn limits_are_amounts_and_levels_within_their_bounds() {
    let path = "spec.pipeline.limits";
    let field = |name: &str| format!("pipeline/limits/{name}");
    for (name, value, message) in [
        (
            "lineBytes",
            json!("1023"),
            "is out of range (got 1023); must be 1Ki..1Gi",
        ),
        (
            "lineBytes",
            json!("1025Mi"),
            "is out of range (got 1025Mi); must be 1Ki..1Gi",
        ),
        (
            "lineBytes",
            json!(-1),
            "is out of range (got -1); must be 1Ki..1Gi",
        ),
        (
            "zstdWindow",
            json!("3Gi"),
            "is out of range (got 3Gi); must be 1Ki..2Gi",
        ),
        (
            "nesting",
            json!(0),
            "is out of range (got 0); must be 1..2000",
        ),
        (
            "nesting",
            json!(2001),
            "is out of range (got 2001); must be 1..2000",
        ),
    ] {
        check(&field(name), value, &format!("{path}.{name}: {message}"));
    }
    let malformed = errors_of(&[(&field("lineBytes"), json!("64MB"))], Place::Cluster);
    assert!(malformed[0].starts_with("spec.pipeline.limits.lineBytes: is not a quantity: "));
    for limits in [
        json!({}),
        json!({"lineBytes": "1Gi", "nesting": 2000, "zstdWindow": "2Gi"}),
        json!({"lineBytes": 1024, "nesting": 1, "zstdWindow": "1Ki"}),
    ] {
        let errors = errors_of(&[("pipeline/limits", limits)], Place::Cluster);
        assert_eq!(errors, Vec::<String>::new());
    }
}

#[test]
fn sizes_of_files_are_amounts_from_nothing_to_a_pebibyte() {
    for name in ["splitBytes", "combineBytes"] {
        let field = format!("pipeline/source/files/{name}");
        let path = format!("spec.pipeline.source.files.{name}");
        for value in [json!(-1), json!("2Pi")] {
            let got = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let message = format!("{path}: is out of range (got {got}); must be 0..1Pi");
            check(&field, value, &message);
        }
        let malformed = errors_of(&[(&field, json!("64MB"))], Place::Cluster);
        assert!(
            malformed[0].starts_with(&format!("{path}: is not a quantity: ")),
            "{malformed:?}"
        );
        for value in [json!(0), json!("0"), json!(1), json!("64Mi"), json!("1Pi")] {
            assert_eq!(
                errors_of(&[(&field, value)], Place::Cluster),
                Vec::<String>::new()
            );
        }
    }
}

#[test]
fn files_are_not_split_into_an_output_of_one_name_unless_a_step_joins_them() {
    let message = "spec.pipeline.source.files.splitBytes: makes several shards of a file, but the output has one name (got s3://out/x.jsonl); put {shard} into spec.pipeline.sink.files.path, or omit splitBytes";
    let split = |bytes: &str| ("pipeline/source/files/splitBytes", json!(bytes));
    let sink = |path: &str| ("pipeline/sink/files/path", json!(path));
    let steps = |steps: Value| ("pipeline/steps", steps);
    let single = "s3://out/x.jsonl";
    let group = json!([{"groupBy": {"key": ".", "aggregate": {"n": {"count": {}}}}}]);
    let errors = errors_of(
        &[split("1Mi"), sink(single), steps(json!([{"map": "."}]))],
        Place::Cluster,
    );
    assert_eq!(errors, [message]);
    for changes in [
        vec![split("0"), sink(single), steps(json!([]))],
        vec![
            split("1Mi"),
            sink("s3://out/{shard:05}.jsonl"),
            steps(json!([])),
        ],
        vec![split("1Mi"), sink(single), steps(json!([{"count": {}}]))],
        vec![split("1Mi"), sink(single), steps(group.clone())],
        vec![sink(single), steps(json!([]))],
    ] {
        assert_eq!(
            errors_of(&changes, Place::Cluster),
            Vec::<String>::new(),
            "{changes:?}"
        );
    }
    let paths = (
        "pipeline/source/files/paths",
        json!(["s3://aa/x.jsonl", "s3://aa/y.jsonl"]),
    );
    let combine = ("pipeline/source/files/combineBytes", json!("1Mi"));
    for changes in [
        vec![paths.clone(), combine, sink(single), steps(json!([]))],
        vec![paths, sink(single), steps(group)],
    ] {
        assert_eq!(
            errors_of(&changes, Place::Cluster),
            Vec::<String>::new(),
            "{changes:?}"
        );
    }
}

#[test]
fn limits_that_are_not_set_are_the_defaults() {
    let limits = |limits: Value| {
        let mut spec = good();
        set(&mut spec, "pipeline/limits", limits);
        let spec: ZephyrJobSpec = serde_json::from_value(spec).unwrap();
        let limits = spec.pipeline.effective_limits().unwrap();
        (limits.line_bytes, limits.nesting, limits.zstd_window)
    };
    assert_eq!(limits(json!({})), (64 << 20, 256, 2 << 30));
    assert_eq!(
        limits(json!({"lineBytes": "1M", "nesting": 7, "zstdWindow": "128Mi"})),
        (1_000_000, 7, 128 << 20)
    );
}

#[test]
fn an_item_nests_no_deeper_than_readers_of_manifests_allow() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let errors = |levels: usize| {
        let source = json!({"items": {"values": [0, nested(levels)], "shards": 1}});
        errors_of(&[("pipeline/source", source)], Place::Cluster)
    };
    assert_eq!(errors(100), Vec::<String>::new());
    assert_eq!(
        errors(101),
        [
            "spec.pipeline.source.items.values[1]: nests too deep (got 101 levels); at most 100 levels in a manifest, put such records into a file"
        ]
    );
}

#[test]
fn a_good_spec_has_no_errors() {
    assert_eq!(errors_of(&[], Place::Cluster), Vec::<String>::new());
}

#[test]
fn a_name_is_a_host_name_of_at_most_38_characters() {
    let spec: ZephyrJobSpec = serde_json::from_value(good()).expect("spec");
    for (name, message) in [
        (
            "",
            "metadata.name: is missing; a name of lower case letters, digits and dashes",
        ),
        (
            "a.b",
            "metadata.name: has a dot (got a.b); no dots, because the name becomes a host name",
        ),
        (
            "1a",
            "metadata.name: is not a valid host name (got 1a); lower case letters, digits and dashes, a letter first and no dash last",
        ),
        (
            "a-",
            "metadata.name: is not a valid host name (got a-); lower case letters, digits and dashes, a letter first and no dash last",
        ),
        (
            "A",
            "metadata.name: is not a valid host name (got A); lower case letters, digits and dashes, a letter first and no dash last",
        ),
    ] {
        let errors: Vec<_> = validate(&spec, name, Place::Cluster)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, [message], "{name}");
    }
    assert_eq!(validate(&spec, &"x".repeat(38), Place::Cluster), []);
    assert_eq!(
        validate(&spec, &"x".repeat(39), Place::Cluster)[0].wrong,
        "is too long"
    );
}

#[test]
fn uris_are_refused_with_the_first_thing_that_is_wrong() {
    let schemes = "a uri begins with s3://, gs:// or az:// and a bucket";
    for (uri, fault) in [
        ("", format!("is empty; required: {schemes}")),
        ("/local/path", format!("has no scheme (got /local/path); {schemes}")),
        ("s3://", "has no valid bucket (got s3://); a bucket follows the scheme: lower case letters, digits, dots, dashes".to_owned()),
        ("s3://B/x", "has no valid bucket (got s3://B/x); a bucket follows the scheme: lower case letters, digits, dots, dashes".to_owned()),
        ("s3://bb/../x", "has . or .. in its path, plain or percent-encoded (got s3://bb/../x); .. is not allowed, every part of the path is a name".to_owned()),
        ("s3://bb/%2E%2e/x", "has . or .. in its path, plain or percent-encoded (got s3://bb/%2E%2e/x); .. is not allowed, every part of the path is a name".to_owned()),
        ("file:///etc", format!("has a scheme that is not allowed (got file:///etc); {schemes}")),
        ("http://169.254.169.254/", format!("has a scheme that is not allowed (got http://169.254.169.254/); {schemes}")),
        ("s3://user:secret@bb/x", "contains credentials; credentials in a uri are not allowed, name a Secret in spec.storage.credentialsSecret".to_owned()),
        ("s3://bb/\u{1b}[31m", "has a control character; control characters are not allowed".to_owned()),
        ("s3://bb/a//b", "has an empty segment (//) (got s3://bb/a//b); single slashes between the parts of the path".to_owned()),
        ("gs://bb//b", "has an empty segment (//) (got gs://bb//b); single slashes between the parts of the path".to_owned()),
        ("s3://bb/*", "has a character that is not allowed (got s3://bb/*); a plain prefix, without ? # * [ ] { }".to_owned()),
    ] {
        check("storage/uri", json!(uri), &format!("spec.storage.uri: {fault}"));
    }
    assert_eq!(
        errors_of(
            &[(
                "storage/uri",
                json!(format!("s3://bb/{}", "x".repeat(1017)))
            )],
            Place::Cluster
        )
        .len(),
        1
    );
    assert_eq!(
        errors_of(
            &[(
                "storage/uri",
                json!(format!("s3://bb/{}", "x".repeat(1016)))
            )],
            Place::Cluster
        )
        .len(),
        0
    );
}

#[test]
fn a_doubled_slash_is_refused_in_a_key_and_means_nothing_on_a_disk() {
    for (pointer, path) in [
        (
            "pipeline/source/files/paths/0",
            "spec.pipeline.source.files.paths[0]",
        ),
        ("pipeline/sink/files/path", "spec.pipeline.sink.files.path"),
        ("storage/uri", "spec.storage.uri"),
    ] {
        let uri = "s3://other/a//{shard}.jsonl";
        let allowed = "single slashes between the parts of the path";
        let message = format!("{path}: has an empty segment (//) (got {uri}); {allowed}");
        check(pointer, json!(uri), &message);
    }
    let local = [(
        "pipeline/source/files/paths",
        json!(["file:///data//*.txt"]),
    )];
    assert_eq!(errors_of(&local, Place::Local), Vec::<String>::new());
}

#[test]
fn an_input_path_names_a_file_and_its_backslashes_stand_before_something() {
    let path = "spec.pipeline.source.files.paths[0]";
    let uri = "s3://other";
    let allowed = "a bucket and the name of a file, or a pattern such as folder/*";
    let message = format!("{path}: names no file (got {uri}); {allowed}");
    check("pipeline/source/files/paths/0", json!(uri), &message);
    for uri in ["s3://other/", "s3://other/in/", "s3://other/**/"] {
        let allowed = "add * for the files in it, or ** for all files below it";
        let message = format!("{path}: names a folder (got {uri}); {allowed}");
        check("pipeline/source/files/paths/0", json!(uri), &message);
    }
    check(
        "pipeline/source/files/paths/0",
        json!("s3://other/x\\"),
        &format!(
            "{path}: has a \\ at its end, which escapes nothing (got s3://other/x\\); write \\\\ for the character itself"
        ),
    );
    for uri in [
        "s3://other/\\[x\\]",
        "s3://other/\\{",
        "s3://other/[\\]x",
        "s3://other/\\\\",
    ] {
        let changes = [
            ("pipeline/source/files/paths/0", json!(uri)),
            ("pipeline/source/files/format", json!("text")),
        ];
        assert_eq!(
            errors_of(&changes, Place::Cluster),
            Vec::<String>::new(),
            "{uri}"
        );
    }
}

#[test]
fn files_of_this_machine_are_for_the_local_run_only() {
    let local = [
        ("pipeline/source/files/paths", json!(["file:///data/*.txt"])),
        (
            "pipeline/sink/files/path",
            json!("file:///out/{shard}.jsonl"),
        ),
        ("storage/uri", json!("file:///tmp/zephyr")),
    ];
    assert_eq!(errors_of(&local, Place::Local), Vec::<String>::new());
    assert_eq!(errors_of(&local, Place::Cluster).len(), 3);
    assert_eq!(
        errors_of(&[("storage/uri", json!("file://tmp"))], Place::Local),
        ["spec.storage.uri: has no absolute path (got file://tmp); file:/// and a path"]
    );
}

#[test]
fn input_output_and_storage_are_apart_from_each_other() {
    let sink = "spec.pipeline.sink.files.path";
    let paths = "spec.pipeline.source.files.paths[0]";
    for path in [
        "s3://corpus/en/{shard}.jsonl",
        "s3://corpus/en/out/{shard}.jsonl",
    ] {
        let message = format!(
            "{sink}: overlaps {paths}, s3://corpus/en/**/*.jsonl.zst (got {path}); output must not overlap input, write to another folder"
        );
        check("pipeline/sink/files/path", json!(path), &message);
    }
    check(
        "pipeline/sink/files/path",
        json!("s3://scratch/zephyr/out-{shard}.jsonl"),
        &format!(
            "{sink}: overlaps spec.storage.uri, s3://scratch/zephyr (got s3://scratch/zephyr/out-{{shard}}.jsonl); output must not overlap the storage prefix, write to another folder"
        ),
    );
    check(
        "pipeline/source/files/paths/0",
        json!("s3://scratch/zephyr/*.jsonl"),
        &format!(
            "{paths}: overlaps spec.storage.uri, s3://scratch/zephyr (got s3://scratch/zephyr/*.jsonl); input must not overlap the storage prefix, read from another folder"
        ),
    );
    for uri in [
        "s3://corpus/en/scratch",
        "s3://corpus/en/a/b/",
        "s3://corpus/en",
    ] {
        let [message] = &errors_of(&[("storage/uri", json!(uri))], Place::Cluster)[..] else {
            panic!("{uri} is accepted, or refused twice");
        };
        assert!(
            message.contains("storage prefix must not overlap input")
                || message.contains("input must not overlap the storage prefix"),
            "{message}"
        );
    }
    for path in [
        "s3://corpus/english/{shard}.jsonl",
        "s3://corpus/{shard}.jsonl",
        "s3://scratch/zephyr-out/{shard}.jsonl",
    ] {
        assert_eq!(
            errors_of(&[("pipeline/sink/files/path", json!(path))], Place::Cluster),
            Vec::<String>::new(),
            "{path}"
        );
    }
    let plain = [
        (
            "pipeline/source/files/paths",
            json!(["s3://corpus/en/words.txt"]),
        ),
        (
            "pipeline/sink/files/path",
            json!("s3://corpus/en/{shard}.jsonl"),
        ),
    ];
    assert_eq!(errors_of(&plain, Place::Cluster), Vec::<String>::new());
}

#[test]
fn the_name_of_an_output_has_no_doubled_slash_on_a_local_disk_either() {
    let local = [
        (
            "pipeline/sink/files/path",
            json!("file:////out/{shard}.jsonl"),
        ),
        ("storage/uri", json!("file:///tmp//zephyr")),
    ];
    assert_eq!(
        errors_of(&local, Place::Local),
        [
            "spec.pipeline.sink.files.path: has an empty segment (//) (got file:////out/{shard}.jsonl); single slashes between the parts of the path"
        ]
    );
}

#[test]
fn names_that_readers_skip_are_not_output() {
    let field = "pipeline/sink/files/path";
    let one = ("pipeline/steps", json!([{"count": {}}]));
    for name in [
        "_part-{shard}.jsonl",
        ".part-{shard}.jsonl",
        "_one.jsonl",
        "a/.one.jsonl",
        "_run{total}/part-{shard}.jsonl",
        "{shard}/_x/part.jsonl",
        "{shard}/.part.jsonl",
        "{total}-x/_{shard}.jsonl",
    ] {
        let path = format!("s3://out/{name}");
        let changes = [(field, json!(path)), one.clone()];
        let expected = format!(
            "spec.pipeline.sink.files.path: has a name that begins with _ or . (got {path}); a name that begins with another character, because readers of the output skip such files"
        );
        assert_eq!(errors_of(&changes, Place::Cluster), [expected]);
    }
    for name in [
        "_tmp/part-{shard}.jsonl",
        ".a/_b/{shard}.jsonl",
        "{shard}._x/a_b.jsonl",
        "a_.{shard}.jsonl",
    ] {
        let changes = [(field, json!(format!("s3://out/{name}"))), one.clone()];
        let none = Vec::<String>::new();
        assert_eq!(errors_of(&changes, Place::Cluster), none, "{name}");
    }
}

#[test]
fn names_of_markers_and_names_that_are_too_long_are_not_output() {
    let field = "pipeline/sink/files/path";
    let one = ("pipeline/steps", json!([{"count": {}}]));
    let format = ("pipeline/sink/files/format", json!("jsonl"));
    for name in [
        "_SUCCESS.json",
        "_STARTED.json",
        "_success.JSON",
        "{shard}/_SUCCESS.json",
    ] {
        let path = format!("s3://out/{name}");
        let changes = [(field, json!(path)), one.clone(), format.clone()];
        assert_eq!(
            errors_of(&changes, Place::Cluster),
            [format!(
                "spec.pipeline.sink.files.path: has a reserved name (got {path}); any name except _SUCCESS.json and _STARTED.json, which the job itself writes"
            )]
        );
    }
    for (path, place, fault) in [
        (
            format!("s3://out/{}/{{shard}}", "é".repeat(506)),
            Place::Cluster,
            "is too long for an object store key",
        ),
        (
            format!("file:///{}{{shard}}", "é".repeat(93)),
            Place::Local,
            "has a file name that is too long",
        ),
        (
            format!("file:///{}/{{shard}}", "x".repeat(256)),
            Place::Local,
            "has a folder name that is too long",
        ),
    ] {
        let changes = [(field, json!(path)), format.clone()];
        let message = errors_of(&changes, place);
        assert_eq!(message.len(), 1, "{message:?}");
        assert!(
            message[0].starts_with(&format!("spec.{}: {fault} (got ", field.replace('/', "."))),
            "{message:?}"
        );
        let shorter = json!(path.replacen("éééé", "", 1).replacen("xx", "", 1));
        assert_eq!(
            errors_of(&[(field, shorter), format.clone()], place),
            Vec::<String>::new(),
            "{path}"
        );
    }
}

#[test]
fn file_names_differ_by_shard_if_there_is_more_than_one() {
    let message = "spec.pipeline.sink.files.path: has no {shard}, but more than one shard is written (got s3://out/x.jsonl); put {shard} or {shard:05} into the name of the file";
    let sink = ("pipeline/sink/files/path", json!("s3://out/x.jsonl"));
    let items = |items: Value| ("pipeline/source", json!({"items": items}));
    let group = |shards: Value| json!([{"groupBy": {"key": ".", "aggregate": {"n": {"count": {}}}, "shards": shards}}]);
    let many = [
        vec![],
        vec![
            items(json!({"values": [1, 2]})),
            ("pipeline/steps", json!([])),
        ],
        vec![
            items(json!({"values": [1, 2]})),
            ("pipeline/steps", group(json!(null))),
        ],
        vec![
            items(json!({"values": [1], "shards": 2})),
            ("pipeline/steps", json!([])),
        ],
        vec![
            (
                "pipeline/source/files/paths",
                json!(["s3://aa/x.jsonl", "s3://aa/y.jsonl"]),
            ),
            ("pipeline/steps", json!([])),
        ],
    ];
    for mut changes in many {
        changes.push(sink.clone());
        assert_eq!(
            errors_of(&changes, Place::Cluster),
            [message],
            "{changes:?}"
        );
    }
    let one = [
        vec![("pipeline/steps", group(json!(1)))],
        vec![("pipeline/steps", json!([]))],
        vec![("pipeline/steps", json!([{"count": {}}]))],
        vec![
            items(json!({"values": [1, 2], "shards": 1})),
            ("pipeline/steps", json!([])),
        ],
    ];
    for mut changes in one {
        changes.push(sink.clone());
        assert_eq!(
            errors_of(&changes, Place::Cluster),
            Vec::<String>::new(),
            "{changes:?}"
        );
    }
}

#[test]
fn an_input_path_with_an_unknown_extension_is_refused_without_a_listing() {
    let allowed = ".jsonl, .ndjson, .txt or .text, before .gz or .zst if compressed; or set spec.pipeline.source.files.format";
    for uri in [
        "s3://bb/x.csv",
        "s3://bb/x",
        "s3://bb/x.gz",
        "s3://bb/x.csv.zst",
        "s3://bb/d.jsonl/x",
        "s3://bb/*.csv",
        "s3://bb/d/part-*.csv.gz",
        "s3://bb/**/*.parquet",
    ] {
        let hint = match uri {
            uri if uri.contains(".csv") => " to text, and take the lines apart in a map step",
            uri if uri.contains(".parquet") => {
                "; files of this format cannot be read yet, convert them to JSON lines"
            }
            "s3://bb/x" | "s3://bb/d.jsonl/x" => {
                "; if this is a folder, add /* for the files in it"
            }
            _ => "",
        };
        let message = format!(
            "spec.pipeline.source.files.paths[0]: has an extension that does not imply a format (got {uri}); {allowed}{hint}"
        );
        check("pipeline/source/files/paths/0", json!(uri), &message);
        let expected = [
            ("pipeline/source/files/paths/0", json!(uri)),
            ("pipeline/source/files/format", json!("text")),
        ];
        assert_eq!(
            errors_of(&expected, Place::Cluster),
            Vec::<String>::new(),
            "{uri}"
        );
    }
    for uri in [
        "s3://bb/x.JSONL",
        "s3://bb/x.txt.gz",
        "s3://bb/*",
        "s3://bb/**",
        "s3://bb/x*",
        "s3://bb/*.{jsonl,csv}",
        "s3://bb/*.c*",
        "s3://bb/x.csv*",
        "s3://bb/2024.01.*",
    ] {
        let paths = [("pipeline/source/files/paths/0", json!(uri))];
        assert_eq!(
            errors_of(&paths, Place::Cluster),
            Vec::<String>::new(),
            "{uri}"
        );
    }
}

#[test]
fn an_inline_number_that_the_api_server_does_not_keep_is_refused() {
    let items = |values: Value| {
        [(
            "pipeline/source",
            json!({"items": {"values": values, "shards": 1}}),
        )]
    };
    let allowed = "integers between -2^63 and 2^63; put others into quotes or into a file";
    for (value, path, got) in [
        (
            json!(9_223_372_036_854_775_808_u64),
            "[0]",
            "9223372036854775808",
        ),
        (
            json!(1.844_674_407_370_955_2e19),
            "[0]",
            "1.8446744073709552e+19",
        ),
        (json!({"a": [1, -1e30]}), "[0].a[1]", "-1e+30"),
        (json!(-0.0), "[0]", "-0.0"),
    ] {
        assert_eq!(
            errors_of(&items(json!([value])), Place::Cluster),
            [format!(
                "spec.pipeline.source.items.values{path}: is an integer that the API server does not keep exactly (got {got}); {allowed}"
            )]
        );
    }
    let good = json!([i64::MAX, i64::MIN, 0, 0.1, 1e-9, -1.5, null, "1e30", {"a": 1}]);
    assert_eq!(
        errors_of(&items(good), Place::Cluster),
        Vec::<String>::new()
    );
}

#[test]
fn a_null_inside_an_object_of_an_inline_item_is_refused() {
    let allowed = "leave the key out, write the value as JSON text and parse it in an expression (fromjson), or put records into a file";
    let errors = |values: &Value| {
        let items = json!({"items": {"values": values, "shards": 1}});
        [Place::Cluster, Place::Local].map(|place| {
            errors_of(&[("pipeline/source", items.clone())], place)
                .into_iter()
                .filter(|error| error.contains("items"))
                .collect::<Vec<_>>()
        })
    };
    for (item, path) in [
        (json!({"a": null, "b": 1}), ".a"),
        (json!({"x": {"a": null}}), ".x.a"),
        (json!([{"a": null}]), "[0].a"),
        (json!({"l": [1, {"a.b": null}]}), ".l[1].a.b"),
    ] {
        let expected = format!(
            "spec.pipeline.source.items.values[1]{path}: is null inside an object, which `kubectl apply` drops (got null); {allowed}"
        );
        let found = errors(&json!([0, item]));
        assert_eq!(found, [[expected.clone()], [expected]]);
    }
    // These values arrive unchanged, however they are applied.
    let kept = json!([null, [null, [null]], {"l": [null]}, {"e": {}}, {}, [], {"l": []}, ""]);
    assert_eq!(errors(&kept), [[""; 0]; 2]);
    let many = vec![json!({"a": null}); 100];
    assert_eq!(errors(&json!(many))[0].len(), 5);
}

#[test]
fn a_null_that_apply_dropped_is_found_in_the_manifest_that_it_keeps() {
    let dropped = |written: Value, stored: Value| {
        let mut spec = good();
        spec["pipeline"]["source"] = json!({"items": {"values": stored, "shards": 1}});
        let spec: ZephyrJobSpec = serde_json::from_value(spec).expect("the types take it");
        let applied = json!({"spec": {"pipeline": {"source": {"items": {"values": written}}}}});
        let errors = dropped_by_apply(&spec, &applied.to_string());
        let path = |error: &FieldError| error.path.clone();
        errors.iter().map(path).collect::<Vec<_>>()
    };
    let written = json!([{"a": null, "b": 1}, {"x": {"a": null}}, [{"a": null}], [null]]);
    let stored = json!([{"b": 1}, {"x": {}}, [{}], [null]]);
    let found = ["[0].a", "[1].x.a", "[2][0].a"]
        .map(|path| format!("spec.pipeline.source.items.values{path}"));
    assert_eq!(dropped(written.clone(), stored), found);
    // A manifest that was applied once and is older than the object on the server.
    assert_eq!(dropped(written, json!([{"a": null, "b": 1}])), [""; 0]);
    assert_eq!(dropped(json!([{"b": 1}]), json!([{"b": 1}])), [""; 0]);
    assert_eq!(dropped(json!(7), json!([{"b": 1}])), [""; 0]);
    let spec: ZephyrJobSpec = serde_json::from_value(good()).expect("the types take it");
    for other in ["", "{", "[]", "null"] {
        assert_eq!(dropped_by_apply(&spec, other), []);
    }
}

#[test]
fn a_column_inside_another_one_is_refused() {
    let select = |columns: Value| [("pipeline/steps/0", json!({"select": columns}))];
    let path = "spec.pipeline.steps[0].select";
    for (columns, message) in [
        (
            json!(["a", "a.b"]),
            format!(
                "{path}[1]: is inside the column a, which is selected as a whole (got a.b); only one of the two"
            ),
        ),
        (
            json!(["a.b.c", "x", "a"]),
            format!(
                "{path}[0]: is inside the column a, which is selected as a whole (got a.b.c); only one of the two"
            ),
        ),
        (
            json!(["a.b", "a.b"]),
            format!("{path}[1]: names a column twice (got a.b); each column once"),
        ),
    ] {
        assert_eq!(errors_of(&select(columns), Place::Cluster), [message]);
    }
    let good = json!(["a", "ab", "b.a", "b.c", "c.b.a"]);
    assert_eq!(
        errors_of(&select(good), Place::Cluster),
        Vec::<String>::new()
    );
}

#[test]
fn templates_of_file_names_have_known_placeholders_and_a_format() {
    let path = "spec.pipeline.sink.files.path";
    for (value, fault) in [
        (
            "s3://out/{shrad}.jsonl",
            "has a placeholder that is not known (got s3://out/{shrad}.jsonl); {shard} and {total}, or with a width {shard:05}, and {value:name} of spec.pipeline.values",
        ),
        (
            "s3://out/{shard:00}{shard}.jsonl",
            "has a placeholder that is not known (got s3://out/{shard:00}{shard}.jsonl); {shard} and {total}, or with a width {shard:05}, and {value:name} of spec.pipeline.values",
        ),
        (
            "s3://out/{shard}/",
            "names no file (got s3://out/{shard}/); a bucket and the name of a file",
        ),
        (
            "s3://out/{shard}*.jsonl",
            "has a character that is not allowed (got s3://out/{shard}*.jsonl); the name of a file, without ? # * [ ]",
        ),
    ] {
        check(
            "pipeline/sink/files/path",
            json!(value),
            &format!("{path}: {fault}"),
        );
    }
    check(
        "pipeline/sink/files/path",
        json!("s3://out/{shard}"),
        "spec.pipeline.sink.files.format: cannot be derived from the extension of path (got s3://out/{shard}); set jsonl or text",
    );
    let said = [
        ("pipeline/sink/files/path", json!("s3://out/{shard}")),
        ("pipeline/sink/files/format", json!("text")),
    ];
    assert_eq!(errors_of(&said, Place::Cluster), Vec::<String>::new());
}

#[test]
fn a_compression_that_contradicts_the_name_of_the_file_is_refused() {
    let errors = |path: &str, compression: &str| {
        let changes = [
            ("pipeline/sink/files/path", json!(path)),
            ("pipeline/sink/files/compression", json!(compression)),
        ];
        errors_of(&changes, Place::Cluster)
    };
    for (path, other) in [
        ("s3://out/{shard}.jsonl.gz", "zst"),
        ("s3://out/{shard}.jsonl.GZ", "none"),
        ("s3://out/{shard}.jsonl.zst", "gz"),
    ] {
        let message = format!(
            "spec.pipeline.sink.files.compression: does not match the extension of path (got {path}); omit it, or change the extension of path"
        );
        assert_eq!(errors(path, other), [message]);
    }
    for (path, same) in [
        ("s3://out/{shard}.jsonl.gz", "gz"),
        ("s3://out/{shard}.jsonl", "zst"),
        ("s3://out/{shard}.jsonl", "none"),
    ] {
        assert_eq!(errors(path, same), Vec::<String>::new());
    }
}

#[test]
fn aggregates_and_the_order_of_a_group_name_what_is_wrong_in_them() {
    let step = "spec.pipeline.steps[0]";
    let group = |fields: Value| {
        let mut step = json!({"groupBy": {"key": ".", "aggregate": {"n": {"first": "."}}}});
        let all = step["groupBy"].as_object_mut().unwrap();
        all.extend(fields.as_object().unwrap().clone());
        step
    };
    for (value, message) in [
        (
            group(json!({"descending": false})),
            ".groupBy.descending: has no effect without sortBy; sortBy beside it, or no descending",
        ),
        (
            group(json!({"sortBy": ".a", "aggregate": {"n": {"sum": "."}}})),
            ".groupBy.sortBy: has no effect, because no aggregate depends on the order of the records (got .a); first, last, collect or reduce, or no sortBy",
        ),
        (
            group(json!({"sortBy": " "})),
            ".groupBy.sortBy: is empty; a jq expression, . for the record itself",
        ),
        (
            json!({"aggregate": {"n": {"percentile": {"of": ".", "p": 0.123_456_78}}}}),
            ".aggregate.n.percentile.p: is not a rank (got 0.12345678); a number from 0 to 1 with at most six decimal places, such as 0.95",
        ),
        (
            json!({"aggregate": {"n": {"topK": {"by": ".", "k": 10_001}}}}),
            ".aggregate.n.topK.k: is out of range (got 10001); must be 1..10000",
        ),
        (
            json!({"aggregate": {"n": {"topK": {"by": "", "k": 1}}}}),
            ".aggregate.n.topK.by: is empty; a jq expression, . for the record itself",
        ),
        (
            json!({"aggregate": {}}),
            ".aggregate: has no aggregates, or too many (got 0); 1..32 aggregates",
        ),
    ] {
        check("pipeline/steps/0", value, &format!("{step}{message}"));
    }
    let named_key = json!({"aggregate": {"key": {"count": {}}}});
    let named_key = errors_of(&[("pipeline/steps/0", named_key)], Place::Cluster);
    assert_eq!(named_key, [""; 0]);
}

#[test]
fn steps_on_columns_and_on_positions_name_what_is_wrong_in_them() {
    let step = "spec.pipeline.steps[0]";
    for (value, message) in [
        (
            json!({"drop": ["a", "a.b"]}),
            format!(
                "{step}.drop[1]: is inside the column a, which is dropped as a whole (got a.b); only one of the two"
            ),
        ),
        (
            json!({"rename": {}}),
            format!("{step}.rename: has no columns, or too many (got 0); 1..256 columns"),
        ),
        (
            json!({"rename": {"a": "a"}}),
            format!("{step}.rename.a: renames a column to itself (got a); another name"),
        ),
        (
            // In YAML, `y: z`.
            json!({"rename": {"true": "z"}}),
            format!(
                "{step}.rename.true: must not rename a column named true or false; YAML reads y, n, yes, no, on and off as these, so put such a name in quotes"
            ),
        ),
        (
            json!({"rename": {"a": "c", "b": "c"}}),
            format!(
                "{step}.rename.b: is the new name of another column too (got c); each new name once"
            ),
        ),
        (
            json!({"rename": {"a.b": "c"}}),
            format!(
                "{step}.rename.a.b: renames a column into another object (got c); a name beside it, such as a.c; a map can move a column"
            ),
        ),
        (
            json!({"rename": {"a": "x.", "b": "y"}}),
            format!(
                "{step}.rename.a: is not a valid column name (got x.); names joined by dots, such as a or b.c"
            ),
        ),
        (
            json!({"rename": {"a": "c", "a.b": "a.d"}}),
            format!(
                "{step}.rename.a.b: is inside the column a, which is renamed as a whole (got a.b); only one of the two"
            ),
        ),
        (
            json!({"rename": {"x".repeat(257): "c"}}),
            format!(
                "{step}.rename.{}: is too long a column name (got 257); at most 256 characters",
                "x".repeat(257)
            ),
        ),
        (
            json!({"sample": {"fraction": 5}}),
            format!(
                "{step}.sample.fraction: is not a fraction (got 5); a number from 0 to 1, such as 0.01"
            ),
        ),
        (
            json!({"sample": {"fraction": 0.5, "seed": 9_007_199_254_740_992_u64}}),
            format!(
                "{step}.sample.seed: is out of range (got 9007199254740992); must be 0..9007199254740991"
            ),
        ),
        (
            json!({"window": 0}),
            format!("{step}.window: is out of range (got 0); must be 1..1000000000"),
        ),
        (
            json!({"windowBy": {"init": "0", "update": "1", "while": ""}}),
            format!("{step}.windowBy.while: is empty; a jq expression, . for the record itself"),
        ),
    ] {
        check("pipeline/steps/0", value, &message);
    }
    let steps = json!([{"drop": ["a", "b"]}, {"drop": ["c.d"]}, {"rename": {"c.d": "c.e", "b.x": "b.y", "z": "a"}}, {"rename": {"a": "b"}}]);
    let steps = errors_of(&[("pipeline/steps", steps)], Place::Cluster);
    let wrong = "renames a column that the step before it drops; only one of the two";
    let paths = ["rename.b.x", "rename.c.d"];
    assert_eq!(
        steps,
        paths.map(|path| format!("spec.pipeline.steps[2].{path}: {wrong}"))
    );
}

#[test]
fn a_step_is_exactly_one_thing_and_names_what_is_wrong_in_it() {
    let step = "spec.pipeline.steps[0]";
    let all = "exactly one of map, filter, flatMap, select, drop, rename, sample, takePerShard, window, windowBy, exec, groupBy, deduplicate, count, aggregate";
    let group = |aggregate: Value| json!({"groupBy": {"key": ".", "aggregate": aggregate}});
    for (value, message) in [
        (
            json!({}),
            format!("{step}: must have exactly one field (got 0); {all}"),
        ),
        (
            json!({"map": ".", "filter": "."}),
            format!("{step}: must have exactly one field (got 2); {all}"),
        ),
        (
            json!({"map": " "}),
            format!("{step}.map: is empty; a jq expression, . for the record itself"),
        ),
        (
            json!({"map": "x".repeat(8193)}),
            format!("{step}.map: is too long (got 8193 characters); at most 8192 characters"),
        ),
        (
            json!({"select": []}),
            format!("{step}.select: has no columns, or too many (got 0); 1..256 columns"),
        ),
        (
            json!({"select": ["a..b"]}),
            format!(
                "{step}.select[0]: is not a valid column name (got a..b); names joined by dots, such as a or b.c"
            ),
        ),
        (
            json!({"select": ["a", "a"]}),
            format!("{step}.select[1]: names a column twice (got a); each column once"),
        ),
        (
            json!({"takePerShard": 0}),
            format!("{step}.takePerShard: is out of range (got 0); must be 1..1000000000000"),
        ),
        (
            json!({"deduplicate": {"key": ""}}),
            format!("{step}.deduplicate.key: is empty; a jq expression, . for the record itself"),
        ),
        (
            json!({"deduplicate": {"key": ".", "shards": 0}}),
            format!("{step}.deduplicate.shards: is out of range (got 0); must be 1..100000"),
        ),
        (
            group(json!({})),
            format!(
                "{step}.groupBy.aggregate: has no aggregates, or too many (got 0); 1..32 aggregates"
            ),
        ),
        (
            group(json!({"key": {"count": {}}})),
            format!(
                "{step}.groupBy.aggregate: must not have an aggregate named key (got key); key is reserved for the key of the group"
            ),
        ),
        (
            group(json!({"false": {"count": {}}})),
            format!(
                "{step}.groupBy.aggregate: must not have an aggregate named true or false; YAML reads y, n, yes, no, on and off as these, so put such a name in quotes"
            ),
        ),
        (
            group(json!({"a b": {"count": {}}})),
            format!(
                "{step}.groupBy.aggregate: has a name that is not valid (got a b); at most 63 letters, digits and underscores, no digit first"
            ),
        ),
        (
            group(json!({"n": {"count": {}, "sum": "."}})),
            format!(
                "{step}.groupBy.aggregate.n: must have exactly one field (got 2); exactly one of count, sum, min, max, avg, collect, first, last, countDistinct, any, all, stddev, topK, percentile, reduce"
            ),
        ),
        (
            group(json!({"n": {"sum": ""}})),
            format!(
                "{step}.groupBy.aggregate.n.sum: is empty; a jq expression, . for the record itself"
            ),
        ),
    ] {
        check("pipeline/steps/0", value, &message);
    }
    check(
        "pipeline/steps",
        json!(vec![json!({"map": "."}); 101]),
        "spec.pipeline.steps: has too many steps (got 101); at most 100",
    );
}

#[test]
fn a_source_is_exactly_one_thing_with_bounds() {
    check(
        "pipeline/source",
        json!({}),
        "spec.pipeline.source: must have exactly one field (got 0); exactly one of items, files",
    );
    check(
        "pipeline/source",
        json!({"items": {"values": vec![0; 1001]}}),
        "spec.pipeline.source.items.values: has too many items (got 1001); at most 1000, put records into a file",
    );
    check(
        "pipeline/source/files/paths",
        json!([]),
        "spec.pipeline.source.files.paths: has no paths, or too many (got 0); 1..100 paths or globs",
    );
    for glob in [
        "s3://corpus/[a.txt",
        "s3://corpus/{a,b.txt",
        "s3://corpus/a}.txt",
    ] {
        let message = format!(
            "spec.pipeline.source.files.paths[0]: has brackets or braces that do not match (got {glob}); globs are *, **, ?, [..] and {{a,b}}"
        );
        check("pipeline/source/files/paths/0", json!(glob), &message);
    }
}

#[test]
fn fault_3908_a_spec_is_not_a_place_for_data() {
    let errors = errors_of(
        &[(
            "pipeline/source",
            json!({"items": {"values": ["x".repeat(70_000)]}}),
        )],
        Place::Cluster,
    );
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("spec: is too large (got 7")
            && errors[0].ends_with("; at most 65536 bytes as JSON, put records into a file"),
        "{errors:?}"
    );
}

#[test]
fn numbers_and_durations_have_bounds() {
    for (pointer, value, fault) in [
        (
            "workers/replicas",
            json!(0),
            "is out of range (got 0); must be 1..10000",
        ),
        (
            "workers/replicas",
            json!(10_001),
            "is out of range (got 10001); must be 1..10000",
        ),
        (
            "workers/slots",
            json!(257),
            "is out of range (got 257); must be 0..256",
        ),
        (
            "retries/maxGenerations",
            json!(101),
            "is out of range (got 101); must be 1..100",
        ),
        (
            "retries/taskFailures",
            json!(0),
            "is out of range (got 0); must be 1..20",
        ),
        (
            "retries/backoff/factor",
            json!(0),
            "is out of range (got 0); must be 1..10",
        ),
        (
            "retries/noWorkersTimeout",
            json!("5"),
            "is not a duration: a duration needs a unit after 5, such as 5m (got 5); from 30s to 24h",
        ),
        (
            "retries/noWorkersTimeout",
            json!("0s"),
            "is out of range (got 0s); must be 30s..24h",
        ),
        (
            "retries/noWorkersTimeout",
            json!("999999h"),
            "is out of range (got 999999h); must be 30s..24h",
        ),
        (
            "retries/taskStallTimeout",
            json!("500ms"),
            "is out of range (got 500ms); must be 1s..24h",
        ),
        (
            "retries/taskTimeout",
            json!("500ms"),
            "is out of range (got 500ms); must be 1s..168h",
        ),
        (
            "storage/ledgerTTL",
            json!("59m"),
            "is out of range (got 59m); must be 1h..8760h",
        ),
        (
            "storage/ledgerTTL",
            json!("8761h"),
            "is out of range (got 8761h); must be 1h..8760h",
        ),
        (
            "storage/ledgerTTL",
            json!("7d"),
            "is not a duration: d is not a unit of time; units are h, m, s, ms (got 7d); from 1h to 8760h",
        ),
        (
            "retries/backoff/initial",
            json!("6m"),
            "is longer than max (got 6m); at most spec.retries.backoff.max",
        ),
        (
            "failedPodsTTL",
            json!("25h"),
            "is out of range (got 25h); must be 0s..24h",
        ),
        (
            "ttlSecondsAfterFinished",
            json!(-1),
            "is out of range (got -1); must be 0..2147483647",
        ),
    ] {
        check(
            pointer,
            value,
            &format!("spec.{}: {fault}", pointer.replace('/', ".")),
        );
    }
}

#[test]
fn only_a_graceful_cancel_removes_the_output() {
    let message = "spec.cancel.keepOutput: is false, and mode is Immediate; only the coordinator can remove files, so mode must be Graceful";
    let cancel = json!({"mode": "Immediate", "keepOutput": false});
    check("cancel", cancel, message);
}

#[test]
fn another_controller_has_a_name_with_a_domain() {
    let allowed =
        "a domain, a slash and a name, such as zephyr.dev/operator or kueue.x-k8s.io/multikueue";
    for name in ["other", "Other.example/a", "a..b/c", "a.b/", "a.b/-c"] {
        let fault = format!("spec.managedBy: is not a name with a domain (got {name}); {allowed}");
        check("managedBy", json!(name), &fault);
    }
}

#[test]
fn a_job_to_continue_is_named_by_its_uid_and_its_digest() {
    let uid = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";
    let digest = "0123456789abcdef0123456789abcdef";
    for job in ["", "count", "0E5C9D0A-6A0B-4A6E-9A63-5A8F1DF2A1D7"] {
        let fault = format!(
            "spec.restoreFrom.job: is not the uid of a job (got {job}); the uid that `kubectl zephyr export` prints"
        );
        let value = json!({"job": job, "digest": digest});
        check("restoreFrom", value, &fault);
    }
    for wrong in ["d", "0123456789ABCDEF0123456789ABCDEF"] {
        let fault = format!(
            "spec.restoreFrom.digest: is not the digest of an archive (got {wrong}); the 32 hexadecimal digits that `kubectl zephyr export` prints"
        );
        check("restoreFrom", json!({"job": uid, "digest": wrong}), &fault);
    }
}

#[test]
fn resources_are_quantities_within_each_other() {
    for (value, message) in [
        (
            json!({"limits": {"cpu": "lots"}}),
            "limits.cpu: is not a quantity: a quantity is a number with a suffix such as m, k, M, G, Ki, Mi, Gi (got lots); a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
        ),
        (
            json!({"limits": {"memory": "1GB"}}),
            "limits.memory: is not a quantity: GB is not a suffix of a quantity; write Gi (got 1GB); a number with a suffix such as m, k, M, G, Ki, Mi, Gi",
        ),
        (
            json!({"limits": {"memory": "-1Gi"}}),
            "limits.memory: is not positive (got -1Gi); must be > 0",
        ),
        (
            json!({"limits": {"cpu": 0}}),
            "limits.cpu: is not positive (got 0); must be > 0",
        ),
        (
            json!({"limits": {"memory": "16Mi"}}),
            "limits.memory: is too little memory (got 16Mi); minimum 128Mi",
        ),
        (
            json!({"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}),
            "requests.cpu: is greater than the limit (got 2); requests must be <= limits",
        ),
    ] {
        check(
            "workers/resources",
            value.clone(),
            &format!("spec.workers.resources.{message}"),
        );
        check(
            "coordinator/resources",
            value,
            &format!("spec.coordinator.resources.{message}"),
        );
    }
}

#[test]
fn pod_settings_reach_neither_our_own_names_nor_the_control_plane() {
    for (pointer, value, message) in [
        (
            "env",
            json!([{"name": "1X"}]),
            "env[0].name: is not a valid environment variable name (got 1X); letters, digits and underscores, no digit first",
        ),
        (
            "env",
            json!([{"name": ""}]),
            "env[0].name: is not a valid environment variable name (got ); letters, digits and underscores, no digit first",
        ),
        (
            "env",
            json!([{"name": "ZEPHYR_TOKEN"}]),
            "env[0].name: is a reserved name (got ZEPHYR_TOKEN); any name except ZEPHYR_*, LD_* and POD_NAME, POD_UID, RUST_LOG, TMPDIR",
        ),
        (
            "env",
            json!([{"name": "A"}, {"name": "A"}]),
            "env[1].name: is set twice (got A); each variable once",
        ),
        (
            "env",
            json!([{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            "env[0]: has both value and valueFrom; only one of them",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {}}]),
            "env[0].valueFrom: must have exactly one field (got 0); exactly one of secretKeyRef, configMapKeyRef",
        ),
        (
            "env",
            json!(
                (0..101)
                    .map(|index| json!({"name": format!("A{index}")}))
                    .collect::<Vec<_>>()
            ),
            "env: has too many variables (got 101); at most 100",
        ),
        (
            "env",
            json!([{"name": "A", "value": "x".repeat(4097)}]),
            "env[0].value: has too many characters (got 4097); at most 4096",
        ),
        (
            "tolerations",
            json!(vec![json!({"key": "a"}); 21]),
            "tolerations: has too many tolerations (got 21); at most 20",
        ),
        (
            "envFrom",
            json!([{"secretRef": {"name": "other/x"}}]),
            "envFrom[0].secretRef.name: is not a valid object name (got other/x); a name in the same namespace: lower case letters, digits, dashes and dots",
        ),
        (
            "labels",
            json!({"zephyr.dev/job": "x"}),
            "labels: has a key with a reserved prefix (got zephyr.dev/job); any label but zephyr.dev/* and app.kubernetes.io/*",
        ),
        (
            "labels",
            json!({"a": "b c"}),
            "labels[a]: is not a valid label value (got b c); at most 63 letters, digits, dashes, underscores and dots, a letter or digit first and last",
        ),
        (
            "annotations",
            json!({"a b": "x"}),
            "annotations: has a key that is not valid (got a b); an optional host name and a slash, then at most 63 letters, digits, dashes, underscores and dots",
        ),
        (
            "tolerations",
            json!([{"key": "node-role.kubernetes.io/control-plane"}]),
            "tolerations[0]: tolerates a taint that is not allowed (got node-role.kubernetes.io/control-plane); any taint except those of the control plane",
        ),
        (
            "tolerations",
            json!([{"key": "a", "tolerationSeconds": 5}]),
            "tolerations[0].tolerationSeconds: is set without effect NoExecute (got 5); set effect: NoExecute or leave it out",
        ),
        (
            "serviceAccountName",
            json!("A"),
            "serviceAccountName: is not a valid object name (got A); a name in the same namespace: lower case letters, digits, dashes and dots",
        ),
    ] {
        for role in ["coordinator", "workers"] {
            check(
                &format!("{role}/template/{pointer}"),
                value.clone(),
                &format!("spec.{role}.template.{message}"),
            );
        }
    }
}

#[test]
fn fault_4956_the_coordinator_never_selects_preemptible_nodes() {
    let nowhere = "spec.coordinator.template.nodeSelector: selects preemptible nodes; the coordinator must not be preemptible, select other nodes or none";
    check(
        "coordinator/template/nodeSelector",
        json!({"karpenter.sh/capacity-type": "spot"}),
        nowhere,
    );
    let pool = [
        (
            "workers/preemptible",
            json!({"provider": "custom", "nodeSelector": {"pool": "spot"}}),
        ),
        (
            "coordinator/template/nodeSelector",
            json!({"pool": "spot", "zone": "a"}),
        ),
    ];
    assert_eq!(errors_of(&pool, Place::Cluster), [nowhere]);
    let spot =
        json!({"key": "eks.amazonaws.com/capacityType", "operator": "In", "values": ["SPOT"]});
    let terms = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [spot]}]}}});
    check(
        "coordinator/template/affinity",
        terms,
        "spec.coordinator.template.affinity.nodeAffinity: allows preemptible nodes only; the coordinator must not be preemptible, select other nodes or none",
    );
}

#[test]
fn only_the_custom_provider_has_settings_and_needs_them() {
    check(
        "workers/preemptible",
        json!({"provider": "custom"}),
        "spec.workers.preemptible.nodeSelector: is missing; provider custom needs the labels of its nodes",
    );
    check(
        "workers/preemptible",
        json!({"provider": "gke", "nodeSelector": {"a": "b"}}),
        "spec.workers.preemptible: has nodeSelector or tolerations although provider is not custom; remove them or set provider: custom",
    );
}

#[test]
fn a_command_is_a_program_with_words_and_variables_that_a_system_can_pass() {
    let errors = |exec: Value| {
        errors_of(
            &[(
                "pipeline",
                json!({
                    "source": {"items": {"values": [1], "shards": 1}},
                    "steps": [{"exec": exec}],
                    "sink": {"files": {"path": "s3://bucket/o.jsonl"}},
                }),
            )],
            Place::Cluster,
        )
    };
    for good in [
        json!({"command": ["cat"]}),
        json!({"command": ["/bin/sh", "-c", "a | ./b"], "env": {"A": "", "b_1": "$x"}, "format": "jsonl", "slots": 1, "mayIgnoreInput": true, "reuse": false}),
        json!({"command": ["cat"], "reuse": true, "mayIgnoreInput": false}),
    ] {
        assert_eq!(errors(good.clone()), Vec::<String>::new(), "{good}");
    }
    let path = "spec.pipeline.steps[0].exec";
    for (bad, begin) in [
        (json!({"command": []}), ".command: is empty"),
        (json!({"command": [""]}), ".command: has no program"),
        (
            json!({"command": ["./x"]}),
            ".command: begins with a relative path (got ./x)",
        ),
        (
            json!({"command": vec!["a"; 65]}),
            ".command: has too many words (got 65)",
        ),
        (
            json!({"command": ["a", "b\u{0}"]}),
            ".command[1]: contains a zero character",
        ),
        (
            json!({"command": ["a"], "env": {"ZEPHYR_X": "1"}}),
            ".env: has a name that is not valid (got ZEPHYR_X)",
        ),
        (
            json!({"command": ["a"], "env": {"a=b": "1"}}),
            ".env: has a name that is not valid (got a=b)",
        ),
        (json!({"command": ["a"], "slots": 0}), ".slots: "),
        (
            json!({"command": ["a"], "reuse": true, "mayIgnoreInput": true}),
            ": has both reuse and mayIgnoreInput; at most one of them",
        ),
        (
            json!({"command": ["a"], "slots": 2}),
            ".slots: takes more slots than a worker has (got 2); at most 1",
        ),
    ] {
        let found = errors(bad.clone());
        let first = found.first().cloned().unwrap_or_default();
        assert!(
            first.starts_with(&format!("{path}{begin}")),
            "{bad}: {found:?}"
        );
    }
}

#[test]
fn a_mount_is_one_object_in_a_folder_of_its_own() {
    let errors = |mounts: Value| {
        let workers = json!({"replicas": 1, "mounts": mounts, "image": "python:3"});
        errors_of(&[("workers", workers)], Place::Cluster)
    };
    let good = json!([{"path": "/scripts", "configMap": "a"}, {"path": "/a/b.c", "secret": "b"}]);
    assert_eq!(errors(good), Vec::<String>::new());
    for (bad, words) in [
        (
            json!([{"path": "/a"}]),
            "spec.workers.mounts[0]: has not exactly one of configMap and secret (got /a)",
        ),
        (
            json!([{"path": "/a", "configMap": "a", "secret": "b"}]),
            "has not exactly one",
        ),
        (
            json!([{"path": "a", "secret": "b"}]),
            "spec.workers.mounts[0]: has a path that is not allowed (got a)",
        ),
        (
            json!([{"path": "/", "secret": "b"}]),
            "path that is not allowed",
        ),
        (
            json!([{"path": "/a/../b", "secret": "b"}]),
            "path that is not allowed",
        ),
        (
            json!([{"path": "/tmp/x", "secret": "b"}]),
            "path that is not allowed",
        ),
        (
            json!([{"path": "/zephyr", "secret": "b"}]),
            "path that is not allowed",
        ),
        (
            json!([{"path": "/var/run/zephyr/token", "secret": "b"}]),
            "path that is not allowed",
        ),
        (
            json!([{"path": "/a", "secret": "b"}, {"path": "/a/c", "secret": "d"}]),
            "spec.workers.mounts[1]: has the path of another mount",
        ),
        (
            json!([{"path": "/a", "secret": "B!"}]),
            "spec.workers.mounts[0].secret: is not a valid object name",
        ),
    ] {
        let found = errors(bad.clone());
        assert!(
            found.iter().any(|error| error.contains(words)),
            "{bad}: {found:?}"
        );
    }
    assert_eq!(
        errors(json!([{"path": "/tmpx", "secret": "b"}])),
        Vec::<String>::new()
    );
}

#[test]
fn images_are_references_or_empty() {
    for good in [
        "",
        "zephyr-worker:1",
        "ghcr.io/a/b:1.0",
        "localhost:5000/a",
        "a/b",
        "r.example/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        assert_eq!(
            errors_of(&[("image", json!(good))], Place::Cluster),
            Vec::<String>::new(),
            "{good}"
        );
    }
    for bad in [
        "a b",
        "Repo/x",
        "a:b:c",
        "a/",
        "/a",
        "a@sha256:0",
        "ghcr.io/A/b",
        "a:",
    ] {
        let message = format!(
            "spec.image: is not a valid image reference (got {bad}); registry/repository:tag or registry/repository@sha256:digest with the repository in lower case, or empty for the release that the operator belongs to"
        );
        check("image", json!(bad), &message);
    }
}

#[test]
fn on_error_is_beside_what_can_fail_and_has_fields_that_have_an_effect() {
    let step = "spec.pipeline.steps[0].onError";
    let skip = |fields: Value| {
        let mut on_error = json!({"action": "Skip"});
        if let (Some(on_error), Value::Object(fields)) = (on_error.as_object_mut(), fields) {
            on_error.extend(fields);
        }
        on_error
    };
    for (name, value) in [
        ("map", json!(".")),
        ("filter", json!(".")),
        ("flatMap", json!(".[]")),
        ("select", json!(["a"])),
        ("deduplicate", json!({"key": "."})),
    ] {
        let all = skip(json!({"maxSkipped": 0, "maxSkippedPercent": 0.0001, "messages": "Hide"}));
        let good = json!({name: value, "onError": all});
        assert_eq!(
            errors_of(&[("pipeline/steps/0", good)], Place::Cluster),
            [""; 0]
        );
    }
    let source = "pipeline/source/files/onError";
    assert_eq!(
        errors_of(&[(source, skip(json!({})))], Place::Cluster),
        [""; 0]
    );
    let fail = json!({"action": "Fail"});
    assert_eq!(errors_of(&[(source, fail)], Place::Cluster), [""; 0]);
    check(
        source,
        json!({"action": "Fail", "maxSkipped": 3}),
        "spec.pipeline.source.files.onError: has fields that have no effect with action Fail (got Fail); Skip, or no other field",
    );
    for (wrong, message) in [
        (
            json!({"count": {}, "onError": skip(json!({}))}),
            "is beside a step that does not fail on a single record; onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate",
        ),
        (
            json!({"exec": {"command": ["cat"]}, "onError": skip(json!({}))}),
            "is beside a step that does not fail on a single record; onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate",
        ),
        (
            json!({"window": 2, "onError": skip(json!({}))}),
            "is beside a step that does not fail on a single record; onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate",
        ),
        (
            json!({"takePerShard": 1, "onError": {"action": "Fail"}}),
            "is beside a step that does not fail on a single record; onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate",
        ),
    ] {
        check("pipeline/steps/0", wrong, &format!("{step}: {message}"));
    }
    for (fields, message) in [
        (
            json!({"maxSkipped": 1_000_000_000_001_u64}),
            ".maxSkipped: is out of range (got 1000000000001); must be 0..1000000000000",
        ),
        (
            json!({"maxSkippedPercent": 100.5}),
            ".maxSkippedPercent: is not a percentage (got 100.5); a number from 0 to 100 with at most four decimal places, such as 0.1",
        ),
        (
            json!({"maxSkippedPercent": 0.00001}),
            ".maxSkippedPercent: is not a percentage (got 0.00001); a number from 0 to 100 with at most four decimal places, such as 0.1",
        ),
    ] {
        let wrong = json!({"map": ".", "onError": skip(fields)});
        check("pipeline/steps/0", wrong, &format!("{step}{message}"));
    }
}

#[test]
fn dead_letters_are_in_the_folder_of_the_output_with_names_of_their_own() {
    let letter = |path: &str| json!({"action": "DeadLetter", "path": path});
    let source = "pipeline/source/files/onError";
    for good in [
        "s3://out/wordcount/bad/part-{shard:05}.jsonl.gz",
        "s3://out/wordcount/bad-{shard}-of-{total}.ndjson",
        "s3://out/wordcount/{shard}/bad.jsonl.zst",
    ] {
        assert_eq!(
            errors_of(&[(source, letter(good))], Place::Cluster),
            [""; 0],
            "{good}"
        );
    }
    let field = "spec.pipeline.source.files.onError.path";
    for (path, message) in [
        (
            "s3://out/bad/{shard}.jsonl",
            "is not in the folder of the output, which is the only one that the job claims (got s3://out/bad/{shard}.jsonl); a path that begins with s3://out/wordcount/",
        ),
        (
            "s3://out/wordcount/bad.jsonl",
            "has no {shard} (got s3://out/wordcount/bad.jsonl); put {shard} or {shard:05} into the name of the file",
        ),
        (
            "s3://out/wordcount/bad-{shard}.txt",
            "has an extension that is not allowed (got s3://out/wordcount/bad-{shard}.txt); .jsonl or .ndjson, before .gz or .zst if compressed",
        ),
        (
            "s3://out/wordcount/_bad/{shard}.jsonl",
            "has a folder whose name begins with _ or . (got s3://out/wordcount/_bad/{shard}.jsonl); a folder such as bad/; a later run that replaces the output finds no files in folders with _ or . first",
        ),
        (
            "s3://out/wordcount/{shard}-{field}.jsonl",
            "has a placeholder that is not known (got s3://out/wordcount/{shard}-{field}.jsonl); {shard} and {total}, or with a width {shard:05}, and {value:name} of spec.pipeline.values",
        ),
    ] {
        check(source, letter(path), &format!("{field}: {message}"));
    }
    check(
        source,
        json!({"action": "DeadLetter"}),
        "spec.pipeline.source.files.onError.path: is missing; a path in the folder of the output or below it, such as s3://bucket/out/bad/part-{shard}.jsonl",
    );
    check(
        source,
        json!({"action": "Skip", "path": "s3://out/wordcount/bad/{shard}.jsonl"}),
        "spec.pipeline.source.files.onError.path: has no effect without action DeadLetter (got s3://out/wordcount/bad/{shard}.jsonl); action: DeadLetter, or no path",
    );
    let own = errors_of(
        &[(
            source,
            letter("s3://out/wordcount/part-{shard:05}-of-{total:05}.jsonl.gz"),
        )],
        Place::Cluster,
    );
    assert!(
        own.iter()
            .any(|error| error.starts_with(field) && error.contains("overlap")),
        "{own:?}"
    );
    let with_value = [
        (
            source,
            letter("s3://out/wordcount/{value:day}/bad-{shard}.jsonl"),
        ),
        ("pipeline/values", json!({"day": "monday"})),
    ];
    assert_eq!(errors_of(&with_value, Place::Cluster), [""; 0]);
}
