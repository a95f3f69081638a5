//! Whole runs with real processes on full disks: for spilling, for the output, for the ledger. Each
//! needs a separate small disk, which only root can mount; without root these tests do nothing.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

#[expect(dead_code, reason = "what only other runs need")]
mod processes;

use std::path::{Path, PathBuf};
use std::process::Command;

use processes::Processes;
use serde_json::{Value, json};
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_proto::reason::EndReason;
use zephyr_proto::run::Snapshot;

/// A file system in memory of the given size in KiB. It is unmounted when this value is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, kib: u32) -> Option<Self> {
        let options = format!("size={kib}k,mode=1777");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        let is_there = mount.status().is_ok_and(|status| status.success());
        if !is_there {
            eprintln!("no disk can be mounted here: nothing is shown");
        }
        is_there.then(|| Self(at.to_owned()))
    }

    fn grow(&self, mib: u32) {
        let options = format!("remount,size={mib}m");
        let mut mount = Command::new("mount");
        let grown = mount.args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The unmount is lazy, because processes that are just being ended may still have files
        // open.
        let gone = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(gone.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Lines of the input that is grouped.
const LINES: usize = 4_000;

/// In a worker of 128 MiB the task has buffers of 4 MiB. Its records need more memory, so it
/// spills.
fn spilling() -> Value {
    json!({
        "source": {"files": {"paths": ["$IN/*.txt"]}},
        "steps": [
            {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 1}},
            {"map": "(.key | .[0:5]) + (.count | tostring)"},
        ],
        "sink": {"files": {"path": "$OUT/part-{shard}.txt", "format": "text"}},
    })
}

/// Lines of 10 KB that compression makes only slightly smaller.
fn write_lines(processes: &Processes) {
    let mut chance = 1_u64;
    let mut letter = || {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'0' + u8::try_from(chance >> 58).unwrap())
    };
    let mut text = String::new();
    for line in 0..LINES {
        let number = format!("{line:04} ");
        text.push_str(&number);
        text.extend(
            (0..10_000)
                .map(|_| letter())
                .filter(|letter| *letter != '\\'),
        );
        text.push('\n');
    }
    processes.write_input("lines.txt", &text);
}

/// One task writes some 400 KiB to its final file.
fn writing() -> Value {
    json!({
        "source": {"items": {"values": [1]}},
        "steps": [{"flatMap": "range(60000)"}],
        "sink": {"files": {"path": "$OUT/part-{shard}.jsonl"}},
    })
}

fn start(processes: &mut Processes) {
    processes.memory_limit_bytes = 128 << 20;
    processes.start_coordinator();
    processes.start_worker(1);
}

async fn told(processes: &Processes, words: &str) {
    let is_told = |snapshot: &Snapshot| snapshot.message.contains(words);
    processes.wait_for(words, is_told).await;
}

async fn tries(processes: &Processes) -> usize {
    let records = processes.ledger().await;
    let failed = |record: &&LogRecord| matches!(record, LogRecord::Failed { .. });
    records.iter().filter(failed).count()
}

/// The job ends with a sentence that names the disk, its size and what the task wrote, after the
/// free tries and one more.
async fn ends_without_room(processes: &Processes, disk: &Path) {
    let result = processes.result().await;
    assert!(!result.succeeded);
    assert_eq!(result.reason, EndReason::TaskFailed.as_str());
    let message = &result.message;
    let disk = format!("no space on {} (64.0 KiB in all, ", disk.display());
    for words in [
        "stage 1/",
        "shard 0: failed once",
        &disk,
        " free); the task had at least ",
        "given back 6 times in a row without progress because of a full disk",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(tries(processes).await, 1);
}

#[tokio::test]
async fn a_task_that_can_never_be_spilled_ends_the_job_with_the_disk_and_its_size() {
    let mut processes = Processes::of(&spilling(), &json!({"taskFailures": 1}));
    let folder = processes.path("tmp");
    let Some(_disk) = SmallDisk::mount(&folder, 64) else {
        return;
    };
    write_lines(&processes);
    start(&mut processes);
    ends_without_room(&processes, &folder).await;
}

#[tokio::test]
async fn an_output_that_can_never_be_written_ends_the_job_with_the_disk_and_its_size() {
    let mut processes = Processes::of(&writing(), &json!({"taskFailures": 1}));
    let folder = processes.path("out");
    let Some(_disk) = SmallDisk::mount(&folder, 64) else {
        return;
    };
    start(&mut processes);
    ends_without_room(&processes, &folder).await;
}

#[tokio::test]
async fn a_disk_that_has_room_again_in_time_costs_nothing() {
    let mut processes = Processes::of(&spilling(), &json!({"taskFailures": 1}));
    let folder = processes.path("tmp");
    let Some(disk) = SmallDisk::mount(&folder, 64) else {
        return;
    };
    write_lines(&processes);
    start(&mut processes);
    told(&processes, &format!("no space on {}", folder.display())).await;
    disk.grow(64);
    let result = processes.result().await;
    assert!(result.succeeded, "{result:?}");
    let each_once = (0..LINES).map(|line| format!("{line:04} 1"));
    assert_eq!(processes.output(), each_once.collect::<Vec<_>>());
    assert_eq!(tries(&processes).await, 0);
}

#[tokio::test]
async fn a_run_without_room_for_its_ledger_ends_and_names_the_full_disk() {
    let mut processes = Processes::of(&writing(), &json!({}));
    let folder = processes.path("storage");
    let Some(_disk) = SmallDisk::mount(&folder, 8) else {
        return;
    };
    start(&mut processes);
    assert!(processes.coordinator_fails().await);
    let disk = format!("no space on {} (8.0 KiB in all, ", folder.display());
    assert!(processes.logs().contains(&disk), "{}", processes.logs());
}
