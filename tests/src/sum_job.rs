//! A deliberately slow job with an easily computed result: it counts and sums the numbers 1 to n by
//! their remainder. Each number is one shard and uses a fixed amount of CPU, so that a test can
//! cause a fault in the middle.

use anyhow::{Context, Result, ensure};

use crate::bucket::{Bucket, DATA, SCRATCH};
use crate::cluster::TestNamespace;

/// How many groups the result has. A number's group is its remainder when it is divided by this.
const GROUPS: u64 = 7;

/// A variable with a long text. Each pass of the loop searches this text once.
const TEXT: &str = r#"("x" * 100000) as $p |"#;
/// One pass of the loop, which counts as 64 rounds. Its search takes about 160 microseconds of a
/// CPU. An expression may do only a limited number of operations, and a search counts as only a
/// few.
const PASS: &str = r#"0; . + if ($p | test("[a-w]")) then 0 else 1 end"#;

/// The job's parameters; `manifest` returns the YAML.
#[derive(Clone, Debug)]
pub struct SumJob {
    /// Name of the job.
    pub name: String,
    /// How many numbers there are: the number of shards of the first stage.
    pub numbers: u64,
    /// How many rounds of a loop delay each number. A round takes 2.5 microseconds of a CPU.
    pub rounds: u64,
    /// How many rounds delay the group of the last remainder after it is summed. This delays the
    /// end of the last stage.
    pub last_rounds: u64,
    /// How many workers the job has.
    pub workers: u32,
    /// The least number of workers. If it is set, the operator chooses the number of workers, and
    /// `workers` is the greatest.
    pub least_workers: Option<u32>,
    /// The CPU limit of a worker, as a quantity.
    pub worker_cpu: String,
    /// Additional limits of a worker, in YAML, each after a comma.
    pub worker_limits: String,
    /// The node on which its workers run if the node has room.
    pub preferred_node: Option<String>,
    /// `spec.pipeline.sink.files.mode`.
    pub mode: &'static str,
    /// Additional lines below `spec`, indented by two spaces.
    pub more: String,
}

impl SumJob {
    /// Returns a job of forty numbers and three workers. Each number takes about a second, because
    /// a worker is limited to a quarter of a core. So the job is slow, but leaves the CPU to other
    /// jobs and to the cluster.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            numbers: 40,
            rounds: 100_000,
            last_rounds: 0,
            workers: 3,
            least_workers: None,
            worker_cpu: "250m".to_owned(),
            worker_limits: String::new(),
            preferred_node: None,
            mode: "Refuse",
            more: String::new(),
        }
    }

    /// Returns the folder of its output in the bucket.
    pub fn folder(&self, namespace: &TestNamespace) -> String {
        format!("out/{}/{}", namespace.name, self.name)
    }

    /// Returns the URI under which its ledger is stored.
    pub fn storage_uri(namespace: &TestNamespace) -> String {
        format!("s3://{SCRATCH}/{}", namespace.name)
    }

    /// Returns the manifest.
    pub fn manifest(&self, namespace: &TestNamespace) -> String {
        let values: Vec<_> = (1..=self.numbers).map(|n| n.to_string()).collect();
        format!(
            r#"apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata:
  name: {name}
spec:
  pipeline:
    source:
      items: {{ values: [{values}] }}
    steps:
      - map: '. as $n | {TEXT} reduce range({rounds} / 64) as $i ({PASS}) | {{n: $n, rounds: .}}'
      - groupBy:
          key: '.n % {GROUPS}'
          aggregate: {{ count: {{ count: {{}} }}, sum: {{ sum: '.n' }} }}
          shards: 4
      - map: '. as $group | {TEXT} reduce range(if .key == {last_key} then {last_rounds} / 64 else 0 end) as $i ({PASS}) | $group'
    sink:
      files: {{ path: "s3://{DATA}/{folder}/part-{{shard:05}}-of-{{total:05}}.jsonl", mode: {mode} }}
  storage:
    uri: {storage}
    credentialsSecret: s3-credentials
  coordinator:
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "1", memory: 256Mi }} }}
  workers:
    {workers}
    slots: 1
    preemptible: {{ provider: none }}
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "{worker_cpu}", memory: 256Mi{worker_limits} }} }}
{affinity}{more}"#,
            name = self.name,
            values = values.join(", "),
            rounds = self.rounds,
            folder = self.folder(namespace),
            storage = Self::storage_uri(namespace),
            last_key = GROUPS - 1,
            last_rounds = self.last_rounds,
            mode = self.mode,
            workers = self.number_of_workers(),
            worker_cpu = self.worker_cpu,
            worker_limits = self.worker_limits,
            affinity = self
                .preferred_node
                .as_deref()
                .map(prefer)
                .unwrap_or_default(),
            more = self.more,
        )
    }

    fn number_of_workers(&self) -> String {
        let workers = self.workers;
        match self.least_workers {
            None => format!("replicas: {workers}"),
            Some(least) => format!("minReplicas: {least}\n    maxReplicas: {workers}"),
        }
    }

    /// Returns an error unless the output is exactly the expected result, in four files.
    pub async fn check_output(&self, namespace: &TestNamespace) -> Result<()> {
        let bucket = Bucket::open(&namespace.environment, DATA)?;
        let files = bucket.read_all(&self.folder(namespace)).await?;
        let names: Vec<_> = files
            .keys()
            .filter_map(|key| key.rsplit('/').next())
            .collect();
        let wanted = [
            "_SUCCESS.json",
            "part-00000-of-00004.jsonl",
            "part-00001-of-00004.jsonl",
            "part-00002-of-00004.jsonl",
            "part-00003-of-00004.jsonl",
        ];
        ensure!(names == wanted, "files {names:?}");
        let mut lines = Vec::new();
        for (key, bytes) in &files {
            if !key.ends_with("_SUCCESS.json") {
                lines.extend(
                    std::str::from_utf8(bytes)
                        .context("UTF-8")?
                        .lines()
                        .map(str::to_owned),
                );
            }
        }
        lines.sort();
        let mut expected = Vec::new();
        for key in 0..GROUPS {
            let numbers: Vec<_> = (1..=self.numbers).filter(|n| n % GROUPS == key).collect();
            if !numbers.is_empty() {
                let (count, sum) = (numbers.len(), numbers.iter().sum::<u64>());
                expected.push(format!("{{\"key\":{key},\"count\":{count},\"sum\":{sum}}}"));
            }
        }
        expected.sort();
        ensure!(
            lines == expected,
            "output {lines:#?}, expected {expected:#?}"
        );
        Ok(())
    }
}

/// Returns a line below `spec.workers` with which the scheduler places pods on this node while it
/// has room for them.
fn prefer(node: &str) -> String {
    let expression = format!("{{ key: kubernetes.io/hostname, operator: In, values: [{node}] }}");
    let term = format!("{{ weight: 100, preference: {{ matchExpressions: [{expression}] }} }}");
    format!(
        "    template: {{ affinity: {{ nodeAffinity: {{ preferredDuringSchedulingIgnoredDuringExecution: [{term}] }} }} }}\n"
    )
}
