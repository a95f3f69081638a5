//! Tests that the simulation finds mistakes, because a check that never failed proves nothing. Each
//! of these mistakes is turned on, and the random runs of CI must find it.

use super::{CI_LEDGER_SEEDS, CI_SEEDS, cluster, failures_by_short_reads, ledger};
use crate::defect::{self, Defect};

/// Returns the first of `seeds` seeds that finds the mistake.
fn found_by(defect: Defect, seeds: u64, run: impl Fn(u64) -> Result<(), String>) -> Option<u64> {
    let found = (0..seeds).find_map(|seed| {
        let wrong = defect::with(defect, || run(seed)).err()?;
        Some((seed, wrong))
    });
    println!("{defect:?}: {found:?}");
    found.map(|(seed, _)| seed)
}

#[test]
fn every_seeded_defect_of_the_ledger_is_found_by_its_random_runs() {
    let missed = [
        Defect::NoSeal,
        Defect::AckBeforeThePut,
        Defect::SnapshotHalfWritten,
    ]
    .map(|defect| {
        let run = |seed| ledger::run(seed, false).map(drop);
        (defect, found_by(defect, CI_LEDGER_SEEDS, run))
    })
    .map(|(defect, found)| found.is_none().then_some(defect));
    assert_eq!(missed, [None; 3]);
}

#[test]
fn every_seeded_defect_is_found_by_the_random_runs_of_whole_jobs() {
    let missed = [
        Defect::NoSeal,
        Defect::AckBeforeThePut,
        Defect::SnapshotHalfWritten,
        Defect::FinalFileCompletedByTheWorker,
    ]
    .map(|defect| {
        let run = |seed| cluster::run(seed, false).map(drop);
        (defect, found_by(defect, CI_SEEDS, run))
    })
    .map(|(defect, found)| found.is_none().then_some(defect));
    assert_eq!(missed, [None; 4]);
}

#[test]
fn a_short_read_that_counts_as_a_lost_output_is_found() {
    let outcome = defect::with(Defect::ShortReadNotRepeated, failures_by_short_reads);
    let found = match &outcome {
        Ok(failures) => *failures > 0,
        Err(wrong) => wrong.contains("OutputLost"),
    };
    assert!(found, "{outcome:?}");
}
