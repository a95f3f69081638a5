//! Gives stragglers at the end of a stage a second attempt: if a slot is idle and a task takes much
//! longer than the finished tasks took, a second attempt of it runs at another worker. The first
//! commit wins, as for all attempts. This module neither commits nor cancels.

use crate::coordinator::outbox::Outbox;
use crate::coordinator::state::{
    FULL_LOAD, JobState, StageProgress, State, TaskState, WorkerNumber,
};
use crate::id::{StageId, TaskId, Timestamp};

/// The largest number of attempts of one task at the same time.
const MAX_ATTEMPTS: usize = 2;

impl State {
    /// Gives second attempts of stragglers to idle slots: the lowest stage first, and in it the
    /// straggler that has run longest. Called after `dispatch`, so a slot that is still idle has
    /// nothing else to do.
    pub(crate) fn speculate(&mut self, out: &mut Outbox, now: Timestamp) {
        let may_start = self.job == JobState::Running && !self.drains && now >= self.dispatch_from;
        if !may_start || !self.has_idle_slot() {
            return;
        }
        for position in 0..self.stages.len() {
            let Ok(position) = u32::try_from(position) else {
                return;
            };
            let stage = StageId(position);
            let Some(limit_ms) = self.straggles_after_ms(stage) else {
                continue;
            };
            for (task, worker) in self.stragglers(stage, limit_ms, now) {
                let Some(other) = self.idle_worker_but(worker) else {
                    break;
                };
                let input = self.stage_input(stage).unwrap_or_default();
                self.run(out, now, task, other, input);
                self.speculations += 1;
            }
        }
    }

    fn has_idle_slot(&self) -> bool {
        self.by_load
            .first()
            .is_some_and(|(place, _)| place.load < FULL_LOAD)
    }

    /// The least busy worker that has an idle slot and is not the worker `not`.
    fn idle_worker_but(&self, not: WorkerNumber) -> Option<WorkerNumber> {
        self.by_load
            .iter()
            .take_while(|(place, _)| place.load < FULL_LOAD)
            .map(|(_, number)| *number)
            .find(|number| *number != not)
    }

    /// How long an attempt of this stage may run until it counts as a straggler. `None` while the
    /// stage gets no second attempts: if speculation is off, before the end of the stage, without
    /// its input, or if no duration is known.
    fn straggles_after_ms(&self, stage: StageId) -> Option<u64> {
        let policy = self.config.speculation?;
        let known = self.stage(stage);
        let is_tail = known.progress == StageProgress::Running
            && known.ready.is_empty()
            && known.running > 0
            && u64::from(known.committed) * 100
                >= u64::from(known.total()) * policy.committed_percent;
        // Without its input a second attempt could not run.
        if !is_tail || !self.has_input(stage) {
            return None;
        }
        let median = known.durations.median_ms()?;
        Some(
            median
                .saturating_mul(policy.times_median)
                .max(policy.elapsed_min_ms),
        )
    }

    /// Tasks with one attempt that has run for longer than this, longest first, with their workers.
    /// Tasks that failed before are excluded. Such a task is slow by itself, or fails by itself and
    /// would be charged for both attempts.
    fn stragglers(
        &self,
        stage: StageId,
        limit_ms: u64,
        now: Timestamp,
    ) -> Vec<(TaskId, WorkerNumber)> {
        let running = self.workers.iter().flat_map(|(number, worker)| {
            worker.running.iter().map(move |task| (task.task, *number))
        });
        let mut late: Vec<_> = running
            .filter(|(task, _)| task.stage == stage)
            .filter_map(|(task, number)| {
                let TaskState::Running { attempts } = &self.task(task)?.state else {
                    return None;
                };
                let [only] = attempts.as_slice() else {
                    return None;
                };
                let has_failed = self
                    .histories
                    .get(&task)
                    .is_some_and(|history| history.own_failures().next().is_some());
                let is_late = now.since_ms(only.since) >= limit_ms && attempts.len() < MAX_ATTEMPTS;
                (is_late && !has_failed).then_some((only.since, task, number))
            })
            .collect();
        late.sort_unstable();
        late.into_iter()
            .map(|(_, task, number)| (task, number))
            .collect()
    }
}
