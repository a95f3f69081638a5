//! Executes runs on all processors, and collects the judges' reports.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, Once, PoisonError};
use std::time::Duration;

use super::faults::{Exchange, Rule};
use super::judges::{Complaint, Judge, Reference, judge};
use super::scenario::Scenario;
use super::sweep::{Learned, Run};
use super::world::{self, Record};
use crate::defect::{self, Defect};

/// How many failed runs are shown at most.
const SHOWN: usize = 40;

/// All scenarios. For each, the requests and the end of its run without faults.
pub(super) struct Known {
    pub(super) scenarios: Vec<Scenario>,
    pub(super) learned: Vec<Learned>,
    references: Vec<Reference>,
    /// How long each scenario takes without faults.
    took: Vec<Duration>,
}

/// A run with a violation.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) name: String,
    pub(super) rules: Vec<String>,
    pub(super) violations: Vec<Complaint>,
}

impl Known {
    /// Returns the value that all tests share. It is computed only once, because running every
    /// scenario takes seconds.
    pub(super) fn shared() -> &'static Self {
        static KNOWN: LazyLock<Known> = LazyLock::new(Known::learn);
        &KNOWN
    }

    /// Runs every scenario without faults. No run may have a violation.
    pub(super) fn learn() -> Self {
        let scenarios = Scenario::all();
        let mut known = Self {
            scenarios: scenarios.clone(),
            learned: Vec::new(),
            references: Vec::new(),
            took: Vec::new(),
        };
        let mut wrong = String::new();
        for scenario in &scenarios {
            let (mut record, panics) = carry_out(scenario, Vec::new());
            // Requests at the same time have no defined order, because watches that began together
            // end together. So they are sorted here.
            let order = |one: &Exchange| (one.at, one.signature.to_string());
            record.exchanges.sort_by_key(order);
            let violations = judge(&record, None, &panics);
            if !violations.is_empty() {
                let shown = format!(
                    "{} without faults:\n{}\n{}",
                    scenario.name,
                    words(&violations),
                    journal(&record)
                );
                wrong.push_str(&shown);
            }
            known
                .references
                .push(Reference::of(&record, scenario.has_any_number));
            known.took.push(record.took);
            known.learned.push(Learned {
                name: scenario.name,
                has_cuts_only: scenario.has_cuts_only,
                requests: record.exchanges,
            });
        }
        assert!(wrong.is_empty(), "{wrong}");
        known
    }

    /// Executes all `runs`. None may have a violation.
    pub(super) fn expect_all_well(&self, runs: &[Run]) {
        let began = tokio::time::Instant::now();
        let failed = self.judge_all(runs);
        println!(
            "{} runs in {} s, {} with faults",
            runs.len(),
            began.elapsed().as_secs(),
            failed.len()
        );
        let shown: String = failed.iter().take(SHOWN).map(Failed::to_string).collect();
        assert!(
            failed.is_empty(),
            "{} of {} runs went wrong, such as:\n{shown}",
            failed.len(),
            runs.len()
        );
    }

    /// Returns the number of the scenario with this name.
    pub(super) fn scenario(&self, name: &str) -> usize {
        let named = |learned: &Learned| learned.name == name;
        self.learned
            .iter()
            .position(named)
            .unwrap_or_else(|| panic!("no scenario {name}"))
    }

    /// Returns the violations in a run.
    pub(super) fn judge(&self, run: &Run) -> Vec<Complaint> {
        self.carry_out(run).1
    }

    /// Executes a run. Returns its events and its violations.
    pub(super) fn carry_out(&self, run: &Run) -> (Record, Vec<Complaint>) {
        self.carry_out_with(run, None)
    }

    /// Returns the judges that report a run if the operator makes the mistake `defect`.
    pub(super) fn judges_of(&self, run: &Run, defect: Defect) -> BTreeSet<Judge> {
        let violations = self.carry_out_with(run, Some(defect)).1;
        violations.iter().map(|one| one.judge).collect()
    }

    fn carry_out_with(&self, run: &Run, defect: Option<Defect>) -> (Record, Vec<Complaint>) {
        let rules = run.rules(&self.learned);
        let (record, panics) =
            defect::with(defect, || carry_out(&self.scenarios[run.scenario], rules));
        let violations = judge(&record, Some(&self.references[run.scenario]), &panics);
        (record, violations)
    }

    /// Executes all `runs`, and returns those with violations.
    pub(super) fn judge_all(&self, runs: &[Run]) -> Vec<Failed> {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let violations = self.judge(run);
                        if !violations.is_empty() {
                            // The violation is printed at once, because a long sweep takes time.
                            let failed_run = Failed {
                                name: run.name(&self.learned),
                                rules: run
                                    .rules(&self.learned)
                                    .iter()
                                    .map(Rule::to_string)
                                    .collect(),
                                violations,
                            };
                            println!("{failed_run}");
                            failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(failed_run);
                        }
                    }
                });
            }
        });
        let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.sort_by(|one: &Failed, other| one.name.cmp(&other.name));
        failed
    }

    /// Executes the run with this name, and prints all its requests.
    pub(super) fn show(&self, name: &str) {
        let run = Run::read(name, &self.learned).unwrap_or_else(|| panic!("{name} is no run"));
        for rule in run.rules(&self.learned) {
            println!("{rule}");
        }
        let (record, violations) = self.carry_out(&run);
        println!("{}", journal(&record));
        println!(
            "took {:?}; {:?} without faults",
            record.took, self.took[run.scenario]
        );
        assert!(violations.is_empty(), "{name}:\n{}", words(&violations));
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            formatter,
            "ZEPHYR_SWEEP={} ({})",
            self.name,
            self.rules.join(", ")
        )?;
        write!(formatter, "{}", words(&self.violations))
    }
}

fn words(violations: &[Complaint]) -> String {
    let lines: Vec<_> = violations
        .iter()
        .map(|one| {
            format!(
                "  {one}
"
            )
        })
        .collect();
    lines.concat()
}

/// Returns the requests with their results, and how processes ended, as text.
fn journal(record: &Record) -> String {
    let exchanges = record.exchanges.iter().enumerate().map(|(number, one)| {
        let fault = one.fault.map(|fault| format!(" !{fault}"));
        let code = one.code.map_or("-".to_owned(), |code| code.to_string());
        format!(
            "{number:4} {} p{} {} #{} {code}{}\n",
            one.at,
            one.process,
            one.signature,
            one.nth,
            fault.unwrap_or_default()
        )
    });
    let ends = record
        .ends
        .iter()
        .map(|end| format!("a process ended: {end}\n"));
    exchanges.chain(ends).collect::<Vec<_>>().concat()
}

/// Executes one run on a simulated clock. Returns its events, and the panics in it.
fn carry_out(scenario: &Scenario, rules: Vec<Rule>) -> (Record, Vec<String>) {
    watch_panics();
    PANICS.with_borrow_mut(|panics| *panics = Some(Vec::new()));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(world::run(scenario, rules))
    }));
    let panics = PANICS.with_borrow_mut(Option::take).unwrap_or_default();
    match outcome {
        Ok(record) => (record, panics),
        Err(cause) => {
            drop(cause);
            panic!("the world of {} panicked: {panics:?}", scenario.name)
        }
    }
}

thread_local! {
    /// The panics of the current run in this thread.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Records panics in the threads that execute runs; all other panics are printed as usual.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_noted = PANICS.with_borrow_mut(|panics| {
                panics
                    .as_mut()
                    .map(|panics| panics.push(info.to_string()))
                    .is_some()
            });
            if !is_noted {
                usual(info);
            }
        }));
    });
}
