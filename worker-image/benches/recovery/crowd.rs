//! A job with the largest number of workers. Measures whether all of them are accepted, whether
//! their heartbeats are handled in time, and how much memory they and their tasks need.

use std::time::{Duration, Instant};

use zephyr_engine::id::Epoch;
use zephyr_proto::worker::coordinator_message::Message;
use zephyr_proto::worker::{Bye, Draining, Hello, worker_message};

use crate::dispatch::rate;
use crate::light::{Coordinator, Dialogue, Fleet, Link, Work, task_attempt_of, until};
use crate::observe::{committed, cpu_time, heartbeat_waits, memory_mib, wait_of};
use crate::table::{Table, percentile, time};

/// The shortest duration of the tasks while heartbeats are measured.
const MIN_TASK_TIME: Duration = Duration::from_secs(15);
/// How often a report is sent whose answer is measured.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) async fn measure(table: &mut Table, workers: usize, minutes: u64, tasks: u32) {
    let watched = Duration::from_mins(minutes);
    // With tasks of this length, half of the tasks are done when the measurement is over.
    let worth =
        watched.mul_f64(2.0 * f64::from(u32::try_from(workers).unwrap()) / f64::from(tasks));
    let work = Work::Lasting(worth.max(MIN_TASK_TIME));
    let mut coordinator = Coordinator::of(tasks);
    coordinator.start();
    until("a coordinator", async || {
        coordinator
            .snapshot()
            .await
            .is_some_and(|snapshot| snapshot.planned.is_some())
    })
    .await;
    let process = coordinator.process_id().unwrap();
    let mut fleet = Fleet::new(coordinator.link(), 1, work, |_, _| {});

    let began = Instant::now();
    fleet.add(workers);
    until("sessions", async || fleet.connected() == workers).await;
    table.row(
        format!("{workers} workers at one instant -> all registered"),
        time(began.elapsed()),
        "<= 30 s",
    );
    let again = workers - fleet.welcomed(1);
    table.row(
        "... of which needed a second session",
        again.to_string(),
        "0",
    );
    let wrong = fleet.ended() + usize::from(coordinator.process_id().is_none());
    table.row("... wrong exits", wrong.to_string(), "0");
    let [now, most] = memory_mib(process);
    table.row(
        format!("... the coordinator's memory ({tasks} tasks, none done)"),
        format!("{now} MiB (most: {most})"),
        "<= 1 GiB",
    );

    watch(table, &coordinator, process, &fleet, watched).await;
    let counts = coordinator.snapshot().await.unwrap().workers.unwrap();
    table.row(
        "... workers wrongly counted as lost",
        counts.disruptions.to_string(),
        "0",
    );

    let began = Instant::now();
    let before = fleet.acknowledged();
    let used = cpu_time(process);
    fleet.set_work(Work::AtOnce);
    // One of them is the probe's.
    committed(&fleet, u64::from(tasks) - 1).await;
    let took = began.elapsed();
    let rest = tasks - 1 - u32::try_from(before).unwrap();
    let used = cpu_time(process).saturating_sub(used);
    table.row(
        format!("the {rest} tasks that are left, empty: dispatched, committed durably"),
        format!(
            "{} tasks/s; {} for a second of its CPU",
            rate(rest, took),
            rate(rest, used)
        ),
        "-",
    );
    until("the next stage", async || {
        coordinator
            .snapshot()
            .await
            .is_some_and(|snapshot| snapshot.stage.is_some_and(|stage| stage.index == 2))
    })
    .await;
    let [now, most] = memory_mib(process);
    table.row(
        format!("the coordinator's memory with {workers} workers and {tasks} tasks done"),
        format!("{now} MiB (most: {most})"),
        "<= 1 GiB",
    );
}

/// Measures heartbeats and answers for this time.
async fn watch(
    table: &mut Table,
    coordinator: &Coordinator,
    process: u32,
    fleet: &Fleet,
    watched: Duration,
) {
    let before = heartbeat_waits(coordinator).await;
    let sent: u64 = fleet.heartbeats().iter().sum();
    let used = cpu_time(process);
    let (mut answers, standstill) = tokio::join!(
        probe(coordinator.link(), watched),
        longest_standstill(watched)
    );
    let used = cpu_time(process).saturating_sub(used);
    let sent = fleet.heartbeats().iter().sum::<u64>() - sent;
    let after = heartbeat_waits(coordinator).await;
    let heard = |waits: &[(String, u64)]| waits.last().map_or(0, |(_, count)| *count);
    let heard = heard(&after) - heard(&before);
    let within = |percent| format!("<= {} s", wait_of(&before, &after, percent));
    table.row(
        format!(
            "heartbeats in {} s: wait for the loop, p99",
            watched.as_secs()
        ),
        format!(
            "{} (p50 {}, all {}; {sent} sent, {heard} heard)",
            within(99),
            within(50),
            within(100)
        ),
        "<= 0.05 s",
    );
    table.row(
        "... a report's answer, there and back, p99",
        format!(
            "{} (p50 {}, longest {})",
            time(percentile(&mut answers, 99)),
            time(percentile(&mut answers, 50)),
            time(percentile(&mut answers, 100))
        ),
        "<= 100 ms",
    );
    table.row(
        "... longest standstill of the driver itself, in which its workers are silent",
        time(standstill),
        "-",
    );
    table.row(
        "... CPU of the coordinator",
        format!(
            "{:.0} % of one",
            100.0 * used.as_secs_f64() / watched.as_secs_f64()
        ),
        "-",
    );
}

/// The longest time for which this process could not run. Heartbeats that are late because of that
/// are not the coordinator's fault.
async fn longest_standstill(watched: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    let began = Instant::now();
    while began.elapsed() < watched {
        let before = Instant::now();
        tokio::time::sleep(PROBE_INTERVAL).await;
        longest = longest.max(before.elapsed().saturating_sub(PROBE_INTERVAL));
    }
    longest
}

/// Reports the same task again and again. The loop answers each report as soon as it handles it.
async fn probe(link: Link, watched: Duration) -> Vec<Duration> {
    let hello = Hello {
        pod_uid: "probe".to_owned(),
        pod_name: "probe".to_owned(),
        incarnation: 1,
        slots: 1,
        memory_bytes: 0,
        running: Vec::new(),
    };
    let mut dialogue = Dialogue::open(&link, Epoch(0), hello).await.unwrap();
    let task = loop {
        if let Some((_, Message::Run(run))) = dialogue.receive().await {
            break task_attempt_of(run.tasks[0].task.as_ref());
        }
    };
    let mut answers = Vec::new();
    let mut held = Vec::new();
    let mut next = tokio::time::interval(PROBE_INTERVAL);
    let began = Instant::now();
    // The first answer waits for the ledger; the others do not.
    let mut is_committed = false;
    while began.elapsed() < watched {
        next.tick().await;
        let said = Instant::now();
        dialogue.say_done(Epoch(1), &[task]).await;
        loop {
            // If the machine is overloaded, sessions break; the measurements until then are
            // reported.
            let Some((_, message)) = dialogue.receive().await else {
                eprintln!("bench: the session that asks for answers broke");
                return answers;
            };
            match message {
                Message::Ack(_) => break,
                Message::Run(run) => held.extend(run.tasks.into_iter().filter_map(|run| run.task)),
                Message::Welcome(_) | Message::Cancel(_) | Message::Shutdown(_) => {}
            }
        }
        if is_committed {
            answers.push(said.elapsed());
        }
        is_committed = true;
    }
    let draining = Draining {
        deadline_ms: 0,
        handed_back: held,
    };
    dialogue
        .say(Epoch(1), worker_message::Message::Draining(draining))
        .await;
    dialogue
        .say(Epoch(1), worker_message::Message::Bye(Bye {}))
        .await;
    answers
}
