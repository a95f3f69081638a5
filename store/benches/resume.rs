//! Measures how long a coordinator needs, and how much memory, to resume a job with many completed
//! tasks. Prints the results; judges nothing.
//!
//! `cargo bench -p zephyr-store --bench resume [-- TASKS [RECORDS_PER_COMMIT]]`: writes a ledger to
//! a local folder, then a separate process takes over.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that measures and prints"
)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use zephyr_engine::coordinator::record::{FilePlace, LogRecord, OutputFile, TaskOutput};
use zephyr_engine::coordinator::{Config, State};
use zephyr_engine::id::{Attempt, Epoch, JobUid, ShardId, SourceId, StageId, TaskAttempt, TaskId};
use zephyr_engine::pipeline::Format;
use zephyr_engine::plan::{Merge, Plan, Stage, StageInput, StageOutput};
use zephyr_store::ledger::{Ledger, WriterToken};
use zephyr_store::storage::{JobStorage, Stores};

const TASKS: u32 = 1_000_000;
/// The number of records that a coordinator at full speed puts into one commit.
const RECORDS_PER_COMMIT: u32 = 1_000;

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let [mode, folder, tasks] = &arguments[..]
        && mode == "take-over"
    {
        runtime.block_on(take_over(Path::new(folder), tasks.parse().unwrap()));
        return;
    }
    let number = |position: usize, default| {
        let given = arguments.get(position);
        given.map_or(default, |argument| argument.parse().unwrap())
    };
    let (tasks, per_commit) = (number(0, TASKS), number(1, RECORDS_PER_COMMIT));
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(write(folder.path(), tasks, per_commit));
    for _ in 0..2 {
        let status = Command::new(std::env::current_exe().unwrap())
            .arg("take-over")
            .arg(folder.path())
            .arg(tasks.to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

fn storage(folder: &Path) -> JobStorage {
    let uri = format!("file://{}", folder.display());
    let job = JobUid::parse("0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7").unwrap();
    JobStorage::new(Stores::in_memory(), &uri, job).unwrap()
}

fn token() -> WriterToken {
    WriterToken::from_random(rand::random())
}

fn done(shard: u32) -> LogRecord {
    let attempt = Attempt {
        epoch: Epoch(1),
        number: 1,
    };
    let task = TaskId {
        stage: StageId(0),
        shard: ShardId(shard),
    };
    LogRecord::Done {
        task: TaskAttempt { task, attempt },
        output: TaskOutput {
            file: OutputFile {
                rows: 12_345,
                bytes: 6_789_012,
                crc32c: shard,
                place: FilePlace::Shuffle,
            },
            records_in: 23_456,
            bytes_in: 34_567_890,
            more: None,
        },
    }
}

async fn write(folder: &Path, tasks: u32, per_commit: u32) {
    let began = Instant::now();
    let storage = storage(folder);
    let mut ledger = Ledger::take_over(&storage, token()).await.unwrap().ledger;
    let mut next = 0;
    while next < tasks {
        let end = tasks.min(next + per_commit);
        let records: Vec<_> = (next..end).map(done).collect();
        ledger.append(&records).await.unwrap();
        next = end;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "wrote {tasks} commits, {per_commit} an object, in {seconds:.1} s ({:.0}/s)",
        f64::from(tasks) / seconds
    );
}

async fn take_over(folder: &Path, tasks: u32) {
    let began = Instant::now();
    let taken = Ledger::take_over(&storage(folder), token()).await.unwrap();
    let read = began.elapsed();
    let records = taken.records.len();
    let stage = Stage {
        id: StageId(0),
        name: "map".to_owned(),
        shards: tasks,
        inputs: vec![StageInput::Source(SourceId::MAIN)],
        steps: Vec::new(),
        output: StageOutput::Sink {
            format: Format::Jsonl,
        },
    };
    let last = Stage {
        id: StageId(1),
        name: "reduce".to_owned(),
        shards: 1,
        inputs: vec![StageInput::Shuffle {
            from: StageId(0),
            path: "spec.pipeline.steps[0].count".to_owned(),
            merge: Merge::Count,
        }],
        ..stage.clone()
    };
    let plan = Plan {
        values: zephyr_engine::pipeline::Values::new(),
        tables: zephyr_engine::pipeline::Tables::new(),
        on_errors: zephyr_engine::pipeline::OnErrors::new(),
        stages: vec![stage, last],
        source_parts: None,
    };
    let resumed = State::new(Config::new(3, 0), &plan, taken.epoch, taken.records).unwrap();
    let all = began.elapsed();
    println!(
        "epoch {}: {records} records read and sealed in {:.2} s, state after {:.2} s ({} done); peak memory {} MiB",
        taken.epoch,
        read.as_secs_f64(),
        all.as_secs_f64(),
        resumed.report().tasks_done,
        peak_memory_mib()
    );
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}
