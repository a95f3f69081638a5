//! `make soak`: hours of one coordinator process with simulated workers that die and come back, and
//! with the heartbeats of the largest number of workers. Ends with an error if its resource usage
//! grows, if a live worker was considered dead, or if a committed task ran again.
//!
//! A coordinator keeps its data about a task from the beginning, whether the task is done or not.
//! So the sizes of plan and ledger cause no growth, and the slope is that of the whole process.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints lines, and no caller could handle an error"
)]

mod churn;
mod heartbeats;
#[path = "../../tests/light/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use more of it")]
mod light;
#[path = "../recovery/observe.rs"]
#[expect(dead_code, reason = "the other measurements use more of it")]
mod observe;
mod watch;

use std::process::ExitCode;

use clap::Parser;

/// Watches one coordinator for hours.
#[derive(Parser)]
struct Arguments {
    /// Minutes of each part, instead of 120 of churn and 60 of heartbeats.
    #[arg(long, env = "ZEPHYR_SOAK_MINUTES", value_parser = clap::value_parser!(u32).range(4..))]
    minutes: Option<u32>,
    /// Run only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["churn", "heartbeats"])]
    parts: Vec<Part>,
    /// Workers in the part about churn.
    #[arg(long, default_value_t = 1_000)]
    churning: usize,
    /// Workers in the part about heartbeats.
    #[arg(long, default_value_t = 10_000)]
    beating: usize,
    /// Passed by `cargo bench`; it has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 30 % of the workers die or drain each minute.
    Churn,
    /// The largest number of workers, without losses.
    Heartbeats,
}

fn main() -> ExitCode {
    let Arguments {
        minutes,
        parts,
        churning,
        beating,
        bench: _,
    } = Arguments::parse();
    let mut wrong = Vec::new();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        if parts.contains(&Part::Churn) {
            wrong.extend(churn::soak(churning, minutes.unwrap_or(120)).await);
        }
        if parts.contains(&Part::Heartbeats) {
            wrong.extend(heartbeats::soak(beating, minutes.unwrap_or(60)).await);
        }
    });
    for sentence in &wrong {
        println!("soak: WRONG: {sentence}");
    }
    if wrong.is_empty() {
        println!("soak: nothing grew and nothing went wrong");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
