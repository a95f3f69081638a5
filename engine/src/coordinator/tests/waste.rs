//! What deaths cost: the worker-seconds of a job of an hour through the two waves of the incident,
//! over virtual time.
//!
//! *Lost* is what a coordinator can be blamed for: time that living workers spent on attempts whose
//! results nobody took, and time in which they had nothing to run although a task was neither
//! committed nor at a worker that lives. What had been done of attempts whose workers were killed
//! is lost whatever a coordinator does, and is counted apart; so is the idleness of the end, when
//! there are fewer tasks than workers.

use super::fleet::{Fleet, Notice};

const WORKERS: u32 = 1_024;
const TASK_MS: u64 = 30_000;
/// An hour of all workers.
const TASKS: u32 = WORKERS * 120;
const MINUTE_MS: u64 = 60_000;

fn wait_until(fleet: &mut Fleet, time_ms: u64) {
    while fleet.now < time_ms {
        fleet.passes();
    }
}

/// Its line is a row of `make bench-recovery`.
#[test]
fn fault_2977_two_waves_of_deaths_lose_less_than_two_percent_of_the_worker_seconds() {
    let mut fleet = Fleet::new(&[TASKS], TASK_MS);
    fleet.register(WORKERS as usize);
    // In the middle of a round of tasks: half of each is done.
    let wave_ms = 20 * MINUTE_MS + TASK_MS / 2;
    wait_until(&mut fleet, wave_ms);
    fleet.die(638, Notice::Half);
    wait_until(&mut fleet, wave_ms + 31_000);
    fleet.come_back(55);
    wait_until(&mut fleet, wave_ms + 145_000);
    fleet.die(usize::MAX, Notice::Nothing);
    // That day nobody came back; here all do, so that there is an end to count to.
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
    assert!(time.died_with_workers > 0, "the waves hit nobody at work");
    assert!(
        lost * 50 <= time.lived,
        "{} are lost: {time:?}",
        percent(lost)
    );
}
