//! Measures how long it takes until work continues after a coordinator dies, a worker is asked to
//! terminate, or a worker falls silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zephyr_engine::coordinator::Config;
use zephyr_engine::id::{Epoch, TaskAttempt};
use zephyr_proto::worker::{Bye, Draining, Hello, coordinator_message, worker_message};
use zephyr_worker::convert::identity::to_wire;

use crate::light::{Coordinator, Dialogue, Fleet, Link, Work, task_attempt_of, until};
use crate::observe::Runs;
use crate::table::{Table, median_and_longest};

const WORKERS: usize = 1_000;
/// There are so many tasks that some are left after all measurements.
const TASKS: u32 = 100_000;
/// This is long enough that tasks are left after all measurements, and short enough that a slot
/// becomes free every few milliseconds.
const TASK_TIME: Duration = Duration::from_secs(5);
/// Twice the number of the workers' slots.
const TASKS_FIRST: u32 = 4_000;
/// Number of slots of the lost workers.
const SLOTS: u32 = 8;
/// How much longer than the allowed silence a coordinator is paused.
const STALL_BEYOND: Duration = Duration::from_secs(15);
const KILLS: u64 = 5;
const DRAINS: usize = 20;
const SILENCES: usize = 5;

pub(crate) async fn measure(table: &mut Table) {
    let mut coordinator = Coordinator::of(TASKS);
    coordinator.start();
    let runs = Arc::new(Runs::of(TASKS));
    let noted = Arc::clone(&runs);
    let witness = move |_worker, task| noted.note(task);
    let mut fleet = Fleet::new(coordinator.link(), 2, Work::Lasting(TASK_TIME), witness);
    fleet.add(WORKERS);
    until("sessions", async || fleet.connected() == WORKERS).await;
    // All tasks began at the same time, so slots become free continuously only after the first
    // tasks have ended.
    until("the first tasks of all slots", async || {
        fleet.acknowledged() >= u64::from(TASKS_FIRST)
    })
    .await;
    let link = coordinator.link();

    let mut drains = Vec::new();
    for number in 0..DRAINS {
        drains.push(drain(&link, &runs, number).await);
    }
    table.row(
        "a worker says Draining -> all its 8 tasks run elsewhere",
        median_and_longest(&mut drains),
        "< 1 s",
    );
    let mut silences = Vec::new();
    let silent = (0..SILENCES).map(|number| silence(&link, &runs, number));
    for silence in futures::future::join_all(silent).await {
        silences.push(silence);
    }
    let policy = Config::new(1, 0).heartbeat;
    let allowed = policy.silence_ms(policy.interval_ms(WORKERS));
    table.row(
        "a worker falls silent -> all its 8 tasks run elsewhere",
        median_and_longest(&mut silences),
        &format!("<= {} s", allowed / 1_000 + 1),
    );
    stall(
        table,
        &mut coordinator,
        &fleet,
        Duration::from_millis(allowed) + STALL_BEYOND,
    )
    .await;
    kills(table, &mut coordinator, &fleet, &runs).await;
}

/// The coordinator is paused for longer than any worker may be silent.
async fn stall(table: &mut Table, coordinator: &mut Coordinator, fleet: &Fleet, time: Duration) {
    let disruptions = async |coordinator: &Coordinator| {
        let snapshot = coordinator.snapshot().await;
        snapshot.unwrap().workers.unwrap().disruptions
    };
    let before = disruptions(coordinator).await;
    coordinator.signal("STOP");
    tokio::time::sleep(time).await;
    let began = Instant::now();
    coordinator.signal("CONT");
    until("a session of each worker", async || {
        let snapshot = coordinator.snapshot().await;
        let counts = snapshot.and_then(|snapshot| snapshot.workers);
        counts.is_some_and(|counts| (counts.idle + counts.busy) as usize == WORKERS)
            && fleet.connected() == WORKERS
    })
    .await;
    table.row(
        format!(
            "the coordinator stands still for {} s -> all workers have a session",
            time.as_secs()
        ),
        crate::table::time(began.elapsed()),
        "-",
    );
    let lost = disruptions(coordinator).await - before;
    table.row("... workers counted as lost", lost.to_string(), "0");
}

/// A worker with tasks, and its tasks.
async fn worker(link: &Link, pod_uid: String) -> (Dialogue, Vec<TaskAttempt>) {
    let hello = Hello {
        pod_name: pod_uid.clone(),
        pod_uid,
        incarnation: 1,
        slots: SLOTS,
        memory_bytes: 0,
        running: Vec::new(),
    };
    let mut dialogue = Dialogue::open(link, Epoch(0), hello).await.unwrap();
    let mut tasks = Vec::new();
    while tasks.len() < SLOTS as usize {
        if let Some((_, coordinator_message::Message::Run(run))) = dialogue.receive().await {
            tasks.extend(
                run.tasks
                    .iter()
                    .map(|run| task_attempt_of(run.task.as_ref())),
            );
        }
    }
    (dialogue, tasks)
}

async fn drain(link: &Link, runs: &Runs, number: usize) -> Duration {
    let (dialogue, tasks) = worker(link, format!("draining-{number}")).await;
    let began = Instant::now();
    let draining = Draining {
        deadline_ms: 2_000,
        handed_back: tasks.iter().copied().map(to_wire).collect(),
    };
    dialogue
        .say(Epoch(1), worker_message::Message::Draining(draining))
        .await;
    dialogue
        .say(Epoch(1), worker_message::Message::Bye(Bye {}))
        .await;
    runs.again(&tasks, began).await - began
}

async fn silence(link: &Link, runs: &Runs, number: usize) -> Duration {
    let (mut dialogue, tasks) = worker(link, format!("silent-{number}")).await;
    let began = Instant::now();
    // Its connection works all the time; only heartbeats are missing.
    let session = tokio::spawn(async move { while dialogue.receive().await.is_some() {} });
    let took = runs.again(&tasks, began).await - began;
    session.abort();
    took
}

async fn kills(table: &mut Table, coordinator: &mut Coordinator, fleet: &Fleet, runs: &Runs) {
    let mut dispatching = Vec::new();
    let mut complete = Vec::new();
    for kill in 1..=KILLS {
        let epoch = Epoch(1 + kill);
        coordinator.kill();
        until("the end of all sessions", async || fleet.connected() == 0).await;
        let began = Instant::now();
        coordinator.start();
        until("a task of the next epoch", async || {
            runs.first_of(epoch).is_some()
        })
        .await;
        dispatching.push(runs.first_of(epoch).unwrap() - began);
        until("all sessions", async || fleet.connected() == WORKERS).await;
        complete.push(began.elapsed());
    }
    table.row(
        format!(
            "the coordinator starts again after SIGKILL -> first task given out ({WORKERS} workers)"
        ),
        median_and_longest(&mut dispatching),
        "< 3 s",
    );
    table.row(
        "... -> all workers have a session again",
        median_and_longest(&mut complete),
        "-",
    );
    let snapshot = coordinator.snapshot().await.unwrap();
    table.row(
        "... workers counted as lost meanwhile",
        snapshot.workers.unwrap().disruptions.to_string(),
        "0",
    );
}
