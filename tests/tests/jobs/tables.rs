//! Tests tables on the cluster: the example that looks up countries, with its own data, and a table
//! that contains a key twice.

use anyhow::{Context, Result, ensure};
use zephyr_crds::conditions::ConditionType;
use zephyr_tests::bucket::{Bucket, DATA, SCRATCH};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::{apply, condition, is_true};

const EXAMPLE: &str = include_str!("../../../examples/orders-by-region.yaml");
const COUNTRIES: &str = include_str!("../../../examples/data/countries/countries.jsonl");
const ORDERS: [(&str, &str); 2] = [
    (
        "a.jsonl",
        include_str!("../../../examples/data/orders/2026-11-01.jsonl"),
    ),
    (
        "b.jsonl",
        include_str!("../../../examples/data/orders/2026-11-02.jsonl"),
    ),
];
const EXPECTED: &str = include_str!("../../../examples/expected/orders-by-region/regions.jsonl");

/// Additional lines of the manifest about the example's workers.
const WORKERS: &str = r#"
    slots: 1
    preemptible: { provider: none }
    resources: { requests: { cpu: 50m, memory: 128Mi }, limits: { cpu: "1", memory: 256Mi } }
"#;

/// Writes the example's input into a folder of the test. Returns the example with paths below that
/// folder. `countries` is the content of the table's file.
async fn manifest(namespace: &TestNamespace, bucket: &Bucket, countries: &str) -> Result<String> {
    let folder = format!("tables/{}", namespace.name);
    for (name, text) in ORDERS {
        bucket.put(&format!("{folder}/orders/{name}"), text).await?;
    }
    let table = format!("{folder}/countries/countries.jsonl");
    bucket.put(&table, countries.to_owned()).await?;
    let text = EXAMPLE
        .replace("s3://zephyr-data", &format!("s3://{DATA}/{folder}"))
        .replace(
            "s3://zephyr-scratch",
            &format!("s3://{SCRATCH}/{}", namespace.name),
        );
    // The workers are small enough to run on any node at the same time as the other tests.
    Ok(text + WORKERS)
}

#[tokio::test]
async fn orders_are_counted_by_the_region_that_a_table_gives_for_them() -> Result<()> {
    let namespace = TestNamespace::create("tables").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let job = apply(&namespace, &manifest(&namespace, &bucket, COUNTRIES).await?).await?;
    job.succeeded(TEST_TIMEOUT).await?;
    let folder = format!("tables/{}/orders-by-region", namespace.name);
    let output = bucket.get(&format!("{folder}/regions.jsonl")).await?;
    ensure!(output == EXPECTED, "{output:?}");
    namespace.finish().await
}

#[tokio::test]
async fn a_table_with_a_key_twice_ends_the_job_with_both_lines() -> Result<()> {
    let namespace = TestNamespace::create("table-twice").await?;
    let bucket = Bucket::open(&namespace.environment, DATA)?;
    let twice = format!("{COUNTRIES}{{\"code\":\"SE\"}}\n");
    let job = apply(&namespace, &manifest(&namespace, &bucket, &twice).await?).await?;
    let done = job.finished(TEST_TIMEOUT).await?;
    ensure!(is_true(&done, ConditionType::Failed), "it fails");
    let failed = condition(&done, ConditionType::Failed).context("a condition")?;
    for words in [
        "spec.pipeline.tables.countries.key",
        "countries.jsonl: line 4",
        "countries.jsonl: line 3",
        "\"SE\"",
    ] {
        ensure!(
            failed.message.contains(words),
            "{words}: {}",
            failed.message
        );
    }
    namespace.finish().await
}
