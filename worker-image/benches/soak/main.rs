//! `make soak`: hours of one coordinator process under light workers that die and come back, and
//! under the heartbeats of as many as there can be. Ends with an error where what it uses grows,
//! where a worker was taken for dead that was not, or where a task ran that was committed.
//!
//! What a coordinator keeps of a task is kept from the beginning, whether the task is done or not,
//! so that the sizes of plan and ledger are no growth; the slope is that of the whole process.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "its lines are what it is for, and it has nobody to give an error to"
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
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["churn", "heartbeats"])]
    parts: Vec<Part>,
    /// Workers in the part about churn.
    #[arg(long, default_value_t = 1_000)]
    churning: usize,
    /// Workers in the part about heartbeats.
    #[arg(long, default_value_t = 10_000)]
    beating: usize,
    /// Said by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 30 % of the workers die or drain each minute.
    Churn,
    /// All that there can be, and nobody dies.
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
