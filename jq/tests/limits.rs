//! Tests that an endless program, and a program that needs too much of something, end in a sentence
//! that names the limit. Long loops that reach no limit must end without an error.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::ops::ControlFlow;

use zephyr_jq::json::{ScanLimits, Source, scan};
use zephyr_jq::{Limits, Options, Program, Value};

#[allow(dead_code, reason = "only the stack matters here")]
mod support;

/// Less than the default, so that the tests take no time.
const LIMITS: Limits = Limits {
    bytes: 32 << 20,
    steps: 20_000_000,
    ..Limits::DEFAULT
};

const STEPS: &str = "too many steps";
const MEMORY: &str = "too much memory";
const STACK: &str = "the stack of 256 MiB";

/// The last output, and the error if there is one.
fn end(program: &str, input: &str) -> Result<String, String> {
    end_within(LIMITS, program, input)
}

fn end_within(limits: Limits, program: &str, input: &str) -> Result<String, String> {
    support::with_stack(|| {
        let compiled =
            Program::compile(program, &Options::default()).map_err(|error| error.to_string())?;
        let compiled = compiled.with_limits(limits);
        let mut nodes = Vec::new();
        scan(input, ScanLimits::WIDEST, &mut nodes).unwrap();
        let source = Source::new(input, &nodes);
        let mut last = Ok(String::new());
        let end = compiled.run(Value::of(source.root()), &[], &mut |value| {
            last = value.to_json().map_err(|error| error.to_string());
            if last.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match end {
            Ok(()) => last,
            Err(error) => Err(error.to_string()),
        }
    })
}

/// Each of the programs ends in an error that names one of the limits.
fn reach(limits: &[&str], programs: &[&str]) {
    for program in programs {
        let end = end(program, "null");
        let message = end.as_ref().err().map_or("no error", String::as_str);
        assert!(
            limits.iter().any(|limit| message.contains(limit)),
            "{program}: {message}"
        );
    }
}

#[test]
fn a_program_that_reads_all_of_a_long_record_has_enough_steps() {
    let limits = Limits {
        bytes: 256 << 20,
        steps: 1_000,
        ..Limits::DEFAULT
    };
    let numbers: Vec<String> = (0..50_000_u32)
        .map(|at| (at * 7_919 % 10).to_string())
        .collect();
    let words = numbers.join(" ");
    let items = numbers.iter().map(|number| format!(r#"{{"a":{number}}}"#));
    let items = items.collect::<Vec<_>>().join(",");
    let input = format!(
        r#"{{"text":"{words}","numbers":[{}],"items":[{items}]}}"#,
        numbers.join(",")
    );
    for program in [
        ".text | ascii_downcase | split(\" \") | length",
        ".text | [scan(\"\\\\d+\")] | group_by(.) | length",
        ".text | gsub(\" \"; \"-\") | length",
        "[.items[] | select(.a > 1)] | length",
        ".items | group_by(.a) | map({key: (.[0].a | tostring), value: length}) | from_entries",
        ".items | map(.a += 1) | unique_by(.a) | length",
        ".numbers | sort | length",
        ".numbers | map(tostring) | unique | join(\",\")",
        "reduce .numbers[] as $number (0; . + $number)",
        "def double: . * 2; [.numbers[] | double] | add",
        "[.. | numbers] | length",
        ".items |= map(select(.a > 3)) | .items | length",
        "[.items[] | to_entries[] | .value] | max",
        "tojson | length",
    ] {
        let end = end_within(limits, program, &input);
        assert!(end.is_ok(), "{program}: {end:?}");
    }
    for program in ["def f: f; f", "last(repeat(1))", "until(false; .)"] {
        let end = end_within(limits, program, &input);
        assert!(
            end.as_ref().is_err_and(|error| error.contains(STEPS)),
            "{program}: {end:?}"
        );
    }
}

#[test]
fn a_long_list_is_subtracted_from_a_long_list() {
    for (program, expected) in [
        (
            "[range(100000)] - [range(100000) | . * 2] | length",
            "50000",
        ),
        (
            "[range(100000) | tostring] - [range(1; 100000) | tostring]",
            r#"["0"]"#,
        ),
        (
            r#"[1, 1.0, 2, "1", null, true, false, nan, [1], [nan], {"a": 1}] - [true, null, nan, [1], [nan], 1, {"a": 1.0}]"#,
            r#"[2,"1",false,null,[null]]"#,
        ),
        (
            "[100000000000000000001, 9007199254740993, 3] - [9007199254740993, 3.0]",
            "[100000000000000000001]",
        ),
    ] {
        assert_eq!(end(program, "null").as_deref(), Ok(expected), "{program}");
    }
}

#[test]
fn loops_without_end_take_too_many_steps() {
    reach(
        &[STEPS],
        &[
            "def f: f; f",
            "def f: .; def g: f | g; g",
            "def f: def g: f; g; f",
            "def f($n): f($n + 1); f(0)",
            "def f(g): g | f(g); f(.)",
            "def f: if . then empty else f end; f",
            "def f: . as $x | $x | f; f",
            "until(false; .)",
            "last(repeat(1))",
            "last(range(infinite))",
            "range(0; infinite; 1) | empty",
            "recurse(.) | empty",
            "recurse(.; true) | empty",
            "while(true; .) | empty",
            "last(limit(infinite; repeat(1)))",
            "first(range(infinite) | select(. < 0))",
            "any(repeat(1); . == 2)",
            "isempty(repeat(1) | empty)",
            "reduce range(infinite) as $i (0; . + 1)",
            "last(foreach repeat(1) as $i (0; . + 1))",
            "try repeat(1) catch . | empty",
            "label $out | repeat(1) | if . == 2 then break $out else empty end",
            "path(recurse(.)) | empty",
            "first(path(repeat(.)) | select(. == 1))",
            "[1, 2, 3] | until(false; sort)",
            "[range(1000)] | .[] as $a | .[] as $b | .[] as $c | empty",
            "reduce range(60) as $i (1; [., .]) | .. | empty",
            "reduce range(60) as $i ([]; [., .]) | flatten | length",
            "(reduce range(60) as $i ([]; [., .])) == (reduce range(60) as $i ([]; [., .]))",
            "[range(20000) | [.]] - [range(20000) | [. + 1]]",
            "\"a\" * 200000 | indices(\"a\" * 100000)",
            "\"a\" * 200000 | index(\"a\" * 100000)",
            "[range(20000) | 0] | indices([range(10000) | 0])",
            "reduce range(60) as $i ([]; [., .]) | contains(reduce range(60) as $i ([]; [., .]))",
        ],
    );
}

#[test]
fn values_without_end_take_too_much_memory() {
    reach(
        &[MEMORY],
        &[
            "[recurse(.)]",
            "[range(infinite)]",
            "[repeat(1)]",
            "[while(true; .)]",
            "[limit(infinite; repeat(\"x\"))]",
            "[range(infinite) | tostring]",
            "[range(infinite) | {a: .}]",
            "[range(infinite) | [[.]]]",
            "[{(range(infinite) | tostring): 1}]",
            "def f: .a |= f; f",
            "[recurse([.])]",
            "\"x\" * 1e9",
            "until(false; . + \"x\" * 1000)",
            "\"x\" | until(false; . + .)",
            "[1] | until(false; . + .)",
            "{} | until(false; .[length | tostring] = 1)",
            "reduce range(infinite) as $i ([]; .[$i] = $i)",
            "reduce range(infinite) as $i ({}; .[$i | tostring] = $i)",
            "[] | .[33000000] = 1",
            "[1] | until(false; [., .] | flatten)",
            "reduce range(60) as $i ([]; [., .]) | walk(.) | length",
            "[range(100000) | []] | [.[], [range(100000)]] | transpose | length",
            "reduce range(60) as $i (1; [., .]) | flatten | length",
            "\"x\" * 2000000 | explode | length",
            "\"x\" * 2000000 | split(\"\") | length",
            "\"x\" * 1000000 | [match(\"\"; \"g\")] | length",
            "\"x\" * 2000000 | [scan(\".\")] | length",
            "\"x\" * 10000000 | [., ., ., .] | join(\"\") | length",
            "\"x\" * 10000000 | [., ., ., .] | @csv | length",
            "\"x\" * 10000000 | \"\\(.)\\(.)\\(.)\\(.)\" | length",
            "\"x\" * 10000000 | [., ., ., .] | add | length",
            "\"x\" * 10000000 | [., ., ., .] | tojson | length",
            "reduce range(60) as $i (1; [., .]) | tojson | length",
            "reduce range(60) as $i (1; {a: ., b: .}) | [paths] | length",
            "reduce range(60) as $i (1; [., .]) | [tostream] | length",
            "reduce range(60) as $i (1; [., .]) | [..] | length",
            "[range(1; infinite) | . * 123456789012345678901234567890]",
            "[range(infinite) | \"1.5\" | tonumber]",
            "[range(infinite) | \"[1,2,3]\" | fromjson]",
            "def f(g): f(g | g); f(.)",
            "def f: [range(100000)] as $x | ., f | $x; f | empty",
            "[range(1000)] | [combinations(4)]",
            "[range(1000000)] | sort_by(-.) | group_by(.) | length",
            "[range(2000)] | [., .] | [combinations] | length",
        ],
    );
}

#[test]
fn endless_recursion_is_reported_as_deeper_than_the_stack() {
    reach(
        &[STACK],
        &[
            "def f: 1 + f; f",
            "def f: [f]; f",
            "def f: f?; f",
            "def f: try f catch 1; f",
            "def f: f, 1; f",
            "def f: f | .; f",
            "def f: {a: f}; f",
            "def f: reduce f as $x (0; 1); f",
            "def f: first(f); f",
            "def f: label $x | f; f",
            "def f: f // 1; f",
            "def f(g): 1 + f(g + 1); f(.)",
            "def f: path(f); f",
            "def f: (1, 2) | empty, f; f",
        ],
    );
}

#[test]
fn an_output_that_is_too_long_as_json_is_an_error() {
    for program in [
        "reduce range(60) as $i (1; [., .])",
        "reduce range(60) as $i (1; {a: ., b: .})",
        "\"x\" * 10000000 | [limit(100; repeat(.))]",
    ] {
        let end = end(program, "null").unwrap_err();
        assert!(
            end.contains("256 MiB for one value") || end.contains(MEMORY),
            "{program}: {end}"
        );
    }
}

#[test]
fn a_definition_that_ends_in_a_call_of_itself_uses_no_stack() {
    for (program, expected) in [
        (
            "0 | def f: if . >= 1000000 then . else . + 1 | f end; f",
            "1000000",
        ),
        (
            "def f($n): if $n >= 1000000 then $n else f($n + 1) end; f(0)",
            "1000000",
        ),
        (
            "def f($n; $sum): if $n == 0 then $sum else f($n - 1; $sum + $n) end; f(1000000; 0)",
            "500000500000",
        ),
        (
            "0 | def f(g): if . >= 1000000 then . else g | f(g) end; f(. + 1)",
            "1000000",
        ),
        (
            "def until(c; u): def _u: if c then . else u | _u end; _u; 0 | until(. >= 1000000; . + 1)",
            "1000000",
        ),
        (
            "def while(c; u): def _w: if c then ., (u | _w) else empty end; _w; last(0 | while(. <= 1000000; . + 1))",
            "1000000",
        ),
        (
            "def repeat(u): def _r: ., (u | _r); _r; 0 | last(limit(1000001; repeat(. + 1)))",
            "1000000",
        ),
        (
            "def range($from; $to): if $from < $to then $from, range($from + 1; $to) else empty end; last(range(0; 1000001))",
            "1000000",
        ),
        (
            "def even: if . == 0 then true else . - 1 | odd end; 1",
            "refused",
        ),
        (
            "def f: def g: if . >= 1000000 then . else . + 1 | f end; g; 0 | f",
            "1000000",
        ),
        (
            "def f: . as $x | if $x >= 1000000 then $x else $x + 1 | f end; 0 | f",
            "1000000",
        ),
        (
            "def f: . as [$x] | if $x >= 1000000 then $x else [$x + 1] | f end; [0] | f",
            "1000000",
        ),
        (
            "def f: if . >= 1000000 then . else (select(false) // (. + 1)) | f end; 0 | f",
            "1000000",
        ),
        (
            "def f: (select(. >= 1000000) // (. + 1 | f)); 0 | f",
            "1000000",
        ),
        (
            "def f: if . >= 1000000 then . elif . % 2 == 0 then . + 1 | f else . + 3 | f end; 0 | f",
            "1000000",
        ),
        (
            "def f: if (., true) then (if . >= 1000000 then . else . + 1 end) else empty end; last(0 | f)",
            "1",
        ),
        (
            "def f: empty, (if . >= 1000000 then . else . + 1 | f end); 0 | f",
            "1000000",
        ),
        (
            "[0, 0] | def f: if .[0] >= 1000000 then .[1] else [.[0] + 1, .[1] + .[0]] | f end; f",
            "499999500000",
        ),
        (
            "def f($a): def g: if $a >= 1000000 then $a else f($a + 1) end; g; f(0)",
            "1000000",
        ),
        (
            "[range(1000000)] | def f($i; $sum): if $i == length then $sum else f($i + 1; $sum + .[$i]) end; f(0; 0)",
            "499999500000",
        ),
    ] {
        if expected == "refused" {
            assert!(end(program, "null").is_err());
            continue;
        }
        assert_eq!(end(program, "null").as_deref(), Ok(expected), "{program}");
    }
}

#[test]
fn a_tail_call_comes_after_everything_before_it() {
    for (program, expected) in [
        (
            "def f: if . > 3 then error(\"end\") else ., (. + 1 | f) end; [try f catch .]",
            "[1,2,3,\"end\"]",
        ),
        (
            "def f: if . > 2 then . else (. + 1, error(\"x\")) | f end; [try f catch .]",
            "[3,\"x\"]",
        ),
        (
            "def f: if . > 3 then . else (. + 1, . + 2) | f end; [f]",
            "[4,5,4,4,5]",
        ),
        (
            "def f: if . > 3 then . else (. + 1, . + 2) | f end; [limit(2; f)]",
            "[4,5]",
        ),
        (
            "def f: if . > 3 then . else (. + 1, . + 2) | f end; [path(def g: if . > 0 then . else empty end; g)]",
            "[[]]",
        ),
        (
            "[{a: {a: {a: null}}} | path(def f: if . then ., (.a | f) else . end; f)]",
            "[[],[\"a\"],[\"a\",\"a\"],[\"a\",\"a\",\"a\"]]",
        ),
        (
            "[[1, [2]], 3] | [path(def f: ., (.[]? | f); f)] | length",
            "6",
        ),
        (
            "def f($a; $b): if $a > 3 then [$a, $b] else f($a + (1, 2); $b + 1) end; [f(1; 0)]",
            "[[4,3],[5,3],[4,2],[4,2],[5,2]]",
        ),
        (
            "[label $out | def f: if . > 3 then break $out else ., (. + 1 | f) end; f]",
            "[1,2,3]",
        ),
    ] {
        assert_eq!(end(program, "1").as_deref(), Ok(expected), "{program}");
    }
}

#[test]
fn memory_of_values_that_an_evaluation_drops_can_be_used_again() {
    for program in [
        // Each of these programs makes many times the limit in total, but holds little at a time.
        "last(range(2000) | [range(1000)])",
        "last(range(200) | \"x\" * 1000000 | length)",
        "last(limit(1000; repeat([range(1000)])))",
        "reduce range(200) as $i (null; \"x\" * 1000000)",
        "0 | until(. > 100; \"x\" * 1000000 as $x | . + 1)",
        "def f($n; $x): if $n == 0 then 1 else f($n - 1; \"x\" * 1000000) end; f(200; null)",
    ] {
        let end = end(program, "null");
        assert!(end.is_ok(), "{program}: {end:?}");
    }
}
