//! Tests which values expressions find in tables, and which files are refused.

use super::*;
use crate::task::{MAX_TABLE_FILES, MAX_TABLES_BYTES, TableError, check_sizes};

/// Returns a job with the records 1 to 3 and a table `users`, which has these files in the order of
/// their names.
fn job(steps: Vec<Step>, key: &str, files: &[(&str, &str)]) -> Job {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(key, text)| (*key, text.as_bytes()))
        .collect();
    let mut job = Job::new(steps, &files, "s3://out/{shard}.jsonl");
    job.tables = [("users".to_owned(), std::mem::take(&mut job.inputs))].into();
    job.pipeline.tables = [("users".to_owned(), key.to_owned())].into();
    job.with_items(&["1", "2", "3"])
}

fn lookup() -> Vec<Step> {
    vec![Step::Map(
        "{n: ., user: $users[tostring], all: ($users|length)}".to_owned(),
    )]
}

const USERS: [(&str, &str); 2] = [
    ("b.jsonl", "{\"id\":3,\"name\":\"é\", \"score\":1.50}\n"),
    (
        "a.jsonl",
        "{\"id\":1,\"name\":\"Ann\"}\n\n{\"id\":2,\"name\":null}\n",
    ),
];

#[test]
fn an_expression_finds_each_record_of_the_files_under_its_key() {
    let job = job(lookup(), ".id | tostring", &USERS);
    let expected = concat!(
        r#"{"n":1,"user":{"id":1,"name":"Ann"},"all":3}"#,
        "\n",
        r#"{"n":2,"user":{"id":2,"name":null},"all":3}"#,
        "\n",
        r#"{"n":3,"user":{"id":3,"name":"é","score":1.50},"all":3}"#,
        "\n"
    );
    assert_eq!(job.files()[0].1, expected);
}

#[test]
fn a_table_can_be_used_after_a_shuffle_and_in_keys_and_aggregates() {
    let group = GroupBy {
        key: "$users[tostring].name // \"none\"".to_owned(),
        aggregates: vec![(
            "all".to_owned(),
            Aggregate::Collect("$users[tostring].id".to_owned()),
        )],
        shards: Some(1),
        order: None,
    };
    let steps = vec![
        Step::GroupBy(group),
        Step::Map("[.key, .all, ($users | keys)]".to_owned()),
    ];
    let job = job(steps, ".id | tostring", &USERS);
    let expected = concat!(
        r#"["Ann",[1],["1","2","3"]]"#,
        "\n",
        r#"["none",[2],["1","2","3"]]"#,
        "\n",
        r#"["é",[3],["1","2","3"]]"#,
        "\n"
    );
    assert_eq!(job.files()[0].1, expected);
}

#[test]
fn a_table_without_files_is_an_empty_object() {
    let job = job(lookup(), ".id", &[]);
    assert!(
        job.files()[0]
            .1
            .starts_with(r#"{"n":1,"user":null,"all":0}"#)
    );
}

#[test]
fn a_record_without_a_key_of_its_own_is_refused_with_its_line() {
    let twice = "{\"id\":\"x\"}\n{\"id\":\"y\"}\n";
    for (key, files, expected) in [
        (
            ".id",
            vec![("a.jsonl", twice), ("b.jsonl", "\n{\"id\":\"\\u0079\"}")],
            "spec.pipeline.tables.users.key: s3://in/b.jsonl: line 2: has the same key as s3://in/a.jsonl: line 2 (got \"y\"); another key for each record",
        ),
        (
            ".id",
            vec![("a.jsonl", "{\"id\":7}")],
            "spec.pipeline.tables.users.key: s3://in/a.jsonl: line 1: is not a string (got 7); a string, because it becomes the key of an object; tostring makes a string of a number",
        ),
        (
            ".id",
            vec![("a.jsonl", "{}")],
            "spec.pipeline.tables.users.key: s3://in/a.jsonl: line 1: is not a string (got null); a string, because it becomes the key of an object; tostring makes a string of a number",
        ),
    ] {
        let failure = job(lookup(), key, &files).fail();
        assert_eq!(failure.error, expected);
        assert_eq!(failure.class, FailureClass::Deterministic);
    }
    for (key, beginning) in [
        (
            ".id, .id",
            "spec.pipeline.tables.users.key: s3://in/a.jsonl: line 1: ",
        ),
        (
            ".id.x",
            "spec.pipeline.tables.users.key: s3://in/a.jsonl: line 1: ",
        ),
    ] {
        let failure = job(lookup(), key, &[("a.jsonl", twice)]).fail();
        assert!(failure.error.starts_with(beginning), "{}", failure.error);
        assert_eq!(failure.class, FailureClass::Deterministic);
    }
}

#[test]
fn a_long_key_is_cut_in_the_error_and_what_is_allowed_stays() {
    let long = format!("{{\"id\":\"{}\"}}\n", "k".repeat(5_000));
    let failure = job(lookup(), ".id", &[("a.jsonl", &long.repeat(2))]).fail();
    let shown = format!("(got \"{}…); another key for each record", "k".repeat(63));
    assert!(failure.error.ends_with(&shown), "{}", failure.error);
}

#[test]
fn a_record_of_a_table_that_nests_too_deep_for_one_object_is_refused_at_once() {
    let deep = format!(
        "{{\"id\":\"x\",\"d\":{}1{}}}",
        "[".repeat(1_999),
        "]".repeat(1_999)
    );
    let mut job = job(lookup(), ".id", &[("a.jsonl", &deep)]);
    job.limits.record.nesting = 2_000;
    let failure = job.fail();
    assert_eq!(
        failure.error,
        "spec.pipeline.tables.users: its records become the members of one object, one level below it: byte 2017: arrays and objects nest too deep; at most 2000 levels are allowed"
    );
    assert_eq!(failure.class, FailureClass::Deterministic);
}

#[test]
fn a_file_of_a_table_that_changed_since_the_plan_is_refused() {
    let job = job(lookup(), ".id | tostring", &USERS);
    let location = Location::parse("s3://in/a.jsonl").unwrap();
    let store = job.storage.stores().open(&location).unwrap().objects;
    let newer = PutPayload::from_static(b"{\"id\":1,\"name\":\"Bob\"}\n");
    job.runtime
        .block_on(store.put(location.path(), newer))
        .unwrap();
    let failure = job.fail();
    assert_eq!(
        failure.class,
        FailureClass::Application,
        "{}",
        failure.error
    );
    assert!(
        failure.error.contains("s3://in/a.jsonl"),
        "{}",
        failure.error
    );
}

#[test]
fn tables_that_are_too_large_are_refused_before_or_while_they_are_read() {
    let file = |size| InputFile {
        uri: "s3://in/a".to_owned(),
        size,
        etag: None,
    };
    let tables = |files: Vec<InputFile>| TableFiles::from([("users".to_owned(), files)]);
    assert_eq!(check_sizes(&tables(vec![file(MAX_TABLES_BYTES)])), Ok(()));
    let error = check_sizes(&tables(vec![file(MAX_TABLES_BYTES), file(1)])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.pipeline.tables: together too large (got 257 MiB of files); at most 256 MiB, because every process of a worker holds all tables in memory"
    );
    let error = check_sizes(&tables(vec![file(1); MAX_TABLE_FILES + 1])).unwrap_err();
    assert_eq!(
        error,
        TableError::TooManyFiles {
            files: MAX_TABLE_FILES + 1
        }
    );

    let long = format!("\"{}\"\n", "x".repeat(20 << 20));
    let mut job = job(lookup(), ".[:2]", &[("a.jsonl", &long)]);
    job.memory_bytes = 160 << 20;
    let failure = job.fail();
    assert_eq!(
        failure.error,
        "spec.pipeline.tables: the tables take 21 MiB of memory, and a slot of this worker has 16 MiB for tables; give the workers more memory, or fewer slots"
    );
}
