//! Measures how lost workers, silent workers and large numbers affect one coordinator, with
//! simulated workers on this machine, and prints a table of measured and promised values. It only
//! measures: it sets no limits and fails no build.
//!
//! Driver and coordinator share the machine's CPUs, so rates of tasks are also given for a second
//! of the coordinator's CPU.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints a table, and no caller could handle an error"
)]

#[path = "../../tests/light/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod light;

mod crowd;
mod dispatch;
mod losses;
mod observe;
mod table;

use clap::Parser;
use table::Table;

/// Prints measured and promised values.
#[derive(Parser)]
struct Arguments {
    /// Number of workers in the measurements with many workers.
    #[arg(long, default_value_t = 10_000)]
    workers: usize,
    /// For how long heartbeats are measured.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Number of tasks of the job with many workers. A manifest can ask for 100,000; the
    /// coordinator supports more.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u32,
    /// Number of tasks of the job whose tasks take no time.
    #[arg(long, default_value_t = 300_000)]
    empty_tasks: u32,
    /// Run only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["losses", "dispatch", "crowd"])]
    parts: Vec<Part>,
    /// A row that was measured elsewhere: `what|measured|target`.
    #[arg(long)]
    row: Vec<String>,
    /// Passed by `cargo bench`; it has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A coordinator or a worker is lost.
    Losses,
    /// The highest rate of tasks.
    Dispatch,
    /// The highest number of workers.
    Crowd,
}

fn main() {
    let Arguments {
        workers,
        minutes,
        tasks,
        empty_tasks,
        parts,
        row,
        bench: _,
    } = Arguments::parse();
    let mut table = Table::default();
    for row in row {
        let cells: Vec<_> = row.splitn(3, '|').collect();
        if let [what, measured, target] = cells[..] {
            table.row(what, measured, target);
        }
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        if parts.contains(&Part::Losses) {
            losses::measure(&mut table).await;
        }
        if parts.contains(&Part::Dispatch) {
            dispatch::measure(&mut table, empty_tasks).await;
        }
        if parts.contains(&Part::Crowd) {
            crowd::measure(&mut table, workers, minutes, tasks).await;
        }
    });
    print!("{table}");
}
