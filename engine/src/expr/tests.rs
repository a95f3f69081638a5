//! What expressions give, write and refuse.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::key::KeyBytes;
use crate::record::tests::json;
use crate::record::{DEFAULT_NESTING, Limits, MAX_NESTING, RecordParser};

fn results(expression: &str, record: &str) -> Result<Vec<String>, String> {
    let expression = Expression::compile(expression).map_err(|error| error.to_string())?;
    let record = Record::parse(record.as_bytes()).unwrap();
    let mut results = Vec::new();
    let mut unwritable = None;
    let evaluated = expression.evaluate(&record, &mut |value| match value.to_record() {
        Ok(record) => {
            results.push(record.to_string());
            ControlFlow::Continue(())
        }
        Err(error) => {
            unwritable = Some(error.to_string());
            ControlFlow::Break(())
        }
    });
    evaluated.map_err(|error| error.to_string())?;
    unwritable.map_or(Ok(results), Err)
}

fn check(expression: &str, record: &str, expected: &[&str]) {
    let expected = expected.iter().map(ToString::to_string).collect();
    assert_eq!(
        results(expression, record),
        Ok(expected),
        "{expression} on {record}"
    );
}

fn check_error(expression: &str, record: &str, expected: &str) {
    assert_eq!(
        results(expression, record),
        Err(expected.to_owned()),
        "{expression} on {record}"
    );
}

#[test]
fn results_are_written_in_the_canonical_form() {
    for (expression, record, expected) in [
        (".a", r#"{"a":[1, 2]}"#, &["[1,2]"][..]),
        (".a, .b", r#"{"a":1}"#, &["1", "null"]),
        ("empty", "1", &[]),
        ("{b: .a, a: 1}", r#"{"a":"x"}"#, &[r#"{"b":"x","a":1}"#]),
        (
            ".s",
            r#"{"s":"\u0041\/\u00e9\u0007\u007f"}"#,
            &["\"A/é\\u0007\u{7f}\""],
        ),
        (
            ".",
            r#"{"a":"\u0041","b":1,"a":0.10}"#,
            &[r#"{"a":0.10,"b":1}"#],
        ),
        (".[]", r#"[1,"a",null]"#, &["1", r#""a""#, "null"]),
        ("map(select(. > 1))", "[1,2,3]", &["[2,3]"]),
        (
            "ascii_downcase | split(\" \")",
            r#""A b""#,
            &[r#"["a","b"]"#],
        ),
        ("keys", r#"{"b":1,"a":2}"#, &[r#"["a","b"]"#]),
        ("to_entries", r#"{"a":1}"#, &[r#"[{"key":"a","value":1}]"#]),
        (
            "group_by(.a) | map(length)",
            r#"[{"a":1},{"a":2},{"a":1}]"#,
            &["[2,1]"],
        ),
        ("test(\"^a\")", r#""abc""#, &["true"]),
        ("[scan(\"[a-z]+\")]", r#""ab, cd""#, &[r#"["ab","cd"]"#]),
        (
            "\"2024-01-02T03:04:05Z\" | fromdateiso8601",
            "null",
            &["1704164645"],
        ),
        ("def double: . * 2; map(double)", "[1,2]", &["[2,4]"]),
        ("try error(\"x\") catch .", "null", &[r#""x""#]),
        (". as {$a} | $a", r#"{"a":3}"#, &["3"]),
    ] {
        check(expression, record, expected);
    }
}

#[test]
fn numbers_that_an_expression_does_not_change_keep_their_text() {
    for number in [
        "0.10",
        "1e400",
        "1.0",
        "1E5",
        "-0",
        "-0.0",
        "12345678901234567890",
        "123456789012345678901234567890.5",
        "1e-999",
    ] {
        check(".", number, &[number]);
        check(". | .", number, &[number]);
        check("{a: .}", number, &[&format!(r#"{{"a":{number}}}"#)]);
    }
}

#[test]
fn computed_numbers_are_written_as_jq_writes_them() {
    for (expression, expected) in [
        ("6 / 2", "3"),
        ("1 / 3", "0.3333333333333333"),
        ("0.10 + 0", "0.1"),
        ("1e3 * 1", "1000"),
        ("1e17 * 1", "1e+17"),
        ("0.00001 * 1", "1e-05"),
        ("12345678901234567890 + 1", "12345678901234567891"),
        ("9007199254740993 - 1", "9007199254740992"),
        ("1e400 * 1", "1.7976931348623157e+308"),
        ("nan", "null"),
        ("infinite", "1.7976931348623157e+308"),
        ("-infinite", "-1.7976931348623157e+308"),
        ("[3.0, 2.5] | map(floor)", "[3,2]"),
        ("-(1)", "-1"),
    ] {
        check(expression, "null", &[expected]);
    }
}

#[test]
fn numbers_look_the_same_inside_strings() {
    for (expression, record, expected) in [
        (r#""\(. / 2) of \(.)""#, "6", r#""3 of 6""#),
        (
            r#"[. / 2 | tostring, tojson, @text, @json, "\("\(. + 1)")"]"#,
            "6",
            r#"["3","3","3","3","4"]"#,
        ),
        (r#"[1.5, 4 / 2] | join("-")"#, "null", r#""1.5-2""#),
        (r#"@base64 "x\(.)""#, "1", r#""xMQ==""#),
        (r#"{"k\(.)": 1, ("l\(.)"): 2}"#, "1", r#"{"k1":1,"l1":2}"#),
        (r#"[."a\(1)", .["a\(1)"]]"#, r#"{"a1":7}"#, "[7,7]"),
        (
            "tojson",
            r#"{"a":[0.10,"\u0041"]}"#,
            r#""{\"a\":[0.10,\"A\"]}""#,
        ),
        (
            r#"[ .[] | "\(.)" ]"#,
            r#"[null,true,[1],{"a":"b"},"c"]"#,
            r#"["null","true","[1]","{\"a\":\"b\"}","c"]"#,
        ),
    ] {
        check(expression, record, &[expected]);
    }
}

#[test]
fn tonumber_reads_what_people_write() {
    for (text, expected) in [
        ("08", "8"),
        ("+5", "5"),
        ("-007", "-7"),
        (" 12 ", "12"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("5.e3", "5e3"),
        ("00.10", "0.10"),
        ("1e5", "1e5"),
        ("0", "0"),
        ("000", "0"),
    ] {
        check("tonumber", &format!("{text:?}"), &[expected]);
    }
    for text in [
        "", " ", "a", "1a", "0x10", "1 2", "nan", "Infinity", "-", ".", "+", "e5", "--1", "1_000",
        "[1]",
    ] {
        let error = results("tonumber", &format!("{text:?}")).unwrap_err();
        assert!(
            error.starts_with("cannot parse") && error.ends_with("as number"),
            "{error}"
        );
    }
    check(
        "[.[] | tonumber? // \"none\"]",
        r#"["1","x",2.50]"#,
        &[r#"[1,"none",2.50]"#],
    );
}

#[test]
fn json_inside_strings_is_read_with_the_limits_of_records() {
    check("fromjson", r#""{\"a\":[1, 0.10]}""#, &[r#"{"a":[1,0.10]}"#]);
    check_error(
        "fromjson",
        r#""[1,""#,
        "cannot parse a string as JSON: byte 3: the JSON value is cut off",
    );
    let bomb = format!("\"{}\"", "[".repeat(100_000));
    let error = results("fromjson", &bomb).unwrap_err();
    assert!(error.contains("nest too deep"), "{error}");
}

#[test]
fn filters_that_jq_has_and_the_library_lacks_are_there() {
    check(
        "@sh",
        r#"[6.0, "it's", null]"#,
        &[r#""6.0 'it'\\''s' null""#],
    );
    check(
        "[. / 2] | @sh, @csv, @tsv, @html",
        "6",
        &[r#""3""#, r#""3""#, r#""3""#, r#""[3]""#],
    );
    check(
        "join(\",\")",
        r#"["a",null,1,6.0,true]"#,
        &[r#""a,,1,6.0,true""#],
    );
    check("join(\",\")", "[]", &[r#""""#]);
    check(
        "@csv",
        r#"[1,"a\"b",null,true,0.10]"#,
        &[r#""1,\"a\"\"b\",,true,0.10""#],
    );
    check(
        "@tsv",
        r#"["a\tb","c\\d",null,1]"#,
        &[r#""a\\tb\tc\\\\d\t\t1""#],
    );
    check_error(
        "@csv",
        "[[]]",
        "an array or object cannot be a column of csv",
    );
    check(
        "[tostream]",
        r#"{"a":[1,2]}"#,
        &[r#"[[["a",0],1],[["a",1],2],[["a",1]],[["a"]]]"#],
    );
    check("IN(1, 2)", "2", &["true"]);
    check("IN(.[]; 4)", "[1,2]", &["false"]);
    check(
        "INDEX(.id)",
        r#"[{"id":1,"v":"a"},{"id":2,"v":"b"}]"#,
        &[r#"{"1":{"id":1,"v":"a"},"2":{"id":2,"v":"b"}}"#],
    );
    check("toarray", "1", &["[1]"]);
    check("ascii", "65", &[r#""A""#]);
    check(
        "[.[] | ltrimstr(\"é\"), rtrimstr(\"é\"), rtrimstr(\"\")]",
        r#"["éaé",null,1]"#,
        &[r#"["aé","éa","éaé",null,null,null,1,1,1]"#],
    );
    check("trimstr(\"x\")", r#""xax""#, &[r#""a""#]);
    check("getpath([\"a\", 0])", r#"{"a":[5]}"#, &["5"]);
    check("limit(2; .[])", "[1,2,3]", &["1", "2"]);
}

#[test]
fn deleting_keeps_the_order_of_what_stays() {
    let record = r#"{"a":1,"b":{"c":[1,2,3],"d":1,"e":2},"f":null,"g":5}"#;
    for (expression, expected) in [
        (
            "del(.a)",
            r#"{"b":{"c":[1,2,3],"d":1,"e":2},"f":null,"g":5}"#,
        ),
        (
            "del(.a, .f, .missing, .f.x)",
            r#"{"b":{"c":[1,2,3],"d":1,"e":2},"g":5}"#,
        ),
        ("del(.b.c[0, -1]) | .b", r#"{"c":[2],"d":1,"e":2}"#),
        ("del(.b.c[1:]) | .b.c", "[1]"),
        ("del(.b.c[:-1], .b.c[7]) | .b.c", "[3]"),
        (
            "del(.b.c[] | select(. > 1)) | .b",
            r#"{"c":[1],"d":1,"e":2}"#,
        ),
        (
            "delpaths([[\"b\", \"d\"], [\"a\"], [\"a\"]])",
            r#"{"b":{"c":[1,2,3],"e":2},"f":null,"g":5}"#,
        ),
        ("del(.)", "null"),
        (".f | del(.a.b, .[3])", "null"),
        ("del(..| numbers)", r#"{"b":{"c":[]},"f":null}"#),
    ] {
        check(expression, record, &[expected]);
    }
    check_error(
        "delpaths([[0]])",
        r#"{"a":1}"#,
        r#"cannot index {"a":1} with 0"#,
    );
    check_error(
        "delpaths([0])",
        r#"{"a":1}"#,
        "cannot use 0 as array of paths",
    );
}

#[test]
fn whatever_reaches_for_the_world_does_not_compile() {
    let world = "a result may depend on the record only";
    for (expression, column, reason) in [
        ("env", 1, world),
        ("env.HOME", 1, world),
        ("$ENV.HOME", 1, world),
        (". | now", 5, world),
        ("halt", 1, "may not end its process"),
        ("1, halt_error", 4, "may not end its process"),
        ("halt_error(1)", 1, "may not end its process"),
        ("localtime", 1, "time zone of the worker"),
        (r#"0 | strflocaltime("%H")"#, 5, "time zone of the worker"),
        ("debug", 1, "no output besides its results"),
        (r#"debug("x")"#, 1, "no output besides its results"),
        ("stderr", 1, "no output besides its results"),
        ("debug_empty", 1, "no output besides its results"),
        ("stderr_empty", 1, "no output besides its results"),
        ("input", 1, "one record at a time"),
        ("[inputs]", 2, "one record at a time"),
        ("input_filename", 1, "one record at a time"),
        (r#"import "a" as a; ."#, 9, "there are no modules"),
        (r#"import "a" as $a; ."#, 9, "there are no modules"),
        (
            r#"import "a" as $a {search: "./"}; $a"#,
            9,
            "there are no modules",
        ),
        (r#"include "a"; ."#, 10, "there are no modules"),
        (
            r#"include "a" {search: "./"}; ."#,
            10,
            "there are no modules",
        ),
        ("modulemeta", 1, "there are no modules"),
        ("get_search_list", 1, "there are no modules"),
        ("input_line_number", 1, "one record at a time"),
    ] {
        let error = Expression::compile(expression).unwrap_err();
        assert_eq!(
            (error.line, error.column),
            (1, column),
            "{expression}: {error}"
        );
        assert!(
            error.message.contains("is not allowed here") && error.message.contains(reason),
            "{expression}: {error}"
        );
    }
    // A name of one's own is one's own business.
    check("def now: 5; now", "null", &["5"]);
}

#[test]
fn mistakes_are_shown_where_they_stand() {
    for (expression, expected) in [
        (
            "",
            "line 1, column 1: term is expected (got the end of the expression)",
        ),
        (
            ".a |",
            "line 1, column 5: term is expected (got the end of the expression)",
        ),
        (
            "if . then 1",
            "line 1, column 12: else or end is expected (got the end of the expression)",
        ),
        (
            ".a | foo",
            "line 1, column 6: the filter foo/0 is not defined",
        ),
        (
            "bar(1; 2)",
            "line 1, column 1: the filter bar/2 is not defined",
        ),
        (
            ".a | $x",
            "line 1, column 6: the variable $x is not defined",
        ),
        (
            ".a\n | [foo]",
            "line 2, column 5: the filter foo/0 is not defined",
        ),
        (
            "\"é\\(1)\\(foo)\"",
            "line 1, column 9: the filter foo/0 is not defined",
        ),
        (
            "\"\\(1)\" | \"\\(2)\" | foo",
            "line 1, column 19: the filter foo/0 is not defined",
        ),
        (
            "(1",
            "line 1, column 3: closing parenthesis is expected (got the end of the expression)",
        ),
        ("1 2", "line 1, column 3: nothing is expected (got `2`)"),
        (
            "\"abc",
            "line 1, column 5: closing quote is expected (got the end of the expression)",
        ),
        ("§", "line 1, column 1: token is expected (got `§`)"),
    ] {
        assert_eq!(
            Expression::compile(expression).unwrap_err().to_string(),
            expected,
            "{expression}"
        );
    }
    let error = Expression::compile(&" ".repeat(MAX_EXPRESSION_BYTES + 1)).unwrap_err();
    assert_eq!(
        error.message,
        "the expression has 16385 bytes; at most 16384 are allowed"
    );
}

#[test]
fn errors_of_evaluation_are_those_of_jq() {
    check_error(".a", "5", r#"cannot index 5 with "a""#);
    check_error(".[]", "5", "cannot use 5 as iterable (array or object)");
    check_error(". + 1", r#""a""#, r#"cannot calculate "a" + 1"#);
    check_error("error(\"no such thing\")", "null", "no such thing");
    check_error("error({a: 1})", "null", r#"{"a":1}"#);
    check_error("1 % 0", "null", "cannot calculate 1 % 0");
    let long = format!("[{}1]", "1,".repeat(10_000));
    let error = results(".a", &long).unwrap_err();
    assert!(
        error.starts_with("cannot index [1,1,1") && error.chars().count() == 201,
        "{error}"
    );
}

#[test]
fn results_that_json_cannot_hold_are_errors() {
    check_error(
        "{(1|tobytes): 1}",
        "null",
        "the result has the key b\"\\x01\", which is not a string; tostring makes one of it",
    );
    check_error(
        "{\"a\": 1} | with_entries(.key = 1)",
        "null",
        "the result has the key 1, which is not a string; tostring makes one of it",
    );
    check_error(
        "[1] | tobytes",
        "null",
        "the result holds raw bytes, which JSON cannot write; tostring or @base64 make a string of them",
    );
    check_error(
        "reduce range(257) as $i (0; [.])",
        "null",
        "the result nests too deep; at most 256 levels of arrays and objects are allowed (spec.pipeline.limits.nesting)",
    );
    check(
        "reduce range(64) as $i (0; [.]) | flatten",
        "null",
        &["[0]"],
    );
    // What is no UTF-8 becomes the replacement character, as in jq.
    check("\"/w==\" | @base64d", "null", &["\"\u{fffd}\""]);
}

#[test]
fn an_expression_without_end_is_stopped_by_the_limit_of_results() {
    let expression = Expression::compile("repeat(1)").unwrap();
    let mut given = 0_u64;
    let error = expression.evaluate(&Record::null(), &mut |_| {
        given += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(error, Err(EvaluationError::TooManyOutputs));
    assert_eq!(given, MAX_OUTPUTS);
}

#[test]
fn the_receiver_may_break_off() {
    let mut given = 0;
    let evaluated = Expression::compile("1, 2, error(\"never reached\")")
        .unwrap()
        .evaluate(&Record::null(), &mut |_| {
            given += 1;
            if given == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    assert_eq!((evaluated, given), (Ok(()), 2));
}

#[test]
fn the_members_an_expression_looks_at_are_known() {
    let fields = |source: &str| {
        let fields = Expression::compile(source).unwrap().fields;
        fields.map(|fields| fields.into_iter().collect::<Vec<_>>().join(" "))
    };
    for (source, expected) in [
        (".amount > 500", "amount"),
        (".a == 1 and (.b.c | length > 2) or .d", "a b d"),
        (
            "{id, user: .user.name, total: (.amount * 1.19)}",
            "amount id user",
        ),
        ("{(.k): 1, l: 2}", "k"),
        (".a as $x | {$x, b}", "a b"),
        (".items | map(select(.n > 3)) | {m: .}", "items"),
        ("select(.a > 1) | .b", "a b"),
        ("\"x\\(.a)\"", "a"),
        ("[.a, .b[.c]]", "a b c"),
        ("if .a then .b else .c end", "a b c"),
        (".a as $x | .b + $x", "a b"),
        (".a // .b?", "a b"),
        ("try .a catch .b", "a"),
        ("1", ""),
    ] {
        assert_eq!(fields(source).as_deref(), Some(expected), "{source}");
    }
    for source in [
        ".",
        "[.]",
        "{a: .}",
        "..",
        "keys",
        ".[]",
        ".[.a]",
        ". as $x | $x",
        "\"\\(.)\"",
        "if .a then .b end",
        "select(.a)",
        "tojson",
        ".a |= 1",
        "del(.a)",
        "def f: .; f",
        ". == .a",
        "(.a, .)",
        "to_entries",
        "reduce .a as $x (.; .)",
        "[.a, (., .b)]",
        "length",
        "first(.a)",
        ".[\"a\", \"b\"]",
        ".[0]",
        "try error catch .",
        "label $f | .",
    ] {
        assert_eq!(fields(source), None, "{source}");
    }
}

#[test]
fn plain_paths_are_recognized_and_nothing_else() {
    let is_path = |source: &str| Expression::compile(source).unwrap().path.is_some();
    for source in [
        ".",
        " . ",
        ".a",
        ".a.b.c",
        ".[\"a b\"].c",
        ".\"a b\"",
        ".a # a comment",
    ] {
        assert!(is_path(source), "{source}");
    }
    for source in [
        ".a?",
        ".[0]",
        ".a[]",
        ".a, .b",
        ".a | .b",
        "..",
        ".a[.b]",
        ".\"a\\(1)\"",
        ".a.b?",
        "def f: .; .a",
        "$x.a",
    ] {
        assert!(
            !Expression::compile(source).is_ok_and(|expression| expression.path.is_some()),
            "{source}"
        );
    }
    check(".[\"a b\"].c", r#"{"a b":{"c":"\u0041"}}"#, &[r#""A""#]);
    check(
        ".a.b",
        r#"{"a":{"b":1,"b":{"x":1,"x":2}}}"#,
        &[r#"{"x":2}"#],
    );
    check_error(".a.b", r#"{"a":[1]}"#, r#"cannot index [1] with "b""#);
}

#[test]
fn exactly_one_result_is_one_and_the_error_says_how_many_there_were() {
    let one = |expression: &str| {
        Expression::compile(expression)
            .unwrap()
            .evaluate_one(&Record::null(), |value| value.is_truthy())
    };
    assert_eq!(one("1"), Ok(true));
    assert_eq!(one("."), Ok(false));
    assert_eq!(
        one("empty"),
        Err(EvaluationError::NotOneOutput { outputs: 0 })
    );
    assert_eq!(
        one("1, 2, 3"),
        Err(EvaluationError::NotOneOutput { outputs: 3 })
    );
    assert_eq!(
        one("1, 2").unwrap_err().to_string(),
        "the expression must have exactly one result for each record (got 2)"
    );
}

#[test]
fn truth_types_and_numbers_can_be_asked_of_a_result() {
    let ask = |expression: &str, record: &str| {
        let record = Record::parse(record.as_bytes()).unwrap();
        let expression = Expression::compile(expression).unwrap();
        expression
            .evaluate_one(&record, |value| {
                (
                    value.is_truthy(),
                    value.type_name(),
                    value.number_text().map(Cow::into_owned),
                )
            })
            .unwrap()
    };
    for expression in [".", ". | ."] {
        assert_eq!(ask(expression, "null"), (false, "null", None));
        assert_eq!(ask(expression, "false"), (false, "boolean", None));
        assert_eq!(ask(expression, "true"), (true, "boolean", None));
        assert_eq!(ask(expression, "0"), (true, "number", Some("0".to_owned())));
        assert_eq!(
            ask(expression, "1e400"),
            (true, "number", Some("1e400".to_owned()))
        );
        assert_eq!(ask(expression, "\"1\""), (true, "string", None));
        assert_eq!(ask(expression, "[]"), (true, "array", None));
        assert_eq!(ask(expression, "{}"), (true, "object", None));
    }
    assert_eq!(ask("6 / 4", "null").2.as_deref(), Some("1.5"));
    assert_eq!(ask("nan", "null").2.as_deref(), Some("NaN"));
    assert_eq!(ask("-infinite", "null").2.as_deref(), Some("-Infinity"));
}

fn key_of(expression: &str, record: &str) -> KeyBytes {
    let record = Record::parse(record.as_bytes()).unwrap();
    Expression::compile(expression)
        .unwrap()
        .evaluate_one(&record, |value| value.key())
        .unwrap()
        .unwrap()
}

#[test]
fn keys_of_results_follow_the_one_rule_of_equality() {
    assert_eq!(key_of("0.1 + 0", "null"), key_of(".", "0.10"));
    assert_eq!(key_of("6 / 2", "null"), key_of(".", "3.0"));
    assert_eq!(key_of("nan", "null"), key_of("nan | -.", "null"));
    assert_ne!(key_of("nan", "null"), key_of("null", "null"));
    assert!(key_of("nan", "null") < key_of("-infinite", "null"));
    assert_eq!(
        key_of("{b: 1, a: 2}", "null"),
        key_of("{a: 2.0, b: 1}", "null")
    );
    assert_ne!(
        key_of(".", "9007199254740993"),
        key_of(". | .", "9007199254740992")
    );
    let error = Expression::compile("[.]")
        .unwrap()
        .evaluate_one(&Record::parse(b"1e9999999999").unwrap(), |value| {
            value.key()
        });
    assert!(
        error
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("1e9999999999")
    );
}

#[test]
fn expressions_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Expression::compile(".a").unwrap());
    shared(&Record::null());
}

#[test]
fn the_deepest_texts_that_the_limit_allows_compile_or_fail_on_any_thread() {
    let fill = |open: &str, core: &str, close: &str| {
        let levels = (MAX_EXPRESSION_BYTES - core.len()) / (open.len() + close.len());
        open.repeat(levels) + core + &close.repeat(levels)
    };
    for source in [
        fill("(", ".", ")"),
        fill("[", ".", "]"),
        fill("{a:", ".", "}"),
        fill("-", ".", ""),
        fill("(", ".", ""),
        fill("try ", ".", ""),
        fill(".|", ".", ""),
        fill(".+", ".", ""),
        fill(".,", ".", ""),
        fill(".//", ".", ""),
        fill("\"\\(", ".", ")\""),
        fill("if .then .else ", ".", " end"),
        fill("def f:", ".", ";."),
        fill(". as[", "$a", "]|."),
        fill(". as $a|", ".", ""),
        fill("reduce ", ".", " as $a(.;.)"),
        fill(".", ".", "?"),
    ] {
        // Compiling alone is the point, and dropping what was compiled; a text may well be no jq.
        let _ = Expression::compile(&source);
    }
}

#[test]
fn the_deepest_record_is_evaluated() {
    let deep = "[".repeat(DEFAULT_NESTING) + &"]".repeat(DEFAULT_NESTING);
    check(". | .", &deep, &[&deep]);
    check("[..] | length", &deep, &["256"]);
}

/// What recurses over a value, in jq's own definitions and beneath them. Half of a task's stack is enough for it.
#[test]
fn the_deepest_value_that_a_job_may_allow_is_borne_by_everything_that_recurses() {
    let limits = Limits {
        nesting: MAX_NESTING,
        ..Limits::default()
    };
    let arrays = "[".repeat(MAX_NESTING) + &"]".repeat(MAX_NESTING);
    let objects = r#"{"a":"#.repeat(MAX_NESTING) + "1" + &"}".repeat(MAX_NESTING);
    let work = move || {
        for text in [arrays, objects] {
            let record = RecordParser::within(limits).parse(text.as_bytes()).unwrap();
            assert!(record.key().is_ok());
            for same in [". | .", "walk(.)", "tojson | fromjson", "[.] | .[0]"] {
                let expression = Expression::compile(same).unwrap().within(limits);
                let result = expression.evaluate_one(&record, |value| {
                    value.key().unwrap();
                    value.to_record()
                });
                assert_eq!(result.unwrap().unwrap(), record, "{same}");
            }
            for source in [
                "[..] | length",
                "[paths] | length",
                "[.., .] | sort | unique | length",
                "flatten | length",
                ". == . and contains(.) and . <= .",
                "(.. | numbers) |= . + 1 | length",
                "del(.. | numbers) | length",
                "tostring | length",
                "@json \"\\(.)\" | length",
                "getpath([paths] | last) | length",
                "[., .] | group_by(.) | length",
                "try error(.) catch 1",
            ] {
                let expression = Expression::compile(source).unwrap().within(limits);
                let result = expression.evaluate_one(&record, |value| value.to_record());
                // Whether it fails is jq's business; here it only has to come back.
                let _ = result.map(Result::unwrap);
            }
            let deeper = Expression::compile("[.]").unwrap().within(limits);
            let result = deeper.evaluate_one(&record, |value| value.to_record());
            let limit = MAX_NESTING;
            assert_eq!(result.unwrap(), Err(ValueError::TooDeep { limit }));
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES / 2);
    thread.spawn(work).unwrap().join().unwrap();
}

/// jq over the members a, b, c and d, of all the forms whose members are counted and some that are not.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "\\.[a-d]".prop_map(String::from),
        "\\.[a-d]\\.[a-d]".prop_map(String::from),
        "\\.[a-d]\\?".prop_map(String::from),
        "\\.[a-d]\\[\\]\\?".prop_map(String::from),
        Just(".".to_owned()),
        Just("1".to_owned()),
        Just("\"x\"".to_owned()),
        Just("null".to_owned()),
        Just("empty".to_owned()),
        Just("length".to_owned()),
        Just("error".to_owned()),
        "\\{[a-d], x: \\.[a-d]\\}".prop_map(String::from),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone()
                .prop_map(|(left, right)| format!("({left} | {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("({left}, {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("({left} // {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("({left} + {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("({left} < {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("({left} and {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("(try {left} catch {right})")),
            two.clone()
                .prop_map(|(left, right)| format!("({left} as $x | [$x, {right}])")),
            two.clone()
                .prop_map(|(left, right)| format!("(if {left} then {right} end)")),
            two.clone()
                .prop_map(|(left, right)| format!("(if {left} then .a else {right} end)")),
            two.clone()
                .prop_map(|(left, right)| format!("({left} | .[{right}]?)")),
            two.clone()
                .prop_map(|(left, right)| format!("{{k: {left}, b, \"s\\({right})\": 1}}")),
            two.clone()
                .prop_map(|(left, right)| format!("({left})[{right}]?")),
            two.prop_map(|(left, right)| format!("({left} |= {right})")),
            inner.clone().prop_map(|inner| format!("select({inner})")),
            inner.clone().prop_map(|inner| format!("[{inner}]")),
            inner.clone().prop_map(|inner| format!("\"<\\({inner})>\"")),
            inner
                .clone()
                .prop_map(|inner| format!("(.a | map({inner})?)")),
            inner
                .clone()
                .prop_map(|inner| format!("(.a | def f: {inner}; f)")),
            inner.prop_map(|inner| format!("(reduce {inner} as $x (0; [., $x]))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_short_way_of_the_identity_never_shows(json in json()) {
        let record = Record::parse(json.as_bytes()).unwrap();
        let identity = Expression::compile(".").unwrap();
        let converted = Expression::compile(". | .").unwrap();
        let ask = |expression: &Expression| {
            expression.evaluate_one(&record, |value| (value.to_record(), value.key(), value.is_truthy(), value.type_name())).unwrap()
        };
        let (short, long) = (ask(&identity), ask(&converted));
        prop_assert_eq!(&short, &long);
        // The canonical text is a record, and its own canonical form.
        let text = short.0.unwrap();
        let again = Record::parse(text.as_json()).unwrap();
        prop_assert_eq!(&again, &text);
        prop_assert_eq!(again.key().ok(), record.key().ok());
    }

    #[test]
    fn the_short_way_of_paths_never_shows(json in json(), names in proptest::collection::vec("[a-c]", 1..4)) {
        let path = format!(".{}", names.join("."));
        let short = Expression::compile(&path).unwrap();
        prop_assert!(short.path.is_some());
        let long = Expression::compile(&format!(". | {path}")).unwrap();
        prop_assert!(long.path.is_none());
        for json in [&json, &format!("{{\"a\":{json},\"b\":{{\"c\":{json}}},\"c\":null}}")] {
            let record = Record::parse(json.as_bytes()).unwrap();
            let ask = |expression: &Expression| {
                expression.evaluate_one(&record, |value| {
                    let number = value.number_text().map(Cow::into_owned);
                    (value.to_record(), value.key(), value.is_truthy(), value.type_name(), number)
                })
            };
            prop_assert_eq!(ask(&short), ask(&long));
        }
    }

    #[test]
    fn that_only_some_members_are_converted_never_shows(source in expression(), record in json(), other in json()) {
        let Ok(short) = Expression::compile(&source) else { return Ok(()) };
        // A record that is bound to a variable is needed whole.
        let long = Expression::compile(&format!(". as $whole | {source}")).unwrap();
        prop_assert!(long.fields.is_none());
        for json in [&record, &format!("{{\"a\":{record},\"b\":{{\"c\":{other}}},\"d\":{other},\"\\u0061\":{other},\"c\":3}}")] {
            let record = Record::parse(json.as_bytes()).unwrap();
            let ask = |expression: &Expression| {
                let mut given = Vec::new();
                let evaluated = expression.evaluate(&record, &mut |value| {
                    given.push((value.to_record(), value.key()));
                    if given.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                (given, evaluated)
            };
            prop_assert_eq!(ask(&short), ask(&long), "{} on {}", source, json);
        }
    }

    #[test]
    fn keys_order_values_as_jq_does(left in json(), right in json()) {
        let pair = Record::parse(format!("[{left},{right}]").as_bytes()).unwrap();
        // jq compares numbers as floating point: where it sees two as equal, the exact value decides, so only strict
        // orders are compared. The numbers of `json` are exact as floating point but for large integers.
        let order = Expression::compile("if .[0] < .[1] then -1 elif .[0] > .[1] then 1 else 0 end").unwrap();
        let order = order.evaluate_one(&pair, |value| value.number_text().unwrap().into_owned()).unwrap();
        let key = |json: &str| Record::parse(json.as_bytes()).unwrap().key().unwrap();
        let by_key = key(&left).cmp(&key(&right));
        match order.as_str() {
            "-1" => prop_assert_eq!(by_key, std::cmp::Ordering::Less),
            "1" => prop_assert_eq!(by_key, std::cmp::Ordering::Greater),
            _ => {}
        }
    }
}
