//! Tests that running jobs do not notice an upgrade of the operator by Helm, nor a rollback: no pod
//! starts again, no generation begins and no task runs twice.
//!
//! Both releases have the program of this source tree. The release to which the test upgrades has
//! another version of the chart, and another setting, so that the operator's pod is replaced.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::process::Command;
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{AppliedJob, apply, is_true};
use zephyr_tests::ledger::{LedgerState, LedgerView};
use zephyr_tests::sum_job::SumJob;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/zephyr-operator");
const RELEASE: &str = "zephyr-operator";
/// The namespace into which `make install` installs the operator.
const NAMESPACE: &str = "zephyr-system";
/// How many jobs run at the same time.
const JOBS: usize = 10;
/// The version of the chart to which the test upgrades.
const NEXT: &str = "99.0.0";

/// A job that runs, and what had happened when it was looked at.
struct Running {
    sum: SumJob,
    job: AppliedJob,
    ledger: LedgerView,
    before: LedgerState,
}

async fn helm(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("helm");
    if let Ok(context) = std::env::var("ZEPHYR_TEST_KUBECONTEXT")
        && !context.is_empty()
    {
        command.args(["--kube-context", &context]);
    }
    let output = command
        .args(arguments)
        .output()
        .await
        .context("helm is not on PATH: run `make test`, or eval \"$(make -s cluster-env)\"")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("helm {}: {error}", arguments.join(" "));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the revision of the installed release, and the version of its chart.
async fn installed() -> Result<(u64, String)> {
    let text = helm(&["list", "--namespace", NAMESPACE, "--output", "json"]).await?;
    let releases: Vec<Value> = serde_json::from_str(&text)?;
    let found = releases.iter().find(|found| found["name"] == RELEASE);
    let found = found.with_context(|| format!("{RELEASE} is not installed: {text}"))?;
    let text = |field: &str| found[field].as_str().context(field.to_owned());
    Ok((text("revision")?.parse()?, text("chart")?.to_owned()))
}

/// Returns the uid of the operator's pod.
async fn operator(namespace: &TestNamespace) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), NAMESPACE);
    let selected = ListParams::default().labels("app.kubernetes.io/name=zephyr-operator");
    let found = pods.list(&selected).await?.items;
    let mut running = found
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let pod = running.next().context("an operator runs")?;
    ensure!(running.next().is_none(), "two operators run");
    pod.uid().context("a uid")
}

/// Returns the uids of the jobs' pods and how often their containers started again, by name.
async fn pods_of_jobs(namespace: &TestNamespace) -> Result<BTreeMap<String, (String, i32)>> {
    let selected = ListParams::default().labels("zephyr.dev/job");
    let pods = namespace.api::<Pod>().list(&selected).await?;
    let restarts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        containers.iter().map(|one| one.restart_count).sum()
    };
    Ok(pods
        .into_iter()
        .map(|pod| {
            let uid = pod.uid().unwrap_or_default();
            (pod.name_any(), (uid, restarts(&pod)))
        })
        .collect())
}

/// Starts a job, and waits until its first task is complete.
async fn start(namespace: &TestNamespace, number: usize) -> Result<Running> {
    let mut sum = SumJob::new(&format!("sum-{number}"));
    sum.workers = 1;
    let job = apply(namespace, &sum.manifest(namespace)).await?;
    let uri = SumJob::storage_uri(namespace);
    let ledger = LedgerView::open(&namespace.environment, &uri, &job.uid)?;
    job.committed(&ledger, 1, TEST_TIMEOUT).await?;
    let before = ledger.read().await?;
    Ok(Running {
        sum,
        job,
        ledger,
        before,
    })
}

/// Returns an error unless the job ends in its first generation and with the same coordinator, has
/// run no task twice, and has the right output.
async fn ends_undisturbed(namespace: &TestNamespace, running: &Running) -> Result<()> {
    let name = &running.job.name;
    let done = running.job.succeeded(TEST_TIMEOUT).await?;
    let status = done.status.context("a status")?;
    ensure!(status.generation == Some(1), "{name}: another generation");
    let after = running.ledger.read().await?;
    after.repeats_nothing_of(&running.before)?;
    let (again, epochs) = (after.run_again(), (running.before.epoch, after.epoch));
    ensure!(again == 0, "{name}: {again} tasks ran again");
    ensure!(epochs.0 == epochs.1, "{name}: epochs {epochs:?}");
    running.sum.check_output(namespace).await
}

/// Upgrades to another version of the chart, and rolls back.
async fn upgrade_and_roll_back(namespace: &TestNamespace) -> Result<()> {
    let (revision, chart) = installed().await?;
    let folder = tempfile::tempdir()?;
    let to = folder.path().to_str().context("a path")?;
    let packed = ["package", CHART, "--version", NEXT, "--destination", to];
    helm(&packed).await?;
    let package = format!("{to}/{RELEASE}-{NEXT}.tgz");
    let before = operator(namespace).await?;
    let upgrade = ["upgrade", RELEASE, &package, "--namespace", NAMESPACE];
    let values = ["--reset-then-reuse-values", "--set", "logLevel=debug"];
    let waits = ["--wait", "--timeout", "3m"];
    helm(&[&upgrade[..], &values, &waits].concat()).await?;
    let upgraded = operator(namespace).await?;
    let (_, newer) = installed().await?;
    ensure!(
        newer == format!("{RELEASE}-{NEXT}") && upgraded != before,
        "{newer} is installed"
    );
    let revision = revision.to_string();
    let back = ["rollback", RELEASE, &revision, "--namespace", NAMESPACE];
    helm(&[&back[..], &waits].concat()).await?;
    let (_, older) = installed().await?;
    let rolled_back = operator(namespace).await?;
    ensure!(
        older == chart && rolled_back != upgraded,
        "{older} is installed, not {chart}"
    );
    Ok(())
}

#[tokio::test]
async fn ten_running_jobs_do_not_notice_an_upgrade_and_a_rollback_by_helm() -> Result<()> {
    let namespace = TestNamespace::create("upgrade").await?;
    let starts = (0..JOBS).map(|number| start(&namespace, number));
    let running = futures::future::try_join_all(starts).await?;
    let before = pods_of_jobs(&namespace).await?;
    upgrade_and_roll_back(&namespace).await?;

    let after = pods_of_jobs(&namespace).await?;
    for (name, found) in &after {
        let known = before.get(name);
        ensure!(known == Some(found), "{name}: {known:?} became {found:?}");
    }
    let mut unfinished = 0;
    for one in &running {
        let job = one.job.get().await?;
        unfinished += usize::from(!is_true(&job, ConditionType::Finished));
    }
    ensure!(unfinished > 0, "all jobs had ended before the rollback had");
    for one in &running {
        ends_undisturbed(&namespace, one).await?;
    }
    namespace.finish().await
}
