//! Tests that this release reads the reports that coordinators of release 0.1.0 sent. Release 0.1.0
//! wrote the files, so they must never be generated again.

use std::fs;

use prost::Message;
use zephyr_proto::run::CoordinatorReport;

use super::wire::read_report;
use crate::run_report::{RunPhase, RunReport};

/// Returns all reports of a run, in order.
fn reports(name: &str) -> Vec<RunReport> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/releases/0.1.0/reports"
    );
    let text = fs::read_to_string(format!("{folder}/{name}.hex")).expect("the file is there");
    let read = |line: &str| {
        let digits = line.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        };
        let bytes: Vec<u8> = digits.map(byte).collect();
        let report = CoordinatorReport::decode(bytes.as_slice()).expect("a report");
        let (uid, generation) = (report.job_uid.clone(), report.generation);
        read_report(report, &uid, generation).expect("a whole report")
    };
    text.lines().map(read).collect()
}

#[test]
fn the_reports_of_a_run_of_release_0_1_0_lead_to_its_result() {
    use RunPhase::{Ended, Planning, Running};
    for (name, phases, succeeded, rows) in [
        ("succeeded", vec![Planning, Running, Ended], true, 11),
        ("failed", vec![Running, Ended], false, 0),
    ] {
        let reports = reports(name);
        let mut seen: Vec<RunPhase> = reports.iter().map(|report| report.phase).collect();
        seen.dedup();
        assert_eq!(seen, phases, "{name}");
        let last = reports.last().expect("one");
        let result = last.result.as_ref().expect("a result");
        assert_eq!((result.succeeded, result.rows), (succeeded, rows), "{name}");
        if succeeded {
            assert_eq!(last.tasks_done, last.tasks_total, "{name}");
        } else {
            assert!(
                result.message.contains("no such user: u3"),
                "{}",
                result.message
            );
        }
    }
}
