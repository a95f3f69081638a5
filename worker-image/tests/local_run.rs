//! Whole runs with real processes over loopback: the output, and the effect of processes that die
//! in the middle.

#[expect(dead_code, reason = "what only jobs in an object store need")]
mod processes;

mod old_output;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use old_output::{output_names, put_old_output};
use processes::{Processes, children_of, end, is_alive, signal};
use serde_json::{Value, json};
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{FailureClass, JobResult, LogRecord};
use zephyr_engine::id::{Epoch, TaskId};
use zephyr_proto::reason::EndReason;
use zephyr_proto::run::{Phase, Snapshot};
use zephyr_proto::worker::{CoordinatorMessage, WorkerMessage};
use zephyr_store::attempts::AttemptLine;
use zephyr_worker::local::{LocalOptions, run_local};

const FILES: u32 = 6;
const LINES: u32 = 400;

fn word_count() -> Value {
    json!({
        "source": {"files": {"paths": ["$IN/*.txt"]}},
        "steps": [
            {"flatMap": "ascii_downcase | split(\" \")[] | select(. != \"\")"},
            {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 3}},
        ],
        "sink": {"files": {"path": "$OUT/part-{shard:03}-of-{total:03}.jsonl"}},
    })
}

/// Text whose words depend only on their position.
fn text(file: u32) -> String {
    let word = |line: u32, place: u32| {
        format!(
            "W{}",
            (file * 7919 + line * 104_729 + place * place * 31) % 257
        )
    };
    let line = |line| {
        (0..12)
            .map(|place| word(line, place))
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..LINES).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn write_texts(processes: &Processes) {
    for file in 0..FILES {
        processes.write_input(&format!("{file:02}.txt"), &text(file));
    }
}

/// The word counts of the same texts, computed without Zephyr.
fn counted_here() -> Vec<String> {
    let mut counts = BTreeMap::new();
    for file in 0..FILES {
        for word in text(file).to_lowercase().split_whitespace() {
            *counts.entry(word.to_owned()).or_insert(0) += 1;
        }
    }
    let mut lines: Vec<_> = counts
        .iter()
        .map(|(word, count)| format!("{{\"key\":\"{word}\",\"count\":{count}}}"))
        .collect();
    lines.sort();
    lines
}

/// Items that each take a while, so that a process can die in the middle.
fn slow_items(items: u32) -> Value {
    json!({
        "source": {"items": {"values": (0..items).collect::<Vec<_>>()}},
        // Each takes about 0.4 s of a CPU, in few steps of jq.
        "steps": [
            {"map": ". as $n | (\"x\" * 100000) as $p | reduce range(2500) as $i (0; . + if ($p | test(\"[a-w]\")) then 0 else 1 end) | $n"},
            {"count": {}},
        ],
        "sink": {"files": {"path": "$OUT/count.jsonl"}},
    })
}

async fn in_the_middle(processes: &Processes, done: u64) {
    processes
        .wait_for("some tasks to be done", |snapshot| {
            snapshot.tasks_done >= done
        })
        .await;
}

async fn success(processes: &Processes) {
    let result = processes.result().await;
    assert!(result.succeeded, "{result:?}\n{}", processes.logs());
}

fn failures(records: &[LogRecord]) -> Vec<(FailureClass, String)> {
    let failure = |record: &LogRecord| match record {
        LogRecord::Failed { class, error, .. } => Some((*class, error.clone())),
        LogRecord::Done { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::StageFinished { .. }
        | LogRecord::Finalized { .. }
        | LogRecord::Result(_)
        | LogRecord::Restarted(_) => None,
    };
    records.iter().filter_map(failure).collect()
}

/// Tasks with the epoch of the attempt that won.
fn winners(records: &[LogRecord]) -> BTreeMap<TaskId, Epoch> {
    let mut winners = BTreeMap::new();
    for record in records {
        if let LogRecord::Done { task, .. } = record {
            assert!(
                winners.insert(task.task, task.attempt.epoch).is_none(),
                "{task} is done twice"
            );
        }
    }
    winners
}

#[tokio::test]
async fn a_word_count_equals_an_independent_one() {
    let mut processes = Processes::of(&word_count(), &json!({}));
    write_texts(&processes);
    processes.start_coordinator();
    processes.start_worker(2);
    processes.start_worker(1);
    success(&processes).await;
    assert_eq!(processes.output(), counted_here());
    assert!(processes.path("out/_SUCCESS.json").exists());
    assert_eq!(winners(&processes.ledger().await).len(), 9);
}

#[tokio::test]
async fn existing_output_is_refused_before_any_worker_starts_and_stays_unchanged() {
    let mut processes = Processes::of(&word_count(), &json!({}));
    write_texts(&processes);
    put_old_output(&processes);
    let before = output_names(&processes);
    processes.start_coordinator();
    let result = processes.result().await;
    assert_eq!(
        (result.succeeded, result.reason.as_str()),
        (false, EndReason::PlanFailed.as_str())
    );
    assert!(
        result.message.contains("of job test/old, uid old"),
        "{result:?}"
    );
    assert_eq!(output_names(&processes), before);
}

#[tokio::test]
async fn old_output_is_replaced_even_by_a_coordinator_that_takes_over_in_the_middle() {
    let mut pipeline = slow_items(16);
    pipeline["sink"] = json!({"files": {
        "path": "$OUT/part-{shard:03}-of-{total:03}.jsonl", "mode": "Overwrite",
    }});
    let mut processes = Processes::of(&pipeline, &json!({}));
    put_old_output(&processes);
    processes.start_coordinator();
    processes.start_worker(2);
    in_the_middle(&processes, 4).await;
    processes.kill_coordinator();
    assert!(!processes.path("out/_SUCCESS.json").exists());
    assert!(processes.path("out/_STARTED.json").exists());
    processes.start_coordinator();
    success(&processes).await;
    let expected = ["_SUCCESS.json", "notes", "part-000-of-001.jsonl"];
    assert_eq!(output_names(&processes), expected);
    assert_eq!(processes.output(), ["16"]);
}

#[tokio::test]
async fn a_job_that_fails_records_this_in_its_folder() {
    let failing = json!({
        "source": {"items": {"values": [1]}},
        "steps": [{"map": "error(\"no\")"}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(&failing, &json!({"taskFailures": 1}));
    processes.start_coordinator();
    processes.start_worker(1);
    assert!(!processes.result().await.succeeded);
    let said = std::fs::read_to_string(processes.path("out/_STARTED.json")).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["state"], &said["name"]),
        (&json!("failed"), &json!("test"))
    );
}

#[tokio::test]
async fn a_killed_task_process_costs_one_failure_and_not_the_output() {
    let mut processes = Processes::of(&slow_items(12), &json!({}));
    processes.start_coordinator();
    let worker = processes.start_worker(2);
    in_the_middle(&processes, 2).await;
    let child = processes
        .eventually("a child", || children_of(worker).first().copied())
        .await;
    signal("KILL", child);
    success(&processes).await;
    assert_eq!(processes.output(), ["12"]);
    let failures = failures(&processes.ledger().await);
    assert!(failures.len() <= 1, "{failures:?}");
    for (class, error) in failures {
        assert_eq!(class, FailureClass::Application);
        assert!(error.contains("killed by signal 9 (SIGKILL)"), "{error}");
    }
}

#[tokio::test]
async fn a_killed_supervisor_ends_its_children_uses_no_budget_and_is_in_the_history() {
    // A second attempt would supersede the lost one before its worker counts as lost.
    let retries = json!({"taskFailures": 1, "speculation": "Never"});
    let mut processes = Processes::of(&slow_items(16), &retries);
    processes.start_coordinator();
    let doomed = processes.start_worker(2);
    in_the_middle(&processes, 2).await;
    let children = processes
        .eventually("children", || {
            Some(children_of(doomed)).filter(|all| !all.is_empty())
        })
        .await;
    processes.kill_worker(doomed);
    processes
        .eventually("the children's end", || {
            children.iter().all(|child| !is_alive(*child)).then_some(())
        })
        .await;
    processes.start_worker(2);
    success(&processes).await;
    assert_eq!(processes.output(), ["16"]);
    let attempts = processes.attempts().await;
    let lost = attempts.iter().filter(|one| one.outcome == "WorkerLost");
    let lost: Vec<&AttemptLine> = lost.collect();
    assert!((1..=2).contains(&lost.len()), "{attempts:?}");
    for one in lost {
        assert_eq!(one.pod_uid, "pod-0");
        assert_eq!(one.error, "the worker was silent for too long");
        assert!(one.started.as_ref().unwrap() < &one.ended, "{one:?}");
        let again = |other: &&AttemptLine| (other.stage, other.shard) == (one.stage, one.shard);
        let newest = attempts.iter().rfind(again).unwrap();
        assert_eq!((&*newest.outcome, &*newest.pod_uid), ("Committed", "pod-1"));
    }
    let committed = attempts.iter().filter(|one| one.outcome == "Committed");
    let records = processes.ledger().await;
    let done = |record: &&LogRecord| matches!(record, LogRecord::Done { .. });
    assert_eq!(committed.count(), records.iter().filter(done).count());
}

#[tokio::test]
async fn a_worker_that_is_asked_to_terminate_hands_back_and_ends_at_once() {
    let mut processes = Processes::of(&slow_items(16), &json!({"taskFailures": 1}));
    processes.start_coordinator();
    let first = processes.start_worker(2);
    in_the_middle(&processes, 2).await;
    let took = processes.terminate_worker(first);
    assert!(took < Duration::from_secs(3), "{took:?}");
    processes.start_worker(2);
    success(&processes).await;
    assert_eq!(processes.output(), ["16"]);
    assert_eq!(failures(&processes.ledger().await), []);
    let attempts = processes.attempts().await;
    let back = attempts.iter().filter(|one| one.outcome == "HandedBack");
    let pods: Vec<&str> = back.map(|one| one.pod_uid.as_str()).collect();
    assert!(
        ["pod-0"].repeat(2).starts_with(&pods) && !pods.is_empty(),
        "{attempts:?}"
    );
}

/// The kubelet evicts a pod that exceeds its own limit. If this counted as a disruption, the task
/// would be retried without end.
#[tokio::test]
async fn fault_8282_a_worker_terminated_above_its_disk_limit_charges_its_tasks() {
    let mut processes = Processes::of(&slow_items(16), &json!({"taskFailures": 3}));
    processes.disk_limit_bytes = 32 << 20;
    processes.start_coordinator();
    let first = processes.start_worker(2);
    in_the_middle(&processes, 2).await;
    let filler = processes.path("tmp").join("filler");
    std::fs::write(&filler, vec![1; 33 << 20]).unwrap();
    let took = processes.terminate_worker(first);
    assert!(took < Duration::from_secs(3), "{took:?}");
    std::fs::remove_file(&filler).unwrap();
    processes.start_worker(2);
    success(&processes).await;
    assert_eq!(processes.output(), ["16"]);
    let failures = failures(&processes.ledger().await);
    assert!((1..=2).contains(&failures.len()), "{failures:?}");
    for (class, error) in failures {
        assert_eq!(class, FailureClass::Application);
        assert!(
            error.contains(
                "limit is 32 MiB, set by spec.workers.resources.limits.ephemeral-storage"
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn fault_2927_5907_a_killed_coordinator_resumes_and_runs_no_completed_task_again() {
    let mut processes = Processes::of(&slow_items(16), &json!({"taskFailures": 1}));
    processes.start_coordinator();
    processes.start_worker(2);
    in_the_middle(&processes, 4).await;
    processes.kill_coordinator();
    processes.start_coordinator();
    success(&processes).await;
    assert_eq!(processes.output(), ["16"]);
    let records = processes.ledger().await;
    assert_eq!(failures(&records), []);
    let winners = winners(&records);
    assert_eq!(winners.len(), 17);
    let before = winners.values().filter(|epoch| **epoch == Epoch(1)).count();
    assert!(
        before >= 4,
        "{before} tasks are done by attempts of the first epoch"
    );
    for (task, epoch) in winners {
        let folder = processes.path(&format!(
            "storage/0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7/data/{}/{}",
            task.stage, task.shard
        ));
        let Ok(attempts) = std::fs::read_dir(folder) else {
            continue;
        };
        let attempts: BTreeSet<_> = attempts
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            epoch != Epoch(1) || attempts.iter().all(|name| name.starts_with("e1a")),
            "{task}: {attempts:?}"
        );
    }
}

#[tokio::test]
async fn fault_6719_a_task_that_stands_still_is_run_a_second_time_elsewhere() {
    let mut processes = Processes::of(&slow_items(60), &json!({"taskFailures": 1}));
    processes.start_coordinator();
    let stuck = processes.start_worker(1);
    processes.start_worker(1);
    in_the_middle(&processes, 2).await;
    let child = processes
        .eventually("a child", || children_of(stuck).first().copied())
        .await;
    signal("STOP", child);
    success(&processes).await;
    assert_eq!(processes.output(), ["60"]);
    let records = processes.ledger().await;
    assert_eq!(winners(&records).len(), 61);
    assert_eq!(failures(&records), []);
    processes
        .eventually("the end of the child that stood still", || {
            (!is_alive(child)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_damaged_ledger_ends_the_job_with_the_objects_name_and_no_output() {
    let mut processes = Processes::of(&slow_items(16), &json!({}));
    processes.start_coordinator();
    processes.start_worker(2);
    in_the_middle(&processes, 4).await;
    processes.kill_coordinator();
    let object = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7/epochs/1/log/0";
    let path = processes.path(&format!("storage/{object}"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    processes.start_coordinator();
    let result = processes.result().await;
    assert_eq!(
        (result.succeeded, result.reason.as_str()),
        (false, EndReason::LedgerDamaged.as_str())
    );
    let told = format!("{object}: not a part of this job's ledger: its checksum is wrong");
    assert!(result.message.contains(&told), "{result:?}");
    assert_eq!(processes.output(), Vec::<String>::new());
}

#[tokio::test]
async fn fault_2628_intermediate_data_is_removed_as_retain_says_and_the_ledger_stays() {
    let failing = json!({
        "source": {"items": {"values": [1, 2], "shards": 2}},
        "steps": [
            {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 1}},
            {"map": "error(\"no\")"},
        ],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    for (pipeline, succeeds, retain, stays) in [
        (&slow_items(2), true, Retain::OnFailure, false),
        (&slow_items(2), true, Retain::Always, true),
        (&failing, false, Retain::OnFailure, true),
        (&failing, false, Retain::Never, false),
    ] {
        let mut processes = Processes::of(pipeline, &json!({"taskFailures": 1}));
        processes.retain(retain);
        processes.start_coordinator();
        processes.start_worker(1);
        let result = processes.result().await;
        assert_eq!(result.succeeded, succeeds, "{result:?}");
        let data = processes.path("storage/0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7/data");
        assert_eq!(
            holds_files(&data),
            stays,
            "{retain:?}, succeeded: {succeeds}"
        );
        // A coordinator that is started once more finds the result in the ledger, which does not
        // contain what the failed attempt logged.
        processes.kill_coordinator();
        processes.start_coordinator();
        let again = zephyr_proto::run::Result {
            failed_task: None,
            removed_output: false,
            ..result
        };
        assert_eq!(processes.result().await, again);
    }
}

#[tokio::test]
async fn the_end_of_a_job_removes_folders_of_others_that_outlived_their_ledger_ttl() {
    let uid = |digit: char| "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d8".replace('0', &digit.to_string());
    let mut processes = Processes::of(&slow_items(2), &json!({}));
    let folder = |digit: char| processes.path(&format!("storage/{}", uid(digit)));
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
    for (digit, age, ttl) in [
        ('1', 2, json!(3600)),
        ('2', 2, json!(3 * 3600)),
        ('3', 9999, json!(null)),
    ] {
        let marker = json!({"version": 1, "jobUid": uid(digit), "job": "ns/n", "outcome": "Succeeded", "ledgerTtlSeconds": ttl});
        for (name, content) in [
            ("ended.json", marker.to_string()),
            ("epochs/1/open", "x".to_owned()),
        ] {
            let path = folder(digit).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(std::time::SystemTime::now() - hours(age))
                .unwrap();
        }
    }
    let (expired, others) = (folder('1'), [folder('2'), folder('3')]);
    processes.start_coordinator();
    processes.start_worker(1);
    success(&processes).await;
    assert!(!expired.exists());
    for folder in others {
        assert!(folder.join("ended.json").exists() && folder.join("epochs/1/open").exists());
    }
    let own = processes.path("storage/0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7/ended.json");
    let marker: serde_json::Value = serde_json::from_slice(&std::fs::read(own).unwrap()).unwrap();
    assert_eq!(
        (&marker["outcome"], &marker["ledgerTtlSeconds"]),
        (&json!("Succeeded"), &json!(null))
    );
    // An unknown name would keep every job's folder.
    let own = processes.path("storage/0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7");
    let own = zephyr_store::storage::Location::parse_local(own.to_str().unwrap()).unwrap();
    let stores = zephyr_store::storage::Stores::new(std::collections::BTreeMap::new());
    let mut unknown = Vec::new();
    zephyr_store::storage::walk(&stores, &own, |entry| {
        if zephyr_store::reclaim::part_of(&entry.path).is_none() {
            unknown.push(entry.path);
        }
    })
    .await
    .unwrap();
    assert_eq!(unknown, Vec::<String>::new());
}

fn holds_files(folder: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.is_file() || holds_files(&path)
    })
}

#[tokio::test]
async fn a_coordinator_that_comes_back_after_the_end_still_serves_the_result() {
    let mut processes = Processes::of(&slow_items(1), &json!({}));
    processes.start_coordinator();
    processes.start_worker(1);
    success(&processes).await;
    processes.kill_coordinator();
    processes.start_coordinator();
    success(&processes).await;
    assert_eq!(processes.output(), ["1"]);
}

#[tokio::test]
async fn an_endless_recursion_is_reported_as_such_and_does_not_end_the_worker() {
    let pipeline = json!({
        "source": {"items": {"values": [1]}},
        "steps": [{"map": "def f: 1 + f; f"}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 2}));
    processes.start_coordinator();
    let worker = processes.start_worker(1);
    let result = processes.result().await;
    assert!(!result.succeeded);
    assert!(
        result.message.contains("the recursion has no end"),
        "{result:?}\n{}",
        processes.logs()
    );
    assert!(processes.terminate_worker(worker) < Duration::from_secs(3));
}

#[tokio::test]
async fn a_task_that_uses_all_memory_is_ended_alone_and_reported_with_the_limit() {
    let pipeline = json!({
        "source": {"items": {"values": [1]}},
        "steps": [{"map": "[range(0; 1e18)]"}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 1}));
    processes.memory_limit_bytes = 256 * 1024 * 1024;
    processes.start_coordinator();
    let worker = processes.start_worker(1);
    let result = processes.result().await;
    assert!(!result.succeeded);
    assert!(
        result
            .message
            .contains("and was killed (OOM); the worker's limit is 256 MiB"),
        "{result:?}\n{}",
        processes.logs()
    );
    assert!(processes.terminate_worker(worker) < Duration::from_secs(3));
}

/// Lines of 60 MiB in a worker with 1 GiB, of the kinds that need the least and the most memory for
/// their length.
#[tokio::test]
async fn a_line_of_sixty_mebibytes_passes_or_is_refused_with_the_memory_that_it_needs() {
    const LENGTH: usize = 60 << 20;
    let string = format!("{{\"a\":\"{}\"}}\n", "x".repeat(LENGTH));
    let numbers = format!("{{\"a\":[{}1]}}\n", "1,".repeat(LENGTH / 2));
    let passed_on = json!([{"map": "{a: .a, b: 1}"}]);
    let copied = json!([{"map": ".a | map(. + 1)"}]);
    for (line, steps, refused) in [
        (&string, &passed_on, None),
        (&numbers, &json!([]), None),
        (&numbers, &passed_on, None),
        (&numbers, &copied, Some("it needs about ")),
    ] {
        let pipeline = json!({
            "source": {"files": {"paths": ["$IN/long.jsonl"]}},
            "steps": steps,
            "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
        });
        let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 2}));
        processes.memory_limit_bytes = 1 << 30;
        processes.write_input("long.jsonl", line);
        processes.start_coordinator();
        processes.start_worker(1);
        let result = processes.result().await;
        match refused {
            None => assert!(result.succeeded, "{result:?}\n{}", processes.logs()),
            Some(sentence) => {
                assert!(!result.succeeded);
                assert!(
                    result.message.contains("long.jsonl: line 1: "),
                    "{result:?}"
                );
                assert!(result.message.contains(sentence), "{result:?}");
                assert!(result.message.contains("a task has 825 MiB"), "{result:?}");
            }
        }
    }
}

/// Neither the contents of the mappers' files nor a buffer of 64 KiB for each file would fit into
/// the worker's memory.
#[tokio::test]
async fn fault_3924_a_reducer_of_thousands_of_mappers_needs_no_more_memory_than_one_of_a_few() {
    const MAPPERS: u32 = 3_000;
    const KEYS: u32 = 12;
    let pipeline = json!({
        "source": {"items": {"values": (0..MAPPERS).collect::<Vec<_>>()}},
        "steps": [
            {"flatMap": format!("range({KEYS}) as $i | \"\\(.)-\\($i)\" + (\"x\" * 2000)")},
            {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 1}},
            {"count": {}},
        ],
        "sink": {"files": {"path": "$OUT/count.jsonl"}},
    });
    let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 1}));
    processes.memory_limit_bytes = 128 * 1024 * 1024;
    processes.start_coordinator();
    processes.start_worker(1);
    success(&processes).await;
    assert_eq!(processes.output(), [(MAPPERS * KEYS).to_string()]);
    assert_eq!(failures(&processes.ledger().await), []);
}

#[tokio::test]
async fn a_task_that_loops_is_ended_after_the_stall_timeout_and_reported_as_such() {
    let pipeline = json!({
        "source": {"items": {"values": [1, 2], "shards": 1}},
        "steps": [{"map": "if . == 2 then last(foreach repeat(1) as $x (0; . + 1)) else . end"}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(
        &pipeline,
        &json!({"taskFailures": 2, "taskStallTimeout": "1s"}),
    );
    processes.start_coordinator();
    processes.start_worker(1);
    let result = processes.result().await;
    assert!(!result.succeeded);
    assert!(
        result.message.contains("no progress for 1s"),
        "{result:?}\n{}",
        processes.logs()
    );
    assert!(
        result.message.contains("values[1]"),
        "the record is not named: {result:?}\n{}",
        processes.logs()
    );
}

#[tokio::test]
async fn a_task_that_goes_on_for_too_long_is_ended_after_the_task_timeout() {
    // It reports each record, so it never stands still.
    let pipeline = json!({
        "source": {"items": {"values": (0..1000).collect::<Vec<_>>(), "shards": 1}},
        "steps": [{"map": "last(range(3000000))"}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(
        &pipeline,
        &json!({"taskFailures": 2, "taskStallTimeout": "1m", "taskTimeout": "2s"}),
    );
    processes.start_coordinator();
    processes.start_worker(1);
    let result = processes.result().await;
    assert_eq!(
        result.reason,
        EndReason::TaskTimedOut.as_str(),
        "{result:?}"
    );
    let words = "not done after 2s, the task was stopped; the limit is spec.retries.taskTimeout";
    let message = &result.message;
    assert!(message.contains("failed twice"), "{message}");
    assert!(message.contains(words), "{message}\n{}", processes.logs());
    let classes: Vec<_> = failures(&processes.ledger().await)
        .into_iter()
        .map(|(class, _)| class)
        .collect();
    assert_eq!(classes, [FailureClass::TimedOut; 2]);
}

#[tokio::test]
async fn an_expression_that_does_not_compile_ends_the_job_before_any_worker_and_for_good() {
    let pipeline = json!({
        "source": {"items": {"values": [1]}},
        "steps": [{"map": ". |"}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(&pipeline, &json!({}));
    processes.start_coordinator();
    for _ in 0..2 {
        let result = processes.result().await;
        assert_eq!(result.reason, EndReason::PlanFailed.as_str(), "{result:?}");
        assert!(
            result.message.starts_with("spec.pipeline.steps[0].map:"),
            "{result:?}"
        );
        processes.kill_coordinator();
        processes.start_coordinator();
    }
}

#[tokio::test]
async fn an_input_that_matches_nothing_ends_the_job_and_names_the_pattern() {
    let mut processes = Processes::of(&word_count(), &json!({}));
    processes.start_coordinator();
    let result = processes.result().await;
    assert_eq!(result.reason, EndReason::PlanFailed.as_str(), "{result:?}");
    assert!(result.message.contains("/in/*.txt"), "{result:?}");
}

#[tokio::test]
async fn fault_6445_a_worker_with_a_wrong_token_or_of_another_generation_is_refused() {
    let mut processes = Processes::of(&slow_items(1), &json!({}));
    processes.start_coordinator();
    processes
        .wait_for("the plan", |snapshot| snapshot.planned.is_some())
        .await;
    for (token, job, refusal) in [
        (
            "wrong-token",
            "job.json",
            "not the bearer token of this job's generation",
        ),
        (
            "token",
            "other-generation.json",
            "generation is 7; this is generation 1",
        ),
    ] {
        let worker = processes.start_worker_with(1, token, job);
        let refused = || processes.logs().contains(refusal).then_some(());
        processes.eventually(refusal, refused).await;
        processes.kill_worker(worker);
    }
    let snapshot = processes.wait_for("a report", |_| true).await;
    let workers = snapshot.workers.unwrap();
    assert_eq!(
        (workers.idle, workers.busy, workers.reconnecting),
        (0, 0, 0)
    );
    processes.start_worker(1);
    success(&processes).await;
}

#[tokio::test]
async fn fault_3705_3996_a_replaced_coordinator_ends_with_an_error_and_the_job_continues() {
    let mut processes = Processes::of(&slow_items(40), &json!({"taskFailures": 1}));
    processes.start_coordinator();
    processes.start_worker(2);
    in_the_middle(&processes, 2).await;
    let mut second = processes.start_another_coordinator();
    assert!(processes.coordinator_fails().await);
    assert!(
        processes.logs().contains("this one is fenced"),
        "{}",
        processes.logs()
    );
    end(&mut second);
    processes.start_coordinator();
    success(&processes).await;
    assert_eq!(processes.output(), ["40"]);
    assert_eq!(failures(&processes.ledger().await), []);
}

#[tokio::test]
async fn a_run_waits_visibly_for_storage_that_does_not_answer() {
    let mut processes = Processes::of(&slow_items(1), &json!({}));
    processes.lose_storage();
    processes.start_coordinator();
    let unavailable = |snapshot: &Snapshot| snapshot.phase() == Phase::StorageUnavailable;
    let snapshot = processes
        .wait_for("the outage to be shown", unavailable)
        .await;
    assert!(
        snapshot.message.starts_with("spec.storage.uri: "),
        "{snapshot:?}"
    );
    assert!(snapshot.message.contains("s3://bucket"), "{snapshot:?}");
    assert_eq!(snapshot.result, None);
}

#[tokio::test]
async fn no_call_to_any_path_is_accepted_without_the_token() {
    let mut processes = Processes::of(&slow_items(1), &json!({}));
    processes.start_coordinator();
    processes
        .wait_for("the plan", |snapshot| snapshot.planned.is_some())
        .await;
    for path in [
        "/zephyr.worker.v1.Worker/Session",
        "/zephyr.run.v1.Run/Operate",
        "/zephyr.run.v1.Run/Other",
        "/",
        "/healthz",
    ] {
        for token in [
            None,
            Some(""),
            Some("Bearer "),
            Some("Bearer bbbb"),
            Some("Basic YTph"),
        ] {
            let mut client = tonic::client::Grpc::new(processes.channel().await.unwrap());
            client.ready().await.unwrap();
            let mut request = tonic::Request::new(WorkerMessage::default());
            if let Some(token) = token {
                request
                    .metadata_mut()
                    .insert("authorization", token.parse().unwrap());
            }
            let codec: tonic_prost::ProstCodec<WorkerMessage, CoordinatorMessage> =
                tonic_prost::ProstCodec::default();
            let answer = client.unary(request, path.parse().unwrap(), codec).await;
            assert_eq!(
                answer.unwrap_err().code(),
                tonic::Code::Unauthenticated,
                "{path} with {token:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_run_fits_into_one_process_tree() {
    let processes = Processes::of(&word_count(), &json!({}));
    write_texts(&processes);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let options = LocalOptions {
        workers: 2,
        slots: 1,
        memory_bytes: 0,
        child_executable: Some(env!("CARGO_BIN_EXE_zephyr-worker").into()),
        resumes: false,
        planned: Arc::new(|_| {}),
        progress: Arc::new(move |snapshot| listener.lock().unwrap().push(snapshot.phase())),
    };
    let result = run_local(processes.job(), options).await.unwrap();
    assert!(
        matches!(result, JobResult::Succeeded { files: 3, .. }),
        "{result:?}"
    );
    assert_eq!(processes.output(), counted_here());
    let seen = seen.lock().unwrap();
    assert_eq!(seen.last(), Some(&Phase::Ended), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_resumed_from_another_pipeline_by_mistake_is_not_harmed() {
    let processes = Processes::of(&word_count(), &json!({}));
    write_texts(&processes);
    let options = |resumes| LocalOptions {
        workers: 1,
        slots: 1,
        memory_bytes: 0,
        child_executable: Some(env!("CARGO_BIN_EXE_zephyr-worker").into()),
        resumes,
        planned: Arc::new(|_| {}),
        progress: Arc::new(|_| {}),
    };
    // The run is interrupted as soon as its plan is kept.
    let (planned, mut is_planned) = tokio::sync::mpsc::unbounded_channel();
    let interrupted = LocalOptions {
        planned: Arc::new(move |_| planned.send(()).unwrap_or_default()),
        ..options(false)
    };
    tokio::select! {
        result = run_local(processes.job(), interrupted) => panic!("it ended: {result:?}"),
        _ = is_planned.recv() => {}
    }
    let mut other = processes.job();
    other.spec.pipeline.steps.pop();
    let error = run_local(other, options(true)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("was begun from another pipeline"), "{text}");
    let result = run_local(processes.job(), options(true)).await.unwrap();
    assert!(matches!(result, JobResult::Succeeded { .. }), "{result:?}");
    assert_eq!(processes.output(), counted_here());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_never_existed_is_not_resumed() {
    let processes = Processes::of(&word_count(), &json!({}));
    write_texts(&processes);
    let options = LocalOptions {
        workers: 1,
        slots: 1,
        memory_bytes: 0,
        child_executable: Some(env!("CARGO_BIN_EXE_zephyr-worker").into()),
        resumes: true,
        planned: Arc::new(|_| {}),
        progress: Arc::new(|_| {}),
    };
    let job = processes.job();
    let (uid, storage) = (job.uid.clone(), job.spec.storage.uri.clone());
    let error = run_local(job, options).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no run with the uid {uid} has kept a plan under {storage}; leave --resume out to begin a new one"
        )
    );
}
