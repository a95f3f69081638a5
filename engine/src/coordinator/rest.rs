//! Pauses a worker that fails tasks because its disk is full or because it cannot start a process.
//! Without the pause, such a worker would be idle again at once, and would get each retried task
//! before healthy workers. Gives up no worker and charges nothing.

use crate::coordinator::state::{State, Worker, WorkerNumber};
use crate::id::Timestamp;

/// The longest pause. It is short, so that a task starts soon even if all workers have problems:
/// within two heartbeat intervals of a small fleet.
const LONGEST_REST_MS: u64 = 10_000;

impl State {
    /// Pauses a worker, longer each time until one of its tasks is done.
    pub(crate) fn rest(&mut self, number: WorkerNumber, now: Timestamp) {
        let backoff = self.config.backoff;
        self.with_worker(number, |worker| {
            worker.unhealthy = worker.unhealthy.saturating_add(1);
            let rest_ms = backoff.delay_ms(worker.unhealthy).min(LONGEST_REST_MS);
            worker.rests_until = Some(now.after_ms(rest_ms));
        });
    }

    /// Ends the pauses whose time is over.
    pub(crate) fn end_rests(&mut self, now: Timestamp) {
        let rested: Vec<WorkerNumber> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.rests_until.is_some_and(|until| until <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in rested {
            self.with_worker(number, |worker| worker.rests_until = None);
        }
    }

    /// Ends the pause of a worker that has done a task, because it is healthy. This is called for
    /// each report, so for a healthy worker it costs only a lookup.
    pub(crate) fn recover(&mut self, number: WorkerNumber) {
        let was_unhealthy = |worker: &Worker| worker.unhealthy > 0;
        if self.workers.get(&number).is_some_and(was_unhealthy) {
            self.with_worker(number, |worker| {
                worker.unhealthy = 0;
                worker.rests_until = None;
            });
        }
    }
}
