//! Measures how many tasks per second one coordinator can handle, each from its dispatch through
//! report and durable commit to `Ack`.

use std::time::{Duration, Instant};

use crate::light::{Coordinator, Fleet, Work, until};
use crate::observe::{committed, cpu_time, memory_mib};
use crate::table::{Table, time};

/// A few hundred pods with eight slots: typical for a large job with short tasks.
const WORKERS: usize = 200;
const SLOTS: u32 = 8;

/// Number of workers that really run tasks. There are only two, because they share the machine with
/// the coordinator.
const REAL_WORKERS: u32 = 2;
const REAL_SLOTS: u32 = 2;
/// Number of tasks that they run in a few seconds.
const REAL_TASKS: u32 = 100_000;

pub(crate) async fn measure(table: &mut Table, tasks: u32) {
    measure_light(table, tasks).await;
    measure_real(table, tasks.min(REAL_TASKS)).await;
}

/// All tasks but one have no record.
async fn measure_real(table: &mut Table, tasks: u32) {
    let mut coordinator = Coordinator::of(tasks);
    coordinator.start();
    let process = coordinator.process_id().unwrap();
    let at_stage = async |index| {
        let snapshot = coordinator.snapshot().await;
        let stage = snapshot.and_then(|snapshot| snapshot.stage);
        stage.is_some_and(|stage| stage.index >= index)
    };
    until("a plan", async || at_stage(1).await).await;
    let before = cpu_time(process);
    let began = Instant::now();
    let workers: Vec<_> = (0..REAL_WORKERS)
        .map(|number| coordinator.start_worker(&format!("worker-{number}"), REAL_SLOTS))
        .collect();
    until("the next stage", async || at_stage(2).await).await;
    let took = began.elapsed();
    let used = cpu_time(process).saturating_sub(before);
    drop(workers);
    table.row(
        format!("{tasks} empty tasks at {REAL_WORKERS} worker processes of {REAL_SLOTS} slots, started again"),
        format!("{} tasks/s ({})", rate(tasks, took), time(took)),
        ">= 20000 tasks/s on 2 CPUs, aim 50000",
    );
    table.row(
        "... for a second of the coordinator's CPU",
        format!("{} tasks ({} used)", rate(tasks, used), time(used)),
        "-",
    );
}

async fn measure_light(table: &mut Table, tasks: u32) {
    let mut coordinator = Coordinator::of(tasks);
    coordinator.start();
    let process = coordinator.process_id().unwrap();
    let mut fleet = Fleet::new(coordinator.link(), SLOTS, Work::Hold, |_, _| {});
    fleet.add(WORKERS);
    until("sessions", async || fleet.holding() == WORKERS).await;
    let [coordinators_before, ours_before] = [cpu_time(process), cpu_time(std::process::id())];
    let began = Instant::now();
    fleet.set_work(Work::AtOnce);
    committed(&fleet, u64::from(tasks)).await;
    let took = began.elapsed();
    let used = cpu_time(process).saturating_sub(coordinators_before);
    let ours = cpu_time(std::process::id()).saturating_sub(ours_before);
    table.row(
        format!("{tasks} empty tasks at {WORKERS} workers of {SLOTS} slots: dispatched, committed durably"),
        format!("{} tasks/s ({})", rate(tasks, took), time(took)),
        ">= 20000 tasks/s on 2 CPUs, aim 50000",
    );
    table.row(
        "... for a second of the coordinator's CPU",
        format!(
            "{} tasks ({} used; the driver {})",
            rate(tasks, used),
            time(used),
            time(ours)
        ),
        "-",
    );
    table.row(
        "... records in one group commit",
        group_size(&coordinator, tasks).await,
        "-",
    );
    let [now, most] = memory_mib(process);
    table.row(
        "... the coordinator's memory",
        format!("{now} MiB (most: {most})"),
        "-",
    );
}

/// Complete tasks per second.
pub(crate) fn rate(tasks: u32, time: Duration) -> String {
    format!("{:.0}", f64::from(tasks) / time.as_secs_f64())
}

async fn group_size(coordinator: &Coordinator, tasks: u32) -> String {
    let metrics = coordinator.metrics().await.unwrap();
    let commits = metrics
        .lines()
        .find_map(|line| line.strip_prefix("zephyr_ledger_commits_total "));
    let commits: f64 = commits.unwrap().parse().unwrap();
    format!("{:.0}", f64::from(tasks) / commits)
}
