//! Tests that this release replays the ledgers that release 0.1.0 wrote: the plan must be the same,
//! and the state must contain what was done. Release 0.1.0 wrote the files, so they must never be
//! generated again.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zephyr_crds::frozen::FrozenJob;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::coordinator::{Config, Report, State};
use zephyr_engine::invariants;
use zephyr_engine::plan::{Plan, plan};
use zephyr_store::ledger::{Ledger, WriterToken, load_plan};

use crate::job::RunJob;

/// A job of that release with a copy of its folder in storage.
struct Stored {
    _copy: TempDir,
    job: RunJob,
}

impl Stored {
    fn read(name: &str) -> Self {
        let ledgers = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/releases/0.1.0/ledgers"
        );
        let folder = Path::new(ledgers).join(name);
        let text = std::fs::read_to_string(folder.join("job.json")).unwrap();
        let mut frozen = FrozenJob::from_json(&text).unwrap();
        let copy = tempfile::tempdir().unwrap();
        let uid = Path::new(&frozen.uid);
        copy_folder(&folder.join(uid), &copy.path().join(uid));
        frozen.spec.storage.uri = format!("file://{}", copy.path().display());
        let job = RunJob::new(frozen).unwrap();
        Self { _copy: copy, job }
    }

    /// Returns the plan and the state with which the next coordinator of the job begins.
    async fn replayed(&self) -> (Plan, State) {
        let storage = &self.job.storage;
        let kept = load_plan(storage, true).await.unwrap().unwrap();
        let plan = plan(&self.job.pipeline, kept.source());
        assert_eq!(plan.digest(), kept.digest, "the plan it began with");
        let pipeline = serde_json::to_value(&self.job.frozen.spec.pipeline).unwrap();
        assert_eq!(pipeline, kept.pipeline);
        let taken = Ledger::take_over(storage, WriterToken::from_random(1))
            .await
            .unwrap();
        let retries = &self.job.frozen.spec.retries;
        let config = Config::new(retries.task_failures, retries.task_disruptions);
        let state = State::new(config, &plan, taken.epoch, taken.records).unwrap();
        invariants::check(&state).unwrap();
        (plan, state)
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Returns three groups of numbers. The first has the tasks that are done, and all tasks. The
/// second has the stage that is shown, and how many of its tasks are done. The third has the
/// records and bytes that were read, and those that were written.
fn numbers(report: &Report) -> ((u64, u64), (u32, u32), [u64; 4]) {
    let (stage, records) = (&report.stage, &report.records);
    (
        (report.tasks_done, report.tasks_total),
        (stage.index, stage.done),
        [
            records.records_in,
            records.bytes_in,
            records.records_out,
            records.bytes_out,
        ],
    )
}

#[tokio::test]
async fn a_job_that_release_0_1_0_finished_is_finished_with_the_same_result() {
    for (name, tasks, records) in [
        ("sales", 7, [120, 7679, 11, 327]),
        ("returns", 7, [120, 7679, 11, 327]),
        ("items", 4, [5, 0, 10, 132]),
        ("local-resumed", 8, [120, 7679, 11, 200]),
    ] {
        let (plan, state) = Stored::read(name).replayed().await;
        let report = state.report();
        let stages = u32::try_from(plan.stages.len()).unwrap();
        let last = plan.stages.last().unwrap().shards;
        let expected = ((tasks, tasks), (stages, last), records);
        assert_eq!(numbers(&report), expected, "{name}");
        let Some(JobResult::Succeeded { rows, bytes, .. }) = state.result() else {
            panic!("{name}: {:?}", state.result());
        };
        assert_eq!([*rows, *bytes], records[2..], "{name}");
    }
}

#[tokio::test]
async fn a_job_that_failed_under_release_0_1_0_failed_for_the_same_reason() {
    let (_, state) = Stored::read("broken").replayed().await;
    let Some(JobResult::Failed { reason, message }) = state.result() else {
        panic!("{:?}", state.result());
    };
    assert_eq!(reason.to_string(), "TaskFailed");
    assert!(message.contains("no such user: u3"), "{message}");
}

#[tokio::test]
async fn a_job_that_release_0_1_0_left_half_done_continues_from_there() {
    let (_, state) = Stored::read("local-interrupted").replayed().await;
    assert_eq!(state.result(), None);
    let expected = ((2, 8), (1, 2), [80, 5120, 0, 0]);
    assert_eq!(numbers(&state.report()), expected);
}
