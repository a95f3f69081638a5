//! `kubectl zephyr eval`: results of JSON lines, and cases that do not affect each other.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn eval(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-zephyr"))
        .arg("eval")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that is refused does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn results_are_printed_one_a_line() {
    let output = eval(
        &[".a, (.b // 1)"],
        "{\"a\": 1.10}\n\n{\"a\":[ 2 ],\"b\":\"x\"}\n",
    );
    assert_eq!(text(&output.stdout), "1.10\n1\n[2]\n\"x\"\n");
    assert!(output.status.success());
}

#[test]
fn a_file_is_read_and_an_error_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.jsonl");
    std::fs::write(&file, "1\n\"x\"\n3\n").unwrap();
    let output = eval(&[". + 1", file.to_str().unwrap()], "");
    assert_eq!(text(&output.stdout), "2\n");
    assert_eq!(
        text(&output.stderr),
        format!(
            "error: {}, line 2: string (\"x\") and number (1) cannot be added (column 3 of the expression)\n",
            file.display()
        )
    );
    assert_eq!(output.status.code(), Some(1));
    let output = eval(
        &[".[] | {n: (.a + .b)}"],
        "[{\"a\":1},{\"a\":2,\"b\":\"x\"}]\n",
    );
    assert_eq!(
        text(&output.stderr),
        "error: standard input, line 1: number (2) and string (\"x\") cannot be added (column 11 of the expression)\n"
    );
    let output = eval(&[".a |"], "1\n");
    assert_eq!(
        text(&output.stderr),
        "error: line 1, column 5: term is expected (got the end of the expression)\n"
    );
    let output = eval(&["."], "{\"a\":1\n");
    assert!(text(&output.stderr).starts_with("error: standard input, line 1: byte 6: "));
}

#[test]
fn lines_of_text_are_strings() {
    let output = eval(&["-R", "[., length]"], "\u{FEFF}a \"b\"\r\n\n{}");
    assert_eq!(
        text(&output.stdout),
        "[\"a \\\"b\\\"\",5]\n[\"\",0]\n[\"{}\",2]\n"
    );
    let output = eval(&["--raw-input", "tonumber"], "1\nx\n");
    assert_eq!(text(&output.stdout), "1\n");
    assert_eq!(
        text(&output.stderr),
        "error: standard input, line 2: string (\"x\") cannot be parsed as a number\n"
    );
}

#[test]
fn values_of_the_command_line_are_variables() {
    let output = eval(
        &[
            "--value",
            "limit=1.50",
            "--value",
            "names={\"a\": [\"x=y\"]}",
            "select(.n > $limit) | $names[.k][0], $limit",
        ],
        "{\"n\": 2, \"k\": \"a\"}\n{\"n\": 1}\n",
    );
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "\"x=y\"\n1.50\n");
    for (arguments, message) in [
        (
            &["--value", "a", "."][..],
            "--value: has no = (got a); a name, =, and a JSON value, such as limit=5",
        ),
        (&["--value", "a=x", "."], "--value a: is not JSON: "),
        (
            &["--value", "a=1", "--value", "a=2", "."],
            "--value a: is given twice; one value for each name is allowed",
        ),
        (
            &["$limit"],
            "line 1, column 1: the variable $limit is not defined",
        ),
    ] {
        let output = eval(arguments, "1\n");
        let start = format!("error: {message}");
        assert!(
            text(&output.stderr).starts_with(&start),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn each_case_is_answered_even_if_other_cases_fail() {
    let cases = [
        r#"{"program":".a","input":{"a": 1.10}}"#,
        r#"{"program":"def f: f; f","input":null}"#,
        r#"{"program":"1, error(\"x\")","input":null}"#,
        r#"{"program":"foo"}"#,
        r"not a case",
        r#"{"program":"repeat(1)"}"#,
        r#"{"program":"1, 2"}"#,
        r#"{"program":"def f: [f]; f"}"#,
        r#"{"program":"[repeat(1)]"}"#,
        r#"{"program":"range(100) | \"x\" * 1000000"}"#,
    ];
    let output = eval(&["--cases", "-"], &cases.join("\n"));
    assert!(output.status.success());
    let answers: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(answers.len(), cases.len());
    assert_eq!(answers[0], r#"{"outputs":[1.10]}"#);
    assert!(answers[1].starts_with(r#"{"error":"the expression takes too many steps"#));
    assert_eq!(answers[2], r#"{"outputs":[1],"error":"x"}"#);
    assert_eq!(
        answers[3],
        r#"{"error":"line 1, column 1: the filter foo/0 is not defined; a field is written .foo"}"#
    );
    assert!(answers[4].starts_with(r#"{"error":"the line is not a case: "#));
    assert!(answers[5].ends_with(r#","error":"there are more than 1000000 outputs"}"#));
    assert_eq!(answers[6], r#"{"outputs":[1,2]}"#);
    assert!(answers[7].starts_with(r#"{"error":"the recursion has no end"#));
    assert!(answers[8].starts_with(r#"{"error":"the values take too much memory"#));
    assert!(
        answers[9].ends_with(
            r#"],"error":"the outputs are too long; 64 MiB for one input are allowed"}"#
        )
    );
}
