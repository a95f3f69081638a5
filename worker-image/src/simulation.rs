//! Simulates whole runs from a seed, on a simulated clock. The coordinator, ledger, supervisors,
//! sessions and tasks are the real ones. The simulated store is slow, fails, gives false answers
//! and damages data, and the simulated network breaks. Coordinators are killed, pause and are
//! replaced while alive; workers die, drain and stall. Whatever happens, nothing wrong may be
//! written or sent. After the last fault, the job must end in time and with the exact output.
//!
//! `make simulate SEED=17` runs one seed, `make soak` thousands. The simulation is in this crate
//! because it uses private items. It is not compiled into any program. A simulation in the engine
//! runs the state machine alone.

mod checks;
mod client;
mod cluster;
mod combinations;
mod coordinator;
mod defects;
mod faults;
mod job;
mod journal;
mod ledger;
mod ledger_book;
mod ledger_defects;
mod life;
mod nemesis;
mod network;
mod process;
mod rng;
mod settings;
mod store;
mod tasks;
mod truth;
mod worker;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;

use faults::Faults;
use settings::Settings;

/// Runs of the ledger in every CI run.
const CI_LEDGER_SEEDS: u64 = 300;
/// Runs a simulation on a clock that does not advance while any task has work. `shown` names the
/// run, and is printed. Returns the result, or the error.
fn on_paused_clock<T>(
    shown: &str,
    is_printing: bool,
    world: impl Future<Output = (T, Vec<String>)>,
) -> Result<T, String> {
    if is_printing {
        println!("{shown}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    let (outcome, violations) = runtime.block_on(world);
    if violations.is_empty() {
        Ok(outcome)
    } else {
        Err(format!("{shown}\n{}", violations.join("\n")))
    }
}

/// Whole jobs in every CI run.
const CI_SEEDS: u64 = 120;

/// Runs the job of a seed. Its files must be equal to those of an undisturbed run, byte by byte.
fn run_whole(
    seed: u64,
    quiet: &mut BTreeMap<u64, BTreeMap<String, Bytes>>,
) -> Result<cluster::Outcome, String> {
    let outcome = cluster::run(seed, false)?;
    let shape = seed % job::SHAPES;
    let expected = match quiet.entry(shape) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(cluster::calm(shape)?.files),
    };
    if *expected == outcome.files {
        Ok(outcome)
    } else {
        Err(format!(
            "make simulate SEED={seed}: the files are not those of a quiet day"
        ))
    }
}

#[test]
fn no_acknowledged_record_is_lost_doubled_or_invented_under_any_fault() {
    let wrong: Vec<String> = (0..CI_LEDGER_SEEDS)
        .filter_map(|seed| ledger::run(seed, false).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn promise_e1_whole_jobs_do_nothing_wrong_and_end_exactly_right_under_any_fault() {
    let mut quiet = BTreeMap::new();
    let (mut with_successors, mut with_parts, mut restarts) = (0, 0, 0);
    let mut wrong = Vec::new();
    for seed in 0..CI_SEEDS {
        match run_whole(seed, &mut quiet) {
            Ok(outcome) => {
                with_successors += u64::from(outcome.epochs > 1);
                with_parts += u64::from(outcome.has_parts);
                restarts += outcome.restarts;
            }
            Err(found) => wrong.push(found),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // If the first coordinator did everything, the run would not have tested its successors. The
    // runs are counted and not their coordinators: one call of the store more or less at the start
    // gives every run another course.
    assert!(
        with_successors > CI_SEEDS * 3 / 4,
        "{with_successors} of {CI_SEEDS} runs have a second coordinator"
    );
    assert!(restarts > 20, "{restarts} restarts");
    assert!(
        with_parts > CI_SEEDS / 5,
        "{with_parts} runs split or combine files"
    );
}

#[test]
fn promise_e18_the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(ledger::run(seed, false), ledger::run(seed, false));
    }
    assert_ne!(ledger::run(1, false), ledger::run(2, false));
    for seed in 0..8 {
        assert_eq!(
            cluster::run(seed, false),
            cluster::run(seed, false),
            "seed {seed}"
        );
    }
}

#[test]
fn fault_8389_short_failures_of_reducers_reads_are_retried_or_charged_to_nobody() {
    let run = |retry_time| {
        let settings = Settings {
            task_faults: Faults {
                refused: 200,
                ..Faults::default()
            },
            task_retry_time: retry_time,
            heals_at_ms: 60_000,
            ..Settings::calm()
        };
        cluster::run_with(0, settings, false).unwrap()
    };
    assert_eq!(run(Duration::from_mins(1)).failures, 0);
    let without_retries = run(Duration::ZERO);
    assert!(without_retries.failures > 0);
    assert_eq!(without_retries.charged, 0);
}

/// Runs some jobs in which reads end too early. Returns how many tasks failed, or the error of a
/// job.
fn failures_by_short_reads() -> Result<usize, String> {
    let settings = || Settings {
        task_faults: Faults {
            short: 200,
            ..Faults::default()
        },
        heals_at_ms: 60_000,
        ..Settings::calm()
    };
    let failures = |seed| {
        let outcome = cluster::run_with(seed, settings(), false);
        outcome.map(|outcome| outcome.failures)
    };
    (0..6).map(failures).sum()
}

#[test]
fn promise_e11_a_read_that_ends_too_early_is_made_again_and_costs_no_output() {
    assert_eq!(failures_by_short_reads(), Ok(0));
}

/// The seeds that `make simulate` and `make soak` request through `ZEPHYR_SEED` and `ZEPHYR_SEEDS`.
#[test]
fn requested_runs_end_correctly() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(seed) = number("ZEPHYR_SEED") {
        one(seed);
    }
    if let Some(seeds) = number("ZEPHYR_SEEDS") {
        soak(seeds);
    }
}

/// One seed; if it fails, it runs once more and prints all events.
fn one(seed: u64) {
    match ledger::run(seed, false) {
        Ok(trace) => println!("seed {seed}: the ledger is right, trace {trace:016x}"),
        Err(wrong) => {
            let _again = ledger::run(seed, true);
            panic!("{wrong}");
        }
    }
    match run_whole(seed, &mut BTreeMap::new()) {
        Ok(outcome) => println!(
            "seed {seed}: the whole job is right after {} epochs, {} lines, trace {:016x}",
            outcome.epochs, outcome.lines, outcome.trace
        ),
        Err(wrong) => {
            let _again = cluster::run(seed, true);
            panic!("{wrong}");
        }
    }
}

/// Makes this number of runs of the ledger, and a tenth as many runs of whole jobs, because each of
/// these takes as long as ten runs of the ledger.
fn soak(seeds: u64) {
    let mut quiet = BTreeMap::new();
    let ledgers = wrong_of("the ledger", seeds, |seed| {
        ledger::run(seed, false).map(drop)
    });
    let jobs = wrong_of("whole jobs", seeds.div_ceil(10), |seed| {
        run_whole(seed, &mut quiet).map(drop)
    });
    let is_right = ledgers.is_empty() && jobs.is_empty();
    assert!(is_right, "make simulate SEED=… shows what happened");
}

fn wrong_of(what: &str, seeds: u64, mut run: impl FnMut(u64) -> Result<(), String>) -> Vec<u64> {
    const SHOWN_EVERY: u64 = 500;
    let mut wrong = Vec::new();
    for seed in 0..seeds {
        let ended = catch_unwind(AssertUnwindSafe(|| run(seed)));
        if !matches!(ended, Ok(Ok(()))) {
            wrong.push(seed);
        }
        if (seed + 1) % SHOWN_EVERY == 0 || seed + 1 == seeds {
            println!("{} of {seeds} runs of {what}; wrong: {wrong:?}", seed + 1);
        }
    }
    wrong
}
