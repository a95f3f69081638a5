//! Tests that the simulation finds mistakes, because a check that never failed proves nothing. Each
//! of these mistakes is turned on, and the random runs of CI must find it.

use std::panic::catch_unwind;

use super::{CI_SEEDS, run};
use crate::coordinator::defect::{self, Defect};

/// Returns the first seed among CI's small runs that finds the mistake.
fn found_by(defect: Defect) -> Option<u64> {
    (0..CI_SEEDS).find(|seed| defect::with(defect, || catch_unwind(|| run(*seed, false)).is_err()))
}

#[test]
fn every_seeded_defect_is_found_by_the_random_runs() {
    let defects = [
        Defect::CountsEverRegistered,
        Defect::NoRequeueOnReregister,
        Defect::NoRequeueOfReplaced,
        Defect::NoRequeueOfDrained,
        Defect::ReregisterClearsFailures,
        Defect::TakeOverClearsFailures,
        Defect::TotalZeroIsDone,
        Defect::ResultWithoutAttemptCheck,
        Defect::SecondCommitWins,
        Defect::OlderEpochAccepted,
        Defect::ExpiryWhileStalled,
        Defect::PreemptionChargedAsFailure,
        Defect::ContainerEndNotCharged,
        Defect::AckBeforeDurable,
        Defect::FinalizeBeforeDurable,
        Defect::OneInputIsEnough,
        Defect::StageFinishNotAwaited,
        Defect::LostOutputKeepsStage,
        Defect::DrainingTakesTasks,
        Defect::DismissedBeforeTheEnd,
        Defect::RestartKeepsFailures,
        Defect::HeldUpForEver,
    ];
    let found: Vec<(Defect, Option<u64>)> = defects
        .into_iter()
        .map(|defect| (defect, found_by(defect)))
        .collect();
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
    println!("found by seed: {found:?}");
}
