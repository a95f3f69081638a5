//! Measures the cost of lost workers, in simulated time: the worker-seconds that a job of one hour
//! loses in the two waves of the incident.
//!
//! *Lost* is the time for which a coordinator is responsible. It has two parts: the time that live
//! workers spent on attempts without a used result, and the time in which they were idle although a
//! task was neither committed nor at a live worker. Work on attempts whose workers were killed is
//! lost with any coordinator, so it is counted separately. The idle time at the end, when there are
//! fewer tasks than workers, is also counted separately.

use super::fleet::{Fleet, Notice};

const WORKERS: u32 = 1_024;
const TASK_MS: u64 = 30_000;
/// So many tasks keep all workers busy for an hour.
const TASKS: u32 = WORKERS * 120;
const MINUTE_MS: u64 = 60_000;

fn wait_until(fleet: &mut Fleet, time_ms: u64) {
    while fleet.now < time_ms {
        fleet.passes();
    }
}

/// The line that this test prints is a row of `make bench-recovery`.
#[test]
fn fault_2977_two_waves_of_deaths_lose_less_than_two_percent_of_the_worker_seconds() {
    let mut fleet = Fleet::new(&[TASKS], TASK_MS);
    fleet.register(WORKERS as usize);
    // A wave comes in the middle of a round of tasks, when half of each task is done.
    let wave_ms = 20 * MINUTE_MS + TASK_MS / 2;
    wait_until(&mut fleet, wave_ms);
    fleet.die(638, Notice::Half);
    wait_until(&mut fleet, wave_ms + 31_000);
    fleet.come_back(55);
    wait_until(&mut fleet, wave_ms + 145_000);
    fleet.die(usize::MAX, Notice::Nothing);
    // In the incident no worker came back. Here all of them come back, so that the job ends and can
    // be measured.
    wait_until(&mut fleet, wave_ms + 205_000);
    fleet.come_back(usize::MAX);
    while fleet.state.result().is_none() {
        assert!(fleet.now < 3 * 60 * MINUTE_MS, "it does not end");
        fleet.passes();
    }
    fleet.check();

    let time = fleet.time;
    assert_eq!(fleet.committed(), TASKS as usize);
    let useful = u64::from(TASKS) * TASK_MS;
    let thrown_away = time.busy - useful - time.died_with_workers;
    let lost = thrown_away + time.idle_beside_work;
    let percent = |part: u64| {
        let hundredths = part * 10_000 / time.lived;
        format!("{}.{:02} %", hundredths / 100, hundredths % 100)
    };
    println!(
        "row: worker-seconds lost through two waves of deaths (1,024 workers, 30 s tasks, 1 h of work; virtual time)\
         |{} of {} ({} thrown away, {} idle beside work; {} died with their workers)|<= 2 %",
        percent(lost),
        time.lived / 1_000,
        percent(thrown_away),
        percent(time.idle_beside_work),
        percent(time.died_with_workers)
    );
    assert!(
        time.died_with_workers > 0,
        "no worker was lost while it ran a task"
    );
    assert!(
        lost * 50 <= time.lived,
        "{} are lost: {time:?}",
        percent(lost)
    );
}
