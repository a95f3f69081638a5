//! Tests the results of expressions, the texts in which they are written, and the errors.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::key::KeyBytes;
use crate::record::tests::json;
use crate::record::{DEFAULT_NESTING, Limits, MAX_NESTING, RecordParser};

/// Runs `work` on a thread with the stack of a task.
fn on_task_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    on_full_stack("test", work).unwrap().unwrap()
}

fn results(expression: &str, record: &str) -> Result<Vec<String>, String> {
    on_task_stack(|| results_here(expression, record))
}

fn results_here(expression: &str, record: &str) -> Result<Vec<String>, String> {
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
            &["\"A/é\\u0007\\u007f\""],
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
fn numbers_are_read_and_written_as_in_jq() {
    for (expression, record, expected) in [
        ("tonumber", r#""08""#, "8"),
        ("tonumber", r#""2.50""#, "2.50"),
        ("tonumber? // \"none\"", r#"" 12 ""#, r#""none""#),
        ("fromjson", r#""{\"a\":[1, 0.10]}""#, r#"{"a":[1,0.10]}"#),
        (
            "@csv",
            r#"[1,"a\"b",null,true,0.10]"#,
            r#""1,\"a\"\"b\",,true,0.10""#,
        ),
        ("@sh", r#"[6.0, "it's", null]"#, r#""6.0 'it'\\''s' null""#),
        (
            "join(\",\")",
            r#"["a",null,1,6.0,true]"#,
            r#""a,,1,6.0,true""#,
        ),
    ] {
        check(expression, record, &[expected]);
    }
    check_error(
        "tonumber",
        r#"" 12 ""#,
        r#"string (" 12 ") cannot be parsed as a number"#,
    );
    check_error(
        "fromjson",
        r#""[1,""#,
        "Unfinished JSON term at EOF at line 1, column 3 (while parsing '[1,')",
    );
    let bomb = format!("\"{}\"", "[".repeat(100_000));
    let error = results("fromjson", &bomb).unwrap_err();
    assert!(
        error.starts_with("Exceeds depth limit for parsing"),
        "{error}"
    );
}

#[test]
fn deleting_keeps_the_order_of_what_stays() {
    let record = r#"{"a":1,"b":{"c":[1,2,3],"d":1,"e":2},"f":null,"g":5}"#;
    for (expression, expected) in [
        (
            "del(.a, .f, .missing, .f.x)",
            r#"{"b":{"c":[1,2,3],"d":1,"e":2},"g":5}"#,
        ),
        ("del(.b.c[0, -1]) | .b", r#"{"c":[2],"d":1,"e":2}"#),
        ("del(.b.c[:-1], .b.c[7]) | .b.c", "[3]"),
        ("del(..| numbers)", r#"{"b":{"c":[]},"f":null}"#),
    ] {
        check(expression, record, &[expected]);
    }
    check_error(
        "delpaths([[0]])",
        r#"{"a":1}"#,
        "Cannot delete number field of object",
    );
}

/// Behaviour of jq that has surprised people.
#[test]
fn null_slices_assignments_and_patterns_are_those_of_jq() {
    check(
        r#".text[:5], (.meta.source = "x"), (.n[2] = 1), (.c[.k] += 1)"#,
        r#"{"k":"x"}"#,
        &[
            "null",
            r#"{"k":"x","meta":{"source":"x"}}"#,
            r#"{"k":"x","n":[null,null,1]}"#,
            r#"{"k":"x","c":{"x":1}}"#,
        ],
    );
    check(
        r#"[scan("\\w+")]"#,
        r#""naïve café Привет""#,
        &[r#"["naïve","café","Привет"]"#],
    );
    check(
        r#"test(["A","i"]), test("a"; null), [match("(?=a)a").offset]"#,
        r#""a""#,
        &["true", "true", "[0]"],
    );
    check(
        r#"split(".")[1] | @base64d | fromjson"#,
        r#""eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.x""#,
        &[r#"{"sub":"1234"}"#],
    );
    check(
        r#"(0|gmtime|todate), ("10:30"|strptime("%H:%M")|.[3]),
            ("2024-05-01 UTC"|strptime("%Y-%m-%d %Z")|mktime), (1425599621.678|todate)"#,
        "null",
        &[
            r#""1970-01-01T00:00:00Z""#,
            "10",
            "1714521600",
            r#""2015-03-05T23:53:41Z""#,
        ],
    );
}

#[test]
fn expressions_that_depend_on_more_than_the_record_do_not_compile() {
    let world = "a result may depend on the record only";
    for (expression, column, reason) in [
        ("env", 1, world),
        ("env.HOME", 1, world),
        ("$ENV.HOME", 1, world),
        (". | now", 5, world),
        ("halt", 1, "may not end its process"),
        ("1, halt_error", 4, "may not end its process"),
        ("halt_error(1)", 1, "may not end its process"),
        ("localtime", 1, "time zone of the machine"),
        (r#"0 | strflocaltime("%H")"#, 5, "time zone of the machine"),
        ("debug", 1, "no output besides its results"),
        (r#"debug("x")"#, 1, "no output besides its results"),
        ("stderr", 1, "no output besides its results"),
        ("input", 1, "one record at a time"),
        ("[inputs]", 2, "one record at a time"),
        ("input_filename", 1, "one record at a time"),
        (r#"import "a" as a; ."#, 1, "there are no modules"),
        (r#"import "a" as $a; ."#, 1, "there are no modules"),
        (
            r#"import "a" as $a {search: "./"}; $a"#,
            1,
            "there are no modules",
        ),
        (r#"include "a"; ."#, 1, "there are no modules"),
        (
            r#"include "a" {search: "./"}; ."#,
            1,
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
    // An expression may define functions with these names.
    check("def now: 5; now", "null", &["5"]);
}

#[test]
fn mistakes_are_reported_with_their_position() {
    for (expression, expected) in [
        (
            "",
            "line 1, column 1: the expression is empty; a jq expression is expected, such as . for the record itself",
        ),
        (
            " # nothing\n",
            "line 1, column 1: the expression is empty; a jq expression is expected, such as . for the record itself",
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
            "line 1, column 6: the filter foo/0 is not defined; a field is written .foo",
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
            "line 2, column 5: the filter foo/0 is not defined; a field is written .foo",
        ),
        (
            "\"é\\(1)\\(foo)\"",
            "line 1, column 9: the filter foo/0 is not defined; a field is written .foo",
        ),
        (
            "\"\\(1)\" | \"\\(2)\" | foo",
            "line 1, column 19: the filter foo/0 is not defined; a field is written .foo",
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
    check_error(".a", "5", "Cannot index number with string \"a\"");
    check_error(
        ".[]",
        "5",
        "Cannot iterate over number (5) (column 2 of the expression)",
    );
    check_error(
        ". + 1",
        r#""a""#,
        "string (\"a\") and number (1) cannot be added (column 3 of the expression)",
    );
    check_error("error(\"no such thing\")", "null", "no such thing");
    check_error("error({a: 1})", "null", r#"{"a":1}"#);
    check_error(
        ".price / .qty",
        r#"{"price":5,"qty":0}"#,
        "number (5) and number (0) cannot be divided because the divisor is zero (column 8 of the expression)",
    );
    check_error(
        "1 % .",
        "0",
        "number (1) and number (0) cannot be divided (remainder) because the divisor is zero (column 3 of the expression)",
    );
    check_error(
        r#".tags | contains("x")"#,
        r#"{"tags":["x"]}"#,
        r#"array (["x"]) and string ("x") cannot have their containment checked (column 9 of the expression)"#,
    );
    check_error(
        "{\"a\": 1} | with_entries(.key = 1)",
        "null",
        "Cannot use number (1) as object key (column 12 of the expression)",
    );
    check_error(
        "if . then\n  .x\nelse 1 end",
        "true",
        "Cannot index boolean with string \"x\" (line 2, column 3 of the expression)",
    );
    let long = format!("error(\"{}\")", "é".repeat(1000));
    let error = results(&long, "null").unwrap_err();
    assert_eq!(error, "é".repeat(200) + "…");
}

#[test]
fn recursion_without_end_is_an_error() {
    let error = results("def f: 1 + f; f", "null").unwrap_err();
    assert!(error.contains("the recursion has no end"), "{error}");
    // Filters that repeat need no stack.
    check("last(range(1000000))", "null", &["999999"]);
    check("[limit(3; repeat(1))]", "null", &["[1,1,1]"]);
}

#[test]
fn results_that_no_record_can_hold_are_errors() {
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
    // Bytes that are not UTF-8 become the replacement character, as in jq.
    check("\"/w==\" | @base64d", "null", &["\"\u{fffd}\""]);
    let limits = Limits {
        bytes: 10,
        nesting: 2,
        ..Limits::default()
    };
    let made = |expression: &str, record: &str| {
        let record = Record::parse(record.as_bytes()).unwrap();
        let expression = Expression::compile(expression).unwrap().within(limits);
        let made = expression.evaluate_one(&record, |value| value.to_record());
        made.unwrap().map(|record| record.to_string())
    };
    let too_long = Err(ValueError::TooLong { limit: 10 });
    let too_deep = Err(ValueError::TooDeep { limit: 2 });
    assert_eq!(made(". * 8", r#""a""#), Ok(r#""aaaaaaaa""#.to_owned()));
    assert_eq!(made(". * 9", r#""a""#), too_long);
    assert_eq!(made("[., .]", r#"["abc"]"#), too_long);
    assert_eq!(made("[.]", r#"["\n"]"#), Ok(r#"[["\n"]]"#.to_owned()));
    assert_eq!(made("[.]", "[[1]]"), too_deep);
    assert_eq!(made("{a: .}", r#"{"a":[]}"#), too_deep);
    assert_eq!(made(".[0]", "[[[[1]]]]"), too_deep);
}

#[test]
fn named_values_are_variables_and_keep_their_text() {
    let values: crate::pipeline::Values = [
        ("limit", "1.50"),
        ("names", r#"{"de": "Köln", "n": [1, 2]}"#),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into();
    let variables = Variables::of(&values).unwrap();
    let expression =
        Expression::compile_with("[$limit, $names[.], ($names | keys)]", &variables).unwrap();
    for record in ["\"de\"", "\"n\"", "\"x\""] {
        let record = Record::parse(record.as_bytes()).unwrap();
        let made = expression.evaluate_one(&record, |value| value.to_record());
        let name = match record.as_string().as_deref() {
            Some("de") => "\"Köln\"",
            Some("n") => "[1,2]",
            _ => "null",
        };
        assert_eq!(
            made.unwrap().unwrap().to_string(),
            format!(r#"[1.50,{name},["de","n"]]"#)
        );
    }
    let bad: crate::pipeline::Values = [("limit".to_owned(), "[1,".to_owned())].into();
    assert_eq!(
        Variables::of(&bad).unwrap_err().to_string(),
        "line 1, column 1: the named value limit is not JSON: byte 3: the JSON value is cut off"
    );
}

#[test]
fn a_large_variable_is_shared_and_its_members_are_found_by_their_names() {
    let members: Vec<String> = (0..10_000)
        .map(|n| format!("\"k{n}\":{{\"n\":{n}}}"))
        .collect();
    let text = format!("{{{}}}", members.join(","));
    let mut variables = Variables::default();
    let bytes = variables.insert("table", text.clone()).unwrap();
    assert!(bytes > text.len(), "{bytes}");
    for (source, expected) in [("$table[.].n", "9999"), ("$table | length", "10000")] {
        let expression = Expression::compile_with(source, &variables).unwrap();
        let made = expression.evaluate_one(&Record::parse(b"\"k9999\"").unwrap(), |value| {
            value.to_record()
        });
        assert_eq!(made.unwrap().unwrap().to_string(), expected);
    }
    let shared = variables.sources().next().unwrap();
    let expression = Expression::compile_with("$table", &variables).unwrap();
    assert_eq!(
        Arc::strong_count(shared),
        2,
        "{expression:?} has the value itself"
    );
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
fn the_receiver_may_end_the_run() {
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
fn the_members_that_an_expression_reads_are_known() {
    let fields = |source: &str| {
        let expression = Expression::compile(source).unwrap();
        match expression.program.reach() {
            Reach::Path(path) => Some(format!("path {}", path.join("."))),
            Reach::Members(names) => Some(names.iter().cloned().collect::<Vec<_>>().join(" ")),
            Reach::Whole => None,
        }
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
        (".a # a comment", "path a"),
        (" . ", "path "),
        (".a.b.c", "path a.b.c"),
        (".[\"a b\"].c", "path a b.c"),
        (".\"a b\"", "path a b"),
        (".a?", "a"),
        (".a[]", "a"),
        (".a, .b", "a b"),
        (".a | .b", "a"),
        (".a[0].b", "a"),
        (".a[.b:]", "a b"),
    ] {
        assert_eq!(fields(source).as_deref(), Some(expected), "{source}");
    }
    for source in [
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
fn an_expression_that_changes_no_value_needs_no_memory_for_values() {
    let needed = |source: &str, record: &str| {
        let record = Record::parse(record.as_bytes()).unwrap();
        let with = |memory_bytes| {
            let limits = Limits {
                memory_bytes,
                ..Limits::default()
            };
            let expression = Expression::compile(source).unwrap().within(limits);
            expression.evaluate_one(&record, |value| drop(value.to_record()))
        };
        match with(1) {
            Err(EvaluationError::NoRoom(no_room)) => {
                // The tape alone needs more memory than there is, so the estimate contains only the
                // tape.
                let tape = no_room.needed_bytes;
                match with(tape) {
                    Err(EvaluationError::NoRoom(no_room)) => no_room.needed_bytes - tape,
                    _ => 0,
                }
            }
            other => panic!("{other:?}"),
        }
    };
    let numbers = format!(r#"{{"a":[{}1],"b":1}}"#, "1,".repeat(999));
    for source in [".b > 1", "select(.b == 1) | .b", ".b * 2", ".b + 1"] {
        assert!(needed(source, &numbers) < 100, "{source}");
    }
    // While the result grows, it takes as much memory as its text once more.
    for source in [
        "{a, c: .b}",
        "[.a, 1]",
        ".a | select(length > 1)",
        "[.a[0], .a]",
        ".a[7]",
    ] {
        assert!((1..3_000).contains(&needed(source, &numbers)), "{source}");
    }
    for source in [
        ".a | map(. + 1)",
        ".a + .a",
        "[.a[]]",
        "{x: .a[1:]}",
        "tojson",
    ] {
        assert!(needed(source, &numbers) > 20_000, "{source}");
    }
    let escaped = format!(r#"{{"a":"{}"}}"#, "\\n".repeat(1_000));
    assert!(needed("{b: .a}", &escaped) > 4_000);
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
fn a_result_tells_its_truth_its_type_and_its_number() {
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
        // This test only compiles the text and drops the result. The text need not be valid jq.
        let _ = Expression::compile(&source);
    }
}

#[test]
fn the_deepest_record_is_evaluated() {
    let deep = "[".repeat(DEFAULT_NESTING) + &"]".repeat(DEFAULT_NESTING);
    check(". | .", &deep, &[&deep]);
    check("[..] | length", &deep, &["256"]);
}

/// Covers the filters that recurse over a value: those that jq defines in its own language, and
/// those of the evaluator.
#[test]
fn every_recursive_function_handles_the_deepest_value_that_a_job_may_allow() {
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
                // The evaluation may fail, as in jq; it only has to end.
                let _ = result.map(Result::unwrap);
            }
            let deeper = Expression::compile("[.]").unwrap().within(limits);
            let result = deeper.evaluate_one(&record, |value| value.to_record());
            let limit = MAX_NESTING;
            assert_eq!(result.unwrap(), Err(ValueError::TooDeep { limit }));
        }
    };
    on_task_stack(work);
}

/// Expressions over the members a, b, c and d. They have all the forms for which the members are
/// found, and some other forms.
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
    fn the_shortcut_for_the_identity_does_not_change_any_result(json in json()) {
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

    /// An expression must have the same results if the members that it cannot reach are removed.
    #[test]
    fn members_beyond_the_reach_do_not_matter(
        source in expression(), record in json(), other in json(), gone in json()
    ) {
        let Ok(expression) = Expression::compile(&source) else { return Ok(()) };
        let reached = match expression.program.reach() {
            Reach::Members(names) => names.clone(),
            Reach::Path(names) if !names.is_empty() => names.iter().take(1).cloned().collect(),
            Reach::Path(_) | Reach::Whole => return Ok(()),
        };
        let members = [("a", &record), ("b", &other), ("c", &gone), ("d", &other)];
        let object = |is_kept: &dyn Fn(&str) -> bool| {
            let kept = members.iter().filter(|(name, _)| is_kept(name));
            let texts: Vec<String> = kept.map(|(name, json)| format!("\"{name}\":{json}")).collect();
            Record::parse(format!("{{{}}}", texts.join(",")).as_bytes()).unwrap()
        };
        let ask = |record: &Record| {
            let mut given = Vec::new();
            let evaluated = expression.evaluate(record, &mut |value| {
                given.push((value.to_record(), value.key()));
                if given.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            (given, evaluated)
        };
        let (whole, part) = (object(&|_| true), object(&|name| reached.contains(name)));
        prop_assert_eq!(ask(&whole), ask(&part), "{}", source);
    }

    #[test]
    fn keys_order_values_as_jq_does(left in json(), right in json()) {
        let pair = Record::parse(format!("[{left},{right}]").as_bytes()).unwrap();
        // jq compares numbers as floating point. If jq finds two numbers equal, keys still
        // distinguish them by their exact values. So only strict orders are compared here. The
        // numbers of `json` are exact as floating point, except for large integers.
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
