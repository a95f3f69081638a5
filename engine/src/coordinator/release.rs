//! Computes how many workers can still be useful, and decides whether the end of a worker is its
//! release. The operator lowers the number of pods; this module only counts.

use crate::coordinator::state::{JobState, State, Worker};

/// How many workers stay for each task that is not committed: one that runs the task, and one that
/// can take it over at once if the first is lost or slow. With only one worker, the last task of a
/// job could be left without a worker.
const WORKERS_PER_TASK: u64 = 2;

impl State {
    /// How many workers can still be useful, counted by ordinal from 0. Workers with higher
    /// ordinals can be released. `None` if the number is not known. The tasks of all stages count,
    /// including stages that have not started and tasks that run again because their output was
    /// lost. So the number falls only at the end of the last stage, and rises again if necessary.
    /// The ordinal of a worker with a task is always below the number.
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
        // The wanted workers are those with the lowest existing ordinals. If fewer workers exist
        // than are needed, one more ordinal above them is wanted for each missing worker, because
        // the missing workers may never come back.
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
        // One worker stays until the job has ended, because a lost final file must be written
        // again.
        open.saturating_mul(WORKERS_PER_TASK).max(1)
    }

    /// Records that the operator keeps only this number of workers. A worker that was released
    /// because of an earlier number and already terminates stays released.
    pub(crate) fn on_workers_kept(&mut self, workers: u32) {
        self.workers_kept = Some(workers);
        for worker in self.workers.values_mut() {
            let is_above = worker.ordinal.is_some_and(|ordinal| ordinal >= workers);
            worker.is_let_go = is_above || worker.is_let_go && worker.draining;
        }
    }

    /// Whether the operator releases the worker with this ordinal.
    pub(crate) fn is_above_kept(&self, ordinal: Option<u32>) -> bool {
        let kept = ordinal.zip(self.workers_kept);
        kept.is_some_and(|(ordinal, kept)| ordinal >= kept)
    }

    /// Whether the end of a worker counts as its release, because it has no task and is not needed
    /// any more. Workers that were released earlier may still end after all tasks are done.
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
