//! Runs many random jobs in parallel and reports how they ended. The caller defines how one job is
//! run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The largest number of kinds of errors that are shown.
const KINDS_SHOWN: usize = 8;
/// The part of an error that determines its kind.
const KIND_CHARS: usize = 60;

/// Runs the jobs of these seeds, the given number at a time; returns how many succeeded, or the
/// errors.
///
/// # Errors
/// Jobs ended wrongly.
pub(crate) fn run_all(
    seeds: Range<u64>,
    at_once: usize,
    run: impl Fn(u64) -> Result<bool, String> + Sync,
) -> Result<usize, String> {
    let seeds = Mutex::new(seeds);
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || std::iter::from_fn(next).map(&run).collect::<Vec<_>>();
    let outcomes: Vec<Result<bool, String>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..at_once).map(|_| scope.spawn(lane)).collect();
        let join = |lane: std::thread::ScopedJoinHandle<'_, Vec<_>>| lane.join().unwrap();
        lanes.into_iter().flat_map(join).collect()
    });
    let wrong: Vec<&str> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err().map(String::as_str))
        .collect();
    if wrong.is_empty() {
        let succeeded = outcomes.iter().filter(|outcome| **outcome == Ok(true));
        return Ok(succeeded.count());
    }
    // Shows one error of each kind. Errors of one kind begin with the same words after the seed.
    let kind = |wrong: &&str| {
        wrong.lines().next().map(|line| {
            line.chars()
                .filter(|c| !c.is_ascii_digit())
                .take(KIND_CHARS)
                .collect::<String>()
        })
    };
    let kinds: BTreeMap<Option<String>, &str> =
        wrong.iter().map(|wrong| (kind(wrong), *wrong)).collect();
    let shown: Vec<&str> = kinds.into_values().take(KINDS_SHOWN).collect();
    Err(format!(
        "{} jobs ended wrongly:\n{}",
        wrong.len(),
        shown.join("\n")
    ))
}
