//! How many workers can still be of use. Counted only: who lowers the number of pods is not here,
//! and nobody is told to go.

use crate::coordinator::state::{JobState, State, Worker};

/// Workers that stay for each task that is not committed: the one that runs it, and one that takes
/// it over at once when that one is lost or straggles. With a single one, the last task of a job
/// could be left with nobody.
const WORKERS_PER_TASK: u64 = 2;

impl State {
    /// How many workers can still be of use, counted by ordinal from 0, so that those above can be
    /// released; nothing where that cannot be said. Tasks of all stages count, also of those that
    /// have not started, and so does a task that runs again because its output was lost: so the
    /// number falls in the tail of the last stage only, and rises again when it must. No worker
    /// that has a task lies above it.
    pub(crate) fn useful_workers(&self) -> Option<u32> {
        if self.job != JobState::Running {
            return None;
        }
        let mut there = Vec::with_capacity(self.workers.len());
        let mut above_busy = 0;
        for worker in self.workers.values() {
            let ordinal = worker.ordinal?;
            if worker.place().is_some() {
                there.push(ordinal);
            }
            if !worker.running.is_empty() {
                above_busy = above_busy.max(u64::from(ordinal) + 1);
            }
        }
        // The lowest that are there. Where fewer are there than wanted, as many more above them:
        // those below that are not there come back by themselves, or never do.
        let wanted = self.wanted_workers();
        let missing = wanted.saturating_sub(there.len() as u64);
        let last_wanted = usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .min(there.len())
            .checked_sub(1)
            .map(|position| *there.select_nth_unstable(position).1);
        let above_wanted = last_wanted.map_or(0, |ordinal| u64::from(ordinal) + 1);
        let useful = above_wanted.saturating_add(missing).max(above_busy);
        Some(u32::try_from(useful).unwrap_or(u32::MAX))
    }

    fn wanted_workers(&self) -> u64 {
        let open = |stage: &crate::coordinator::state::StageState| {
            u64::from(stage.total()) - u64::from(stage.committed)
        };
        let open: u64 = self.stages.iter().map(open).sum();
        // One stays until the job is over: a final file that is found lost is written again.
        open.saturating_mul(WORKERS_PER_TASK).max(1)
    }

    /// Whether a worker's going is as good as its being released: it has no task and is not wanted
    /// any more. When all tasks are done those go that were released before.
    pub(crate) fn is_dispensable(&self, worker: &Worker) -> bool {
        let is_released = || {
            self.wanted_workers() < self.workers.len() as u64
                && self
                    .useful_workers()
                    .zip(worker.ordinal)
                    .is_some_and(|(useful, ordinal)| ordinal >= useful)
        };
        worker.running.is_empty() && (self.job != JobState::Running || is_released())
    }
}
