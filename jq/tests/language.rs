//! Tests of the language itself, its limits and the programs that are refused. The functions are
//! tested in the table of expectations.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

use std::ops::ControlFlow;

use zephyr_jq::json::{ScanLimits, Source, scan};
use zephyr_jq::{Options, Program, STACK_BYTES, Value, declare_stack};

/// Runs on a thread with the stack that programs may use.
fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let work = || {
            declare_stack(STACK_BYTES);
            work()
        };
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// Returns the outputs as JSON, and then the error if there is one.
fn outputs(program: &str, input: &str) -> Vec<String> {
    on_big_stack(|| {
        let program = match Program::compile(program, &Options::default()) {
            Ok(program) => program,
            Err(error) => return vec![format!("refused: {error}")],
        };
        let mut nodes = Vec::new();
        scan(input, ScanLimits::WIDEST, &mut nodes).unwrap();
        let source = Source::new(input, &nodes);
        let mut given = Vec::new();
        let end = program.run(Value::of(source.root()), &[], &mut |value| {
            given.push(value.to_json().unwrap());
            ControlFlow::Continue(())
        });
        if let Err(error) = end {
            given.push(format!("error: {error}"));
        }
        given
    })
}

fn check(program: &str, input: &str, expected: &[&str]) {
    assert_eq!(outputs(program, input), expected, "{program} on {input}");
}

#[test]
fn an_error_has_the_place_of_the_part_that_fails() {
    for (program, input, place) in [
        (".a", "1", Some((1, 1))),
        (". + 1", r#""x""#, Some((1, 3))),
        (".a.b.c", r#"{"a":{"b":1}}"#, Some((1, 5))),
        (".[] | .a", r#"[{"a":1},2]"#, Some((1, 7))),
        (
            "[.[] | .a * 2] | add",
            r#"[{"a":1},{"a":{}}]"#,
            Some((1, 11)),
        ),
        (". as $x | [1, $x[0] / 0]", "[5]", Some((1, 21))),
        ("if . then\n  .x\nelse 1 end", "true", Some((2, 3))),
        (r#""\(.a) \(.b | fromjson)""#, r#"{"b":"x"}"#, Some((1, 15))),
        ("def f: .a; .[0] | f", "[1]", Some((1, 19))),
        (".time | fromdate", r#"{"time":"x"}"#, Some((1, 9))),
        ("select(.b | test(1))", r#"{"a":2}"#, Some((1, 13))),
        (r#"try error("x") catch ."#, "1", None),
        (".a", "{}", None),
    ] {
        let found = on_big_stack(|| {
            let compiled = Program::compile(program, &Options::default()).unwrap();
            let source = Source::parse(input, ScanLimits::WIDEST).unwrap();
            let place = compiled.locate(&Value::of(source.root()), &[]);
            place.map(|place| (place.line, place.column))
        });
        assert_eq!(found, place, "{program}");
    }
}

#[test]
fn operators_bind_as_in_jq() {
    check("1 + 2 * 3 - 4 / 2", "null", &["5"]);
    check("[1 + 2 as $x | $x, 10]", "null", &["[3,10]"]);
    check("[false or true and false // 7]", "null", &["[7]"]);
    check("[1, 2 | . * 10, 5]", "null", &["[10,5,20,5]"]);
    check("-1 - -2", "null", &["1"]);
    check("try error(\"x\") // 1", "null", &["1"]);
    check("{a: 1 | . + 1, b: 2}", "null", &["{\"a\":2,\"b\":2}"]);
    check("[.[] | -.a?]", r#"[{"a":1},5]"#, &["[-1]"]);
    for chained in ["1 == 1 == 1", ".a = .b = 1", "1 < 2 < 3"] {
        assert!(
            outputs(chained, "null")[0].starts_with("refused"),
            "{chained}"
        );
    }
}

#[test]
fn every_combination_of_outputs_is_made_in_the_order_of_jq() {
    check("[(1,2) + (10,20)]", "null", &["[11,12,21,22]"]);
    check("[pow(2,3; 1,2)]", "null", &["[2,3,4,9]"]);
    check("[range(0,1; 3,4)]", "null", &["[0,1,2,0,1,2,3,1,2,1,2,3]"]);
    check(
        "[\"\\(1,2)\\(3,4)\"]",
        "null",
        &[r#"["13","23","14","24"]"#],
    );
    check(
        "{a: (1,2), b: (3,4)}",
        "null",
        &[
            r#"{"a":1,"b":3}"#,
            r#"{"a":1,"b":4}"#,
            r#"{"a":2,"b":3}"#,
            r#"{"a":2,"b":4}"#,
        ],
    );
    check(
        "def f($a; $b): [$a, $b]; [f(1,2; 3,4)]",
        "null",
        &["[[1,3],[1,4],[2,3],[2,4]]"],
    );
}

#[test]
fn definitions_can_use_names_that_are_defined_around_them() {
    check("def f(g): [g, g]; 3 as $x | f($x + 1)", "null", &["[4,4]"]);
    check("def f: def g: 1; g + 1; def g: 5; f + g", "null", &["7"]);
    check(
        "def fac: if . < 2 then 1 else . * (. - 1 | fac) end; 5 | fac",
        "null",
        &["120"],
    );
    check("def f($a): a + $a; f(1, 2)", "null", &["2", "3", "3", "4"]);
    check("1 as $x | def f: $x; 2 as $x | f, $x", "null", &["1", "2"]);
    check("def f(g): def h: g; h; 7 | f(. + 1)", "null", &["8"]);
    check(
        "def f: reduce .[] as [$i, $j] (0; . + $i * $j); f",
        "[[1,2],[3,4]]",
        &["14"],
    );
}

#[test]
fn patterns_take_values_apart() {
    check(
        ". as {$a, b: [$c, {$d}]} | [$a, $c, $d]",
        r#"{"a":1,"b":[2,{"d":3}]}"#,
        &["[1,2,3]"],
    );
    check(
        "[.[] as [$a] ?// $a | [$a]]",
        "[[1],2,[[3]]]",
        &["[[1],[2],[[3]]]"],
    );
    check(". as {$x: [$y]} | [$x, $y]", r#"{"x":[5]}"#, &["[[5],5]"]);
    check(". as {a: $x, b: $x} | $x", r#"{"a":1,"b":2}"#, &["1"]);
    check(". as [$x, $x] | $x", "[1,2]", &["2"]);
    check(
        ". as {(\"a\", \"b\"): $x} | $x",
        r#"{"a":1,"b":2}"#,
        &["1", "2"],
    );
    check(
        ".[] as [$a] ?// [$b] | if $a != null then error(\"no\") else {$a, $b} end",
        "[[3]]",
        &[r#"{"a":null,"b":3}"#],
    );
}

#[test]
fn loops_keep_their_state_as_in_jq() {
    check("reduce range(5) as $x (0; empty)", "null", &["null"]);
    check("reduce range(3) as $x (0; . + $x, . * 10)", "null", &["0"]);
    check(
        "[foreach (1, 2, 3) as $x (0; if $x == 2 then empty else . + $x end)]",
        "null",
        &["[1,3]"],
    );
    check(
        "[foreach range(3) as $x (0, 10; . + $x; [$x, .])]",
        "null",
        &["[[0,0],[1,1],[2,3],[0,10],[1,11],[2,13]]"],
    );
}

#[test]
fn errors_stop_at_the_try_that_they_come_from() {
    check(
        "[.[] | try if . == 2 then error(\"two\") else . end catch .]",
        "[1,2,3]",
        &["[1,\"two\",3]"],
    );
    check("try (1, error(\"x\"), 2) catch .", "null", &["1", "\"x\""]);
    check(
        "(try 1 catch 2) | error(\"behind\")",
        "null",
        &["error: behind"],
    );
    check("[label $out | 1, break $out, 2]", "null", &["[1]"]);
    check("[label $a | label $b | 1, break $a, 2]", "null", &["[1]"]);
    check(
        "[label $out | try break $out catch .]",
        "null",
        &[r#"[{"__jq":0}]"#],
    );
    check("try error(null) catch .", "null", &["null"]);
    check("[.[]?]", "5", &["[]"]);
    check("(error(\"x\")) // 1", "null", &["error: x"]);
    check(
        ".a.b.c",
        r#"{"a":1}"#,
        &["error: Cannot index number with string \"b\""],
    );
}

#[test]
fn paths_are_followed_through_everything_that_passes_them_on() {
    check("[path(..)]", r#"{"a":[1]}"#, &[r#"[[],["a"],["a",0]]"#]);
    check(
        "path(first(.a, .b) | select(.c) | .c)",
        r#"{"a":{"c":1}}"#,
        &[r#"["a","c"]"#],
    );
    check(
        "[path(if .a then .b else .c end, (.x // .y), limit(1; .p, .q))]",
        r#"{"a":1}"#,
        &[r#"[["b"],["y"],["p"]]"#],
    );
    check(
        "path(def f: .a; f | getpath([\"b\", 0]))",
        "null",
        &[r#"["a","b",0]"#],
    );
    check(
        "path(1 | .a)",
        "null",
        &["error: Invalid path expression near attempt to access element \"a\" of 1"],
    );
    check(
        "path(.a | tojson)",
        "5",
        &["error: Cannot index number with string \"a\""],
    );
    check(
        "path(.a | [.])",
        "null",
        &["error: Invalid path expression with result [null]"],
    );
    check(
        "[path(.a[1:3][0])]",
        "null",
        &[r#"[["a",{"start":1,"end":3},0]]"#],
    );
}

#[test]
fn assignments_change_copies() {
    check(
        "(.a, .b) = (1, 2)",
        "null",
        &[r#"{"a":1,"b":1}"#, r#"{"a":2,"b":2}"#],
    );
    check(
        "[.[] |= empty, (.[] |= (., 1))]",
        "[1,2,3]",
        &["[[],[1,2,3]]"],
    );
    check(".[] += (1, 2)", "[1,2]", &["[2,3]", "[3,4]"]);
    check(
        ". as $x | .a.b = 1 | [., $x]",
        r#"{"a":{"c":0}}"#,
        &[r#"[{"a":{"c":0,"b":1}},{"a":{"c":0}}]"#],
    );
    check(".[2:4] = [9]", "[0,1,2,3,4]", &["[0,1,9,4]"]);
    check(
        ".a[1:] |= map(. * 2) | .a[-1] //= 5",
        r#"{"a":[1,2,3]}"#,
        &[r#"{"a":[1,4,6]}"#],
    );
    check("null | .a.b |= empty", "null", &["null"]);
    check("del(.[0, -1], .[1:2])", "[0,1,2,3]", &["[2]"]);
    check(
        "del(.a, .b.c)",
        r#"{"x":1,"a":2,"b":{"c":3,"d":4},"y":5}"#,
        &[r#"{"x":1,"b":{"d":4},"y":5}"#],
    );
    check(
        "to_entries",
        r#"{"b":1,"a":2,"b":3}"#,
        &[r#"[{"key":"b","value":3},{"key":"a","value":2}]"#],
    );
}

#[test]
fn integers_are_exact_and_other_numbers_keep_their_text() {
    check(". + 1", "9007199254740993", &["9007199254740994"]);
    check(
        "[.[] | . * 10]",
        "[12345678901234567890,-3]",
        &["[123456789012345678900,-30]"],
    );
    check(
        "[. - 1, . == 9007199254740992, . > 9007199254740992]",
        "9007199254740993",
        &["[9007199254740992,false,true]"],
    );
    check(
        "[reduce range(1; 26) as $i (1; . * $i)]",
        "null",
        &["[15511210043330985984000000]"],
    );
    check("[., .[0]]", "[1.10,1e400,-0]", &["[[1.10,1e400,-0],1.10]"]);
    check("[.[] | -.]", "[1.10,-2,0,1e3]", &["[-1.10,2,0,-1e3]"]);
    check(
        "[1.0 == 1, 0.1 + 0.2 == 0.3, 1e1000 == 1e1001]",
        "null",
        &["[true,false,false]"],
    );
    check(
        "reduce range(40000) as $i (1; . * 10)",
        "null",
        &["error: an integer has too many digits; at most 10000 are allowed"],
    );
}

#[test]
fn endless_recursion_is_an_error_and_not_a_crash() {
    for program in [
        "def f: 1 + f; f",
        "def f: [f]; f",
        "def f: f?; f",
        "def f: try f catch 1; f",
    ] {
        let given = outputs(program, "null").concat();
        assert!(
            given.contains("the recursion has no end"),
            "{program}: {given}"
        );
    }
    check(
        "reduce range(1000000) as $i (0; [.]) | length",
        "null",
        &["1"],
    );
    let deep = outputs(
        "reduce range(1000000) as $i (0; [.]) | tojson | length",
        "null",
    )
    .concat();
    assert!(
        deep.contains("2000001") || deep.contains("nests deeper"),
        "{deep}"
    );
}

#[test]
fn loops_use_no_stack() {
    check(
        "[0 | recurse(if . < 300000 then . + 1 else empty end)] | length",
        "null",
        &["300001"],
    );
    check("0 | until(. >= 300000; . + 1)", "null", &["300000"]);
    check(
        "[0 | while(. < 300000; . + 1)] | length",
        "null",
        &["300000"],
    );
    check("[limit(300000; repeat(1))] | add", "null", &["300000"]);
    check("last(range(300000))", "null", &["299999"]);
    check(
        "[limit(4; 0 | recurse(range(1; infinite)))]",
        "null",
        &["[0,1,1,1]"],
    );
}

#[test]
fn values_that_are_held_once_are_changed_in_place() {
    // Copied for each step, these would take minutes.
    check(
        "reduce range(200000) as $i ({}; .[$i % 1000 | tostring] += 1) | length",
        "null",
        &["1000"],
    );
    check(
        "reduce range(200000) as $i ([]; .[$i] = $i) | length",
        "null",
        &["200000"],
    );
    check(
        "reduce range(200000) as $i ([]; . + [$i]) | length",
        "null",
        &["200000"],
    );
    check(
        "reduce range(200000) as $i (\"\"; . + \"x\") | length",
        "null",
        &["200000"],
    );
    check(
        "[range(100000)] | . as $a | reduce range(100000) as $i (0; . + $a[$i])",
        "null",
        &["4999950000"],
    );
}

#[test]
fn names_that_depend_on_the_machine_are_refused_with_the_reason() {
    for (program, reason) in [
        (
            "env",
            "line 1, column 1: env is not allowed here: a result may depend on the record only",
        ),
        ("$ENV.A", "line 1, column 1: $ENV is not allowed here"),
        (
            ". |\n now",
            "line 2, column 2: now is not allowed here: a result may depend on the record only, not on the time",
        ),
        ("input", "an expression sees one record at a time"),
        (
            "import \"a\" as a; .",
            "line 1, column 1: import is not allowed here: there are no modules",
        ),
        (
            "debug(\"x\")",
            "an expression has no output besides its results",
        ),
        (
            "foo(1; 2)",
            "line 1, column 1: the filter foo/2 is not defined",
        ),
        ("$x", "the variable $x is not defined"),
        ("break $x", "the label $x is not defined"),
        (
            "{(1): 2}",
            "line 1, column 3: Cannot use number (1) as object key",
        ),
        ("test(\"(\")", "line 1, column 1: Regex failure"),
        (
            "\"\\v\"",
            "line 1, column 2: the escape in this string is invalid",
        ),
    ] {
        let given = outputs(program, "null").concat();
        assert!(
            given.starts_with("refused: ") && given.contains(reason),
            "{program}: {given}"
        );
    }
    check("def now: 5; now", "null", &["5"]);
    check("try test(\"(\") catch \"caught\"", "\"x\"", &["\"caught\""]);
}

#[test]
fn variables_are_given_with_the_input() {
    let options = Options {
        variables: vec!["a".to_owned(), "b".to_owned()],
    };
    let program = Program::compile("[$a, $b, (1 as $a | $a)]", &options).unwrap();
    let mut given = String::new();
    let variables = [Value::from("x")];
    let end = program.run(Value::Null, &variables, &mut |value| {
        given = value.to_json().unwrap();
        ControlFlow::Break(())
    });
    assert!(end.is_ok());
    assert_eq!(given, r#"["x",null,1]"#);
}

#[test]
fn the_receiver_may_end_the_run() {
    let program = Program::compile("1, 2, error(\"never\")", &Options::default()).unwrap();
    let mut count = 0;
    let end = program.run(Value::Null, &[], &mut |_| {
        count += 1;
        if count == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(end.is_ok());
    assert_eq!(count, 2);
}

#[test]
fn a_comment_continues_after_an_odd_number_of_backslashes() {
    check("1 # one\n, 2", "null", &["1", "2"]);
    check("1 # one \\\n, 2\n, 3", "null", &["1", "3"]);
    check("1 # one \\\\\n, 2", "null", &["1", "2"]);
    check("", "7", &["7"]);
    check("def f: 1; # nothing else", "7", &["7"]);
}

#[test]
fn programs_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Program::compile(".a", &Options::default()).unwrap());
}
