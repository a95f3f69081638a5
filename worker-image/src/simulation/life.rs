//! Plays the operator in a job's life: cancels the job at the times of the settings, and restarts
//! it as the next generation once its end is reported. This module checks nothing.

use std::time::Duration;

use tokio::time::Instant;
use zephyr_engine::coordinator::record::JobResult;

use super::cluster::Fleet;

/// The interval between two requests to end the job. The operator repeats the request on every new
/// stream.
const ASKS_EVERY: Duration = Duration::from_secs(1);

impl Fleet {
    pub(super) fn cancel_and_restart(&mut self, now: Instant) {
        let Some(due) = self.cancels.last().copied() else {
            return;
        };
        // Before the first commit, a restarted job is planned anew, on a thread for which no
        // simulated time passes. The tests of planning do that.
        if now < due || !self.world.has_commits() {
            return;
        }
        match self.world.result() {
            // A job that has succeeded cannot be restarted.
            Some(JobResult::Succeeded { .. }) => self.cancels.clear(),
            Some(JobResult::Failed { .. }) => {
                if self
                    .current()
                    .any(super::coordinator::Coordinator::shows_result)
                {
                    self.cancels.pop();
                    self.restart(now);
                }
            }
            None => {
                if self.asks_next <= now {
                    self.asks_next = now + ASKS_EVERY;
                    self.current()
                        .for_each(super::coordinator::Coordinator::cancel);
                }
            }
        }
    }

    /// Deletes the pods of this generation, and starts the next one. A coordinator that stands
    /// still is on a lost node: it is not gone, and wakes up later.
    fn restart(&mut self, now: Instant) {
        for coordinator in &mut self.coordinators {
            coordinator.is_replaced = true;
            let process = coordinator.process().clone();
            if !process.is_stalled() {
                coordinator.kill();
                self.world.network.leaves(&process);
            }
        }
        while !self.workers.is_empty() {
            self.worker_is_gone(0, true);
        }
        self.generation += 1;
        let line = format!("the job is restarted as generation {}", self.generation);
        self.world.journal.note(&line);
        let wait = Duration::from_millis(self.rng.between(500, 10_000));
        self.coordinator_starts = Some(now + wait);
    }
}
