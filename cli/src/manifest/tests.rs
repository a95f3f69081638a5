//! Tests that manifests are read as `kubectl` reads them. `kubectl.jsonl` has a row for each text:
//! the text, and the JSON that sigs.k8s.io/yaml v1.6.0 (`YAMLToJSON`, which `kubectl` 1.34 calls)
//! returned for it, or null if it refused the text.

use std::fmt::Write as _;

use serde_json::Value;
use zephyr_crds::validate::Place;

use super::{json, parse, read, source, yaml};

const GOOD: &str = r#"
apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: { name: count }
spec:
  pipeline:
    source: { files: { paths: ["s3://in/*.jsonl"] } }
    steps: [ { count: {} } ]
    sink: { files: { path: "s3://out/count.jsonl" } }
  storage: { uri: "s3://scratch/zephyr" }
  workers: { replicas: 2 }
"#;

fn message(text: &str) -> String {
    parse("job.yaml", text, None, Place::Cluster)
        .expect_err("it is refused")
        .to_string()
}

#[test]
fn a_good_manifest_may_have_carriage_returns_and_a_byte_order_mark() {
    parse("job.yaml", GOOD, None, Place::Cluster).expect("it is good");
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let text = source::decode("job.yaml", text.into_bytes()).expect("it is UTF-8");
    parse("job.yaml", &text, None, Place::Cluster).expect("it is good");
}

#[test]
fn each_mistake_is_reported_in_one_line_that_names_it() {
    let table = [
        ("", "job.yaml: empty"),
        ("a: [", "job.yaml: "),
        (
            "kind: Job\napiVersion: batch/v1",
            "apiVersion batch/v1, kind Job is not supported",
        ),
        (
            &GOOD.replace("workers:", "worker:"),
            "spec.worker: unknown field; did you mean \"workers\"?",
        ),
        (
            &GOOD.replace("replicas: 2", "replicas: 2, replicas: 3"),
            "replicas",
        ),
        (
            &GOOD.replace("count: {} }", "cuont: {} }"),
            "spec.pipeline.steps[0].cuont: unknown field; did you mean \"count\"?",
        ),
        (&GOOD.replace("replicas: 2", "replicas: many"), "job.yaml: "),
        (
            &GOOD.replace("s3://scratch/zephyr", "ftp://scratch"),
            "spec.storage.uri: ",
        ),
    ];
    for (text, expected) in table {
        let message = message(text);
        assert!(
            message.contains(expected),
            "{expected:?} is not in {message:?}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = read("/no/such/file.yaml", None, Place::Cluster).expect_err("it is not there");
    assert_eq!(
        format!("{:#}", anyhow::Error::from(error)),
        "read /no/such/file.yaml: No such file or directory (os error 2)"
    );
}

const KUBECTL: &str = include_str!("kubectl.jsonl");

/// Texts that `kubectl` accepts and this program refuses, because part of them would silently be
/// lost.
const REFUSED_HERE: [&str; 6] = [
    "twice, first at",
    "has content after the end of the document",
    "has a line separator of Unicode",
    "is not text in base64",
    "which JSON does not have",
    "which YAML readers interpret differently",
];

fn differences(rows: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows.lines() {
        let (text, expected): (String, Option<String>) =
            serde_json::from_str(row).expect("a row of the table");
        let expected = expected.map(|json| {
            let nodes = json::read(&json).expect("it is JSON").expect("it is read");
            nodes.first().expect("one value").to_json()
        });
        let read = yaml::read(&text, 0).map(|node| node.map_or(Value::Null, |node| node.to_json()));
        let is_same = match (&read, &expected) {
            (Ok(read), Some(expected)) => read == expected,
            (Err(_), None) => true,
            (Err(error), Some(_)) => REFUSED_HERE
                .iter()
                .any(|words| error.message.contains(words)),
            (Ok(_), None) => false,
        };
        if !is_same {
            wrong.push(format!("{text:?}: read {read:?}, kubectl {expected:?}"));
        }
    }
    wrong
}

#[test]
fn every_text_is_read_as_kubectl_reads_it() {
    assert!(KUBECTL.lines().count() > 500);
    let wrong = differences(KUBECTL);
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A job with these inline items and one step, starting at line 1.
fn job(name: &str, values: &str, step: &str) -> String {
    format!(
        "apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: {{name: {name}}}
spec:
  pipeline:
    source: {{items: {{values: {values}, shards: 1}}}}
    steps:
      - {step}
    sink: {{files: {{path: \"s3://out/p-{{shard}}.jsonl\"}}}}
  storage: {{uri: \"s3://scratch/x\"}}
  workers: {{replicas: 1}}
"
    )
}

fn read_items(values: &str) -> Result<Vec<Value>, String> {
    let text = job("a", values, "map: .");
    parse("job.yaml", &text, None, Place::Cluster)
        .map(|job| job.spec.pipeline.source.items.expect("items").values)
        .map_err(|error| error.to_string())
}

#[test]
fn inline_items_are_read_as_the_cluster_reads_them() {
    let read =
        read_items("[017, 08, 1.0, 1e3, {y: 1, n: 2}, 2001-01-01, 1:30, on, ~, 0x1F, 1_000]")
            .expect("they are good");
    assert_eq!(
        Value::from(read).to_string(),
        r#"[15,8,1,1000,{"false":2,"true":1},"2001-01-01","1:30",true,null,31,1000]"#
    );
}

#[test]
fn a_number_in_a_named_value_that_the_cluster_would_change_is_refused_too() {
    let read = |number: &str| {
        let text = super::text_of("s3://in/*.jsonl", "[]", "s3://out/{shard}.jsonl");
        let values = format!("    values: {{ limits: [{{ a: {number} }}] }}\n    source:");
        parse(
            "job.yaml",
            &text.replace("    source:", &values),
            None,
            Place::Cluster,
        )
    };
    let error = read("0.1000000000000000055").expect_err("it would arrive as 0.1");
    let expected = "spec.pipeline.values.limits[0].a: is a number that the API server stores as 0.1 (got 0.1000000000000000055)";
    assert!(error.to_string().contains(expected), "{error}");
    assert!(read("0.1").is_ok());
}

#[test]
fn a_number_that_the_cluster_would_change_is_refused_with_its_place() {
    for (written, arrives) in [
        ("18446744073709551615", "1.8446744073709552e+19"),
        ("9223372036854775808", "9.223372036854776e+18"),
        ("-9223372036854775809", "-9.223372036854776e+18"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
        ("0xffffffffffffffff", "1.8446744073709552e+19"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0.1000000000000000055", "0.1"),
        ("9007199254740993.0", "9007199254740992"),
        ("92233720368775808.0", "92233720368775800"),
        ("1e-400", "0"),
        ("1e400", "\"1e400\""),
        ("0x10000000000000000", "\"0x10000000000000000\""),
    ] {
        let error = read_items(&format!("[1, {{a: [{written}]}}]")).expect_err(written);
        let expected = format!(
            "spec.pipeline.source.items.values[1].a[0]: is a number that the API server stores as {arrives} (got {written}); integers between -2^63 and 2^63, and decimals with the digits that a double holds; put others into quotes or into a file (line 6, column 39)"
        );
        assert!(error.contains(&expected), "{written}: {error}");
    }
    for kept in [
        "9223372036854775807",
        "-9223372036854775808",
        "0.1",
        "0.30000000000000004",
        "1.10",
        "1e3",
        "0",
        "0.0",
        "5e-324",
        "\"1e400\"",
        "!!str 1e400",
        "1e400x",
    ] {
        read_items(&format!("[{kept}]")).expect(kept);
    }
    for large in ["1e30", "1e21", "1.7976931348623157e308", "-1e19"] {
        let error = read_items(&format!("[{large}]")).expect_err(large);
        let reason =
            "values[0]: is an integer of 2^63 or more, which the API server stores as a double (";
        assert!(error.contains(reason), "{error}");
    }
    let error = read_items("[{0.10000000001: a}]").expect_err("a key that changes");
    assert!(
        error.contains("stores as \"0.1\" (got 0.10000000001)"),
        "{error}"
    );
}

#[test]
fn a_null_that_kubectl_apply_would_drop_is_refused_with_its_place() {
    for (item, key) in [
        ("{a: null, b: 1}", "a"),
        ("{a: ~}", "a"),
        ("{a: , b: 2}", "a"),
        ("{a}", "a"),
        ("!!set {a}", "a"),
        ("{x: [{a: null}]}", "x[0].a"),
        ("{<<: {a: null}, b: 1}", "a"),
    ] {
        let error = read_items(&format!("[1, {item}]")).expect_err(item);
        let expected = format!(
            "spec.pipeline.source.items.values[1].{key}: is null inside an object, which `kubectl apply` drops (got null); leave the key out, "
        );
        assert!(error.contains(&expected), "{item}: {error}");
        assert!(error.contains("(line 6, column "), "{item}: {error}");
    }
    for kept in [
        "~",
        "[~]",
        "{a: [~, 1]}",
        "{a: {}}",
        "{a: []}",
        "\"{\\\"a\\\": null}\"",
    ] {
        read_items(&format!("[{kept}]")).expect(kept);
    }
}

#[test]
fn the_same_rule_applies_to_numbers_of_a_json_manifest() {
    let text = |value: &str| {
        format!(
            r#"{{"apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob", "metadata": {{"name": "a"}},
            "spec": {{"pipeline": {{"source": {{"items": {{"values": [{value}], "shards": 1}}}}, "steps": [{{"map": "."}}],
            "sink": {{"files": {{"path": "s3://out/p-{{shard}}.jsonl"}}}}}}, "storage": {{"uri": "s3://scratch/x"}}, "workers": {{"replicas": 1.0}}}}}}"#
        )
    };
    for good in [
        "1",
        "1.50",
        "1e3",
        "-9223372036854775808",
        "\"\\ud83d\\ude00\\/\"",
        "\"y\"",
    ] {
        parse("job.json", &text(good), None, Place::Cluster).expect(good);
    }
    for changed in [
        "-0",
        "18446744073709551615",
        "1e400",
        "0.1000000000000000055",
    ] {
        let error = parse("job.json", &text(changed), None, Place::Cluster).expect_err(changed);
        assert!(error.to_string().contains(changed), "{error}");
    }
    let error = parse(
        "job.json",
        &text("{\"a\": 1, \"a\": 2}"),
        None,
        Place::Cluster,
    )
    .expect_err("a field twice");
    assert!(
        error.to_string().contains("has the field a twice"),
        "{error}"
    );
    let two = format!("{}\n{}", text("1"), text("2").replace("\"a\"", "\"b\""));
    parse("job.json", &two, Some("b"), Place::Cluster).expect("the second one is chosen");
    let broken = text("1").replace("[{\"map\"", "[{\"map");
    let error = parse("job.json", &broken, None, Place::Cluster).expect_err("it is no JSON");
    assert!(
        error.to_string().contains("job.json: line 2, column"),
        "{error}"
    );
}

#[test]
fn one_job_among_other_documents_is_found_or_chosen_by_name() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n";
    let (a, b) = (job("a", "[1]", "map: ."), job("b", "[1]", "map: ."));
    let list = |kind: &str, items: &[&str]| {
        let items: Vec<_> = items
            .iter()
            .map(|item| format!("- {}", item.trim_end().replace('\n', "\n  ")))
            .collect();
        format!(
            "kind: {kind}\napiVersion: {}\nitems:\n{}\n",
            if kind == "List" {
                "v1"
            } else {
                "zephyr.dev/v1alpha1"
            },
            items.join("\n")
        )
    };
    let read = |text: &str, name: Option<&str>| {
        parse("job.yaml", text, name, Place::Cluster)
            .map(|job| job.metadata.name.expect("a name"))
            .map_err(|error| error.to_string())
    };
    for text in [
        format!("{a}---\n"),
        format!("---\n{a}---\n---\n# nothing\n---\n"),
        format!("# a comment\n--- # another\n{secret}---\n{a}"),
        format!("{a}...\n"),
        list("List", &[secret, &a]),
        list("ZephyrJobList", &[&a]),
        list("ZephyrJobList", &[&a]).replace(
            "- apiVersion: zephyr.dev/v1alpha1\n  kind: ZephyrJob\n  metadata",
            "- metadata",
        ),
    ] {
        assert_eq!(read(&text, None).as_deref(), Ok("a"), "{text}");
    }
    for text in [format!("{a}---\n{b}"), list("List", &[&a, &b])] {
        assert_eq!(read(&text, Some("b")).as_deref(), Ok("b"), "{text}");
        assert_eq!(
            read(&text, None).expect_err("two jobs"),
            "job.yaml: has 2 ZephyrJobs (a, b); choose one with --name"
        );
        assert_eq!(
            read(&text, Some("c")).expect_err("no such job"),
            "job.yaml: has no ZephyrJob of this name (got --name c); it has a, b"
        );
    }
    let message = |text: &str| read(text, None).expect_err("it is refused");
    assert_eq!(
        message("---\n# nothing\n---\n"),
        "job.yaml: empty; a manifest with one ZephyrJob is expected"
    );
    assert!(message(&format!("{a}---\n{a}")).contains("has 2 ZephyrJobs (a, a)"));
    assert!(read(&format!("{a}---\n{a}"), Some("a")).is_err());
    assert!(message(secret).contains("apiVersion v1, kind Secret is not supported"));
    assert!(
        message(&a.replace("v1alpha1", "v2"))
            .contains("apiVersion zephyr.dev/v2, kind ZephyrJob is not supported")
    );
    assert!(
        message(&format!("--- {{}}\n{a}"))
            .starts_with("job.yaml: line 1, column 4: has text after ---")
    );
    assert!(
        message(&format!("{a}---\na: 1\n")).starts_with("job.yaml: line 13, column 1: has no kind")
    );
    assert!(
        message(&format!("{a}---\nkind: X\napiVersion: y\nkind: Z\n")).starts_with(
            "job.yaml: line 15, column 1: has the field kind twice, first at line 13, column 1"
        )
    );
}

#[test]
fn a_value_of_a_wrong_type_is_reported_with_its_field() {
    let text = "must be text, in quotes if YAML would read it as another type";
    let table = [
        ("groupBy: {key: null, aggregate: {c: {count: {}}}}", "spec.pipeline.steps[0].groupBy.key: is missing; required: text, in quotes if YAML would read it as another type (line 8, column 19)".to_owned()),
        ("map: {a}", format!("spec.pipeline.steps[0].map: is a map (got {{\"a\":null}}); {text} (line 8, column 9)")),
        ("map: 1", format!("spec.pipeline.steps[0].map: is a number (got 1); {text} (line 8, column 9)")),
        ("filter: yes", format!("spec.pipeline.steps[0].filter: is a boolean (got true); {text} (line 8, column 9)")),
        ("select: [a, 2]", format!("spec.pipeline.steps[0].select[1]: is a number (got 2); {text} (line 8, column 21)")),
        ("takePerShard: \"4\"", "spec.pipeline.steps[0].takePerShard: is text (got \"4\"); must be a whole number without quotes (line 8, column 9)".to_owned()),
        ("takePerShard: 5%", "spec.pipeline.steps[0].takePerShard: is text (got \"5%\"); must be a whole number without quotes (line 8, column 9)".to_owned()),
        ("{map: ., onError: {action: Skip, maxSkippedPercent: 5 %}}", "spec.pipeline.steps[0].onError.maxSkippedPercent: is text (got \"5 %\"); must be a number without quotes and without %".to_owned()),
        ("takePerShard: .inf", "job.yaml: line 8, column 23: has the number .inf, which JSON does not have; put it in quotes".to_owned()),
        ("map: ., map: .", "has the field".to_owned()),
        ("{map: .a?}", "job.yaml: line 8, column 15: has a ? in a text without quotes inside of [ ] or { }".to_owned()),
    ];
    for (step, expected) in table {
        let step = if step.contains(", map") {
            "{map: ., map: .}"
        } else {
            step
        };
        let error = parse("job.yaml", &job("a", "[1]", step), None, Place::Cluster)
            .expect_err(step)
            .to_string();
        assert!(
            error.contains(&expected),
            "{step}: must say {expected:?}, says {error:?}"
        );
    }
    let misspelt = parse("job.yaml", &job("a", "[1]", "mpa: ."), None, Place::Cluster);
    let misspelt = misspelt.expect_err("a misspelt step").to_string();
    assert!(misspelt.contains("did you mean \"map\"?"), "{misspelt}");
    assert!(!misspelt.contains("exactly one"), "one mistake: {misspelt}");
    for good in [
        "takePerShard: 1e3",
        "takePerShard: 4.0",
        "{map: ., filter: null}",
    ] {
        parse("job.yaml", &job("a", "[1]", good), None, Place::Cluster).expect(good);
    }
}

#[test]
fn flow_text_that_kubectl_refuses_is_refused() {
    for text in ["[!]", "[!a]", "{b: !}", "[!, 1]", "[:a]", "{:a}", "{:a: 1}"] {
        let error = yaml::read(text, 0).expect_err(text);
        let words = ["which kubectl refuses", "is not valid YAML here"];
        assert!(
            words.iter().any(|each| error.message.contains(each)),
            "{error:?}"
        );
    }
    for text in ["[! , 1]", "[!!str , 1]", "[\":a\"]", "[a:b]", "[! a]"] {
        yaml::read(text, 0).expect(text);
    }
}

#[test]
fn a_bomb_of_aliases_is_refused_at_once() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        writeln!(text, "a{level}: &a{level} [{before}]").expect("a string takes it");
    }
    let error = yaml::read(&text, 0).expect_err("it is a bomb");
    assert!(
        error.message.contains("grows beyond 16 MiB by its aliases"),
        "{error:?}"
    );
    let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
    assert!(yaml::read(&deep, 0).is_err());
    let stairs: String = (0..60)
        .map(|level| match level {
            0 => "a0: &a0 [[x]]\n".to_owned(),
            level => format!("a{level}: &a{level} [[*a{}]]\n", level - 1),
        })
        .collect();
    let error = yaml::read(&stairs, 0).expect_err("it is too deep");
    assert!(error.message.contains("nested too deeply"), "{error:?}");
}

#[test]
fn a_manifest_in_utf_16_is_read_by_its_byte_order_mark() {
    let text = job("a", "[1]", "map: .");
    let little: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(
        source::decode("job.yaml", little).expect("it is UTF-16"),
        text
    );
    let error = source::decode("job.yaml", vec![0xff, 0xfe, 0x00]).expect_err("half a unit");
    assert!(error.to_string().contains("not UTF-16"), "{error}");
    let error = source::decode("job.yaml", vec![b'a', 0xff]).expect_err("not UTF-8");
    assert!(error.to_string().contains("not UTF-8 (byte 1)"), "{error}");
}
