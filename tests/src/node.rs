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

/// Kills one process of a pod with SIGKILL, as the kernel would, by the pod's uid and a word of its command line.
pub async fn kill_process(node: &str, pod_uid: &str, word: &str) -> Result<()> {
    // The uid is in the path of the process's control group, with dashes or underscores as the driver has it.
    let script = r#"killed=1
        for pid in $(pgrep -f "$2"); do
            if tr _ - <"/proc/$pid/cgroup" | grep -q "$1"; then kill -9 "$pid" && killed=0; fi
        done
        exit $killed"#;
    docker(&["exec", node, "sh", "-c", script, "kill", pod_uid, word]).await
}
