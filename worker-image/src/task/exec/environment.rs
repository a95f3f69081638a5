//! What a command finds when it starts: its environment, which holds no credentials, and its
//! working directory. Moves no records.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use zephyr_engine::id::TaskAttempt;
use zephyr_engine::pipeline::Exec;
use zephyr_engine::plan::Stage;

use super::process::Process;
use crate::task::context::TaskContext;

/// The `PATH` of commands if this process has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The name of the file for counters, in the working directory.
const COUNTERS: &str = "zephyr-counters.jsonl";
/// This program, even if its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The file into which a command with this working directory writes its counters.
pub(super) fn counters_file(directory: &Path) -> PathBuf {
    directory.join(COUNTERS)
}

/// Starts a command of an attempt; `index` is its position among the commands of the stage.
pub(super) fn start(
    context: &TaskContext,
    stage: &Stage,
    exec: &Exec,
    task: TaskAttempt,
    index: u32,
) -> io::Result<Process> {
    let setup = &context.setup;
    let shard = task.task.shard.0;
    let name = format!(
        "command-{}-{shard}-{}-{index}",
        task.task.stage.0, task.attempt
    );
    let directory = setup.spill_folder.join(name);
    let attempt = task.attempt.to_string();
    let counters = counters_file(&directory).display().to_string();
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    let mut env = BTreeMap::from([("PATH".to_owned(), path)]);
    env.extend(exec.env.clone());
    env.extend([
        ("ZEPHYR_JOB".to_owned(), setup.commands.job.clone()),
        ("ZEPHYR_TOTAL".to_owned(), stage.shards.to_string()),
    ]);
    if !exec.reuse {
        env.extend([
            ("ZEPHYR_SHARD".to_owned(), shard.to_string()),
            ("ZEPHYR_ATTEMPT".to_owned(), attempt),
            ("ZEPHYR_COUNTERS".to_owned(), counters),
        ]);
    }
    let (executable, arguments) = guardian();
    Process::start((&executable, &arguments), &exec.command, env, directory)
}

/// The program that becomes the guardian, with its arguments.
#[cfg(not(test))]
fn guardian() -> (PathBuf, Vec<OsString>) {
    let argument = super::guardian::GUARDIAN_ARGUMENT;
    (PathBuf::from(OWN_PROGRAM), vec![argument.into()])
}

/// In the tests of this crate, tasks run in the process of the test, which does not know our
/// arguments. So one of the tests is the guardian.
#[cfg(test)]
fn guardian() -> (PathBuf, Vec<OsString>) {
    let arguments = [
        "--exact",
        super::guardian::tests::AS_GUARDIAN,
        "--nocapture",
    ];
    let arguments = arguments.into_iter().map(OsString::from).collect();
    (PathBuf::from(OWN_PROGRAM), arguments)
}
