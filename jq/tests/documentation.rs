//! Runs every example of docs/expressions.md, and every row of its tables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are in here")]

mod support;

use std::fs;
use std::path::Path;

use support::{Answer, answer};

/// The page has at least this number of examples and rows. If the test finds fewer, it does not
/// understand the page.
const FEWEST_EXAMPLES: usize = 20;
const FEWEST_ROWS: usize = 4;
const FEWEST_REFUSED: usize = 19;

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/expressions.md"))
        .unwrap()
}

/// The cells of the table whose head begins with `head`, without the formatting of code.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let lines = page
        .lines()
        .skip_while(|line| !line.starts_with(head))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line.replace("\\|", "\u{0}");
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('\u{0}', "|"))
            .collect()
    };
    lines.map(cells).collect()
}

fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn every_example_has_the_result_that_is_written() {
    let page = page();
    let mut count = 0;
    for block in page
        .split("```text\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
    {
        let (mut program, mut input, mut expected) = ("", "null", Answer::default());
        for line in block.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim_start();
            match word {
                "jq" => program = rest,
                "input" => input = rest,
                "output" => expected.outputs.push(rest.to_owned()),
                "error" => expected.error = Some(rest.to_owned()),
                "refused" => expected.refused = Some(rest.to_owned()),
                _ => panic!("what is {line:?}?"),
            }
        }
        let mut given = answer(program, input);
        if let (Some(sentence), Some(name)) = (&given.refused, &expected.refused)
            && sentence.contains(name)
        {
            given.refused.clone_from(&expected.refused);
        }
        assert_eq!(given, expected, "{program} on {input}");
        count += 1;
    }
    assert!(count >= FEWEST_EXAMPLES, "only {count} examples");
}

#[test]
fn every_row_of_the_differences_is_as_written() {
    let page = page();
    let rows = table(&page, "| name | expression |");
    for row in &rows {
        let [name, program, input, theirs, ours] = row.as_slice() else {
            panic!("{row:?}")
        };
        assert!(
            page.contains(&format!("- **{name}**:")),
            "{name} is not explained"
        );
        assert_ne!(ours, theirs, "{program}");
        assert_eq!(
            answer(code(program), code(input)).outputs,
            [code(ours)],
            "{program}"
        );
    }
    assert!(rows.len() >= FEWEST_ROWS, "only {} rows", rows.len());
}

#[test]
fn every_refused_name_is_refused_by_name() {
    let mut count = 0;
    for row in table(&page(), "| refused | why |") {
        for name in row[0].split(", ").map(code) {
            let program = match name {
                "import" => "import \"a\" as a; 1",
                "include" => "include \"a\"; 1",
                "strflocaltime" => "strflocaltime(\"%Y\")",
                name => name,
            };
            let refused = answer(program, "null")
                .refused
                .unwrap_or_else(|| panic!("{name} is not refused"));
            assert!(refused.contains(name), "{name}: {refused}");
            count += 1;
        }
    }
    assert!(count >= FEWEST_REFUSED, "only {count} names");
}
