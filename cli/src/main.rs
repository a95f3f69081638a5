//! `kubectl zephyr`: the command line program for data engineers. This file defines the arguments
//! and the exit codes, and calls the verbs. Each verb has its own file.
//!
//! The constant `EXIT_CODES` says what the exit codes mean.

#[cfg(feature = "cluster")]
mod cluster;
mod complete;
mod eval;
#[cfg(feature = "cluster")]
mod events;
#[cfg(feature = "cluster")]
mod explain;
#[cfg(feature = "cluster")]
mod gc;
#[cfg(feature = "cluster")]
mod history;
mod input;
#[cfg(feature = "cluster")]
mod life;
#[cfg(feature = "cluster")]
mod list;
#[cfg(feature = "cluster")]
mod logs;
mod manifest;
#[cfg(feature = "cluster")]
mod moving;
mod output;
mod plan;
#[cfg(feature = "cluster")]
mod result;
mod run;
mod sample;
mod shards;
#[cfg(feature = "cluster")]
mod status;
#[cfg(feature = "cluster")]
mod table;
mod terminal;
mod validate;
#[cfg(feature = "cluster")]
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the exit codes mean. `docs/plugin.md` says the same.
const EXIT_CODES: &str = "Exit codes:
  0  The command succeeded
  1  It failed, and standard error says why
  2  The arguments are wrong";

/// Runs, plans and watches Zephyr jobs.
#[derive(Parser)]
#[command(
    name = "kubectl-zephyr",
    bin_name = "kubectl zephyr",
    version,
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
struct Arguments {
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    connection: cluster::Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a job on this machine, with the same coordinator and the same workers, without a
    /// cluster.
    Run(run::Options),
    /// Show the stages and tasks that a job would have.
    Plan(plan::Options),
    /// Check a manifest without reading any data, and show all errors at once.
    Validate(validate::Options),
    /// Try a jq expression on JSON lines
    Eval(eval::Options),
    /// List the jobs of a namespace or of the cluster.
    #[cfg(feature = "cluster")]
    List(list::Options),
    /// Show the state of a job in the cluster.
    #[cfg(feature = "cluster")]
    Status(status::Options),
    /// Follow a job until it ends, as a live view or as lines.
    #[cfg(feature = "cluster")]
    Watch(watch::Options),
    /// Say what a job is doing or why it does not run, and what to do.
    #[cfg(feature = "cluster")]
    Explain(explain::Options),
    /// Print the lines of a job's pods.
    #[cfg(feature = "cluster")]
    Logs(logs::Options),
    /// Show the events of a job and its objects by time.
    #[cfg(feature = "cluster")]
    Events(events::Options),
    /// Show the generations of a job and the changes of its phase.
    #[cfg(feature = "cluster")]
    History(history::Options),
    /// Show what a job has written.
    #[cfg(feature = "cluster")]
    Result(result::Options),
    /// Suspend a job: no pod of it stays, and everything that is complete is kept.
    #[cfg(feature = "cluster")]
    Suspend(life::SuspendOptions),
    /// Continue a suspended job.
    #[cfg(feature = "cluster")]
    Resume(life::ResumeOptions),
    /// End a job early.
    #[cfg(feature = "cluster")]
    Cancel(life::CancelOptions),
    /// Run a failed or cancelled job again. Tasks that are complete do not run again.
    #[cfg(feature = "cluster")]
    Restart(life::RestartOptions),
    /// Write an archive of a suspended job, with which another cluster can continue it.
    #[cfg(feature = "cluster")]
    Export(moving::ExportOptions),
    /// Create a job that continues an exported one.
    #[cfg(feature = "cluster")]
    Import(moving::ImportOptions),
    /// List what no job under a storage URI needs any more, and delete it with --yes.
    #[cfg(feature = "cluster")]
    Gc(gc::Options),
    /// Print a script with which a shell completes the words of this program.
    Completion(complete::Options),
    /// Print the words that may stand at the end of a command line.
    #[command(name = "__complete", hide = true)]
    Words(complete::Words),
}

#[cfg(feature = "cluster")]
impl Verb {
    /// Fills in what the verb needs from the arguments before it.
    fn inherit(&mut self, before: cluster::Connection) -> Result<(), &'static str> {
        let own = match self {
            Self::List(options) => &mut options.connection,
            Self::Status(options) => &mut options.target.connection,
            Self::Watch(options) => &mut options.target.connection,
            Self::Explain(options) => &mut options.target.connection,
            Self::Logs(options) => &mut options.target.connection,
            Self::Events(options) => &mut options.target.connection,
            Self::History(options) => &mut options.target.connection,
            Self::Result(options) => &mut options.target.connection,
            Self::Validate(options) => return options.inherit(before),
            Self::Suspend(options) => &mut options.target.connection,
            Self::Resume(options) => &mut options.target.connection,
            Self::Cancel(options) => &mut options.target.connection,
            Self::Restart(options) => &mut options.target.connection,
            Self::Export(options) => &mut options.target.connection,
            Self::Import(options) => &mut options.connection,
            Self::Gc(options) => return options.inherit(before),
            Self::Run(_) | Self::Plan(_) | Self::Eval(_) | Self::Completion(_) | Self::Words(_) => {
                return if before == cluster::Connection::default() {
                    Ok(())
                } else {
                    Err("--namespace, --context, --kubeconfig: this verb uses no cluster")
                };
            }
        };
        own.inherit(before);
        Ok(())
    }
}

/// The arguments. Ends the program if they are wrong.
#[cfg(not(feature = "cluster"))]
fn arguments() -> Arguments {
    Arguments::parse()
}

/// The arguments. Ends the program if they are wrong.
#[cfg(feature = "cluster")]
fn arguments() -> Arguments {
    let mut arguments = Arguments::parse();
    let before = std::mem::take(&mut arguments.connection);
    if let Err(sentence) = arguments.verb.inherit(before) {
        let kind = clap::error::ErrorKind::ArgumentConflict;
        Arguments::command().error(kind, sentence).exit();
    }
    arguments
}

fn main() -> ExitCode {
    // This comes first, because `run` starts this program again as a child process, once for each
    // task slot.
    if let Some(code) = zephyr_worker::child_main_if_requested() {
        return code;
    }
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        terminal::error("install the TLS provider: another one is installed");
        return ExitCode::FAILURE;
    }
    let arguments = arguments();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::error(&format!("start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.verb {
            Verb::Run(options) => Box::pin(run::run(options)).await,
            Verb::Plan(options) => plan::plan(options).await,
            Verb::Validate(options) => validate::validate(options).await,
            Verb::Eval(options) => eval::eval(&options),
            #[cfg(feature = "cluster")]
            Verb::List(options) => list::list(options).await,
            #[cfg(feature = "cluster")]
            Verb::Status(options) => status::status(options).await,
            #[cfg(feature = "cluster")]
            Verb::Watch(options) => watch::watch(options).await,
            #[cfg(feature = "cluster")]
            Verb::Explain(options) => explain::explain(options).await,
            #[cfg(feature = "cluster")]
            Verb::Logs(options) => logs::logs(options).await,
            #[cfg(feature = "cluster")]
            Verb::Events(options) => events::events(options).await,
            #[cfg(feature = "cluster")]
            Verb::History(options) => history::history(options).await,
            #[cfg(feature = "cluster")]
            Verb::Result(options) => result::result(options).await,
            #[cfg(feature = "cluster")]
            Verb::Suspend(options) => life::suspend(options).await,
            #[cfg(feature = "cluster")]
            Verb::Resume(options) => life::resume(options).await,
            #[cfg(feature = "cluster")]
            Verb::Cancel(options) => life::cancel(options).await,
            #[cfg(feature = "cluster")]
            Verb::Restart(options) => life::restart(options).await,
            #[cfg(feature = "cluster")]
            Verb::Export(options) => moving::export(options).await,
            #[cfg(feature = "cluster")]
            Verb::Import(options) => moving::import(options).await,
            #[cfg(feature = "cluster")]
            Verb::Gc(options) => gc::gc(options).await,
            Verb::Completion(options) => complete::script(&options),
            Verb::Words(words) => complete::words(words, &Arguments::command()).await,
        }
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&terminal::sentence(&error));
            ExitCode::FAILURE
        }
    }
}
