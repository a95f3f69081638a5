//! Answers cases as `tests/oracle.py` does: lines `{"program", "input"}` in, `{"outputs", "error"}`
//! or `{"refused"}` out. `make jq-fuzz` compares both.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a tool of the tests"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _, stdin, stdout};

use serde_json::value::RawValue;

#[path = "../tests/support/mod.rs"]
mod support;

fn main() {
    support::with_stack(|| {
        for line in stdin().lock().lines() {
            let case =
                serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&line.unwrap()).unwrap();
            let program = serde_json::from_str::<String>(case["program"].get()).unwrap();
            let answer = support::on_this_thread(&program, case["input"].get());
            let quoted = |text: &String| serde_json::to_string(text).unwrap();
            let text = match (&answer.refused, &answer.error) {
                (Some(refused), _) => format!("{{\"refused\":{}}}", quoted(refused)),
                (None, None) => format!("{{\"outputs\":[{}]}}", answer.outputs.join(",")),
                (None, Some(error)) => format!(
                    "{{\"outputs\":[{}],\"error\":{}}}",
                    answer.outputs.join(","),
                    quoted(error)
                ),
            };
            let mut out = stdout().lock();
            writeln!(out, "{text}").unwrap();
            out.flush().unwrap();
        }
    });
}
