//! Tests that the simulation finds mistakes: each mistake that is seeded in the operator must be
//! found by the judge that is responsible for it.

use super::faults::{Fault, Span};
use super::judges::Judge;
use super::runs::Known;
use super::sweep::Run;
use crate::defect::Defect;

/// A mistake, the runs that find it, and the judge that must report it.
struct Case {
    defect: Defect,
    scenario: &'static str,
    /// Returns the runs with faults, in addition to the run without faults.
    faults: fn(&Known, usize) -> Vec<Run>,
    judge: Judge,
}

const CASES: [Case; 7] = [
    Case {
        defect: Defect::DeleteWithoutUid,
        scenario: "finish",
        faults: none,
        judge: Judge::Preconditions,
    },
    Case {
        defect: Defect::NameWithoutGeneration,
        scenario: "next-generation",
        faults: none,
        // The operator ignores an object whose name it does not expect, so it never becomes idle.
        judge: Judge::Convergence,
    },
    Case {
        defect: Defect::ConflictIsFatal,
        scenario: "next-generation",
        faults: conflicts,
        judge: Judge::Convergence,
    },
    Case {
        defect: Defect::BackoffBypassed,
        scenario: "progress",
        faults: refused_status,
        judge: Judge::Budget,
    },
    Case {
        defect: Defect::StartupDeadlock,
        scenario: "finish",
        faults: crashes,
        judge: Judge::Convergence,
    },
    Case {
        defect: Defect::NoWriteFloor,
        scenario: "create",
        faults: none,
        judge: Judge::WriteFloor,
    },
    Case {
        defect: Defect::StaleDelete,
        scenario: "ttl-changed",
        faults: deaf_watches,
        judge: Judge::EndState,
    },
];

#[test]
fn each_seeded_mistake_is_found_by_the_responsible_judge() {
    let known = Known::shared();
    let mut missed = Vec::new();
    for case in CASES {
        let scenario = known.scenario(case.scenario);
        let calm = Run {
            scenario,
            faults: Vec::new(),
        };
        let runs = std::iter::once(calm).chain((case.faults)(known, scenario));
        let mut complained = std::collections::BTreeSet::new();
        for run in runs {
            complained.extend(known.judges_of(&run, case.defect));
            if complained.contains(&case.judge) {
                break;
            }
        }
        println!("{:?}: {complained:?}", case.defect);
        if !complained.contains(&case.judge) {
            missed.push(format!(
                "{:?} by {:?}, but {complained:?}",
                case.defect, case.judge
            ));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn none(_: &Known, _: usize) -> Vec<Run> {
    Vec::new()
}

fn conflicts(known: &Known, scenario: usize) -> Vec<Run> {
    singles(known, scenario, |fault| fault == Fault::Status(409))
}

/// Returns runs in which all writes of status fail for a long time, beginning with one of them.
fn refused_status(known: &Known, scenario: usize) -> Vec<Run> {
    let requests = known.learned[scenario].requests.iter().enumerate();
    requests
        .filter(|(_, one)| one.signature.subresource == "status")
        .map(|(number, _)| Run {
            scenario,
            faults: vec![(number, Fault::Status(503), Span::Seconds(600))],
        })
        .collect()
}

fn crashes(known: &Known, scenario: usize) -> Vec<Run> {
    singles(known, scenario, |fault| fault == Fault::CrashAfter)
}

/// Returns runs in which the watch of jobs becomes silent after one line, two lines, and so on.
fn deaf_watches(known: &Known, scenario: usize) -> Vec<Run> {
    let watch = known.learned[scenario]
        .requests
        .iter()
        .position(|one| one.signature.to_string() == "watch zephyrjobs")
        .unwrap();
    (1..16)
        .map(|lines| Run {
            scenario,
            faults: vec![(watch, Fault::Deaf(lines), Span::Once)],
        })
        .collect()
}

/// Returns the runs of a scenario with one fault that `is_meant` selects.
fn singles(known: &Known, scenario: usize, is_meant: fn(Fault) -> bool) -> Vec<Run> {
    let alone = &known.learned[scenario..=scenario];
    Run::singles(alone)
        .into_iter()
        .filter(|run| run.faults.iter().all(|(_, fault, _)| is_meant(*fault)))
        .map(|run| Run { scenario, ..run })
        .collect()
}
