//! Tests the verbs of the plugin that read a cluster: what they show of a job that runs, of a job
//! that waits, and of a job that has ended.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::Value;
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::apply;
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::plugin::{answer, result_of, run, start};
use zephyr_tests::sum_job::SumJob;

async fn json(namespace: &TestNamespace, arguments: &[&str]) -> Result<Value> {
    let text = result_of(namespace, &[arguments, &["-o", "json"]].concat()).await?;
    serde_json::from_str(&text).with_context(|| format!("{arguments:?}: {text}"))
}

/// Returns an error unless the text has all of these words.
fn has(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_plugin_shows_a_job_while_it_runs_and_after_its_end() -> Result<()> {
    let namespace = TestNamespace::create("plugin").await?;
    let mut sum = SumJob::new("sum");
    sum.numbers = 18;
    let manifest = sum.manifest(&namespace);
    let job = apply(&namespace, &manifest).await?;
    let uri = SumJob::storage_uri(&namespace);
    let ledger = LedgerView::open(&namespace.environment, &uri, &job.uid)?;
    job.committed(&ledger, 2, TEST_TIMEOUT).await?;
    let followed = start(&namespace, &["logs", "sum", "-f"])?;
    let watched = start(&namespace, &["watch", "sum"])?;

    let listed = json(&namespace, &["list"]).await?;
    ensure!(listed["items"][0]["name"] == "sum", "{listed}");
    let status = json(&namespace, &["status", "sum"]).await?;
    ensure!(status["phase"] == "Running", "{status}");
    has(
        &result_of(&namespace, &["explain", "sum"]).await?,
        &["is in the phase Running", "stage 1/2 map"],
    )?;
    let logs = result_of(&namespace, &["logs", "sum", "--worker", "0", "--tail", "3"]).await?;
    ensure!(
        logs.lines().all(|line| line.starts_with("[worker 0 g1] ")),
        "{logs}"
    );
    ensure!((1..=3).contains(&logs.lines().count()), "{logs}");
    for (arguments, words) in [
        (&["status", "sun"][..], "did you mean sum?"),
        (
            &["logs", "sum", "--worker", "99"],
            "has no pod of this worker (got 99)",
        ),
        (
            &["result", "sum"],
            "has no result yet (its phase is Running)",
        ),
    ] {
        let refused = run(&namespace, arguments).await?;
        ensure!(refused.code == Some(1), "{arguments:?}: {refused:?}");
        has(&refused.notes, &[words])?;
    }

    job.succeeded(TEST_TIMEOUT).await?;
    let followed = answer(followed).await?;
    ensure!(followed.code == Some(0), "{followed:?}");
    has(
        &followed.result,
        &["[coordinator g1] ", "[worker 0 g1] ", "[worker 2 g1] "],
    )?;
    has(&followed.notes, &["sum has ended: Succeeded"])?;
    let watched = answer(watched).await?;
    ensure!(watched.code == Some(0), "{watched:?}");
    has(&watched.result, &[" Running; 1/2 map ", " Succeeded; "])?;
    let history = json(&namespace, &["history", "sum", "--ledger"]).await?;
    let attempts = history["attempts"].as_array().context("attempts")?;
    let committed = attempts.iter().filter(|one| {
        let worker = one["worker"].as_str().unwrap_or_default();
        let is_known = worker.starts_with("sum-workers-g1-") && one["startTime"].is_string();
        is_known && one["outcome"] == "Committed" && one["endTime"].is_string()
    });
    ensure!(committed.count() == 22, "{history}");
    ensure!(history["attemptsOnlyInLedger"] == 0, "{history}");
    ensure!(
        history["generations"][0]["cause"] == "Succeeded",
        "{history}"
    );
    let result = json(&namespace, &["result", "sum", "--files"]).await?;
    let files = result["list"].as_array().map(Vec::len);
    ensure!(files == Some(4), "{result}");
    ensure!(
        (&result["files"], &result["records"]) == (&4.into(), &7.into()),
        "{result}"
    );
    has(
        &result_of(&namespace, &["events", "sum"]).await?,
        &["StatefulSet/sum-workers-g1", "ZephyrJob/sum"],
    )?;
    let gone = namespace.eventually("no pods", TEST_TIMEOUT, || async {
        let answer = run(&namespace, &["logs", "sum"]).await?;
        Ok((answer.code == Some(1)).then_some(answer.notes))
    });
    has(&gone.await?, &["sum has succeeded, and its pods are gone"])?;
    namespace.finish().await
}

#[tokio::test]
async fn logs_and_events_continue_in_the_next_generation() -> Result<()> {
    let namespace = TestNamespace::create("plugin-follow").await?;
    let mut sum = SumJob::new("sum");
    sum.numbers = 18;
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let uri = SumJob::storage_uri(&namespace);
    let ledger = LedgerView::open(&namespace.environment, &uri, &job.uid)?;
    // The job has no pod yet, and `logs -f` waits for it.
    let followed = start(&namespace, &["logs", "sum", "-f", "--coordinator"])?;
    let watched = start(&namespace, &["events", "sum", "--watch"])?;
    job.committed(&ledger, 2, TEST_TIMEOUT).await?;
    let roots = namespace.api::<ConfigMap>();
    roots.delete("sum-g1", &DeleteParams::background()).await?;
    job.succeeded(TEST_TIMEOUT).await?;
    let followed = answer(followed).await?;
    ensure!(followed.code == Some(0), "{followed:?}");
    has(
        &followed.result,
        &["[coordinator g1] ", "[coordinator g2] "],
    )?;
    ensure!(!followed.result.contains("[worker "), "{followed:?}");
    let watched = answer(watched).await?;
    ensure!(watched.code == Some(0), "{watched:?}");
    has(&watched.result, &["sum-workers-g1", "sum-workers-g2"])?;
    let history = json(&namespace, &["history", "sum"]).await?;
    ensure!(
        history["generations"][1]["cause"] == "Succeeded",
        "{history}"
    );
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

#[tokio::test]
async fn explain_names_the_quota_and_the_server_checks_a_manifest() -> Result<()> {
    let namespace = TestNamespace::create("plugin-quota").await?;
    let quota = ResourceQuota {
        metadata: ObjectMeta {
            name: Some("small".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ResourceQuotaSpec {
            hard: Some([("pods".to_owned(), Quantity("1".to_owned()))].into()),
            ..ResourceQuotaSpec::default()
        }),
        ..ResourceQuota::default()
    };
    let quotas = namespace.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await?;
    let sum = SumJob::new("sum");
    let manifest = sum.manifest(&namespace);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("job.yaml");
    std::fs::write(&file, &manifest)?;
    let file = file.to_str().context("UTF-8")?;
    let valid = result_of(&namespace, &["validate", "--server", "-f", file]).await?;
    has(&valid, &["job sum is valid"])?;

    apply(&namespace, &manifest).await?;
    let explained = namespace.eventually("the quota", TEST_TIMEOUT, || async {
        let text = result_of(&namespace, &["explain", "sum"]).await?;
        Ok(text.contains("exceeded quota").then_some(text))
    });
    let words = [
        "used: pods=1, limited: pods=1",
        "what to do: ask the administrator",
    ];
    has(&explained.await?, &words)?;
    std::fs::write(file, manifest.replace("mode: Refuse", "mode: Overwrite"))?;
    let offline = result_of(&namespace, &["validate", "-f", file]).await;
    ensure!(offline.is_err(), "-n without --server is refused");
    let refused = run(&namespace, &["validate", "--server", "-f", file]).await?;
    ensure!(refused.code == Some(1), "{refused:?}");
    has(&refused.notes, &["spec.pipeline"])?;
    namespace.finish().await
}
