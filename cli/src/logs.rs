//! `kubectl zephyr logs NAME`: the lines that the pods of a job print, each with the pod's role
//! before it. With `-f` it follows them over restarts and generations until the job ends. The
//! memory that it needs does not grow with the number of lines. Changes nothing in the cluster.

mod choice;
mod follow;
mod lines;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use self::choice::{Choice, Source, choose, nothing_chosen};
use self::lines::Lines;
use crate::cluster::{Found, Target};
use crate::status::failed_task;
use crate::terminal::{note, print, printable};

/// The name of the container with the job's process.
const CONTAINER: &str = "zephyr";

#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of them is a flag of the command line"
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only the coordinator.
    #[arg(long, conflicts_with_all = ["workers", "worker"])]
    coordinator: bool,
    /// Only the workers.
    #[arg(long, conflicts_with = "worker")]
    workers: bool,
    /// Only the worker with this number, from 0.
    #[arg(long, value_name = "N")]
    worker: Option<u32>,
    /// Print the last lines of the failed attempt that ended the job, at most 2 KiB, from the
    /// status of the job. They stay after its pods are gone.
    #[arg(long, value_name = "WHICH", conflicts_with_all = ["coordinator", "workers", "worker", "follow", "tail", "timestamps"])]
    task: Option<Task>,
    /// Follow the lines until the job ends, over restarts and generations.
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines of each pod; default: all.
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Print the time of each line.
    #[arg(long)]
    timestamps: bool,
}

/// The task whose lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    // The one whose failure ended the job.
    Failed,
}

/// How lines are read and printed.
#[derive(Clone, Copy, Debug)]
struct Style {
    tail: Option<u32>,
    has_times: bool,
}

/// Prints the lines.
pub(crate) async fn logs(options: Options) -> Result<()> {
    let choice = if options.coordinator {
        Choice::Coordinator
    } else if options.workers {
        Choice::Workers
    } else {
        options.worker.map_or(Choice::All, Choice::Worker)
    };
    let style = Style {
        tail: options.tail,
        has_times: options.timestamps,
    };
    let found = options.target.find().await?;
    if options.task == Some(Task::Failed) {
        print(&failed_lines(&found)?)?;
        return Ok(());
    }
    let pods = found.pods().await?;
    let sources = choose(&pods, choice);
    if options.follow {
        return follow::follow(&found, choice, style).await;
    }
    if sources.is_empty() {
        bail!(nothing_chosen(&found.job, &pods, choice));
    }
    let mut failures = 0;
    for source in &sources {
        if let Some(why) = &source.waits {
            note(&format!(
                "{}has no lines yet: {}",
                source.prefix,
                printable(why)
            ));
        } else if let Err(error) = print_once(&found, source, style).await {
            if crate::terminal::is_closed_pipe(&error) {
                return Err(error);
            }
            note(&format!("{}{error:#}", source.prefix));
            failures += 1;
        }
    }
    if failures > 0 {
        bail!(
            "the lines of {failures} of {} pods could not be read",
            sources.len()
        );
    }
    Ok(())
}

/// The last lines of the attempt that ended the job.
fn failed_lines(found: &Found) -> Result<String> {
    let (namespace, name) = (&found.namespace, &found.name);
    let status = found.job.status.as_ref();
    let Some(failure) = status.and_then(|status| status.failure.as_ref()) else {
        bail!(
            "--task failed: job {namespace}/{name} has not failed because of a task, or its coordinator ended since; `kubectl zephyr explain {name} -n {namespace}` says why it does not run"
        );
    };
    let task = printable(&failed_task(failure));
    if failure.log.is_empty() {
        bail!("--task failed: the attempt logged nothing: {task}");
    }
    note(&format!("the last lines of {task}"));
    let lines: Vec<_> = failure.log.lines().map(printable).collect();
    Ok(format!("{}\n", lines.join("\n")))
}

fn parameters(style: Style) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        tail_lines: style.tail.map(i64::from),
        // The times are needed to continue after a broken connection, and removed before printing.
        timestamps: true,
        ..LogParams::default()
    }
}

/// Prints what a pod has printed so far.
async fn print_once(found: &Found, source: &Source, style: Style) -> Result<()> {
    let api = found.cluster.api::<Pod>();
    let what = format!("read the lines of pod {}", source.pod);
    let parameters = parameters(style);
    let stream = api.log_stream(&source.pod, &parameters);
    let mut lines = Lines::new(found.cluster.ask(&what, stream).await?);
    while let Some(line) = lines.next().await? {
        print(&format!("{}{}", source.prefix, line.shown(style.has_times)))?;
    }
    Ok(())
}
