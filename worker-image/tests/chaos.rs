//! One real coordinator and thousands of simulated workers, with faults: all workers connect at the
//! same time, many workers are lost at once, the coordinator pauses or dies, and messages come late
//! or twice. The result is read from the ledger.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

#[expect(dead_code, reason = "the measurements use more of it")]
mod light;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use light::bucket::Bucket;
use light::{Coordinator, Dialogue, Fleet, Link, Work, task_attempt_of, until};
use tokio::sync::{Mutex, MutexGuard};
use zephyr_engine::coordinator::record::{FailureClass, LogRecord};
use zephyr_engine::id::{Attempt, Epoch, StageId, TaskAttempt, TaskId};
use zephyr_proto::run::WorkerCounts;
use zephyr_proto::worker::{self as wire, Draining, Hello, coordinator_message, worker_message};
use zephyr_worker::convert::identity::to_wire;

const WORKERS: usize = 2_000;

/// Only one of these tests runs at a time, because each uses all resources of a small machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// A coordinator with its workers.
struct Scene {
    coordinator: Coordinator,
    fleet: Fleet,
    /// How often workers were asked to run each task of the first stage.
    runs: Arc<Vec<AtomicU32>>,
    _machine: MutexGuard<'static, ()>,
}

/// Starts a coordinator and workers with one slot each, which all register at the same time.
async fn scene(workers: usize, tasks: u32, work: Work) -> Scene {
    scene_of(Coordinator::of(tasks), workers, tasks, work).await
}

/// Like [`scene`], with this coordinator.
async fn scene_of(mut coordinator: Coordinator, workers: usize, tasks: u32, work: Work) -> Scene {
    let machine = MACHINE.lock().await;
    coordinator.start();
    let runs: Arc<Vec<AtomicU32>> = Arc::new((0..tasks).map(|_| AtomicU32::new(0)).collect());
    let counted = Arc::clone(&runs);
    let witness = move |_worker, task: TaskAttempt| {
        if task.task.stage == StageId(0) {
            counted[task.task.shard.0 as usize].fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut fleet = Fleet::new(coordinator.link(), 1, work, witness);
    fleet.add(workers);
    let scene = Scene {
        coordinator,
        fleet,
        runs,
        _machine: machine,
    };
    scene.all_are_connected(workers).await;
    scene
}

impl Scene {
    async fn all_are_connected(&self, workers: usize) {
        until("all workers' sessions", async || {
            self.fleet.connected() == workers
                && self
                    .counts()
                    .await
                    .is_some_and(|counts| sessions(&counts) == workers)
        })
        .await;
    }

    async fn counts(&self) -> Option<WorkerCounts> {
        self.coordinator.snapshot().await?.workers
    }

    /// Waits until each worker has one task and nothing to report.
    async fn all_hold(&self, workers: usize) {
        until("a task in every slot", async || {
            self.fleet.holding() == workers
        })
        .await;
    }

    /// Waits until all tasks of the first stage are committed.
    async fn all_is_done(&self) {
        let tasks = self.runs.len() as u64;
        until("the commit of all tasks", async || {
            let snapshot = self.coordinator.snapshot().await;
            snapshot.is_some_and(|snapshot| snapshot.tasks_done == tasks)
        })
        .await;
    }

    /// Returns how many heartbeats the coordinator's loop has handled.
    async fn heartbeats_received(&self) -> u64 {
        const COUNT: &str = "zephyr_coordinator_heartbeat_wait_seconds_count ";
        let metrics = self.coordinator.metrics().await.unwrap();
        let count = metrics.lines().find_map(|line| line.strip_prefix(COUNT));
        count.unwrap().trim().parse().unwrap()
    }

    fn all_runs(&self) -> u32 {
        self.runs
            .iter()
            .map(|runs| runs.load(Ordering::Relaxed))
            .sum()
    }

    /// The attempts that won, after checking that each task has exactly one and none was lost.
    async fn winners(&self) -> BTreeMap<TaskId, Attempt> {
        let (_, records) = self.coordinator.ledger().await;
        let mut winners = BTreeMap::new();
        let mut others = Vec::new();
        for record in records {
            match record {
                LogRecord::Done { task, .. } => {
                    let before = winners.insert(task.task, task.attempt);
                    assert_eq!(before, None, "{task} was committed a second time");
                }
                LogRecord::Failed { class, error, .. } => {
                    assert_eq!(class, FailureClass::Disruption, "{error}");
                }
                LogRecord::StageFinished { .. } => {}
                LogRecord::Revoked { .. }
                | LogRecord::Finalized { .. }
                | LogRecord::Result(_)
                | LogRecord::Restarted(_) => {
                    others.push(record);
                }
            }
        }
        assert_eq!(others, [], "nothing of the kind happened");
        assert_eq!(winners.len(), self.runs.len(), "tasks were lost");
        winners
    }
}

fn sessions(counts: &WorkerCounts) -> usize {
    (counts.idle + counts.busy) as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_and_a_wave_of_deaths_every_task_is_committed_exactly_once() {
    const TASKS: u32 = 6_000;
    const DEAD: usize = WORKERS * 62 / 100;
    let mut scene = scene(WORKERS, TASKS, Work::Hold).await;
    let counts = scene.counts().await.unwrap();
    assert_eq!((counts.reconnecting, counts.disruptions), (0, 0));
    assert_eq!(scene.fleet.welcomed(1), WORKERS, "one session each");
    assert_eq!(scene.fleet.ended(), 0, "no worker was shut down");
    let metrics = scene.coordinator.metrics().await.unwrap();
    let shown = format!("\nzephyr_coordinator_sessions {WORKERS}\n");
    assert!(metrics.contains(&shown), "{metrics}");
    scene.all_hold(WORKERS).await;

    (0..DEAD).for_each(|place| scene.fleet.kill(place));
    until("the end of the dead workers' sessions", async || {
        let counts = scene.counts().await;
        counts.is_some_and(|counts| sessions(&counts) == WORKERS - DEAD)
    })
    .await;
    // The kubelet restarts the containers of half of the dead workers. The nodes of the other half
    // were taken away.
    let operator = scene.coordinator.operator().await.unwrap();
    for place in 0..DEAD {
        if place % 2 == 0 {
            scene.fleet.restart(place);
        } else {
            operator
                .pod_was_preempted(&scene.fleet.replace(place))
                .await;
        }
    }
    scene.all_are_connected(WORKERS).await;
    scene.fleet.set_work(Work::AtOnce);
    scene.all_is_done().await;

    let winners = scene.winners().await;
    let second = winners.values().filter(|attempt| attempt.number == 2);
    assert_eq!(
        second.count(),
        DEAD,
        "only the tasks of the dead workers ran again"
    );
    assert_eq!(scene.all_runs() as usize, TASKS as usize + DEAD);
    let counts = scene.counts().await.unwrap();
    assert_eq!(counts.disruptions, DEAD as u64 / 2);
    assert_eq!(scene.fleet.ended(), 0);
    assert!(scene.coordinator.process_id().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_lost_their_connection_continue_their_tasks() {
    const TASKS: u32 = 4_000;
    let scene = scene(WORKERS, TASKS, Work::Hold).await;
    scene.all_hold(WORKERS).await;
    (0..WORKERS).for_each(|place| scene.fleet.cut(place));
    until("a second session of each worker", async || {
        scene.fleet.welcomed(2) == WORKERS
    })
    .await;
    scene.fleet.set_work(Work::AtOnce);
    scene.all_is_done().await;
    scene.winners().await;
    assert_eq!(scene.all_runs(), TASKS, "nothing ran again");
    assert_eq!(scene.counts().await.unwrap().disruptions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_paused_gives_up_no_worker() {
    const TASKS: u32 = 4_000;
    let mut scene = scene(WORKERS, TASKS, Work::Hold).await;
    scene.all_hold(WORKERS).await;
    let before = scene.fleet.heartbeats();
    scene.coordinator.signal("STOP");
    // Two heartbeats are awaited, because a whole interval is between them.
    until(
        "two heartbeats of each worker that nobody heard",
        async || {
            let now = scene.fleet.heartbeats();
            now.iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + 2)
        },
    )
    .await;
    scene.coordinator.signal("CONT");
    scene.fleet.set_work(Work::AtOnce);
    scene.all_is_done().await;
    scene.winners().await;
    let counts = scene.counts().await.unwrap();
    assert_eq!((counts.reconnecting, counts.disruptions), (0, 0));
    assert_eq!(sessions(&counts), WORKERS);
    assert_eq!(scene.fleet.welcomed(1), WORKERS, "no session was broken");
    assert_eq!(scene.all_runs(), TASKS, "nothing ran again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_successor_of_a_killed_coordinator_runs_no_task_again() {
    const TASKS: u32 = 12_000;
    // Tasks take so long that no worker gets one in advance: each holds one task, and none is idle.
    let mut scene = scene(WORKERS, TASKS, Work::Lasting(Duration::from_secs(1))).await;
    until("the first commits", async || {
        scene.fleet.acknowledged() >= WORKERS as u64
    })
    .await;
    scene.fleet.set_work(Work::Hold);
    scene.all_hold(WORKERS).await;
    let committed = scene.fleet.acknowledged();
    assert!(committed < u64::from(TASKS) - WORKERS as u64);
    assert_eq!(u64::from(scene.all_runs()), committed + WORKERS as u64);

    scene.coordinator.kill();
    until("the end of all sessions", async || {
        scene.fleet.connected() == 0
    })
    .await;
    scene.coordinator.start();
    scene.all_are_connected(WORKERS).await;
    assert_eq!(scene.fleet.holding(), WORKERS, "nothing was taken away");
    scene.fleet.set_work(Work::AtOnce);
    scene.all_is_done().await;

    assert_eq!(scene.all_runs(), TASKS, "each task was run once");
    let winners = scene.winners().await;
    let of_the_first = winners
        .values()
        .filter(|attempt| attempt.epoch == Epoch(1))
        .count();
    assert_eq!(of_the_first as u64, committed + WORKERS as u64);
    assert_eq!(scene.coordinator.ledger().await.0, Epoch(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_s4_storage_that_takes_seconds_for_each_call_keeps_no_heartbeat_waiting() {
    const TASKS: u32 = 8_000;
    const SLOW: Duration = Duration::from_secs(3);
    let bucket = Bucket::open().await;
    let coordinator = Coordinator::in_bucket(TASKS, &bucket);
    let scene = scene_of(coordinator, WORKERS, TASKS, Work::Hold).await;
    scene.all_hold(WORKERS).await;
    bucket.set_delay(SLOW);
    let received = scene.heartbeats_received().await;
    let sent = scene.fleet.heartbeats();
    // Reports, commits and dispatches continue all the time, each commit at the speed of the store.
    scene.fleet.set_work(Work::AtOnce);
    until("three more heartbeats of each worker", async || {
        let now = scene.fleet.heartbeats();
        now.iter()
            .zip(&sent)
            .all(|(now, before)| *now >= before + 3)
    })
    .await;
    until("the coordinator's having heard them", async || {
        scene.heartbeats_received().await >= received + 3 * WORKERS as u64
    })
    .await;
    assert!(bucket.slow_answers() >= 3, "storage was not slow");
    scene.all_is_done().await;
    bucket.set_delay(Duration::ZERO);
    scene.winners().await;
    let counts = scene.counts().await.unwrap();
    assert_eq!((counts.reconnecting, counts.disruptions), (0, 0));
    assert_eq!(scene.fleet.welcomed(1), WORKERS, "no session was broken");
    assert_eq!(scene.all_runs(), TASKS, "nothing ran again");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_a_draining_worker_hands_back_run_elsewhere() {
    const TASKS: u32 = 8;
    let scene = scene(0, TASKS, Work::Hold).await;
    let link = scene.coordinator.link();
    let hello = |pod: &str| hello(pod, TASKS, &[]);
    let mut going = open_when_it_serves(&link, Epoch(0), &hello("going")).await;
    let held = receive_runs(&mut going, TASKS as usize).await;
    let mut other = Dialogue::open(&link, Epoch(0), hello("other"))
        .await
        .unwrap();
    let handed_back = held.iter().copied().map(to_wire);
    let draining = Draining {
        deadline_ms: 2_000,
        handed_back: handed_back.collect(),
    };
    going
        .say(Epoch(1), worker_message::Message::Draining(draining))
        .await;
    let taken_up = receive_runs(&mut other, TASKS as usize).await;
    assert_eq!(
        taken_up,
        held.iter()
            .map(|task| attempt(*task, 1, 2))
            .collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_come_late_or_twice_are_acknowledged_and_change_nothing() {
    const FIRST: Epoch = Epoch(1);
    const SECOND: Epoch = Epoch(2);
    let mut scene = scene(0, 4, Work::Hold).await;
    let link = scene.coordinator.link();
    let hello = |running: &[TaskAttempt]| hello("pod", 2, running);
    let mut first = open_when_it_serves(&link, Epoch(0), &hello(&[])).await;
    let held = receive_runs(&mut first, 2).await;
    let (one, two) = (held[0], held[1]);
    for said in ["in time", "after its Ack"] {
        first.say_done(FIRST, &[one]).await;
        assert_eq!(receive_acks(&mut first).await, [one], "{said}");
    }
    for never_dispatched in [attempt(two, 1, 99), attempt(two, 0x0100, 1)] {
        first.say_done(FIRST, &[never_dispatched]).await;
        assert_eq!(receive_cancels(&mut first).await, [never_dispatched]);
    }
    drop(first);

    // The same process comes back and does not report its tasks, so they are dispatched again.
    let mut second = Dialogue::open(&link, FIRST, hello(&[])).await.unwrap();
    let again = receive_runs(&mut second, 2).await;
    assert!(again.contains(&attempt(two, 1, 2)), "{again:?}");
    second.say_done(FIRST, &[one]).await;
    assert_eq!(receive_acks(&mut second).await, [one], "in another session");
    second.say_done(FIRST, &[attempt(two, 1, 2)]).await;
    assert_eq!(receive_acks(&mut second).await, [attempt(two, 1, 2)]);
    second.say_done(FIRST, &[two]).await;
    assert_eq!(receive_acks(&mut second).await, [two], "beaten");
    drop(second);

    scene.coordinator.kill();
    scene.coordinator.start();
    let mut third = open_when_it_serves(&link, FIRST, &hello(&[])).await;
    for late in [one, two, attempt(two, 1, 2)] {
        third.say_done(SECOND, &[late]).await;
        assert_eq!(
            receive_acks(&mut third).await,
            [late],
            "a result of the epoch before is acknowledged"
        );
    }
    // Messages for the first coordinator are ignored.
    third.say_done(FIRST, &[one]).await;
    while third.receive().await.is_some() {}
    let from_the_future = Dialogue::open(&link, Epoch(3), hello(&[])).await;
    assert!(
        from_the_future.is_err(),
        "an older coordinator accepted a worker that has seen a newer epoch"
    );

    let (epoch, records) = scene.coordinator.ledger().await;
    assert_eq!(epoch, SECOND);
    let winner = |record: &LogRecord| match record {
        LogRecord::Done { task, .. } => Some(*task),
        LogRecord::Failed { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::StageFinished { .. }
        | LogRecord::Finalized { .. }
        | LogRecord::Result(_)
        | LogRecord::Restarted(_) => None,
    };
    let committed: Vec<_> = records.iter().map(winner).collect();
    assert_eq!(committed, [Some(one), Some(attempt(two, 1, 2))]);
}

fn hello(pod_uid: &str, slots: u32, running: &[TaskAttempt]) -> Hello {
    Hello {
        pod_uid: pod_uid.to_owned(),
        pod_name: pod_uid.to_owned(),
        incarnation: 1,
        slots,
        memory_bytes: 0,
        running: running.iter().copied().map(to_wire).collect(),
    }
}

/// Another attempt of the same task.
fn attempt(task: TaskAttempt, epoch: u64, number: u32) -> TaskAttempt {
    TaskAttempt {
        attempt: Attempt {
            epoch: Epoch(epoch),
            number,
        },
        ..task
    }
}

/// The given number of attempts that a worker is asked to run, in order.
async fn receive_runs(dialogue: &mut Dialogue, count: usize) -> Vec<TaskAttempt> {
    let mut tasks = Vec::new();
    while tasks.len() < count {
        let (_, message) = dialogue.receive().await.unwrap();
        if let coordinator_message::Message::Run(run) = message {
            tasks.extend(
                run.tasks
                    .iter()
                    .map(|run| task_attempt_of(run.task.as_ref())),
            );
        }
    }
    tasks.sort();
    tasks
}

/// The attempts in the next `Ack`.
async fn receive_acks(dialogue: &mut Dialogue) -> Vec<TaskAttempt> {
    loop {
        let (_, message) = dialogue.receive().await.unwrap();
        if let coordinator_message::Message::Ack(ack) = message {
            return attempts(&ack.tasks);
        }
    }
}

/// The attempts in the next `Cancel`.
async fn receive_cancels(dialogue: &mut Dialogue) -> Vec<TaskAttempt> {
    loop {
        let (_, message) = dialogue.receive().await.unwrap();
        if let coordinator_message::Message::Cancel(cancel) = message {
            return attempts(&cancel.tasks);
        }
    }
}

fn attempts(tasks: &[wire::TaskAttempt]) -> Vec<TaskAttempt> {
    tasks
        .iter()
        .map(|task| task_attempt_of(Some(task)))
        .collect()
}

/// A session with a coordinator that was just started.
async fn open_when_it_serves(link: &Link, seen: Epoch, hello: &Hello) -> Dialogue {
    let mut opened = None;
    until("a session", async || {
        opened = Dialogue::open(link, seen, hello.clone()).await.ok();
        opened.is_some()
    })
    .await;
    opened.unwrap()
}
