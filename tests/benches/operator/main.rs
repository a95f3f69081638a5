//! Measures the operator on the test cluster among many objects: unrelated objects with its label,
//! finished jobs, a pod that cannot be deleted, many jobs at the same time. Prints the results and
//! sets no limits. Deletes what it created.

#![expect(clippy::print_stdout, reason = "it exists to print figures")]

mod crowd;
mod installed;
mod jobs;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Measures the operator that `make install` put on the test cluster.
#[derive(Debug, Parser)]
#[command(name = "bench-operator")]
struct Arguments {
    /// The measurement.
    #[arg(long, value_delimiter = ',', default_values = ["foreign", "large", "finished", "stuck", "many"])]
    parts: Vec<Part>,
    /// Number of unrelated `ConfigMaps` with our label.
    #[arg(long, default_value_t = 4_300)]
    foreign: usize,
    /// Number of unrelated `ConfigMaps` of 900 KB with our label.
    #[arg(long, default_value_t = 700)]
    large: usize,
    /// Number of finished jobs.
    #[arg(long, default_value_t = 5_000)]
    finished: usize,
    /// Number of jobs that are applied at the same time.
    #[arg(long, default_value_t = 200)]
    jobs: usize,
    /// `cargo bench` passes this; it has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// A restart with small unrelated objects.
    Foreign,
    /// A restart with large unrelated objects.
    Large,
    /// A restart with finished jobs.
    Finished,
    /// A worker with a finalizer on a node that vanishes.
    Stuck,
    /// Many small jobs at once.
    Many,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for part in &arguments.parts {
        match part {
            Part::Foreign => crowd::foreign(arguments.foreign, 0).await?,
            Part::Large => crowd::foreign(arguments.large, 900_000).await?,
            Part::Finished => crowd::finished(arguments.finished).await?,
            Part::Stuck => jobs::stuck().await?,
            Part::Many => jobs::many(arguments.jobs).await?,
        }
    }
    Ok(())
}
