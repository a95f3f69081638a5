//! Simulates complete lives of jobs under every fault. The operator is the real one, from its
//! client to its controller. The API server is in memory, coordinators are scripted, and the clock
//! is simulated. A run without faults shows which requests a scenario makes. Then the sweep makes
//! each of these requests fail in every way, and the end must be the same.
//!
//! The simulation is in this crate, because the mistakes that it must find are seeded in the code
//! (`defect.rs`). It is compiled only for tests.

mod api;
mod chance;
mod cluster;
mod coordinator;
mod defects;
mod faults;
mod judges;
mod marks;
mod mended;
mod play;
mod runs;
mod scenario;
mod sweep;
mod wire;
mod world;

use self::runs::Known;
use self::sweep::Run;

/// How many runs `make test` makes at least. It tries every single fault, and then pairs of faults
/// until there are this many runs.
const RUNS: usize = 3000;

#[test]
fn every_scenario_ends_as_it_should_and_is_the_same_each_time() {
    let known = Known::shared();
    let again = Known::learn();
    for (one, other) in known.learned.iter().zip(&again.learned) {
        let requests = |learned: &sweep::Learned| -> Vec<_> {
            learned
                .requests
                .iter()
                .map(|one| (one.at, one.signature.clone()))
                .collect()
        };
        assert_eq!(requests(one), requests(other), "{}", one.name);
    }
}

#[test]
fn a_waiting_job_creates_no_object_until_the_job_before_it_works() {
    let known = Known::shared();
    let requests = &known.learned[known.scenario("queue")].requests;
    let at = |request: &str| {
        let position = requests
            .iter()
            .position(|one| one.signature.to_string() == request);
        position.unwrap_or_else(|| panic!("no {request}"))
    };
    assert!(at("patch statefulsets/other-workers-g1") < at("create configmaps/count-g1"));
}

#[test]
fn a_job_comes_to_the_same_end_after_any_single_fault() {
    let known = Known::shared();
    let mut runs = Run::singles(&known.learned);
    let pairs = RUNS.saturating_sub(runs.len()) as u64;
    runs.extend((0..pairs).map(|seed| Run::by_chance(seed, 2, &known.learned)));
    known.expect_all_well(&runs);
}

/// `ZEPHYR_SWEEP=finish:37:crash-after` repeats one run. `ZEPHYR_SWEEP=singles/20` repeats every
/// twentieth run of the sweep, and `ZEPHYR_SWEEP=singles/queue` repeats the runs of one scenario.
/// `ZEPHYR_SEED` repeats the pair or triple of a seed. `ZEPHYR_SEEDS` runs the pairs and triples of
/// this number of seeds, or of the seeds `500..1000`.
#[test]
fn requested_runs_end_correctly() {
    if let Ok(name) = std::env::var("ZEPHYR_SWEEP") {
        let known = Known::shared();
        if let Some(part) = name.strip_prefix("singles") {
            let part = part.trim_start_matches('/');
            let all = Run::singles(&known.learned).into_iter();
            let runs: Vec<_> = match part.parse() {
                Ok(stride) => all.step_by(stride).collect(),
                Err(_) if part.is_empty() => all.collect(),
                Err(_) => {
                    let scenario = known.scenario(part);
                    all.filter(|run| run.scenario == scenario).collect()
                }
            };
            known.expect_all_well(&runs);
        } else {
            known.show(&name);
        }
    }
    let Some(seeds) = seeds() else { return };
    let known = Known::shared();
    let runs: Vec<_> = seeds
        .map(|seed| Run::by_chance(seed, if seed % 2 == 0 { 2 } else { 3 }, &known.learned))
        .collect();
    known.expect_all_well(&runs);
}

/// Returns the seeds that the environment variables select.
fn seeds() -> Option<std::ops::Range<u64>> {
    if let Ok(seed) = std::env::var("ZEPHYR_SEED") {
        let seed: u64 = seed.parse().unwrap();
        return Some(seed..seed + 1);
    }
    let seeds = std::env::var("ZEPHYR_SEEDS").ok()?;
    let (first, end) = seeds.split_once("..").unwrap_or(("0", &seeds));
    Some(first.parse().unwrap()..end.parse().unwrap())
}
