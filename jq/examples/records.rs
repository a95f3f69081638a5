//! `records PROGRAM FILE` prints the results of a program for each line of a file, one result per
//! line. `make bench-jq` compares its speed with that of jq.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a tool of the tests"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _, stdout};
use std::ops::ControlFlow;

use zephyr_jq::json::{ScanLimits, Source};
use zephyr_jq::{Options, Program, Value, on_full_stack};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (text, file) = (arguments.next().unwrap(), arguments.next().unwrap());
    let run = || {
        let program = Program::compile(&text, &Options::default()).unwrap();
        let mut out = BufWriter::new(stdout().lock());
        for line in BufReader::new(File::open(&file).unwrap()).lines() {
            let line = line.unwrap();
            let source = Source::parse(line.as_str(), ScanLimits::WIDEST).unwrap();
            let root = Value::of(source.root());
            program
                .run(root, &[], &mut |value| {
                    writeln!(out, "{}", value.to_json().unwrap()).unwrap();
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        out.flush().unwrap();
    };
    on_full_stack("records", run).unwrap().unwrap();
}
