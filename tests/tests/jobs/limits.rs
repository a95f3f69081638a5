//! Tests workers that exceed limits of their pods or nodes, without a mistake in the job. The
//! output must be exact each time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::bucket::{Bucket, DATA};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace, eventually};
use zephyr_tests::job::{apply, condition};
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::midway::{Midway, job_midway_in};
use zephyr_tests::node;
use zephyr_tests::sum_job::SumJob;

/// A word in the command line of a worker and of its task processes.
const WORKER: &str = "zephyr-worker";

/// How long it may take until a charge is in the ledger. The kubelet reports the end of a container
/// after a second or two.
const CHARGE: Duration = Duration::from_secs(5);

/// A worker's message about a disk that is limited to 32Mi.
const OVER_32_MIB: &str =
    "its limit is 32 MiB, set by spec.workers.resources.limits.ephemeral-storage";

#[tokio::test]
async fn promise_c14_an_oom_kill_is_charged_to_what_ran_with_the_limit_and_run_again() -> Result<()>
{
    let namespace = TestNamespace::create("oom").await?;
    // If the kernel also kills the worker itself, the kubelet may not notice why the container
    // ended, and nobody else knows the reason. Then the test tries again with the next pod. If a
    // process is throttled, this is more likely, because the process releases its memory late.
    let mut sum = SumJob::new("sum");
    (sum.numbers, sum.rounds, sum.worker_cpu) = (60, 400_000, "1".to_owned());
    let midway = job_midway_in(namespace, sum).await?;
    for (pod, node) in midway.all_running("worker").await? {
        let uid = pod.uid().context("a uid")?;
        // Together with the memory of the worker itself this exceeds 256 MiB.
        node::exhaust_memory(&node, &uid, WORKER, 250).await?;
        let charged = eventually("a charge", CHARGE, || async {
            let charged = midway.ledger.read().await?.application_failures;
            Ok((!charged.is_empty()).then_some(()))
        });
        if charged.await.is_ok() {
            break;
        }
    }
    ends_charged(midway, &["memory", "256 MiB"]).await
}

/// The only worker runs the long task of the last stage when it is evicted. The worker itself
/// reports the cause, because its pod has usually disappeared before the eviction is in the pod's
/// status.
#[tokio::test]
async fn fault_8282_an_eviction_for_the_pods_own_disk_limit_is_charged_and_costs_no_row()
-> Result<()> {
    let namespace = TestNamespace::create("disk").await?;
    let mut sum = SumJob::new("sum");
    sum.worker_limits = ", ephemeral-storage: 32Mi".to_owned();
    let first_stage = 10;
    (sum.workers, sum.numbers) = (1, first_stage);
    // The kubelet measures disks about every ten seconds; the long task takes about fifty seconds
    // on a quarter of a CPU.
    sum.last_rounds = 5_000_000;
    let midway = job_midway_in(namespace, sum).await?;
    let (job, ledger) = (&midway.job, &midway.ledger);
    job.committed(ledger, usize::try_from(first_stage)?, TEST_TIMEOUT)
        .await?;
    let (pod, node) = midway.worker().await?;
    node::fill_scratch(&node, &pod.uid().context("a uid")?, 64).await?;
    let events = midway.namespace.api::<Event>();
    midway
        .namespace
        .eventually("the eviction", TEST_TIMEOUT, || async {
            let evictions = ListParams::default().fields("reason=Evicted");
            let seen = events.list(&evictions).await?;
            Ok((!seen.items.is_empty()).then_some(()))
        })
        .await?;
    let after = midway.ends_right().await?;
    let charged = &after.application_failures;
    let by_the_worker = |error: &String| error.contains(OVER_32_MIB);
    let by_the_kubelet = |error: &String| error.contains("exceeds the total limit");
    ensure!(
        charged.iter().any(by_the_worker)
            && (charged.iter()).all(|error| by_the_worker(error) || by_the_kubelet(error)),
        "charged: {charged:?}"
    );
    midway.namespace.finish().await
}

/// With a tenth of a CPU, a task that needs five CPU seconds runs longer than any worker may be
/// silent.
#[tokio::test]
async fn fault_3041_workers_that_are_throttled_for_longer_than_they_may_be_silent_are_not_given_up()
-> Result<()> {
    let namespace = TestNamespace::create("throttled").await?;
    let mut sum = SumJob::new("sum");
    (sum.numbers, sum.rounds) = (3, 2_000_000);
    sum.worker_cpu = "100m".to_owned();
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ended = job.succeeded(TEST_TIMEOUT).await?;
    let workers = ended.status.unwrap_or_default().workers;
    ensure!(
        workers.as_ref().is_some_and(|told| told.disruptions == 0),
        "given up: {workers:?}"
    );
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    let run_again = ledger.read().await?.run_again();
    ensure!(run_again == 0, "{run_again} tasks were run again");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

/// How many keys the records of the job [`spilling`] have.
const KEYS: usize = 120_000;

/// Returns a job with twelve tasks on one worker. Each task has more records than fit into a
/// quarter of 128 MiB, so it writes to the disk.
fn spilling(namespace: &TestNamespace) -> String {
    let storage = SumJob::storage_uri(namespace);
    let folder = output_folder(namespace);
    format!(
        r#"apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata:
  name: spill
spec:
  pipeline:
    source:
      items: {{ values: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] }}
    steps:
      - flatMap: 'range({KEYS}) | {{k: (tostring + ("x" * 300))}}'
      - groupBy: {{ key: '.k', aggregate: {{ count: {{ count: {{}} }} }}, shards: 4 }}
      - map: '(.key | rtrimstr("x" * 300)) + " " + (.count | tostring)'
    sink:
      files: {{ path: "s3://{DATA}/{folder}/part-{{shard}}.txt", format: text }}
  storage: {{ uri: "{storage}", credentialsSecret: s3-credentials }}
  coordinator:
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "1", memory: 256Mi }} }}
  workers:
    replicas: 1
    slots: 1
    preemptible: {{ provider: none }}
    resources: {{ requests: {{ cpu: 50m, memory: 128Mi }}, limits: {{ cpu: "1", memory: 128Mi }} }}
"#
    )
}

fn output_folder(namespace: &TestNamespace) -> String {
    format!("out/{}/spill", namespace.name)
}

#[tokio::test]
async fn bad_input_116_fault_7941_spilling_needs_no_more_memory_and_a_full_disk_is_reported_and_not_charged()
-> Result<()> {
    let namespace = TestNamespace::create("no-space").await?;
    let job = apply(&namespace, &spilling(&namespace)).await?;
    let uri = SumJob::storage_uri(&namespace);
    let ledger = LedgerView::open(&namespace.environment, &uri, &job.uid)?;
    job.committed(&ledger, 1, TEST_TIMEOUT).await?;
    let pods = namespace.pods("spill", "worker").await?;
    let pod = pods.first().context("a worker")?;
    let uid = pod.uid().context("a uid")?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node.context("a node")?;

    node::shrink_scratch(&node, &uid, 64).await?;
    let outcome = async {
        // The container ends because of SIGTERM, for which nothing is charged. The next container
        // has the small disk.
        node::signal_process(&node, &uid, "zephyr-worker worker", "TERM").await?;
        job.wait_until("the full disk is reported", TEST_TIMEOUT, |job| {
            condition(job, ConditionType::Progressing)
                .is_some_and(|told| told.message.contains("no space on"))
        })
        .await
    }
    .await;
    node::restore_scratch(&node, &uid).await?;
    outcome?;
    node::signal_process(&node, &uid, "zephyr-worker worker", "TERM").await?;
    job.succeeded(TEST_TIMEOUT).await?;
    let charged = ledger.read().await?.application_failures;
    ensure!(charged.is_empty(), "charged: {charged:?}");

    let files = Bucket::open(&namespace.environment, DATA)?
        .read_all(&output_folder(&namespace))
        .await?;
    let mut lines = BTreeSet::new();
    for (key, bytes) in files {
        if !key.ends_with("_SUCCESS.json") {
            let text = String::from_utf8(bytes.to_vec())?;
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    let expected: BTreeSet<_> = (0..KEYS).map(|key| format!("{key} 12")).collect();
    ensure!(lines == expected, "{} lines", lines.len());
    namespace.finish().await
}

/// Returns an error unless the output is right and at least one task was charged. The sentence of
/// each charge must contain these words.
async fn ends_charged(midway: Midway, words: &[&str]) -> Result<()> {
    let after = midway.ends_right().await?;
    let charged = &after.application_failures;
    let has_all = |error: &String| words.iter().all(|word| error.contains(word));
    ensure!(
        !charged.is_empty() && charged.iter().all(has_all),
        "charged: {charged:?}"
    );
    eprintln!("{} tasks run again: {charged:?}", after.run_again());
    midway.namespace.finish().await
}
