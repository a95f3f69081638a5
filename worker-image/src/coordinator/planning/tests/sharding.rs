//! Tests split and combined files: what a new plan contains, and that a stored plan keeps its
//! numbers.

use zephyr_engine::plan::{FilePart, PlannedSource};

use super::*;

const SINK: &str = "s3://o/out/{shard}.jsonl";

fn group() -> serde_json::Value {
    json!([{"groupBy": {"key": ".", "aggregate": {"n": {"count": {}}}}}])
}

fn part(file: u32, from: u64, to: u64) -> FilePart {
    FilePart { file, from, to }
}

async fn with_files(sizes: &[usize]) -> Stores {
    let stores = Stores::in_memory();
    for (number, size) in sizes.iter().enumerate() {
        let uri = format!("s3://i/in/{number}.jsonl");
        put(&stores, &uri, "1".repeat(*size)).await;
    }
    stores
}

/// Returns a job with these stores, whose source has these sizes for splitting and combining.
fn sized(stores: &Stores, split: Option<&str>, combine: Option<&str>) -> Arc<RunJob> {
    let job = reading(stores, &["s3://i/in/*"], SINK, &group());
    let mut frozen = job.frozen.clone();
    let files = frozen.spec.pipeline.source.files.as_mut().unwrap();
    files.split_bytes = split.map(zephyr_crds::quantity::QuantityText::new);
    files.combine_bytes = combine.map(zephyr_crds::quantity::QuantityText::new);
    Arc::new(RunJob {
        frozen,
        ..(*job).clone()
    })
}

fn parts_of(runnable: &Runnable) -> &[Vec<FilePart>] {
    match &runnable.source {
        SourceShards::Files { parts, .. } => parts,
        SourceShards::Items { .. } => panic!("it reads files"),
    }
}

#[tokio::test]
async fn a_new_plan_splits_and_combines_as_the_manifest_says_and_keeps_that() {
    let stores = with_files(&[3, 4, 20]).await;
    let first = runs(&sized(&stores, Some("10"), Some("7"))).await;
    let expected = [
        vec![part(0, 0, 3), part(1, 0, 4)],
        vec![part(2, 0, 10)],
        vec![part(2, 10, 20)],
    ];
    assert_eq!(parts_of(&first), expected);
    assert_eq!(first.plan.stages[0].shards, 3);
    assert_eq!(first.plan.stages[1].shards, 1, "by bytes");
    // Another listing and the next coordinator change nothing.
    put(&stores, "s3://i/in/new.jsonl", "1").await;
    let second = runs(&sized(&stores, Some("10"), Some("7"))).await;
    assert_eq!(parts_of(&second), expected);
    assert_eq!(second.digest, first.digest);
}

#[tokio::test]
async fn sizes_that_make_too_many_shards_end_the_job_with_the_field() {
    let stores = with_files(&[100_001]).await;
    let (_, reason, message) = fails(&sized(&stores, Some("1"), None)).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert!(
        message.starts_with("spec.pipeline.source.files.splitBytes: makes too many shards"),
        "{message}"
    );
}

#[tokio::test]
async fn a_stored_plan_keeps_cuts_and_shuffle_shards_that_no_rule_would_give_now() {
    let stores = with_files(&[20, 5]).await;
    let job = sized(&stores, None, None);
    let parts = vec![
        vec![part(0, 0, 1)],
        vec![part(0, 1, 20)],
        vec![part(1, 0, 5)],
    ];
    let inputs = inputs(&job).await.ok().unwrap();
    let source = PlannedSource::of_parts(2, &parts, Some(7));
    let kept_plan = PlanFile {
        digest: plan(&job.pipeline, source).digest(),
        pipeline: pipeline_json(&job).ok().unwrap(),
        inputs,
        source_shards: 3,
        parts: parts.clone(),
        shuffle_shards: Some(7),
        gather: None,
        tables: TableFiles::new(),
        graph: Vec::new(),
    };
    keep_plan(&job.storage, kept_plan).await.unwrap();
    let runnable = runs(&job).await;
    assert_eq!(parts_of(&runnable), parts);
    let shards: Vec<u32> = runnable
        .plan
        .stages
        .iter()
        .map(|stage| stage.shards)
        .collect();
    assert_eq!(shards, [3, 7]);
    assert_eq!(runnable.planned.shuffle_shards, Some(7));
}

#[tokio::test]
async fn a_plan_without_a_number_has_as_many_shuffle_shards_as_files_as_in_0_1_0() {
    let stores = with_files(&[20, 5]).await;
    let job = sized(&stores, None, None);
    let inputs = inputs(&job).await.ok().unwrap();
    let kept_plan = PlanFile {
        digest: plan(&job.pipeline, 2).digest(),
        pipeline: pipeline_json(&job).ok().unwrap(),
        inputs,
        source_shards: 2,
        ..PlanFile::default()
    };
    keep_plan(&job.storage, kept_plan).await.unwrap();
    let runnable = runs(&job).await;
    let shards: Vec<u32> = runnable
        .plan
        .stages
        .iter()
        .map(|stage| stage.shards)
        .collect();
    assert_eq!(shards, [2, 2]);
}

#[tokio::test]
async fn cuts_that_do_not_fit_the_digest_are_refused() {
    let stores = with_files(&[20]).await;
    let job = sized(&stores, None, None);
    let inputs = inputs(&job).await.ok().unwrap();
    let cuts = |at| vec![vec![part(0, 0, at)], vec![part(0, at, 20)]];
    let planned = PlannedSource::of_parts(1, &cuts(9), None);
    let kept_plan = PlanFile {
        digest: plan(&job.pipeline, planned).digest(),
        pipeline: pipeline_json(&job).ok().unwrap(),
        inputs,
        source_shards: 2,
        parts: cuts(10),
        ..PlanFile::default()
    };
    keep_plan(&job.storage, kept_plan).await.unwrap();
    let (_, reason, message) = fails(&job).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert!(
        message.starts_with("plan.json was made by another release"),
        "{message}"
    );
}

#[tokio::test]
async fn a_graph_that_is_not_that_of_the_pipeline_is_refused() {
    let stores = with_files(&[20]).await;
    let job = sized(&stores, None, None);
    let kept_plan = PlanFile {
        digest: plan(&job.pipeline, 1).digest(),
        pipeline: pipeline_json(&job).ok().unwrap(),
        inputs: inputs(&job).await.ok().unwrap(),
        source_shards: 1,
        graph: vec![vec![], vec![]],
        ..PlanFile::default()
    };
    keep_plan(&job.storage, kept_plan).await.unwrap();
    let (_, reason, message) = fails(&job).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert!(
        message.starts_with("plan.json was made by another release"),
        "{message}"
    );
}
