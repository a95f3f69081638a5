//! Causes the faults of coordinators, workers, streams and the store. A run's settings determine
//! which faults happen, and how often.

use std::time::Duration;

use object_store::path::Path;
use tokio::time::{Instant, sleep};

use super::cluster::Fleet;
use super::network::KEEPALIVE;
use super::process::Process;
use super::settings::Nemesis;

/// How often the output of one task is lost at most. If it were lost more often, the job would have
/// to fail.
const MAX_LOSSES: u64 = 2;

impl Fleet {
    pub(super) fn inject_fault(&mut self, now: Instant, heals_at: Instant) {
        let Some(nemesis) = self.rng.pick(&self.world.settings.nemeses) else {
            return;
        };
        let seconds = self.rng.between(1, 90);
        let until = heals_at.min(now + Duration::from_secs(seconds));
        // Large faults are rarer, because each of them affects all processes.
        let is_large_fault = self.rng.percent(20);
        match nemesis {
            Nemesis::CoordinatorDies => self.coordinator_dies(),
            Nemesis::CoordinatorStalls if is_large_fault => self.coordinator_stalls(until),
            Nemesis::CoordinatorIsReplacedAlive if is_large_fault => {
                if let Some(newest) = self.coordinators.last_mut() {
                    newest.is_replaced = true;
                }
                if self.rng.percent(70) {
                    self.coordinator_stalls(until);
                }
            }
            Nemesis::WorkerDies
            | Nemesis::WorkerDrains
            | Nemesis::WorkerStalls
            | Nemesis::StreamBreaks
            | Nemesis::StreamDropsMessages => self.strike_worker(nemesis, until),
            Nemesis::StoreIsAway if is_large_fault => {
                self.world.journal.note("the store is away");
                self.world.server.fails_until(until);
            }
            Nemesis::OutputIsLost => self.output_is_lost(),
            Nemesis::CoordinatorStalls
            | Nemesis::CoordinatorIsReplacedAlive
            | Nemesis::StoreIsAway => {}
        }
    }

    fn coordinator_dies(&mut self) {
        let Some(newest) = self.coordinators.last() else {
            return;
        };
        let process = newest.process().clone();
        self.world.journal.note(&format!("{} dies", process.name()));
        newest.kill();
        self.world.network.leaves(&process);
    }

    fn coordinator_stalls(&mut self, until: Instant) {
        let Some(newest) = self.coordinators.last() else {
            return;
        };
        let process = newest.process().clone();
        self.stall(&process, until);
        let network = std::sync::Arc::clone(&self.world.network);
        tokio::spawn(async move {
            sleep(KEEPALIVE).await;
            if process.is_stalled() {
                network.leaves(&process);
            }
        });
    }

    fn strike_worker(&mut self, nemesis: Nemesis, until: Instant) {
        let Some(last) = (self.workers.len() as u64).checked_sub(1) else {
            return;
        };
        let number = usize::try_from(self.rng.between(0, last)).unwrap_or(0);
        let is_known = self.rng.percent(50);
        let (pod, process) = {
            let worker = &self.workers[number];
            (worker.pod, worker.process.clone())
        };
        let note = |what: &str| {
            let line = format!("{} {what}", process.name());
            self.world.journal.note(&line);
        };
        match nemesis {
            Nemesis::WorkerDies => self.worker_is_gone(number, is_known),
            Nemesis::WorkerDrains => {
                note("receives SIGTERM");
                self.workers[number].terminate();
            }
            Nemesis::WorkerStalls => self.stall(&process, until),
            Nemesis::StreamBreaks => {
                note("loses its stream");
                self.world.network.breaks(pod, true, is_known);
            }
            Nemesis::StreamDropsMessages => {
                note("has a deaf stream");
                let (up, down) = self
                    .rng
                    .pick(&[(true, false), (false, true), (true, true)])
                    .unwrap_or((true, true));
                self.world.network.drops_messages(pod, up, down);
            }
            Nemesis::CoordinatorDies
            | Nemesis::CoordinatorStalls
            | Nemesis::CoordinatorIsReplacedAlive
            | Nemesis::StoreIsAway
            | Nemesis::OutputIsLost => {}
        }
    }

    fn output_is_lost(&mut self) {
        let committed = self.world.committed_shuffles();
        let Some((task, path)) = self.rng.pick(&committed) else {
            return;
        };
        let losses = self.losses.entry(task.task).or_default();
        *losses += 1;
        if *losses > MAX_LOSSES {
            return;
        }
        let path = Path::from(path);
        if self.rng.percent(50) {
            self.world
                .journal
                .note(&format!("the file of {task} vanishes"));
            self.world.server.delete(&path);
        } else {
            self.world
                .journal
                .note(&format!("the file of {task} is damaged"));
            self.world.server.damage(&path, self.rng.next());
        }
    }

    fn stall(&mut self, process: &Process, until: Instant) {
        self.world
            .journal
            .note(&format!("{} stands still", process.name()));
        process.stall(true);
        self.stalled.push((until, process.clone()));
    }
}
