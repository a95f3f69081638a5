//! Checks for an hour that the coordinator handles all heartbeats in time, with the largest number
//! of workers of a job and without losses.

use std::time::{Duration, Instant};

use tokio::time::interval;

use crate::light::{Fleet, Work, until};
use crate::observe::{heartbeat_waits, wait_of};
use crate::watch::{LOOK_EVERY, Watch};

/// With tasks of this length, ten thousand workers cause about a hundred commits per second.
const TASK_TIME: Duration = Duration::from_mins(2);
/// The time in which the loop must have handled 99 of 100 heartbeats.
const MAX_WAIT_SECONDS: f64 = 0.05;

/// Returns a sentence for every error.
pub(crate) async fn soak(workers: usize, minutes: u32) -> Vec<String> {
    let length = Duration::from_mins(minutes.into());
    // Two rounds more than fit into the time, so that no worker runs out of tasks.
    let rounds = minutes / 2 + 2;
    let tasks = u32::try_from(workers).unwrap() * rounds;
    println!(
        "soak: {minutes} min of heartbeats of {workers} workers, {tasks} tasks of about {TASK_TIME:?}"
    );
    let (mut coordinator, mut watch) = Watch::begin(tasks).await;
    let mut fleet = Fleet::new(
        coordinator.link(),
        1,
        Work::Lasting(TASK_TIME),
        |_worker, _task| {},
    );
    fleet.add(workers);
    until("sessions", async || fleet.connected() == workers).await;

    let before = heartbeat_waits(&coordinator).await;
    let began = Instant::now();
    let mut next_look = interval(LOOK_EVERY);
    while began.elapsed() < length {
        next_look.tick().await;
        watch.look(|| {
            let sent: u64 = fleet.heartbeats().iter().sum();
            format!(
                "{} tasks acknowledged, {sent} heartbeats sent",
                fleet.acknowledged()
            )
        });
    }
    let after = heartbeat_waits(&coordinator).await;
    let mut wrong = watch.judge();
    let [p50, p99, all] = [50, 99, 100].map(|percent| wait_of(&before, &after, percent));
    println!(
        "soak: heartbeats waited for the loop: p50 <= {p50} s, p99 <= {p99} s (at most {MAX_WAIT_SECONDS} s), all <= {all} s"
    );
    if p99.parse::<f64>().is_ok_and(|p99| p99 > MAX_WAIT_SECONDS) {
        wrong.push(format!("heartbeats wait for the loop, p99 <= {p99} s"));
    }
    let counts = coordinator.snapshot().await.unwrap().workers.unwrap();
    println!(
        "soak: {} workers were counted as lost, {} sessions broke under live workers",
        counts.disruptions,
        fleet.sessions_again()
    );
    if counts.disruptions + fleet.sessions_again() > 0 {
        wrong.push(format!(
            "{} workers were counted as lost and {} sessions broke, although none ended",
            counts.disruptions,
            fleet.sessions_again()
        ));
    }
    if coordinator.process_id().is_none() {
        wrong.push("the coordinator has ended".to_owned());
    }
    wrong
}
