//! Executes commands on the nodes of the kind cluster: kills and starts nodes, and does things to a
//! pod that only the node's kernel can do. Only this module uses the fact that a node is a
//! container.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::process::Command;

use crate::cluster;

async fn docker(arguments: &[&str]) -> Result<String> {
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
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a shell script on a node. `arguments` are the script's `$1`, `$2` …
async fn run(node: &str, script: &str, arguments: &[&str]) -> Result<()> {
    let mut all = vec!["exec", node, "sh", "-eu", "-c", script, "script"];
    all.extend(arguments);
    docker(&all).await.map(drop)
}

/// Returns the nodes on which a job's pods may run, by name.
pub async fn for_jobs() -> Result<Vec<String>> {
    const CONTROL_PLANE: &str = "!node-role.kubernetes.io/control-plane";
    let nodes: Api<Node> = Api::all(cluster::client().await?);
    let parameters = ListParams::default().labels(CONTROL_PLANE);
    let found = nodes.list(&parameters).await?;
    let mut names: Vec<_> = found.into_iter().map(|node| node.name_any()).collect();
    names.sort();
    Ok(names)
}

/// Kills a node as a power failure would: no signal reaches its pods, and the Node object remains.
pub async fn kill(node: &str) -> Result<()> {
    docker(&["kill", node]).await.map(drop)
}

/// Starts a killed node again.
pub async fn start(node: &str) -> Result<()> {
    docker(&["start", node]).await.map(drop)
}

/// Returns the address of this machine on the nodes' network, at which pods can reach this machine.
pub async fn host_address(node: &str) -> Result<String> {
    const GATEWAYS: &str = "{{range .NetworkSettings.Networks}}{{println .Gateway}}{{end}}";
    let gateways = docker(&["inspect", "-f", GATEWAYS, node]).await?;
    let gateway = gateways.lines().find(|line| line.contains('.'));
    gateway
        .map(|address| address.trim().to_owned())
        .with_context(|| format!("the network of node {node} has no gateway"))
}

/// Sends a signal (`KILL`, `STOP`, `CONT`) to the processes of the pod with uid `pod_uid` whose
/// command line contains `word`.
pub async fn signal_process(node: &str, pod_uid: &str, word: &str, signal: &str) -> Result<()> {
    run(
        node,
        &format!("{PROCESSES_OF_POD}{SIGNAL}"),
        &[pod_uid, word, signal],
    )
    .await
}

/// Allocates memory in the control group of a pod's processes, up to the given amount, until the
/// kernel has killed one of them. The kernel may kill a second process, because the first one
/// releases its memory only after some milliseconds.
pub async fn exhaust_memory(node: &str, pod_uid: &str, word: &str, mebibytes: u32) -> Result<()> {
    let script = format!("{PROCESSES_OF_POD}{EXHAUST}");
    run(node, &script, &[pod_uid, word, &mebibytes.to_string()]).await
}

/// Writes a file of `mebibytes` MiB into a pod's volume `scratch`.
pub async fn fill_scratch(node: &str, pod_uid: &str, mebibytes: u32) -> Result<()> {
    let script = format!("{SCRATCH}dd if=/dev/zero of=\"$scratch/filler\" bs=1M count=\"$2\"");
    run(node, &script, &[pod_uid, &mebibytes.to_string()]).await
}

/// Mounts a file system of `kibibytes` KiB over a pod's volume `scratch`. The pod's next container
/// uses it.
pub async fn shrink_scratch(node: &str, pod_uid: &str, kibibytes: u32) -> Result<()> {
    let script = format!("{SCRATCH}mount -t tmpfs -o \"size=$2k,mode=1777\" tmpfs \"$scratch\"");
    run(node, &script, &[pod_uid, &kibibytes.to_string()]).await
}

/// Unmounts the file system of [`shrink_scratch`], so that the pod can be deleted.
pub async fn restore_scratch(node: &str, pod_uid: &str) -> Result<()> {
    run(
        node,
        &format!("{SCRATCH}umount -l \"$scratch\""),
        &[pod_uid],
    )
    .await
}

const SCRATCH: &str = r"scratch=/var/lib/kubelet/pods/$1/volumes/kubernetes.io~empty-dir/scratch
";

/// Lists the processes of the pod with uid $1 whose command line contains $2. Fails if there is
/// none for 10 s, because a container that was just restarted has none for a moment. A process
/// belongs to the pod if the path of its control group contains the uid, with dashes or underscores
/// depending on the driver.
const PROCESSES_OF_POD: &str = r#"
processes=
uid=$(echo "$1" | tr _ -)
for try in $(seq 100); do
    for pid in $(pgrep -f "$2"); do
        if tr _ - <"/proc/$pid/cgroup" 2>/dev/null | grep -q "$uid"; then processes="$processes $pid"; fi
    done
    if [ -n "$processes" ]; then break; fi
    sleep 0.1
done
if [ -z "$processes" ]; then echo "the pod $1 has no process $2" >&2; exit 1; fi
"#;

const SIGNAL: &str = r#"
kill -s "$3" $processes
"#;

/// Fills the memory of a pod. `tail` keeps everything that it reads until its input ends, and has
/// joined the pod's control group. The kernel kills the pod's processes first, because the kubelet
/// gives them a score near 1000 (burstable pods). The input of `tail` grows by 1 MiB at a time, and
/// ends with the kernel's first kill, according to the container's own counter.
const EXHAUST: &str = r#"
one=${processes##* }
for group in $(find /sys/fs/cgroup -name cgroup.procs); do
    case $group in *cpu*|*pids*|*blkio*|*devices*|*freezer*|*net_*|*perf*|*hugetlb*|*rdma*|*misc*|*systemd*) continue ;; esac
    if grep -qx "$one" "$group"; then found=${group%/*}; fi
done
for file in memory.oom_control memory.events; do
    if [ -f "$found/$file" ]; then counters=$found/$file; fi
done
kills() { sed -n 's/^oom_kill //p' "$counters" 2>/dev/null || :; }
before=$(kills)
(
    for mebibyte in $(seq "$3"); do
        if [ "$(kills)" != "$before" ]; then exit 0; fi
        head -c 1M /dev/zero
    done
    for try in $(seq 300); do
        if [ "$(kills)" != "$before" ]; then exit 0; fi
        sleep 0.1
    done
) | sh -euc 'echo $$ >"$1/cgroup.procs"; exec tail -c "$2" >/dev/null' tail "$found" "${3}M" || :
if [ "$(kills)" = "$before" ]; then echo "no process was killed" >&2; exit 1; fi
"#;
