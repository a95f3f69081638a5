//! Runs the plugin `kubectl-zephyr` as a user does, against the cluster under test.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

use crate::cluster::TestNamespace;

/// How a call of the plugin ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed as its result.
    pub result: String,
    /// What it printed beside its result.
    pub notes: String,
}

/// Returns the program. It is in the folder above that of the test's own program.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("a folder of programs")?;
    let program = folder.join("kubectl-zephyr");
    ensure!(
        program.exists(),
        "{} is not built: run the tests by `make test`",
        program.display()
    );
    Ok(program)
}

fn command(namespace: &TestNamespace, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program()?);
    // The arguments of the cluster stand before the verb here. The unit tests have them after it.
    command.args(["-n", &namespace.name]);
    if let Some(context) = &namespace.context {
        command.args(["--context", context]);
    }
    let store = &namespace.environment;
    command
        .env("AWS_ENDPOINT", &store.s3_host_endpoint)
        .env("AWS_REGION", &store.region)
        .env("AWS_ACCESS_KEY_ID", &store.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.secret_key)
        .env("AWS_ALLOW_HTTP", "true");
    command.args(arguments).kill_on_drop(true);
    Ok(command)
}

/// Starts the plugin in the test's namespace. Its output is kept until `answer` reads it.
pub fn start(namespace: &TestNamespace, arguments: &[&str]) -> Result<Child> {
    let mut command = command(namespace, arguments)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start the plugin")
}

/// Waits for the end of a started plugin.
pub async fn answer(child: Child) -> Result<Answer> {
    let output = child.wait_with_output().await?;
    Ok(Answer {
        code: output.status.code(),
        result: String::from_utf8_lossy(&output.stdout).into_owned(),
        notes: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs the plugin in the test's namespace.
pub async fn run(namespace: &TestNamespace, arguments: &[&str]) -> Result<Answer> {
    answer(start(namespace, arguments)?).await
}

/// Runs the plugin in the test's namespace, and returns its result. It is an error if it fails.
pub async fn result_of(namespace: &TestNamespace, arguments: &[&str]) -> Result<String> {
    let answer = run(namespace, arguments).await?;
    ensure!(answer.code == Some(0), "{arguments:?}: {answer:?}");
    Ok(answer.result)
}
