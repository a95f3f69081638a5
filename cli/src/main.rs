//! `kubectl zephyr`: the command line program for data engineers. This file defines the arguments
//! and the exit codes, and calls the verbs. Each verb has its own file.
//!
//! Exit code 0: done. 1: it failed, and a sentence on standard error says why. 2: the arguments are
//! wrong.

#[cfg(feature = "cluster")]
mod cluster;
mod eval;
#[cfg(feature = "cluster")]
mod gc;
mod input;
#[cfg(feature = "cluster")]
mod life;
mod manifest;
mod plan;
mod run;
mod sample;
mod shards;
#[cfg(feature = "cluster")]
mod status;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs, plans and watches Zephyr jobs.
#[derive(Parser)]
#[command(
    name = "kubectl-zephyr",
    bin_name = "kubectl zephyr",
    version,
    arg_required_else_help = true
)]
struct Arguments {
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
    /// Try a jq expression on JSON lines
    Eval(eval::Options),
    /// Show the state of a job in the cluster.
    #[cfg(feature = "cluster")]
    Status(status::Options),
    /// Suspend a job: no pod of it stays, and everything that is complete is kept.
    #[cfg(feature = "cluster")]
    Suspend(life::SuspendOptions),
    /// Continue a suspended job.
    #[cfg(feature = "cluster")]
    Resume(life::ResumeOptions),
    /// End a job early. This cannot be undone.
    #[cfg(feature = "cluster")]
    Cancel(life::CancelOptions),
    /// List what no job under a storage URI needs any more, and delete it with --yes.
    #[cfg(feature = "cluster")]
    Gc(gc::Options),
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
    let arguments = Arguments::parse();
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
            Verb::Run(options) => run::run(options).await,
            Verb::Plan(options) => plan::plan(options).await,
            Verb::Eval(options) => eval::eval(&options),
            #[cfg(feature = "cluster")]
            Verb::Status(options) => status::status(options).await,
            #[cfg(feature = "cluster")]
            Verb::Suspend(options) => life::suspend(options).await,
            #[cfg(feature = "cluster")]
            Verb::Resume(options) => life::resume(options).await,
            #[cfg(feature = "cluster")]
            Verb::Cancel(options) => life::cancel(options).await,
            #[cfg(feature = "cluster")]
            Verb::Gc(options) => gc::gc(options).await,
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
