//! Hooks on the nodes of the kind cluster: kill, start. The only place that knows that a node is a container.

use anyhow::{Context, Result, bail};
use tokio::process::Command;

async fn docker(arguments: &[&str]) -> Result<()> {
    let output = Command::new("docker")
        .args(arguments)
        .output()
        .await
        .context("run docker")?;
    if !output.status.success() {
        bail!(
            "docker {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Kills a node as a power cut would: no signal reaches its pods, and the Node object stays.
pub async fn kill(node: &str) -> Result<()> {
    docker(&["kill", node]).await
}

/// Starts a killed node again.
pub async fn start(node: &str) -> Result<()> {
    docker(&["start", node]).await
}

/// Sends a signal (`KILL`, `STOP`, `CONT`) to the processes of a pod, by the pod's uid and a word of their command line.
pub async fn signal_process(node: &str, pod_uid: &str, word: &str, signal: &str) -> Result<()> {
    // The uid is in the path of the process's control group, with dashes or underscores as the driver has it.
    let script = r#"none=1
        for pid in $(pgrep -f "$2"); do
            if tr _ - <"/proc/$pid/cgroup" | grep -q "$1"; then kill -s "$3" "$pid" && none=0; fi
        done
        exit $none"#;
    docker(&[
        "exec", node, "sh", "-c", script, "signal", pod_uid, word, signal,
    ])
    .await
}
