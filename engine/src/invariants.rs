//! Checks the invariants of a coordinator's state, which must hold after every step. Tests, the
//! simulation and assertions use this module. It repairs nothing. It looks at every task, so it is
//! too slow for production.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::counters::{CounterName, CounterTotal};
use crate::coordinator::effect::Effect;
use crate::coordinator::record::{FilePlace, JobResult};
use crate::coordinator::state::{
    FULL_LOAD, FinalFile, JobState, Recorded, StageProgress, StageState, State, Task, TaskState,
    Totals, is_unfinished,
};
use crate::id::{ShardId, StageId, TaskAttempt, TaskId};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// The invariant.
    pub rule: &'static str,
    /// The facts that contradict it.
    pub detail: String,
}

fn require(
    holds: bool,
    rule: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            rule,
            detail: detail(),
        })
    }
}

/// Checks all invariants.
pub fn check(state: &State) -> Result<(), Violation> {
    sessions_workers_and_pods_name_each_other(state)?;
    workers_and_tasks_agree_on_what_runs(state)?;
    counts_and_queues_follow_from_the_tasks(state)?;
    skipped_records_are_those_of_committed_tasks(state)?;
    counters_are_those_of_committed_tasks(state)?;
    attempts_are_distinct_and_were_dispatched(state)?;
    a_stage_without_tasks_is_not_finished(state)?;
    stages_form_a_graph(state)?;
    stages_start_when_their_inputs_are_complete(state)?;
    files_are_where_their_stage_writes(state)?;
    everything_that_waits_for_the_ledger_is_on_its_way(state)?;
    no_budget_is_overdrawn(state)?;
    nothing_is_free_forever(state)?;
    nothing_runs_after_the_end(state)?;
    no_slot_is_idle_while_a_task_could_run(state)
}

/// The attempts whose end the coordinator still has to tell: those at workers, and those that won
/// and whose records are not durable.
pub fn open_attempts(state: &State) -> BTreeSet<TaskAttempt> {
    let running = state.workers.values().flat_map(|worker| &worker.running);
    let won = state.won.iter().map(|(_, won)| &won.task);
    running.chain(won).copied().collect()
}

/// Checks that a step with these effects has told the end of each attempt that was open before it
/// and is not open after it, once, and of no attempt that was not open.
pub fn check_ends(
    before: &BTreeSet<TaskAttempt>,
    effects: &[Effect],
    state: &State,
) -> Result<(), Violation> {
    let rule = "each attempt ends once";
    let mut told = BTreeSet::new();
    for effect in effects {
        if let Effect::AttemptsEnded(ended) = effect {
            for one in ended {
                require(told.insert(one.task), rule, || {
                    format!("{} twice", one.task)
                })?;
                require(before.contains(&one.task), rule, || {
                    format!("{} was not open", one.task)
                })?;
            }
        }
    }
    let after = open_attempts(state);
    let gone = before.difference(&after);
    let untold: Vec<&TaskAttempt> = gone.filter(|task| !told.contains(task)).collect();
    require(untold.is_empty(), rule, || format!("no end of {untold:?}"))
}

fn sessions_workers_and_pods_name_each_other(state: &State) -> Result<(), Violation> {
    let rule = "sessions, workers and pods name each other";
    for (number, worker) in &state.workers {
        let listed = worker
            .session()
            .is_none_or(|session| state.sessions.get(&session) == Some(number));
        require(listed, rule, || {
            format!("the session of {} is not its own", worker.id)
        })?;
        require(
            state.pods.get(worker.id.pod_uid()) == Some(number),
            rule,
            || format!("the pod of {} is not its own", worker.id),
        )?;
        let listed = worker
            .place()
            .is_none_or(|place| state.by_load.contains(&(place, *number)));
        require(listed, rule, || {
            format!("{} is not listed by its load", worker.id)
        })?;
    }
    let connected = state
        .workers
        .values()
        .filter(|worker| worker.session().is_some())
        .count();
    let takers = state
        .workers
        .values()
        .filter(|worker| worker.place().is_some())
        .count();
    require(state.sessions.len() == connected, rule, || {
        "there are sessions without a worker".to_owned()
    })?;
    require(state.pods.len() == state.workers.len(), rule, || {
        "there are pods without a worker".to_owned()
    })?;
    require(state.by_load.len() == takers, rule, || {
        "there are loads without a worker".to_owned()
    })?;
    require(
        state.no_worker_since.is_none() || state.workers.is_empty(),
        rule,
        || "a worker is known, but none counts as alive".to_owned(),
    )
}

fn tasks(state: &State) -> impl Iterator<Item = (TaskId, &crate::coordinator::state::Task)> {
    let stages = (0..).map(StageId).zip(&state.stages);
    stages.flat_map(|(stage, known)| {
        let shards = (0..).map(ShardId).zip(&known.tasks);
        shards.map(move |(shard, task)| (TaskId { stage, shard }, task))
    })
}

fn workers_and_tasks_agree_on_what_runs(state: &State) -> Result<(), Violation> {
    let rule = "an attempt runs at exactly one worker, which knows of it";
    let mut running = 0;
    for (id, task) in tasks(state) {
        let TaskState::Running { attempts } = &task.state else {
            continue;
        };
        require(!attempts.is_empty(), rule, || format!("{id} runs nowhere"))?;
        for attempt in attempts {
            running += 1;
            let name = TaskAttempt {
                task: id,
                attempt: attempt.attempt,
            };
            let known = state
                .workers
                .get(&attempt.worker)
                .is_some_and(|worker| worker.running.contains(&name));
            require(known, rule, || format!("{name} is not at its worker"))?;
        }
    }
    let at_workers: usize = state
        .workers
        .values()
        .map(|worker| worker.running.len())
        .sum();
    require(running == at_workers, rule, || {
        format!("tasks run {running} attempts, workers {at_workers}")
    })
}

fn counts_and_queues_follow_from_the_tasks(state: &State) -> Result<(), Violation> {
    let rule = "counts and queues follow from the tasks";
    let mut delayed = BTreeSet::new();
    for (position, stage) in (0..).zip(&state.stages) {
        let id = StageId(position);
        let shards = || (0..).map(ShardId).zip(&stage.tasks);
        let ready: BTreeSet<ShardId> = shards()
            .filter(|(_, task)| matches!(task.state, TaskState::Queued { not_before: None }))
            .map(|(shard, _)| shard)
            .collect();
        require(ready == stage.ready, rule, || {
            format!("stage {id}: the queue is not what is queued")
        })?;
        for (shard, task) in shards() {
            if let TaskState::Queued {
                not_before: Some(moment),
            } = task.state
            {
                delayed.insert((moment, TaskId { stage: id, shard }));
            }
        }
        check_counts(id, stage)?;
    }
    require(delayed == state.delayed, rule, || {
        "the delayed queue is not what is delayed".to_owned()
    })
}

fn skipped_records_are_those_of_committed_tasks(state: &State) -> Result<(), Violation> {
    let rule = "skipped records are counted once for each committed task";
    for (origin, counted) in &state.bad {
        let (mut arrived, mut skipped) = (0_u64, 0_u64);
        let outputs = tasks(state).filter_map(|(_, task)| task.state.committed());
        for bad in outputs.flat_map(|(_, output)| output.bad_records()) {
            if bad.origin == *origin {
                arrived = arrived.wrapping_add(bad.arrived);
                skipped = skipped.wrapping_add(bad.skipped);
            }
        }
        require(
            (arrived, skipped) == (counted.arrived, counted.skipped),
            rule,
            || format!("{origin}: {counted:?} instead of {skipped} of {arrived}"),
        )?;
    }
    Ok(())
}

fn counters_are_those_of_committed_tasks(state: &State) -> Result<(), Violation> {
    let rule = "counters are counted once for each committed task";
    let outputs = tasks(state).filter_map(|(_, task)| task.state.committed());
    let mut expected = BTreeMap::<CounterName, CounterTotal>::new();
    for (name, count) in outputs.flat_map(|(_, output)| output.counters()) {
        let total = expected.entry(name.clone()).or_default();
        total.tasks += 1;
        total.count += u128::from(*count);
    }
    require(expected == state.counters, rule, || {
        format!("{:?} instead of {expected:?}", state.counters)
    })
}

fn check_counts(id: StageId, stage: &StageState) -> Result<(), Violation> {
    let rule = "counts and queues follow from the tasks";
    let count = |wanted: fn(&TaskState) -> bool| {
        stage
            .tasks
            .iter()
            .filter(|task| wanted(&task.state))
            .count()
    };
    let counts = [
        (
            "running",
            stage.running,
            count(|state| matches!(state, TaskState::Running { .. })),
        ),
        (
            "committed",
            stage.committed,
            count(|state| state.committed().is_some()),
        ),
        (
            "finalized",
            stage.finalized,
            count(|state| state.final_file() == Some(FinalFile::Finalized)),
        ),
    ];
    let unfinished = stage.tasks.iter().filter(|task| match &task.state {
        TaskState::Done { output, file, .. } => is_unfinished(output, *file),
        TaskState::Waiting
        | TaskState::Queued { .. }
        | TaskState::Running { .. }
        | TaskState::Committing { .. } => false,
    });
    let unfinished = (
        "with unfinished files",
        stage.unfinished_files,
        unfinished.count(),
    );
    for (name, counted, real) in counts.into_iter().chain([unfinished]) {
        require(counted as usize == real, rule, || {
            format!("stage {id}: {counted} counted as {name}, {real} are")
        })?;
    }
    let mut totals = Totals::default();
    for (_, output) in stage.tasks.iter().filter_map(|task| task.state.committed()) {
        totals.records_in = totals.records_in.wrapping_add(output.records_in);
        totals.bytes_in = totals.bytes_in.wrapping_add(output.bytes_in);
        totals.rows_out = totals.rows_out.wrapping_add(output.file.rows);
        totals.bytes_out = totals.bytes_out.wrapping_add(output.file.bytes);
    }
    require(totals == stage.totals, rule, || {
        format!(
            "stage {id}: totals {:?} instead of {totals:?}",
            stage.totals
        )
    })
}

fn attempts_are_distinct_and_were_dispatched(state: &State) -> Result<(), Violation> {
    let rule = "attempts of a task are distinct, were dispatched and are not over";
    for (id, task) in tasks(state) {
        let running: &[_] = if let TaskState::Running { attempts } = &task.state {
            attempts
        } else {
            &[]
        };
        let names: Vec<_> = running
            .iter()
            .map(|attempt| attempt.attempt)
            .chain(task.state.winner().map(|(winner, _)| winner))
            .collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        require(distinct.len() == names.len(), rule, || {
            format!("{id}: {names:?}")
        })?;
        for name in names {
            let dispatched = name.number > 0
                && (name.epoch < state.epoch
                    || (name.epoch == state.epoch && name.number < task.next_number));
            require(dispatched, rule, || {
                format!("{id} attempt {name} was never dispatched")
            })?;
            let is_over = state
                .histories
                .get(&id)
                .is_some_and(|history| history.has_dealt_with(name));
            require(!is_over, rule, || {
                format!("{id} attempt {name} failed or was revoked before")
            })?;
        }
    }
    Ok(())
}

fn a_stage_without_tasks_is_not_finished(state: &State) -> Result<(), Violation> {
    let rule = "a stage is finished only when it started and all its tasks are committed";
    for (position, stage) in (0..).zip(&state.stages) {
        let id = StageId(position);
        let all_committed = stage.committed == stage.total();
        let waiting = stage
            .tasks
            .iter()
            .filter(|task| task.state == TaskState::Waiting)
            .count();
        match &stage.progress {
            StageProgress::NotStarted => {
                require(waiting == stage.tasks.len(), rule, || {
                    format!("stage {id} has not started, but tasks of it have")
                })?;
            }
            StageProgress::Running => require(waiting == 0, rule, || {
                format!("stage {id} runs, but {waiting} tasks have not started")
            })?,
            StageProgress::Publishing { .. }
            | StageProgress::Recording { .. }
            | StageProgress::Finished { .. } => {
                require(all_committed, rule, || {
                    format!(
                        "stage {id}: {} of {} tasks are committed",
                        stage.committed,
                        stage.total()
                    )
                })?;
            }
        }
    }
    Ok(())
}

fn stages_form_a_graph(state: &State) -> Result<(), Violation> {
    let rule = "a stage reads stages before it, each knows its readers, and only the last has none";
    for (position, stage) in (0..).zip(&state.stages) {
        let id = StageId(position);
        for read in &stage.reads {
            let is_known = *read < id && state.stage(*read).readers.contains(&id);
            require(is_known, rule, || format!("stage {id} reads stage {read}"))?;
        }
        for reader in &stage.readers {
            let is_known = *reader > id && state.stage(*reader).reads.contains(&id);
            require(is_known, rule, || {
                format!("stage {reader} reads stage {id}")
            })?;
        }
        let is_right = stage.readers.is_empty() == state.is_last_stage(id);
        require(is_right, rule, || {
            format!("stage {id} has {} readers", stage.readers.len())
        })?;
    }
    Ok(())
}

fn stages_start_when_their_inputs_are_complete(state: &State) -> Result<(), Violation> {
    let rule = "a stage starts when all stages that it reads are finished, and not before";
    for (position, stage) in (0..).zip(&state.stages) {
        let id = StageId(position);
        let has_started = stage.progress != StageProgress::NotStarted;
        let finished = |read: &StageId| state.stage(*read).outputs().is_some();
        require(
            has_started || !stage.reads.iter().all(finished),
            rule,
            || format!("stage {id} has not started, and all that it reads is finished"),
        )?;
        // A finished stage begins again only if one of its outputs is lost.
        let has_lost = |read: &StageId| {
            let mut histories = state.histories.iter();
            histories.any(|(task, history)| task.stage == *read && !history.revoked.is_empty())
        };
        let begun = |read: &&StageId| finished(read) || has_lost(read);
        let missing = stage.reads.iter().find(|read| !begun(read));
        require(!has_started || missing.is_none(), rule, || {
            format!("stage {id} has started without stage {missing:?}")
        })?;
    }
    Ok(())
}

fn files_are_where_their_stage_writes(state: &State) -> Result<(), Violation> {
    let rule = "tasks of the last stage have final files, and all others shuffle files";
    for (id, task) in tasks(state) {
        let Some((_, output)) = task.state.winner() else {
            continue;
        };
        let is_final = output.file.place != FilePlace::Shuffle;
        require(is_final == state.is_last_stage(id.stage), rule, || {
            format!("{id} has a file at {:?}", output.file.place)
        })?;
        let file = task.state.final_file();
        let has_begun = file.is_some_and(|file| file != FinalFile::NotBegun);
        require(output.has_final_files() || !has_begun, rule, || {
            format!("{id} has no final file, which is {file:?}")
        })?;
    }
    Ok(())
}

fn everything_that_waits_for_the_ledger_is_on_its_way(state: &State) -> Result<(), Violation> {
    let rule =
        "what waits for the ledger is on its way there, in order, and nothing follows the result";
    let indexes: Vec<u64> = state.recording.iter().map(|(index, _)| *index).collect();
    let contiguous = indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let reaches_end = indexes
        .last()
        .is_none_or(|last| last + 1 == state.next_index);
    require(contiguous && reaches_end, rule, || {
        format!("{indexes:?} before {}", state.next_index)
    })?;
    let expected = |index: u64, recorded: &Recorded| {
        state
            .recording
            .iter()
            .any(|(waiting, what)| *waiting == index && what == recorded)
    };
    let of_winner = |(index, recorded): &(u64, Recorded)| match recorded {
        Recorded::Done(task) => Some((*index, *task)),
        Recorded::Failed { .. }
        | Recorded::Revoked
        | Recorded::StageFinished(_)
        | Recorded::Finalized(_)
        | Recorded::Result => None,
    };
    let won = state.won.iter().map(|(index, won)| (*index, won.task.task));
    let agree = won.eq(state.recording.iter().filter_map(of_winner));
    require(agree, rule, || {
        "the winners that wait are others".to_owned()
    })?;
    for (id, task) in tasks(state) {
        let on_its_way = match &task.state {
            TaskState::Committing { index, .. } => expected(*index, &Recorded::Done(id)),
            TaskState::Done {
                file: FinalFile::Recording { index },
                ..
            } => expected(*index, &Recorded::Finalized(id)),
            TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Running { .. }
            | TaskState::Done { .. } => true,
        };
        require(on_its_way, rule, || {
            format!("{id} waits for a record that is not on its way")
        })?;
    }
    for id in state.dismissed.keys() {
        let is_committed = |task: &Task| task.state.committed().is_some();
        require(!state.task(*id).is_none_or(is_committed), rule, || {
            format!("dismissed attempts of {id} wait for a winner that is durable already")
        })?;
    }
    for (position, stage) in (0..).zip(&state.stages) {
        if let StageProgress::Recording { index, .. } = &stage.progress {
            let id = StageId(position);
            require(expected(*index, &Recorded::StageFinished(id)), rule, || {
                format!("stage {id} waits for no record")
            })?;
        }
    }
    let result_at = state
        .recording
        .iter()
        .position(|(_, recorded)| *recorded == Recorded::Result);
    let nothing_follows = result_at.is_none_or(|position| position + 1 == state.recording.len());
    require(nothing_follows, rule, || {
        "a record follows the result".to_owned()
    })?;
    let waits = matches!(state.job, JobState::Concluding { .. });
    require(waits == result_at.is_some(), rule, || {
        format!("the job is {:?}", state.job)
    })
}

fn nothing_is_free_forever(state: &State) -> Result<(), Violation> {
    let rule = "what holds a task up alone is free only so often";
    for (task, history) in &state.histories {
        let beyond = history.held_up.beyond_all_bounds();
        require(beyond.is_none(), rule, || {
            format!("{task} was given back because of {beyond:?} and charged nothing")
        })?;
        let is_crowded = history.held_up.is_crowded_beyond_all_bounds();
        require(!is_crowded, rule, || {
            format!("{task} is not charged because of any task beside it")
        })?;
    }
    Ok(())
}

fn no_budget_is_overdrawn(state: &State) -> Result<(), Violation> {
    let overdrawn = state
        .histories
        .keys()
        .find(|task| state.verdict(**task).is_some());
    let goes_on = state.job == JobState::Running;
    require(
        overdrawn.is_none() || !goes_on,
        "a job whose task has used up a budget ends",
        || format!("{overdrawn:?}"),
    )
}

fn nothing_runs_after_the_end(state: &State) -> Result<(), Violation> {
    if state.job == JobState::Running {
        return Ok(());
    }
    let rule = "a job that ends runs nothing, and succeeds only with all files";
    let running: u32 = state.stages.iter().map(|stage| stage.running).sum();
    require(running == 0, rule, || format!("{running} tasks run"))?;
    let succeeds = match &state.job {
        JobState::Running | JobState::Failing { .. } => false,
        JobState::WritingManifest => true,
        JobState::Concluding { result, .. } | JobState::Ended { result } => {
            matches!(result, JobResult::Succeeded { .. })
        }
    };
    let all_stand = state
        .stages
        .last()
        .is_some_and(|last| last.finalized == last.total())
        && state.stages.iter().all(|stage| stage.unfinished_files == 0);
    require(!succeeds || all_stand, rule, || {
        "not all final files are complete".to_owned()
    })
}

fn no_slot_is_idle_while_a_task_could_run(state: &State) -> Result<(), Violation> {
    let watching = state.last_tick >= state.dispatch_from;
    let Some((place, number)) = state.by_load.first().copied() else {
        return Ok(());
    };
    if !watching || state.drains || state.job != JobState::Running {
        return Ok(());
    }
    let runnable = (0..).map(StageId).zip(&state.stages).find(|(id, stage)| {
        let can_run = !stage.ready.is_empty() && state.has_input(*id);
        can_run && state.fits(*id, place, number, FULL_LOAD)
    });
    require(
        runnable.is_none(),
        "no slot is idle while a task could run",
        || format!("stage {}", runnable.map_or(StageId(0), |(id, _)| id)),
    )
}
