//! Whole lives of jobs: the real operator, from its client to its controller, against an API server in memory, with scripted
//! coordinators, on a clock that jumps. `make test` runs every scenario twice without faults, which shows the requests that it
//! makes. Who asks for it lets each of them fail in every way, and the end has to be the same.
//!
//! It is in this crate because it reaches what no other may see. A program has none of it.

mod api;
mod chance;
mod cluster;
mod coordinator;
mod faults;
mod judges;
mod play;
mod runs;
mod scenario;
mod sweep;
mod wire;
mod world;

use self::runs::Known;
use self::sweep::Run;

#[test]
fn every_scenario_ends_as_it_should_and_is_the_same_each_time() {
    let known = Known::learn();
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

/// `ZEPHYR_SWEEP=finish:37:crash-after` repeats a run, `ZEPHYR_SWEEP=singles/20` every twentieth of the sweep, `ZEPHYR_SEED` the
/// pair and the triple of a seed, `ZEPHYR_SEEDS` carries those of so many seeds out. Not by the name that `make soak` calls: some
/// runs of the sweep show known gaps.
#[test]
fn what_a_sweep_asks_for() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    if let Ok(name) = std::env::var("ZEPHYR_SWEEP") {
        let known = Known::learn();
        if let Some(part) = name.strip_prefix("singles") {
            let stride = part.trim_start_matches('/').parse().unwrap_or(1);
            let runs: Vec<_> = known.singles().into_iter().step_by(stride).collect();
            known.expect_all_well(&runs);
        } else {
            known.show(&name);
        }
    }
    let seeds = match (number("ZEPHYR_SEED"), number("ZEPHYR_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..seeds,
        (None, None) => return,
    };
    let known = Known::learn();
    let runs: Vec<_> = seeds
        .flat_map(|seed| [2, 3].map(|count| Run::by_chance(seed, count, &known.learned)))
        .collect();
    known.expect_all_well(&runs);
}
