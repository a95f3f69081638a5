//! Computes the report about a run, for the operator and for people: counts and one sentence.
//! Changes nothing, and keeps no list of tasks.

use crate::coordinator::config::{LOST_WORKERS_REPORTED, MAX_POD_UIDS};
use crate::coordinator::counters::CounterName;
use crate::coordinator::failed_task::FailedTask;
use crate::coordinator::record::JobResult;
use crate::coordinator::state::{
    JobState, Recorded, StageProgress, StageState, State, TaskState, Totals,
};
use crate::id::{StageId, TaskId, Timestamp};
use crate::pipeline::Origin;
use crate::plan::display::counted;

/// The most stages that a message names, so that it stays one line.
const MAX_STAGES_NAMED: usize = 4;

/// The most stages that a report lists.
const MAX_STAGES_LISTED: usize = 10;

/// The whole report. It has the contents of `Snapshot` in `run.proto`, except for the plan's digest
/// and the phases that only the shell knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The phase of the job.
    pub phase: Phase,
    /// What the job does or waits for, in one sentence; may be empty.
    pub message: String,
    /// The size of the plan.
    pub planned: Planned,
    /// The first stage that runs. If none does, the first that is not finished, or the last.
    pub stage: StageReport,
    /// The stages in the order of the plan, at most `MAX_STAGES_LISTED`. If the plan has more,
    /// complete stages are left out first, and then the last ones.
    pub stages: Vec<StageReport>,
    /// Records and bytes read and written.
    pub records: RecordsReport,
    /// Bad records that were skipped, by place. Places without any are left out.
    pub skipped: Vec<SkippedReport>,
    /// What commands of committed tasks counted, sorted by name.
    pub counters: Vec<(CounterName, u64)>,
    /// The workers.
    pub workers: WorkerCounts,
    /// How the job ended, once that is durable.
    pub result: Option<JobResult>,
    /// The attempt whose failure ended the job, if this coordinator saw that failure.
    pub failed_task: Option<FailedTaskReport>,
    /// Tasks of all stages whose commit is durable.
    pub tasks_done: u64,
    /// Tasks of all stages.
    pub tasks_total: u64,
    /// The time since which no worker is known: neither connected nor expected back.
    pub no_worker_since: Option<Timestamp>,
    /// How many workers can still be useful, counted by ordinal from 0. If it is absent, all
    /// workers are useful.
    pub useful_workers: Option<u32>,
    /// While no further task starts because the job is to be suspended: the tasks that still run,
    /// and those whose results are not durable yet.
    pub tasks_to_drain: Option<u32>,
    /// Second attempts of stragglers in this epoch.
    pub speculations: u64,
}

/// The phase of a job, as far as the state machine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Tasks run or wait to run.
    Running,
    /// All tasks are done; final files, the manifest or the result are being written.
    Finishing,
    /// The result is durable.
    Ended,
}

/// The plan in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Number of stages.
    pub stages: u32,
    /// The most tasks that can run at the same time, see [`Plan::width`](crate::plan::Plan::width).
    pub max_shards: u32,
}

/// The attempt whose failure ended the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTaskReport {
    /// The position of its stage, 1 being the first.
    pub stage: u32,
    /// The name of the stage.
    pub stage_name: String,
    /// The attempt.
    pub failed: FailedTask,
}

/// One stage in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// Its position, 1 being the first.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Tasks whose commit is durable.
    pub done: u32,
    /// All its tasks.
    pub total: u32,
    /// Tasks that are at a worker.
    pub running: u32,
    /// Tasks that have failed at least once and are not done.
    pub failed: u32,
}

/// Records and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordsReport {
    /// Records that committed tasks have read from the source, and records that running tasks have
    /// reported as read from it.
    pub records_in: u64,
    /// Records in committed files of the sink.
    pub records_out: u64,
    /// Bytes read from the source by committed tasks.
    pub bytes_in: u64,
    /// Size of committed files of the sink.
    pub bytes_out: u64,
}

/// Bad records of committed tasks at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedReport {
    /// The place.
    pub origin: Origin,
    /// Their number.
    pub records: u64,
    /// The first bad record: its file and line, and the message if it may be shown.
    pub first: String,
}

/// Workers by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Connected, without a task.
    pub idle: u32,
    /// Connected, with at least one task.
    pub busy: u32,
    /// Not connected, but still within the allowed silence.
    pub reconnecting: u32,
    /// Workers lost in this epoch, not counting those that a task ended.
    pub disruptions: u64,
    /// Pods of busy workers, at most `MAX_POD_UIDS`.
    pub busy_pod_uids: Vec<String>,
    /// Pods of connected workers, at most `MAX_POD_UIDS`.
    pub connected_pod_uids: Vec<String>,
    /// Pods of workers that are not connected, but still within the allowed silence, at most
    /// `MAX_POD_UIDS`.
    pub reconnecting_pod_uids: Vec<String>,
}

impl State {
    /// The report about the current state. Computing it takes time in proportion to the workers and
    /// the running tasks, not to all tasks.
    pub fn report(&self) -> Report {
        let (id, stage) = self.current_stage();
        let workers = self.worker_counts();
        Report {
            phase: self.phase(),
            message: self.message(id, &workers),
            planned: Planned {
                stages: u32::try_from(self.stages.len()).unwrap_or(u32::MAX),
                max_shards: self.width,
            },
            stage: stage.map_or_else(no_stage, |stage| self.stage_report(id, stage)),
            stages: self.stage_reports(),
            records: self.records_report(),
            skipped: self.skipped_report(),
            counters: self.counters_report(),
            workers,
            result: match &self.job {
                JobState::Ended { result } => Some(result.clone()),
                JobState::Running
                | JobState::Failing { .. }
                | JobState::WritingManifest
                | JobState::Concluding { .. } => None,
            },
            failed_task: self.failed_task_report(),
            tasks_done: self
                .stages
                .iter()
                .map(|stage| u64::from(stage.committed))
                .sum(),
            tasks_total: self
                .stages
                .iter()
                .map(|stage| u64::from(stage.total()))
                .sum(),
            no_worker_since: self.no_worker_since,
            useful_workers: self.useful_workers(),
            tasks_to_drain: self.tasks_to_drain(),
            speculations: self.speculations,
        }
    }

    fn failed_task_report(&self) -> Option<FailedTaskReport> {
        let is_durable = matches!(self.job, JobState::Ended { .. });
        let failed = self.ended_by.as_ref().filter(|_| is_durable)?;
        let stage = failed.task.task.stage;
        Some(FailedTaskReport {
            stage: stage.0.saturating_add(1),
            stage_name: self.stages.get(stage.0 as usize)?.name.clone(),
            failed: failed.clone(),
        })
    }

    /// The result, once it is durable.
    pub fn result(&self) -> Option<&JobResult> {
        match &self.job {
            JobState::Ended { result } => Some(result),
            JobState::Running
            | JobState::Failing { .. }
            | JobState::WritingManifest
            | JobState::Concluding { .. } => None,
        }
    }

    /// While the coordinator drains: the tasks that still run, and those whose results are not
    /// durable yet. It is at least 1 as long as workers of the coordinator before this one may come
    /// back with tasks.
    fn tasks_to_drain(&self) -> Option<u32> {
        let is_result = |recorded: &&(u64, Recorded)| matches!(recorded.1, Recorded::Done(_));
        let running: u32 = self.stages.iter().map(|stage| stage.running).sum();
        let recording = self.recording.iter().filter(is_result).count();
        let recording = u32::try_from(recording).unwrap_or(u32::MAX);
        let expected = u32::from(self.last_tick < self.dispatch_from);
        (self.drains && self.job == JobState::Running)
            .then(|| running.saturating_add(recording).max(expected))
    }

    /// The stages that run. Such a stage has started, is not complete, and has a task at a worker,
    /// or everything that it reads is complete.
    fn running_stages(&self) -> impl Iterator<Item = (StageId, &StageState)> {
        (0..).map(StageId).zip(&self.stages).filter(|(id, stage)| {
            let has_work = stage.running > 0 || self.has_input(*id);
            stage.progress == StageProgress::Running && has_work
        })
    }

    /// The first stage that runs. If none does, the first that is not finished, or the last.
    fn current_stage(&self) -> (StageId, Option<&StageState>) {
        if let Some((id, stage)) = self.running_stages().next() {
            return (id, Some(stage));
        }
        let unfinished = self
            .stages
            .iter()
            .position(|stage| !matches!(stage.progress, StageProgress::Finished { .. }));
        let position = unfinished.unwrap_or(self.stages.len().saturating_sub(1));
        (
            StageId(u32::try_from(position).unwrap_or(u32::MAX)),
            self.stages.get(position),
        )
    }

    fn phase(&self) -> Phase {
        match &self.job {
            JobState::Ended { .. } => Phase::Ended,
            JobState::Failing { .. } | JobState::Concluding { .. } | JobState::WritingManifest => {
                Phase::Finishing
            }
            JobState::Running => {
                let last_is_done = self.stages.last().is_some_and(|last| match last.progress {
                    StageProgress::Recording { .. } | StageProgress::Finished { .. } => true,
                    StageProgress::NotStarted
                    | StageProgress::Running
                    | StageProgress::Publishing { .. } => false,
                });
                if last_is_done {
                    Phase::Finishing
                } else {
                    Phase::Running
                }
            }
        }
    }

    fn stage_report(&self, id: StageId, stage: &StageState) -> StageReport {
        StageReport {
            index: id.0.saturating_add(1),
            name: stage.name.clone(),
            done: stage.committed,
            total: stage.total(),
            running: stage.running,
            failed: u32::try_from(self.troubled(id).count()).unwrap_or(u32::MAX),
        }
    }

    fn stage_reports(&self) -> Vec<StageReport> {
        let all = || (0..).map(StageId).zip(&self.stages);
        let excess = self.stages.len().saturating_sub(MAX_STAGES_LISTED);
        let is_complete =
            |stage: &StageState| matches!(stage.progress, StageProgress::Finished { .. });
        let mut left_out = 0;
        let listed = all().filter(|(_, stage)| {
            let is_left_out = left_out < excess && is_complete(stage);
            left_out += usize::from(is_left_out);
            !is_left_out
        });
        let listed = listed.take(MAX_STAGES_LISTED);
        listed
            .map(|(id, stage)| self.stage_report(id, stage))
            .collect()
    }

    /// Tasks of a stage that have failed at least once and are not done.
    fn troubled(&self, stage: StageId) -> impl Iterator<Item = TaskId> {
        self.histories
            .iter()
            .filter(move |(task, history)| {
                task.stage == stage && history.own_failures().next().is_some()
            })
            .filter(|(task, _)| {
                self.task(**task)
                    .is_some_and(|known| known.state.winner().is_none())
            })
            .map(|(task, _)| *task)
    }

    fn records_report(&self) -> RecordsReport {
        let mut source = Totals::default();
        for stage in self.stages.iter().filter(|stage| stage.reads.is_empty()) {
            source.records_in = source.records_in.saturating_add(stage.totals.records_in);
            source.bytes_in = source.bytes_in.saturating_add(stage.totals.bytes_in);
        }
        let sink = self
            .stages
            .last()
            .map(|stage| stage.totals)
            .unwrap_or_default();
        RecordsReport {
            records_in: source.records_in.saturating_add(self.records_being_read()),
            records_out: sink.rows_out,
            bytes_in: source.bytes_in,
            bytes_out: sink.bytes_out,
        }
    }

    fn skipped_report(&self) -> Vec<SkippedReport> {
        let some = self.bad.iter().filter(|(_, totals)| totals.skipped > 0);
        let report = some.map(|(origin, totals)| SkippedReport {
            origin: *origin,
            records: totals.skipped,
            first: totals
                .first
                .as_ref()
                .map_or(String::new(), |(_, first)| first.clone()),
        });
        report.collect()
    }

    /// Records that running tasks have read from a source.
    fn records_being_read(&self) -> u64 {
        let mut records = 0_u64;
        for task in self
            .workers
            .values()
            .flat_map(|worker| &worker.running)
            .filter(|task| self.stage(task.task.stage).reads.is_empty())
        {
            if let Some(TaskState::Running { attempts }) =
                self.task(task.task).map(|known| &known.state)
            {
                let of_attempt = attempts
                    .iter()
                    .find(|running| running.attempt == task.attempt);
                records = records.saturating_add(of_attempt.map_or(0, |running| running.records));
            }
        }
        records
    }

    fn worker_counts(&self) -> WorkerCounts {
        let mut counts = WorkerCounts {
            disruptions: self.disruptions,
            ..WorkerCounts::default()
        };
        for worker in self.workers.values() {
            let pod_uid = || worker.id.pod_uid().to_owned();
            if worker.session().is_none() {
                counts.reconnecting += 1;
                if counts.reconnecting_pod_uids.len() < MAX_POD_UIDS {
                    counts.reconnecting_pod_uids.push(pod_uid());
                }
                continue;
            }
            if counts.connected_pod_uids.len() < MAX_POD_UIDS {
                counts.connected_pod_uids.push(pod_uid());
            }
            if worker.running.is_empty() {
                counts.idle += 1;
            } else {
                counts.busy += 1;
                if counts.busy_pod_uids.len() < MAX_POD_UIDS {
                    counts.busy_pod_uids.push(pod_uid());
                }
            }
        }
        counts
    }

    fn message(&self, current: StageId, workers: &WorkerCounts) -> String {
        match &self.job {
            JobState::Ended { result } | JobState::Concluding { result, index: _ } => {
                match result {
                    JobResult::Succeeded { .. } => String::new(),
                    JobResult::Failed { reason: _, message } => message.clone(),
                }
            }
            JobState::Failing { result, since: _ } => {
                let files: u32 = self.stages.iter().map(|stage| stage.unfinished_files).sum();
                let why = match result {
                    JobResult::Succeeded { .. } => "",
                    JobResult::Failed { reason: _, message } => message,
                };
                format!(
                    "the job fails after the files of {files} complete tasks are written: {why}"
                )
            }
            JobState::WritingManifest => "writing _SUCCESS.json".to_owned(),
            JobState::Running => self.running_message(current, workers),
        }
    }

    fn running_message(&self, current: StageId, workers: &WorkerCounts) -> String {
        let Some(stage) = self.stages.get(current.0 as usize) else {
            return String::new();
        };
        let place = self.describe_stage(current);
        match &stage.progress {
            StageProgress::Publishing { .. } => {
                return format!(
                    "{place}: all tasks are done; listing their outputs for the stages that read them"
                );
            }
            StageProgress::Recording { .. } => {
                return format!("{place}: all tasks are done; recording that");
            }
            StageProgress::Finished { .. } => {
                return format!(
                    "{place}: {} of {} final files are complete",
                    stage.finalized,
                    stage.total()
                );
            }
            StageProgress::NotStarted | StageProgress::Running => {}
        }
        if let Some(tasks) = self.tasks_to_drain() {
            return format!(
                "no further task starts, because the job is to be suspended; {} to finish",
                counted(tasks.into(), "running task")
            );
        }
        if workers.idle + workers.busy == 0 {
            let todo = u64::from(stage.total()) - u64::from(stage.committed);
            return format!(
                "{place}: waiting for workers, none is connected; {todo} of {} tasks are to be done",
                stage.total()
            );
        }
        let running: Vec<StageId> = self.running_stages().map(|(stage, _)| stage).collect();
        let first = |message: fn(&Self, StageId) -> Option<String>| {
            running.iter().find_map(|stage| message(self, *stage))
        };
        first(Self::trouble_message)
            .or_else(|| first(Self::setback_message))
            .or_else(|| self.parallel_message(&running))
            .unwrap_or_default()
    }

    /// The stages that run at the same time, if there are several.
    fn parallel_message(&self, running: &[StageId]) -> Option<String> {
        if running.len() < 2 {
            return None;
        }
        let of = |stage: &StageId| {
            let known = self.stage(*stage);
            let (done, total) = (known.committed, known.total());
            format!(
                "{}: {done} of {total} tasks are done",
                self.describe_stage(*stage)
            )
        };
        let named = running.iter().take(MAX_STAGES_NAMED).map(of);
        let named = named.collect::<Vec<_>>().join("; ");
        let more = match running.len().saturating_sub(MAX_STAGES_NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!(
            "{} stages run at the same time: {named}{more}",
            running.len()
        ))
    }

    /// A sentence about problems that are not charged so far: a full disk, a store that refuses one
    /// worker, workers that vanish. It names the task that was given back most often.
    fn setback_message(&self, stage: StageId) -> Option<String> {
        let is_open = |task: TaskId| {
            self.task(task)
                .is_some_and(|known| known.state.winner().is_none())
        };
        let open = self
            .histories
            .iter()
            .filter(|(task, _)| task.stage == stage && is_open(**task));
        let (task, history) = open.max_by_key(|(_, history)| {
            let lost = history.lost_workers.count();
            (history.held_up.times(), lost)
        })?;
        let place = self.describe(*task);
        if let Some((setback, cause)) = history.held_up.last() {
            let times = times(history.held_up.times());
            let bound = setback.free_tries().map_or(String::new(), |free| {
                format!(
                    ", and after {free} times in a row at the cost of spec.retries.taskFailures"
                )
            });
            return Some(format!(
                "{place}: given back {times} for a cause outside the task, will be tried again{bound}; last cause: {cause}"
            ));
        }
        let lost = history.lost_workers.count();
        (lost >= LOST_WORKERS_REPORTED).then(|| {
            format!(
                "{place}: its worker was lost {} in a row, will be tried again",
                times(lost)
            )
        })
    }

    /// A sentence about the problem that is closest to ending the job: the task of this stage with
    /// the most failures.
    fn trouble_message(&self, stage: StageId) -> Option<String> {
        let task = self.troubled(stage).max_by_key(|task| {
            self.histories
                .get(task)
                .map_or(0, |history| history.own_failures().count())
        })?;
        let history = self.histories.get(&task)?;
        let tries = history.own_failures().count();
        let last = history.own_failures().next_back()?;
        let allowed = self.config.task_failures.max(1);
        Some(format!(
            "{}: failed {tries} of {allowed} times, will be tried again; last error: {}",
            self.describe(task),
            last.error
        ))
    }
}

/// How often, in words.
pub(crate) fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

fn no_stage() -> StageReport {
    StageReport {
        index: 0,
        name: String::new(),
        done: 0,
        total: 0,
        running: 0,
        failed: 0,
    }
}
