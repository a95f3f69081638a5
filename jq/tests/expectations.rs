//! The table of expectations: our expressions, with the results of real jq 1.8.1
//! (`make jq-expectations`). An answer that differs on purpose is in
//! `expectations/differences.jsonl`, with the name of its row in docs/expressions.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are in here")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use support::{Answer, answer};

/// The table is at least this long.
const FEWEST_CASES: usize = 1_500;

/// A line of a table: its members as JSON text. `row` is only in the file of differences.
struct Case {
    program: String,
    members: BTreeMap<String, Box<RawValue>>,
}

impl Case {
    fn parse(line: &str) -> serde_json::Result<Self> {
        let members = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(line)?;
        let program = members.get("program").map_or("null", |text| text.get());
        Ok(Self {
            program: serde_json::from_str(program)?,
            members,
        })
    }

    fn input(&self) -> &str {
        self.members
            .get("input")
            .map_or("null", |input| input.get())
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = self.members.get(name)?;
        Some(serde_json::from_str(text.get()).unwrap())
    }

    fn key(&self) -> (String, String) {
        (self.program.clone(), self.input().to_owned())
    }

    fn answer(&self) -> Answer {
        let outputs = self
            .members
            .get("outputs")
            .map_or("[]", |outputs| outputs.get());
        let outputs = serde_json::from_str::<Vec<Box<RawValue>>>(outputs).unwrap();
        Answer {
            outputs: outputs
                .iter()
                .map(|output| output.get().to_owned())
                .collect(),
            error: self.text("error"),
            refused: self.text("refused"),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expectations")
}

fn read(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap();
    let parse = |(at, line)| {
        Case::parse(line).unwrap_or_else(|error| panic!("{}:{at}: {error}", path.display()))
    };
    text.lines().enumerate().map(parse).collect()
}

fn tables() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_table = |path: &PathBuf| {
        path.extension().is_some_and(|is| is == "jsonl") && !path.ends_with("differences.jsonl")
    };
    let mut tables = entries.filter(is_table).collect::<Vec<_>>();
    tables.sort();
    tables
}

/// Only the fact that there is an error is compared: jq shortens values in its messages, and words
/// some messages differently from call to call.
fn is_same(ours: &Answer, theirs: &Answer) -> bool {
    ours.outputs == theirs.outputs
        && ours.error.is_some() == theirs.error.is_some()
        && ours.refused.is_some() == theirs.refused.is_some()
}

#[test]
fn every_expectation_is_met() {
    let allowed = read(&folder().join("differences.jsonl"))
        .into_iter()
        .map(|case| (case.key(), case))
        .collect::<BTreeMap<_, _>>();
    let (mut count, mut different, mut report) = (0, 0, String::new());
    let mut unused = allowed.keys().collect::<BTreeSet<_>>();
    for path in tables() {
        for case in read(&path) {
            count += 1;
            let (theirs, ours) = (case.answer(), answer(&case.program, case.input()));
            let key = case.key();
            unused.remove(&key);
            let listed = allowed.get(&key);
            let expected = listed.map_or(theirs.clone(), Case::answer);
            if !is_same(&ours, &expected) {
                different += 1;
                let name = path.file_stem().unwrap().to_string_lossy();
                writeln!(
                    report,
                    "{name}: {} on {}\n  expected {expected}\n  got      {ours}",
                    case.program,
                    case.input()
                )
                .unwrap();
            } else if listed.is_some() && is_same(&ours, &theirs) {
                different += 1;
                writeln!(
                    report,
                    "{} on {} does not differ from jq, but is listed",
                    case.program,
                    case.input()
                )
                .unwrap();
            }
        }
    }
    for (program, input) in unused {
        different += 1;
        writeln!(
            report,
            "{program} on {input} is listed as a difference, but is in no table"
        )
        .unwrap();
    }
    assert!(count >= FEWEST_CASES, "only {count} expectations");
    assert!(
        different == 0,
        "{different} of {count} expectations are not met\n{report}"
    );
}

#[test]
fn every_difference_names_a_row_of_the_documentation() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/expressions.md"))
            .unwrap();
    for case in read(&folder().join("differences.jsonl")) {
        let row = case.text("row").unwrap_or_default();
        assert!(
            page.contains(&format!("- **{row}**:")),
            "{}: there is no row {row:?}",
            case.program
        );
    }
}
