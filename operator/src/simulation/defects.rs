//! Tests of the tests: the responsible judge finds each mistake that is seeded in the operator.

use super::faults::{Fault, Span};
use super::judges::Judge;
use super::runs::Known;
use super::sweep::Run;
use crate::defect::Defect;

/// Runs that find a mistake, and the judge that must report it.
struct Case {
    defect: Defect,
    scenario: &'static str,
    /// The faults that are made, besides the run without faults.
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
        // An object with another name does not count as the generation's own.
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

/// From one of the writes of status on, all of them fail for a long time.
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

/// The watch of jobs becomes silent after one line, two lines, and so on.
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

/// The single faults of a scenario that `is_meant` selects.
fn singles(known: &Known, scenario: usize, is_meant: fn(Fault) -> bool) -> Vec<Run> {
    let alone = &known.learned[scenario..=scenario];
    Run::singles(alone)
        .into_iter()
        .filter(|run| run.faults.iter().all(|(_, fault, _)| is_meant(*fault)))
        .map(|run| Run { scenario, ..run })
        .collect()
}
