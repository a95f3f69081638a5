//! Runs random jobs in one process: the real validation, coordinator, workers and tasks, with a
//! store in memory that never fails. This module does not generate the jobs, and does not compute
//! their expected results.

#[path = "../../tests/combinations/mod.rs"]
mod drawn;

use std::collections::BTreeMap;

use zephyr_crds::job::ZephyrJobSpec;
use zephyr_crds::validate::{Place, validate};
use zephyr_engine::coordinator::record::JobResult;

use self::drawn::{Case, Ended, REFUSED, STORAGE};
use super::cluster::run_undisturbed;
use super::job::SimulatedJob;

/// The bucket of the job's folders.
const ROOT: &str = "s3://in";
/// How many jobs each CI run tests.
const CI_JOBS: u64 = 2_000;

fn run(seed: u64) -> Result<bool, String> {
    let case = Case::draw(seed);
    let spec = case.spec_at(ROOT);
    let parsed: ZephyrJobSpec =
        serde_json::from_value(spec.clone()).map_err(|error| error.to_string())?;
    let errors = validate(&parsed, "job", Place::Cluster);
    let files = case.files_at(ROOT);
    if let Some(error) = errors.first() {
        let is_right = case.check(ROOT, &Ended::Refused(error.to_string()), &files);
        return is_right.map(|()| false);
    }
    let job = SimulatedJob::of_spec(&spec, files);
    let (result, objects) = run_undisturbed(seed, job)?;
    let ended = match result {
        JobResult::Succeeded { .. } => Ended::Succeeded,
        JobResult::Failed { reason, message } if reason.as_str() == REFUSED => {
            Ended::Refused(message)
        }
        JobResult::Failed { reason, message } => Ended::Failed(format!("{reason}: {message}")),
    };
    let is_ours = |name: &str| name.starts_with(STORAGE) || name.contains(&format!("/{STORAGE}/"));
    let after: BTreeMap<String, Vec<u8>> = objects
        .into_iter()
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, bytes)| (name, bytes.to_vec()))
        .collect();
    case.check(ROOT, &ended, &after)?;
    Ok(matches!(ended, Ended::Succeeded))
}

/// Runs the jobs of these seeds on all processors. Returns how many succeeded.
fn run_all(seeds: std::ops::Range<u64>) -> Result<usize, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    drawn::run_all(seeds, threads, run)
}

#[test]
fn random_jobs_end_with_the_computed_records_or_are_refused_before_they_start() {
    let succeeded = run_all(0..CI_JOBS).unwrap_or_else(|wrong| panic!("{wrong}"));
    // If most jobs were refused, the test would not check what jobs compute.
    assert!(succeeded > 600, "{succeeded} of {CI_JOBS} succeeded");
}

/// `make soak` runs more jobs, and `ZEPHYR_COMBINATION=17` runs only the job of that seed.
#[test]
fn requested_runs_end_correctly() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let one = number("ZEPHYR_COMBINATION").map(|seed| seed..seed + 1);
    let many = number("ZEPHYR_COMBINATIONS").map(|count| 0..count);
    for seeds in [one, many].into_iter().flatten() {
        run_all(seeds).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}
