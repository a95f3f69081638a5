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
    // The next coordinator keeps the stored plan, even if its listing contains another file.
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
        edited_in: None,
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

/// A block of bgzip without data.
const EMPTY_BLOCK: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];

/// A zstd file with a seek table, of frames of this length each.
fn seekable(frames: u32) -> (Vec<u8>, u64) {
    let plain: Vec<u8> = (0..100_u32)
        .flat_map(|n| (n * n * n).to_le_bytes())
        .collect();
    let frame = zstd::encode_all(&plain[..], 1).unwrap();
    let length = u32::try_from(frame.len()).unwrap();
    let mut file = frame.repeat(frames as usize);
    file.extend(0x184d_2a5e_u32.to_le_bytes());
    file.extend((frames * 8 + 9).to_le_bytes());
    for _ in 0..frames {
        file.extend(length.to_le_bytes());
        file.extend(2_u32.to_le_bytes());
    }
    file.extend(frames.to_le_bytes());
    file.push(0);
    file.extend(0x8f92_eab1_u32.to_le_bytes());
    (file, length.into())
}

#[tokio::test]
async fn compressed_files_with_blocks_or_a_seek_table_are_split_and_others_are_not() {
    let stores = Stores::in_memory();
    let blocks = EMPTY_BLOCK.repeat(10);
    put(&stores, "s3://i/in/0.jsonl.gz", blocks.clone()).await;
    // None of these files can be cut: they have no blocks, no end mark, no seek table, or a wrong
    // seek table.
    let plain = [&[0x1f, 0x8b, 8, 0][..], &blocks[4..]].concat();
    put(&stores, "s3://i/in/1.jsonl.gz", plain).await;
    put(&stores, "s3://i/in/2.jsonl.gz", blocks[..279].to_vec()).await;
    let (zst, frame) = seekable(3);
    put(&stores, "s3://i/in/3.jsonl.zst", zst.clone()).await;
    put(&stores, "s3://i/in/4.jsonl.zst", zst[..100].to_vec()).await;
    let lying = [&zst[1..], &zst[zst.len() - 1..]].concat();
    put(&stores, "s3://i/in/5.jsonl.zst", lying).await;
    put(&stores, "s3://i/in/6.jsonl.gz", EMPTY_BLOCK.to_vec()).await;
    let runnable = runs(&sized(&stores, Some("94"), None)).await;
    let size = zst.len() as u64;
    assert!(frame > 94, "each frame is a part");
    let expected = [
        vec![part(0, 0, 93)],
        vec![part(0, 93, 186)],
        vec![part(0, 186, 280)],
        vec![part(1, 0, 280)],
        vec![part(2, 0, 279)],
        vec![part(3, 0, frame)],
        vec![part(3, frame, 2 * frame)],
        vec![part(3, 2 * frame, size)],
        vec![part(4, 0, 100)],
        vec![part(5, 0, size)],
        vec![part(6, 0, 28)],
    ];
    assert_eq!(parts_of(&runnable), expected);
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_listed_is_not_looked_into() {
    let stores = Stores::in_memory();
    put(&stores, "s3://i/in/0.jsonl.gz", EMPTY_BLOCK.repeat(10)).await;
    let job = sized(&stores, Some("94"), None);
    let files = inputs(&job).await.ok().unwrap();
    put(&stores, "s3://i/in/0.jsonl.gz", EMPTY_BLOCK.repeat(9)).await;
    let spec = &job.frozen.spec.pipeline;
    let error = files_as_shards(&stores, spec, &job.pipeline, &files).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("spec.pipeline.source.files: reading s3://i/in/0.jsonl.gz"),
        "{error}"
    );
}
