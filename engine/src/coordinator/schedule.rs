//! Decides which task runs at which worker. The lowest stage whose inputs are complete comes first,
//! and in it the lowest shard. The task goes to the worker with the most free capacity. A worker is
//! given one task for each slot, and a few more while tasks are short. A dispatch takes logarithmic
//! time.

use crate::coordinator::effect::Dispatch;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::record::FailureClass;
use crate::coordinator::state::{
    FULL_LOAD, JobState, Place, RunningAttempt, State, TaskState, WorkerNumber,
};
use crate::id::{Attempt, ShardId, StageId, TaskAttempt, TaskId, Timestamp};

impl State {
    /// Dispatches as many tasks as there is capacity for.
    pub(crate) fn dispatch(&mut self, out: &mut Outbox, now: Timestamp) {
        if self.job != JobState::Running || self.drains || now < self.dispatch_from {
            return;
        }
        self.release_delayed(now);
        for position in 0..self.stages.len() {
            let Ok(position) = u32::try_from(position) else {
                return;
            };
            let stage = StageId(position);
            let Some(input) = self.stage_input(stage) else {
                continue;
            };
            let room = FULL_LOAD * (1 + self.config.advance.per_slot(self.stage(stage).latency_ms));
            while let Some((shard, number)) = self.next_match(stage, room) {
                self.run(out, now, TaskId { stage, shard }, number, input.clone());
            }
        }
    }

    /// The next task of the stage and a worker for it, if both exist.
    fn next_match(&self, stage: StageId, room: u64) -> Option<(ShardId, WorkerNumber)> {
        let shard = *self.stage(stage).ready.first()?;
        let has_room =
            |(place, number): &&(Place, WorkerNumber)| self.fits(stage, *place, *number, room);
        let (_, number) = self.by_load.first().filter(has_room)?;
        let history = self.histories.get(&TaskId { stage, shard });
        let Some(history) = history else {
            return Some((shard, *number));
        };
        // If this worker gave the task back, or was lost while it ran the task, that may happen
        // again. So any other worker with free capacity is better.
        let is_avoided = |other: &WorkerNumber| {
            self.workers.get(other).is_some_and(|worker| {
                history.held_up.avoids(worker) || history.lost_workers.avoids(worker)
            })
        };
        let mut with_room = self.by_load.iter().take_while(has_room);
        let other = with_room.find(|(_, other)| !is_avoided(other));
        Some((shard, other.map_or(*number, |(_, other)| *other)))
    }

    /// Whether a worker has room for a task of the stage: a task that takes several slots needs
    /// room for all of them.
    pub(crate) fn fits(
        &self,
        stage: StageId,
        place: Place,
        number: WorkerNumber,
        room: u64,
    ) -> bool {
        let others = self.workers.get(&number).map_or(0, |worker| {
            let slots = u64::from(worker.slots_for(stage)) - 1;
            slots * FULL_LOAD / u64::from(worker.slots.max(1))
        });
        place.load + others < room
    }

    fn release_delayed(&mut self, now: Timestamp) {
        while let Some((moment, task)) = self.delayed.first().copied()
            && moment <= now
        {
            self.take(task);
            self.put(task, TaskState::Queued { not_before: None });
        }
    }

    /// Dispatches an attempt: the first of a queued task, or a further one of a running task.
    pub(crate) fn run(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        task: TaskId,
        number: WorkerNumber,
        input_outputs: Vec<String>,
    ) {
        let Some(session) = self.session_of(number) else {
            return;
        };
        let epoch = self.epoch;
        let known = &mut self.stage_mut(task.stage).tasks[task.shard.0 as usize];
        let attempt = Attempt {
            epoch,
            number: known.next_number,
        };
        known.next_number += 1;
        let mut attempts = match self.take(task) {
            TaskState::Running { attempts } => attempts,
            TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Committing { .. }
            | TaskState::Done { .. } => Vec::new(),
        };
        attempts.push(RunningAttempt {
            attempt,
            worker: number,
            since: now,
            is_adopted: false,
            records: 0,
        });
        self.put(task, TaskState::Running { attempts });
        let task = TaskAttempt { task, attempt };
        self.with_worker(number, |worker| worker.running.insert(task));
        let trace_records = self.ended_with_its_process(task.task);
        out.run(
            session,
            Dispatch {
                task,
                input_outputs,
                trace_records,
            },
        );
    }

    /// Whether an earlier attempt of the task may have ended together with its process. Such an
    /// attempt could not report its last record. Failures of the same class that an attempt has
    /// reported itself count too.
    fn ended_with_its_process(&self, task: TaskId) -> bool {
        self.histories.get(&task).is_some_and(|history| {
            history
                .failures
                .iter()
                .any(|failure| failure.class == FailureClass::Application && !failure.is_setback)
        })
    }
}
