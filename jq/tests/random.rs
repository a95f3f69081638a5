//! Random programs: any text compiles or is refused, and any program that compiles ends in values
//! or an error. `make jq-fuzz` compares the values with real jq.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are in here")]

mod support;

use proptest::prelude::*;

use support::answer;

/// Pieces of programs. Some of them are complete, and others are not.
const PIECES: [&str; 64] = [
    ".", ".a", "..", ".[", "]", "[", "{", "}", "(", ")", "|", ",", ":", ";", "=", "|=", "//",
    "//=", "?//", "?", "+", "-", "*", "/", "%", "==", "<", "and", "or", "not", "if", "then",
    "else", "elif", "end", "try", "catch", "reduce", "foreach", "as", "$x", "label", "break",
    "$__loc__", "def", "f", "f:", "\"", "\"a\"", "\\(", "\"\\(", "@base64", "@json \"", "1", "1e9",
    ".5", "null", "true", "#", "\n", "é", "import", "limit(1;", "\u{0}",
];

/// Filters for random programs. None of them is endless.
const FILTERS: [&str; 40] = [
    ".",
    ".a",
    ".[0]",
    ".[]?",
    "..",
    ".[1:]",
    "length",
    "keys",
    "tojson",
    "fromjson",
    "tostring",
    "add",
    "sort",
    "unique",
    "reverse",
    "to_entries",
    "from_entries",
    "explode",
    "implode",
    "paths",
    "tostream",
    "not",
    "empty",
    "error",
    "first",
    "last",
    "transpose",
    "flatten",
    "floor",
    "todate",
    "@csv",
    "@base64d",
    "@urid",
    "ascii_downcase",
    "trim",
    "min",
    "any",
    "$x",
    "null",
    "-1.5",
];

const INPUTS: [&str; 10] = [
    "null",
    "true",
    "-1.5",
    "1e1000",
    "\"aé😀\"",
    "[]",
    "[3,[1,null],{\"a\":\"b\"}]",
    "{\"a\":[1,2,{\"b\":null}],\"c\":\"x\"}",
    "{\"a\":{\"a\":{\"a\":1}}}",
    "[[\"a\",1],[\"b\",2]]",
];

fn program() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![4 => prop::sample::select(FILTERS.to_vec()).prop_map(str::to_owned), 1 => "[0-9]{1,3}", 1 => "\"[a-z]{0,3}\""];
    leaf.prop_recursive(4, 32, 3, |inner| {
        let binary = prop::sample::select(vec![
            "|", ",", "+", "-", "*", "/", "%", "//", "==", "<", "and", "or", "|=", "=", "+=",
        ]);
        let call = prop::sample::select(vec![
            "map",
            "select",
            "path",
            "del",
            "sort_by",
            "group_by",
            "with_entries",
            "first",
            "isempty",
            "pick",
            "getpath",
            "has",
            "contains",
            "indices",
            "test",
            "split",
            "join",
            "walk",
            "any",
            "try",
            "error",
            "recurse_once",
        ]);
        prop_oneof![
            (inner.clone(), binary, inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            (call, inner.clone()).prop_map(|(name, argument)| match name {
                "try" => format!("try ({argument}) catch ."),
                "recurse_once" => format!("[limit(5; recurse({argument}))]"),
                name => format!("{name}({argument})"),
            }),
            inner.clone().prop_map(|inner| format!("[{inner}]")),
            inner.clone().prop_map(|inner| format!("\"<\\({inner})>\"")),
            (inner.clone(), inner.clone())
                .prop_map(|(key, value)| format!("{{({key}): ({value})}}")),
            (inner.clone(), inner.clone())
                .prop_map(|(source, body)| format!("(({source}) as $x | {body})")),
            (inner.clone(), inner.clone())
                .prop_map(|(source, body)| format!("(({source}) as [$x, $y] ?// $x | {body})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(if {a} then {b} else {c} end)")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(reduce ({a}) as $x ({b}; {c}))")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("[foreach ({a}) as $x ({b}; {c})]")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("(label $l | {a}, break $l, {b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("(def g(f): f | f; g({a}) | {b})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_compiles_or_is_refused(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12), with in "[ ]?") {
        let program = pieces.join(&with);
        // The program is not run, because some programs run forever.
        let _ = support::refusal(&program);
    }

    #[test]
    fn any_program_ends_in_json_or_an_error(program in program(), input in prop::sample::select(INPUTS.to_vec())) {
        let given = answer(&format!(". as $x | {program}"), input);
        // Constant keys are checked when the program is compiled.
        prop_assert!(given.refused.as_ref().is_none_or(|refused| refused.contains("as object key")), "{:?}", given.refused);
        for output in &given.outputs {
            let parsed = serde_json::from_str::<serde_json::Value>(output);
            // Numbers beyond those of serde_json are JSON, too.
            prop_assert!(parsed.is_ok() || parsed.is_err_and(|error| error.to_string().contains("number out of range")), "{}", output);
        }
    }
}
