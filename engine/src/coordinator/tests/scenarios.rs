//! Incidents as text. The files `scenarios/*.txt` describe, line by line, what happens to a fleet.
//! The file `.out` beside each of them contains the expected result, and is compared exactly.
//! `ZEPHYR_REWRITE=1 cargo test -p zephyr-engine scenarios` rewrites the `.out` files.
//!
//! A line is `[at TIME] EVENT`; `#` begins a comment. Events:
//!
//! ```text
//! stages 40 8                      the plan; first of all
//! tasks take 30s                   and second
//! 1024 workers register
//! 638 die noticed                  or: unnoticed, half noticed, told (by the operator)
//!                                  `all` stands for every number
//! 55 come back                     dead ones, as new processes of their pods
//! 10 fall silent                   they work on, and nobody hears them
//! the silent return
//! replies to 100 are lost          and their streams with them
//! coordinator stalls 90s
//! coordinator restarts
//! coordinator freezes              and does not know that
//! a successor starts
//! the frozen coordinator wakes
//! nothing happens
//! the job ends                     as long as that takes
//! ```

use std::fmt::Write;
use std::path::PathBuf;

use super::fleet::{Fleet, Notice};
use crate::coordinator::record::JobResult;
use crate::coordinator::report::Phase;

/// A time that is longer than any scenario takes.
const LONGEST_MS: u64 = 24 * 3_600_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/coordinator/tests/scenarios")
}

/// Runs a scenario and compares the result.
fn check(name: &str) {
    let script = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    let got = play(&script);
    let stored = folder().join(format!("{name}.out"));
    if std::env::var_os("ZEPHYR_REWRITE").is_some() {
        std::fs::write(&stored, &got).unwrap();
    }
    let wanted = std::fs::read_to_string(&stored).unwrap_or_default();
    assert_eq!(
        got, wanted,
        "{name}.out differs (ZEPHYR_REWRITE=1 writes it again)"
    );
}

/// A fleet with the events so far.
struct Player {
    fleet: Fleet,
    transcript: String,
    last_key: Option<[u64; 6]>,
    last_line: String,
}

fn play(script: &str) -> String {
    let lines = script
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim());
    let mut lines = lines.filter(|line| !line.is_empty());
    let mut header = |prefix: &str| {
        let line = lines.next().unwrap_or("");
        let rest = line.strip_prefix(prefix);
        rest.unwrap_or_else(|| panic!("`{prefix}…` expected, got `{line}`"))
    };
    let shards = header("stages ").split(' ');
    let shards: Vec<u32> = shards.map(|shards| shards.parse().unwrap()).collect();
    let task_ms = duration_ms(header("tasks take "));
    let mut player = Player {
        fleet: Fleet::new(&shards, task_ms),
        transcript: String::new(),
        last_key: None,
        last_line: String::new(),
    };
    lines.for_each(|line| player.line(line));
    let (counts, committed) = (player.fleet.counts, player.fleet.committed());
    writeln!(
        player.transcript,
        "{committed} tasks are done once each: {} runs, {} reports, {} files thrown away, {} failures charged",
        counts.runs, counts.reports, counts.discarded, counts.charged
    )
    .unwrap();
    player.transcript
}

/// `90s`, `2m`
fn duration_ms(text: &str) -> u64 {
    let (number, unit_ms) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(seconds), _) => (seconds, 1_000),
        (_, Some(minutes)) => (minutes, 60_000),
        _ => panic!("`{text}` is not a time"),
    };
    let number: u64 = number
        .parse()
        .unwrap_or_else(|_| panic!("`{text}` is not a time"));
    number * unit_ms
}

impl Player {
    fn line(&mut self, line: &str) {
        let event = match line
            .strip_prefix("at ")
            .and_then(|rest| rest.split_once(' '))
        {
            Some((time, event)) => {
                let time = duration_ms(time);
                assert!(time >= self.fleet.now, "`{line}` is in the past");
                self.wait_until(time);
                event
            }
            None => line,
        };
        writeln!(self.transcript, "{event}").unwrap();
        self.event(event);
        self.fleet.check();
        self.show();
    }

    fn event(&mut self, event: &str) {
        let words: Vec<&str> = event.split(' ').collect();
        let fleet = &mut self.fleet;
        let count = |word: &str| match word {
            "all" => usize::MAX,
            number => number
                .parse()
                .unwrap_or_else(|_| panic!("`{event}`: {number}?")),
        };
        match words[..] {
            [number, "workers", "register"] => fleet.register(count(number)),
            [number, "die", "noticed"] => fleet.die(count(number), Notice::Stream),
            [number, "die", "unnoticed"] => fleet.die(count(number), Notice::Nothing),
            [number, "die", "half", "noticed"] => fleet.die(count(number), Notice::Half),
            [number, "die", "told"] => fleet.die(count(number), Notice::Operator),
            [number, "come", "back"] => fleet.come_back(count(number)),
            [number, "fall", "silent"] => fleet.fall_silent(count(number)),
            ["the", "silent", "return"] => fleet.the_silent_return(),
            ["replies", "to", number, "are", "lost"] => fleet.replies_are_lost(count(number)),
            ["coordinator", "stalls", time] => fleet.coordinator_stalls(duration_ms(time)),
            ["coordinator", "restarts"] | ["a", "successor", "starts"] => fleet.successor_starts(),
            ["coordinator", "freezes"] => fleet.coordinator_freezes(),
            ["the", "frozen", "coordinator", "wakes"] => self.the_frozen_wakes(),
            ["nothing", "happens"] => {}
            ["the", "job", "ends"] => self.the_job_ends(),
            _ => panic!("`{event}` means nothing"),
        }
    }

    fn the_frozen_wakes(&mut self) {
        let (read, writes) = self.fleet.the_frozen_wakes().expect("none is frozen");
        let end = if writes {
            "finds its log sealed when it writes, and ends"
        } else {
            "writes nothing"
        };
        writeln!(self.transcript, "          it reads {read} messages, {end}").unwrap();
    }

    fn the_job_ends(&mut self) {
        while self.fleet.state.result().is_none() {
            assert!(self.fleet.now < LONGEST_MS, "it does not end");
            self.step();
        }
    }

    fn wait_until(&mut self, time_ms: u64) {
        while self.fleet.now < time_ms {
            self.step();
        }
    }

    /// Time passes. If a value of [`Self::key`] changes, a line is printed.
    fn step(&mut self) {
        self.fleet.passes();
        if self.last_key.is_some_and(|last| last != self.key()) {
            self.show();
        }
    }

    /// The values whose changes are printed.
    fn key(&self) -> [u64; 6] {
        let report = self.fleet.report();
        [
            report.phase as u64,
            u64::from(report.stage.index),
            u64::from(report.workers.idle + report.workers.busy),
            u64::from(report.workers.reconnecting),
            report.workers.disruptions,
            u64::from(report.no_worker_since.is_some()),
        ]
    }

    fn show(&mut self) {
        self.last_key = Some(self.key());
        let line = self.line_now();
        if line != self.last_line {
            writeln!(self.transcript, "{line}").unwrap();
            self.last_line = line;
        }
    }

    fn line_now(&self) -> String {
        let report = self.fleet.report();
        let (stage, workers) = (&report.stage, &report.workers);
        let phase = match report.phase {
            Phase::Running => "running",
            Phase::Finishing => "finishing",
            Phase::Ended => "ended",
        };
        let (seconds, tenths) = (self.fleet.now / 1_000, self.fleet.now % 1_000 / 100);
        let time = format!("{seconds}.{tenths}s");
        let end = match (&report.result, report.no_worker_since) {
            (Some(JobResult::Succeeded { files, rows, .. }), _) => {
                format!("; {files} files, {rows} rows")
            }
            (Some(JobResult::Failed { message, .. }), _) => format!("; failed: {message}"),
            (None, Some(since)) => format!("; nobody since {}s", since.0 / 1_000),
            (None, None) => String::new(),
        };
        format!(
            "{time:>9} {phase}, stage {}/{}: {} of {} done, {} running; {} living, workers: {} busy, {} idle, \
             {} away, {} lost{end}",
            stage.index,
            report.planned.stages,
            stage.done,
            stage.total,
            stage.running,
            self.fleet.living(),
            workers.busy,
            workers.idle,
            workers.reconnecting,
            workers.disruptions
        )
    }
}

/// A test for each scenario, with a name that says what it shows.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_scenario_has_its_test() {
            let mut found: Vec<String> = std::fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter_map(|file| Some(file.strip_suffix(".txt")?.to_owned()))
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

scenarios! {
    all_dead_then_all_back
    fault_2961_the_last_shards_only_worker_restarts
    fault_2977_of_1024_workers_none_returns
    fault_3705_a_coordinator_wakes_after_its_successor_finished
    fault_4200_the_last_shards_only_worker_is_lost
    found_here_late_results_after_their_tasks_were_redone
    internal_lost_replies
    promise_e15_a_coordinator_stalls_with_1000_live_workers
    promise_s1_ten_thousand_workers_register_at_once
    promise_s3_a_wave_that_the_operator_tells_of
}
