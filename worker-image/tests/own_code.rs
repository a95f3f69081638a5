//! Tests own code with real processes: that nothing of a command is left if its task's process, its
//! worker or its pod ends in any way, and how memory is charged.

#[expect(dead_code, reason = "what other jobs need")]
mod processes;

use std::fs;

use processes::{Processes, is_alive, signal};
use serde_json::{Value, json};
use zephyr_proto::reason::EndReason;

/// A job with one command over one record.
fn job(script: &str) -> Value {
    json!({
        "source": {"items": {"values": [1]}},
        "steps": [{"exec": {"command": ["sh", "-c", script]}}],
        "sink": {"files": {"path": "$OUT/o-{shard}.jsonl"}},
    })
}

/// A job whose script first notes the ids of the command, of a process in its group, and of one
/// that has detached itself.
fn with_script(then: &str) -> Processes {
    with_retries(then, &json!({"taskFailures": 1}))
}

fn with_retries(then: &str, retries: &Value) -> Processes {
    let file = "$FOLDER/tmp/ids";
    let script = format!(
        "sleep 3600 & echo $! >{file}.new; setsid sleep 3600 >/dev/null 2>&1 & echo $! >>{file}.new; \
         echo $$ >>{file}.new; mv {file}.new {file}; {then}"
    );
    Processes::of(&job(&script), retries)
}

async fn ids(processes: &Processes) -> Vec<u32> {
    let read = || fs::read_to_string(processes.path("tmp/ids")).ok();
    let text = processes.eventually("the command's processes", read).await;
    let ids: Vec<u32> = text.lines().flat_map(str::parse).collect();
    assert_eq!(ids.len(), 3);
    ids
}

async fn are_gone(processes: &Processes, ids: &[u32]) {
    let all_gone = || (!ids.iter().any(|process| is_alive(*process))).then_some(());
    processes
        .eventually("the end of the command's processes", all_gone)
        .await;
}

#[tokio::test]
async fn nothing_of_a_command_outlives_the_process_of_its_task() {
    // The guardian's parent is the process of the task.
    let mut processes = with_script(
        "read -r x; read -r _ _ _ parent _ </proc/$PPID/stat; kill -9 $parent; sleep 3600",
    );
    processes.start_coordinator();
    processes.start_worker(1);
    let ids = ids(&processes).await;
    let result = processes.result().await;
    assert!(result.message.contains("killed by signal 9"), "{result:?}");
    are_gone(&processes, &ids).await;
}

#[tokio::test]
async fn nothing_of_a_command_outlives_an_attempt_that_takes_too_long() {
    // It writes all the time, so it never stands still.
    let script = "trap '' TERM; while :; do echo 1; sleep 0.1; done";
    let retries = json!({"taskFailures": 1, "taskTimeout": "2s"});
    let mut processes = with_retries(script, &retries);
    processes.start_coordinator();
    processes.start_worker(1);
    let ids = ids(&processes).await;
    let result = processes.result().await;
    assert_eq!(
        result.reason,
        EndReason::TaskTimedOut.as_str(),
        "{result:?}"
    );
    assert!(result.message.contains("not done after 2s"), "{result:?}");
    are_gone(&processes, &ids).await;
}

#[tokio::test]
async fn nothing_of_a_command_outlives_its_worker_whether_it_is_killed_or_asked() {
    for is_killed in [true, false] {
        let mut processes = with_script("trap '' TERM; sleep 3600");
        processes.start_coordinator();
        let worker = processes.start_worker(1);
        let ids = ids(&processes).await;
        if is_killed {
            processes.kill_worker(worker);
        } else {
            signal("TERM", worker);
        }
        are_gone(&processes, &ids).await;
    }
}

#[tokio::test]
async fn a_command_that_takes_the_memory_is_stopped_and_its_step_is_named() {
    let script = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo \"$x\" >&2; cat";
    let mut processes = Processes::of(&job(script), &json!({"taskFailures": 1}));
    processes.memory_limit_bytes = 300 << 20;
    processes.start_coordinator();
    processes.start_worker(1);
    let result = processes.result().await;
    assert!(!result.succeeded);
    let words = "the command of spec.pipeline.steps[0].exec ran out of memory and was killed (OOM)";
    assert!(result.message.contains(words), "{result:?}");
}

#[tokio::test]
async fn a_command_takes_its_slots_and_all_records_pass() {
    let mut pipeline = job("cat");
    pipeline["source"] = json!({"items": {"values": (0..40).collect::<Vec<_>>(), "shards": 12}});
    pipeline["steps"][0]["exec"]["slots"] = json!(2);
    let mut processes = Processes::of(&pipeline, &json!({}));
    processes.start_coordinator();
    processes.start_worker(3);
    processes.start_worker(1);
    let result = processes.result().await;
    assert!(result.succeeded, "{result:?}\n{}", processes.logs());
    let mut found: Vec<u32> = processes
        .output()
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_process_of_a_slot_serves_its_shards_and_ends_with_the_worker() {
    for is_killed in [true, false] {
        let file = "$FOLDER/tmp/started";
        let script =
            format!("sleep 3600 & echo $! $$ >>{file}; while IFS= read -r x; do echo \"$x\"; done");
        let mut pipeline = job(&script);
        pipeline["source"] =
            json!({"items": {"values": (0..20).collect::<Vec<_>>(), "shards": 10}});
        pipeline["steps"][0]["exec"]["reuse"] = json!(true);
        // The last task keeps its slot until the test has checked the processes.
        let last = "cat; if [ $ZEPHYR_SHARD = 9 ]; then touch $FOLDER/tmp/last; until [ -e $FOLDER/tmp/go ]; do sleep 0.05; done; fi";
        let steps = pipeline["steps"].as_array_mut().unwrap();
        steps.push(json!({"exec": {"command": ["sh", "-c", last]}}));
        let mut processes = Processes::of(&pipeline, &json!({"speculation": "Never"}));
        processes.start_coordinator();
        let worker = processes.start_worker(1);
        let last = || processes.path("tmp/last").exists().then_some(());
        processes.eventually("the last shard", last).await;
        let ids = fs::read_to_string(processes.path("tmp/started")).unwrap();
        let ids: Vec<u32> = ids.split_whitespace().flat_map(str::parse).collect();
        assert_eq!(ids.len(), 2, "one process was started: {ids:?}");
        for process in &ids {
            assert!(
                is_alive(*process),
                "{process} of {ids:?}\n{}",
                processes.logs()
            );
        }
        fs::write(processes.path("tmp/go"), "").unwrap();
        let result = processes.result().await;
        assert!(result.succeeded, "{result:?}\n{}", processes.logs());
        assert_eq!(processes.output().len(), 20);
        if is_killed {
            processes.kill_worker(worker);
        } else {
            signal("TERM", worker);
        }
        are_gone(&processes, &ids).await;
    }
}

#[tokio::test]
async fn memory_of_an_idle_command_that_grows_is_given_back() {
    // The command takes memory only after it has answered its first shard.
    let script = "while IFS= read -r x; do echo \"$x\"; if [ \"$x\" = 1 ]; then first=1; fi; \
                  if [ -z \"$x$y\" ] && [ -n \"$first\" ]; then \
                  echo $$ >$FOLDER/tmp/id.new; mv $FOLDER/tmp/id.new $FOLDER/tmp/id; \
                  y=$(head -c 400000000 /dev/zero | tr '\\0' x); fi; done";
    let mut pipeline = job(script);
    pipeline["steps"][0]["exec"]["reuse"] = json!(true);
    pipeline["source"] = json!({"items": {"values": [1, 2], "shards": 2}});
    // The other slot has the rest of the job, so that the job is not over.
    let wait =
        "cat; if [ $ZEPHYR_SHARD = 1 ]; then until [ -e $FOLDER/tmp/go ]; do sleep 0.05; done; fi";
    let steps = pipeline["steps"].as_array_mut().unwrap();
    steps.push(json!({"exec": {"command": ["sh", "-c", wait]}}));
    let retries = json!({"speculation": "Never", "taskFailures": 1});
    let mut processes = Processes::of(&pipeline, &retries);
    processes.memory_limit_bytes = 300 << 20;
    processes.start_coordinator();
    processes.start_worker(2);
    let read = || fs::read_to_string(processes.path("tmp/id")).ok();
    let id = processes.eventually("the command's process", read).await;
    let id: u32 = id.trim().parse().unwrap();
    let is_gone = || (!is_alive(id)).then_some(());
    processes
        .eventually("the end of the command", is_gone)
        .await;
    fs::write(processes.path("tmp/go"), "").unwrap();
    let result = processes.result().await;
    assert!(result.succeeded, "{result:?}\n{}", processes.logs());
}
