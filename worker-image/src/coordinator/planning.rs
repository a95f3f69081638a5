//! Prepares a job for running: takes over the ledger, and makes the plan or loads it. It waits for
//! storage without a limit of time, and status shows this. If a job cannot be planned, it ends the
//! job with an error message.

mod edit;
mod moving;
pub(super) mod places;
pub(super) mod preview;
mod restart;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use zephyr_crds::pipeline::{FilesSource, SOURCE_FILES, table_files};
use zephyr_engine::coordinator::FailureReason;
use zephyr_engine::coordinator::record::{
    JobResult, LogRecord, OutputFile, committed_stages, has_tasks, result_of,
    without_forgotten_failures,
};
use zephyr_engine::id::Epoch;
use zephyr_engine::pipeline::Pipeline;
use zephyr_engine::plan::{
    ExpressionError, GraphError, Plan, PlannedSource, check_expressions, plan,
};
use zephyr_store::finalize::{Output, OutputError, OwnerWatch, claim, finished};
use zephyr_store::formats::list_readable;
use zephyr_store::ledger::{
    Ledger, LedgerError, MergePolicy, PlanFile, TableFiles, TakeOver, WriterToken, keep_plan,
    load_plan, replace_plan,
};
use zephyr_store::reclaim::{MARKER_NAME, MarkerError, read_marker};
use zephyr_store::storage::{InputFile, ListError, ProbeError, probe};

use self::places::PlacesError;
use super::dispatch::SourceShards;
use super::retry::{Backoff, FEW_TRIES, Judge, Verdict};
use super::status::{Status, show};
use super::storage_watch::show_signs_of_life;
use crate::convert::sharding::{SourceError, files_as_shards};
use crate::job::RunJob;
use crate::task::check_sizes;

/// How often a ledger is read again before an error in it counts as permanent, because a read may
/// have gone wrong.
const LEDGER_READS: u32 = 3;

/// How many expression errors one sentence names at most.
const EXPRESSION_ERRORS_NAMED: usize = 3;

/// The result of planning.
pub(super) enum Planned {
    /// The job can run.
    Runnable(Box<Runnable>),
    /// The job already has a result, from this process or from an earlier one.
    Ended {
        /// This coordinator's epoch.
        epoch: Epoch,
        /// How it ended; durable.
        result: JobResult,
        /// Final files of committed attempts that will never be completed.
        uploads: Vec<OutputFile>,
    },
    /// The folder of the job belongs to another job, so nothing in it may be changed.
    Refused {
        /// The newest epoch in the folder.
        epoch: Epoch,
        /// Why. It is not recorded in the ledger.
        result: JobResult,
    },
}

/// The state with which running begins.
pub(super) struct Runnable {
    /// This coordinator's epoch.
    pub epoch: Epoch,
    /// The ledger, which belongs to this coordinator from here on.
    pub ledger: Ledger,
    /// All records of earlier coordinators.
    pub records: Vec<LogRecord>,
    /// The plan.
    pub plan: Plan,
    /// Its digest.
    pub digest: String,
    /// The input of the first stage's tasks.
    pub source: SourceShards,
    /// The properties of this input on which the plan depends.
    pub planned: PlannedSource,
    /// The files of the tables.
    pub tables: TableFiles,
}

/// Why a coordinator cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// The ledger belongs to another coordinator, or to another job.
    #[error("take over the ledger: {source}")]
    Ledger {
        /// The cause.
        #[source]
        source: LedgerError,
    },
    /// There is no thread for compiling expressions.
    #[error("compile the expressions: start a thread: {source}")]
    StartCompiler {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The thread that compiled expressions died.
    #[error("compile the expressions: the thread died")]
    Compile,
    /// The job was restarted, so a later generation runs it.
    #[error(
        "generation {own} is over: generation {restarted} has begun because of a restart, and only it and later ones run the job"
    )]
    Over {
        /// The generation of this coordinator.
        own: u32,
        /// The generation that began because of the latest restart.
        restarted: u32,
    },
    /// In a local run: the disk is full, or the storage refuses a call permanently.
    #[error("{0}")]
    Permanent(String),
    /// The pipeline cannot be written as JSON.
    #[error("write plan.json: {source}")]
    PlanFile {
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Why there is no plan.
enum NoPlan {
    /// The cause may disappear by itself.
    Wait(String),
    /// Another job holds the output's folder. It is watched for a while before the folder is taken
    /// over.
    Watch(String),
    /// The local disk is full, or the storage of a local run refuses a call. This is retried, but
    /// not forever.
    WaitAWhile(String),
    /// The job itself is at fault.
    Failed(String),
    /// Data that complete tasks have written is gone.
    Lost(String),
    /// The job finished earlier, and its ledger was removed since.
    Finished(JobResult),
    /// The folder belongs to another job.
    Refused {
        /// The newest epoch in the folder.
        epoch: Epoch,
        /// Why this job may not use it.
        message: String,
    },
    /// The contents of the ledger cannot be used.
    Damaged {
        /// The epoch of the coordinator that found this.
        epoch: Epoch,
        /// The object, and what is wrong with it.
        message: String,
    },
    /// This coordinator cannot continue.
    Fatal(PlanningError),
}

impl NoPlan {
    /// Counts a try. An error that is retried only a few times counts as permanent from try number
    /// [`FEW_TRIES`] on.
    fn not_for_ever(self, tries: &mut u32) -> Self {
        match self {
            Self::WaitAWhile(sentence) => {
                *tries += 1;
                if *tries < FEW_TRIES {
                    Self::WaitAWhile(sentence)
                } else {
                    Self::Fatal(PlanningError::Permanent(sentence))
                }
            }
            other @ (Self::Wait(_)
            | Self::Watch(_)
            | Self::Failed(_)
            | Self::Lost(_)
            | Self::Finished(_)
            | Self::Refused { .. }
            | Self::Damaged { .. }
            | Self::Fatal(_)) => other,
        }
    }
}

/// Plans the job. Shows what it waits for, and writes signs of life meanwhile.
pub(super) async fn prepare(
    job: &Arc<RunJob>,
    status: &watch::Sender<Status>,
) -> Result<Planned, PlanningError> {
    tokio::select! {
        planned = prepare_the_job(job, status) => planned,
        never = show_signs_of_life(job) => match never {},
    }
}

async fn prepare_the_job(
    job: &Arc<RunJob>,
    status: &watch::Sender<Status>,
) -> Result<Planned, PlanningError> {
    let (mut taken, generations) = match hold_ledger(job, status).await? {
        ControlFlow::Continue(held) => held,
        ControlFlow::Break(ended) => return Ok(ended),
    };
    let job = &moving::counted_on(job, generations);
    let epoch = taken.epoch;
    tracing::info!(%epoch, records = taken.records.len(), "the ledger is ours");
    let planning = Status {
        epoch,
        ..Status::planning("reading the inputs and making the plan")
    };
    show(status, planning);
    restart::record(job, &mut taken, status).await?;
    if let Some(result) = result_of(&taken.records) {
        return Ok(ended(epoch, result.clone(), &taken.records));
    }
    if restart::is_latest(&taken.records) {
        restart::unmark_ended(job, status, epoch).await;
    } else if let Some(message) = removed_ledger(job, status, epoch).await {
        tracing::error!(message, "the ledger cannot be used");
        return Ok(ended(epoch, damaged(&message), &[]));
    }
    make_runnable(job, taken, status).await
}

/// Why a step that did not succeed is not tried again.
enum End {
    /// The coordinator of this epoch found that the ledger cannot be used. This is not recorded in
    /// the ledger.
    Damaged(Epoch, String),
    /// The folder, with this newest epoch, belongs to another job. This is not recorded in the
    /// ledger.
    Refused(Epoch, JobResult),
    /// The job has a result.
    Result(JobResult),
}

/// Counts the tries of one step, shows why each try failed, and decides whether there is another
/// one.
struct Tries<'a> {
    status: &'a watch::Sender<Status>,
    epoch: Epoch,
    backoff: Backoff,
    damaged_reads: u32,
    few: u32,
}

impl<'a> Tries<'a> {
    /// Returns the tries of a step, with none made yet, for the coordinator of this epoch.
    fn new(job: &RunJob, status: &'a watch::Sender<Status>, epoch: Epoch) -> Self {
        Self {
            status,
            epoch,
            backoff: Backoff::new(job.stores.chance()),
            damaged_reads: 0,
            few: 0,
        }
    }

    /// Shows why a try failed. Then waits for the next try, or returns how the job ends if there is
    /// none.
    async fn after(&mut self, why: NoPlan) -> Result<ControlFlow<End>, PlanningError> {
        match why.not_for_ever(&mut self.few) {
            NoPlan::Fatal(error) => return Err(error),
            NoPlan::Refused { epoch, message } => {
                tracing::error!(message, "the folder belongs to another job");
                let reason = FailureReason::PlanFailed;
                let result = JobResult::Failed { reason, message };
                return Ok(ControlFlow::Break(End::Refused(epoch, result)));
            }
            NoPlan::Damaged { epoch, message } => {
                self.damaged_reads += 1;
                let damaged_reads = self.damaged_reads;
                tracing::error!(message, damaged_reads, "the ledger cannot be used");
                if damaged_reads == LEDGER_READS {
                    return Ok(ControlFlow::Break(End::Damaged(epoch, message)));
                }
            }
            NoPlan::Finished(result) => {
                tracing::warn!("the output is finished and the ledger was removed: not run again");
                return Ok(ControlFlow::Break(End::Result(result)));
            }
            NoPlan::Failed(message) => {
                tracing::error!(message, "the job cannot be planned");
                return Ok(ends(FailureReason::PlanFailed, message));
            }
            NoPlan::Lost(message) => {
                tracing::error!(message, "the job cannot go on");
                return Ok(ends(FailureReason::OutputLost, message));
            }
            NoPlan::Watch(sentence) => self.show(Status::planning(&sentence)),
            NoPlan::Wait(sentence) | NoPlan::WaitAWhile(sentence) => {
                tracing::warn!(sentence, "the job cannot be planned yet; trying again");
                self.show(Status::storage_unavailable(&sentence));
            }
        }
        self.backoff.wait().await;
        Ok(ControlFlow::Continue(()))
    }

    fn show(&self, status: Status) {
        let epoch = self.epoch;
        show(self.status, Status { epoch, ..status });
    }
}

/// The end of a job that has failed while it was planned.
fn ends(reason: FailureReason, message: String) -> ControlFlow<End> {
    ControlFlow::Break(End::Result(JobResult::Failed { reason, message }))
}

/// Takes over the ledger. Waits for storage without a limit of time. Ends the job if the ledger
/// cannot be used. Also returns how many generation numbers were used before the job owned the
/// ledger.
async fn hold_ledger(
    job: &Arc<RunJob>,
    status: &watch::Sender<Status>,
) -> Result<ControlFlow<Planned, (TakeOver, u32)>, PlanningError> {
    let writer = WriterToken::from_random(job.stores.chance().unique());
    let mut tries = Tries::new(job, status, Epoch::default());
    loop {
        let why = match take_over(job, &writer).await {
            Ok(held) => return Ok(ControlFlow::Continue(held)),
            Err(why) => why,
        };
        let (epoch, result) = match tries.after(why).await? {
            ControlFlow::Continue(()) => continue,
            ControlFlow::Break(End::Damaged(epoch, message)) => (epoch, damaged(&message)),
            ControlFlow::Break(End::Refused(epoch, result)) => {
                return Ok(ControlFlow::Break(Planned::Refused { epoch, result }));
            }
            ControlFlow::Break(End::Result(result)) => (Epoch::default(), result),
        };
        return Ok(ControlFlow::Break(ended(epoch, result, &[])));
    }
}

/// Makes the plan or loads it. Waits for storage without a limit of time.
async fn make_runnable(
    job: &Arc<RunJob>,
    taken: TakeOver,
    status: &watch::Sender<Status>,
) -> Result<Planned, PlanningError> {
    let TakeOver {
        mut ledger,
        epoch,
        records,
    } = taken;
    let mut tries = Tries::new(job, status, epoch);
    let mut watch = OwnerWatch::default();
    loop {
        let planned = plan_or_load(job, epoch, &records, &mut watch).await;
        let why = match planned {
            Ok(Kept {
                plan,
                digest,
                source,
                planned,
                tables,
            }) => {
                return Ok(Planned::Runnable(Box::new(Runnable {
                    epoch,
                    ledger,
                    records: without_forgotten_failures(records, &plan),
                    plan,
                    digest,
                    source,
                    planned,
                    tables,
                })));
            }
            Err(why) => why,
        };
        match tries.after(why).await? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(End::Damaged(epoch, message)) => {
                return Ok(ended(epoch, damaged(&message), &[]));
            }
            ControlFlow::Break(End::Refused(epoch, result)) => {
                return Ok(Planned::Refused { epoch, result });
            }
            ControlFlow::Break(End::Result(result)) => {
                let record = LogRecord::Result(result.clone());
                append(job, &mut ledger, record, epoch, status).await?;
                return Ok(ended(epoch, result, &records));
            }
        }
    }
}

/// Returns the outcome of planning for a job that has ended, with the uploads that its records
/// name.
fn ended(epoch: Epoch, result: JobResult, records: &[LogRecord]) -> Planned {
    Planned::Ended {
        epoch,
        result,
        uploads: uncompleted_files(records),
    }
}

/// Final files of committed attempts that were not completed. After the job's end nobody completes
/// them.
fn uncompleted_files(records: &[LogRecord]) -> Vec<OutputFile> {
    let mut files = BTreeMap::new();
    for record in records {
        match record {
            LogRecord::Done { task, output } => {
                let own: Vec<OutputFile> = output.final_files().cloned().collect();
                files.insert(task.task, own);
            }
            LogRecord::Finalized { task } => {
                files.remove(task);
            }
            LogRecord::Revoked { task } => {
                files.remove(&task.task);
            }
            LogRecord::Failed { .. }
            | LogRecord::StageFinished { .. }
            | LogRecord::Result(_)
            | LogRecord::Restarted(_) => {}
        }
    }
    files.into_values().flatten().collect()
}

/// Checks whether the ledger was removed. If there is a marker of the job's end, but no result in
/// the ledger, somebody has removed the ledger or is removing it now. Such a job is not run a
/// second time. While this waits for storage, status says so.
async fn removed_ledger(
    job: &RunJob,
    status: &watch::Sender<Status>,
    epoch: Epoch,
) -> Option<String> {
    let mut backoff = Backoff::new(job.stores.chance());
    loop {
        match read_marker(&job.storage).await {
            Ok(None) | Err(MarkerError::Address(_)) => return None,
            Ok(Some(_)) | Err(MarkerError::Unreadable { .. }) => {
                return Some(format!(
                    "spec.storage.uri: the ledger of this job was removed (got {}/{MARKER_NAME} without a result in the ledger)",
                    job.storage.root()
                ));
            }
            Err(error @ MarkerError::Store(_)) => {
                let sentence = format!("spec.storage.uri: {error}");
                show(
                    status,
                    Status {
                        epoch,
                        ..Status::storage_unavailable(&sentence)
                    },
                );
            }
        }
        backoff.wait().await;
    }
}

async fn take_over(job: &RunJob, writer: &WriterToken) -> Result<(TakeOver, u32), NoPlan> {
    let field = |error: &dyn std::fmt::Display| format!("spec.storage.uri: {error}");
    let judge = Judge::of(job);
    // A job that may not use the folder does not change the sign of life in it. The probe reports
    // other errors in more detail.
    let looked = match moving::own(job).await {
        Err(refused @ NoPlan::Refused { .. }) => return Err(refused),
        looked => looked,
    };
    probe(&job.storage).await.map_err(|error| {
        let verdict = match &error {
            ProbeError::Store(error) => judge.storage(error),
            ProbeError::Address(_) | ProbeError::LacksConditionalWrites { .. } if job.is_local => {
                Verdict::GiveUp
            }
            ProbeError::Address(_) | ProbeError::LacksConditionalWrites { .. } => Verdict::TryAgain,
        };
        match verdict {
            Verdict::TryAgain => NoPlan::Wait(error.to_string()),
            Verdict::TryAFewTimes => NoPlan::WaitAWhile(error.to_string()),
            Verdict::GiveUp => NoPlan::Fatal(PlanningError::Permanent(error.to_string())),
        }
    })?;
    looked?;
    let opened = Ledger::open(&job.storage, writer.clone())
        .await
        .map_err(|error| ledger_error(judge, error, None, field))?;
    let epoch = opened.epoch();
    let taken = opened
        .take_over(MergePolicy::default())
        .await
        .map_err(|error| ledger_error(Judge::of(job), error, Some(epoch), field))?;
    // Another job may have taken the folder before this coordinator opened its epoch. If one takes
    // it later, that job opens a later epoch, and this coordinator can commit nothing more.
    let generations = moving::own(job).await?;
    Ok((taken, generations))
}

/// Returns the result of a job whose ledger cannot be used. This result is not recorded in the
/// ledger, but every further coordinator gets the same result.
pub(super) fn damaged(message: &str) -> JobResult {
    JobResult::Failed {
        reason: FailureReason::LedgerDamaged,
        message: format!(
            "{message}; the work that was done before cannot be trusted without it: create a new job, which uses nothing of this ledger"
        ),
    }
}

/// Converts an error of the ledger. If the coordinator has no epoch yet, the operator cannot rely
/// on a result that it reports. So it shows the error, and waits until somebody removes the cause.
fn ledger_error(
    judge: Judge,
    error: LedgerError,
    epoch: Option<Epoch>,
    sentence: impl Fn(&dyn std::fmt::Display) -> String,
) -> NoPlan {
    match (judge.ledger(&error), &error, epoch) {
        (Verdict::TryAFewTimes, ..) => NoPlan::WaitAWhile(sentence(&error)),
        (Verdict::TryAgain, ..) | (Verdict::GiveUp, LedgerError::Refused { .. }, None) => {
            NoPlan::Wait(sentence(&error))
        }
        (Verdict::GiveUp, LedgerError::Refused { .. }, Some(epoch)) => NoPlan::Damaged {
            epoch,
            message: sentence(&error),
        },
        (Verdict::GiveUp, ..) => NoPlan::Fatal(PlanningError::Ledger { source: error }),
    }
}

/// The plan as stored in the ledger, and what follows from it.
struct Kept {
    plan: Plan,
    digest: String,
    source: SourceShards,
    planned: PlannedSource,
    tables: TableFiles,
}

/// Loads the plan, or makes and stores it. A stored plan is used even if a new listing would give
/// another plan. If the ledger has records of tasks, their plan must exist. If the pipeline was
/// edited at a restart, the plan of the edited pipeline replaces the stored one.
async fn plan_or_load(
    job: &RunJob,
    epoch: Epoch,
    records: &[LogRecord],
    watch: &mut OwnerWatch,
) -> Result<Kept, NoPlan> {
    let unusable = |error| {
        let field = |error: &dyn std::fmt::Display| format!("spec.storage.uri: {error}");
        ledger_error(Judge::of(job), error, Some(epoch), field)
    };
    let committed = committed_stages(records);
    let must_exist = has_tasks(records);
    let kept = load_plan(&job.storage, must_exist).await;
    let kept = if let Some(kept) = kept.map_err(unusable)? {
        kept
    } else {
        if !must_exist {
            not_finished(job).await?;
        }
        let fresh = fresh_plan(job).await?;
        keep_plan(&job.storage, fresh).await.map_err(unusable)?
    };
    let kept = match edit::plan_of_edit(job, &kept, &committed).await? {
        Some(planned) => replace_plan(&job.storage, planned)
            .await
            .map_err(unusable)?,
        None => kept,
    };
    restart::check_is_latest(job, kept.edited_in).map_err(NoPlan::Fatal)?;
    let loaded = loaded(job, kept)?;
    if restart::is_latest(records) {
        restart::check_data(job, &loaded.plan, records).await?;
    }
    take_the_folder(job, !committed.is_empty(), watch).await?;
    Ok(loaded)
}

/// Checks that the stored plan is the one that this release makes from this job's pipeline.
fn loaded(job: &RunJob, kept: PlanFile) -> Result<Kept, NoPlan> {
    let pipeline = pipeline_json(job)?;
    let planned = kept.source();
    let source = SourceShards::of_items(&job.pipeline.source).unwrap_or(SourceShards::Files {
        files: kept.inputs,
        parts: kept.parts,
    });
    let plan = plan(&job.pipeline, planned.clone());
    let digest = plan.digest();
    let is_same = digest == kept.digest && pipeline == kept.pipeline;
    if !is_same || source.count() != kept.source_shards || plan.graph() != kept.graph {
        let cause = if pipeline == kept.pipeline {
            format!(
                "by another release (its digest is {}, ours {digest})",
                kept.digest
            )
        } else {
            "from another pipeline".to_owned()
        };
        return Err(NoPlan::Failed(format!(
            "plan.json was made {cause}; a job keeps the plan with which it began, so create a new one"
        )));
    }
    Ok(Kept {
        plan,
        digest,
        source,
        planned,
        tables: kept.tables,
    })
}

/// Claims the output's folder. A job may not write to a folder that another job holds, or replace
/// files of another job. This is the last step of planning, because a job that cannot be planned
/// must not claim its folder.
async fn take_the_folder(
    job: &RunJob,
    has_begun: bool,
    watch: &mut OwnerWatch,
) -> Result<(), NoPlan> {
    let output = Output {
        has_begun,
        ..job.output()
    };
    let claimed = claim(&output, watch).await;
    claimed.map_err(|error| no_output(&error))
}

fn no_output(error: &OutputError) -> NoPlan {
    if let OutputError::Watched { .. } = error {
        NoPlan::Watch(error.to_string())
    } else if error.is_full_disk() {
        NoPlan::WaitAWhile(error.to_string())
    } else if error.is_transient() {
        NoPlan::Wait(error.to_string())
    } else {
        NoPlan::Failed(error.to_string())
    }
}

/// Fails if the job finished earlier. A job without a plan looks like a new job. But if its own
/// output manifest exists, it has finished, and its ledger was removed.
async fn not_finished(job: &RunJob) -> Result<(), NoPlan> {
    let path = &job.frozen.spec.pipeline.sink.files.path;
    match finished(&job.stores, path, job.storage.job()).await {
        Ok(None) => Ok(()),
        Ok(Some(result)) => Err(NoPlan::Finished(result)),
        Err(error) => {
            let sentence = format!("spec.pipeline.sink.files.path: {error}");
            Err(if error.is_transient() {
                NoPlan::Wait(sentence)
            } else {
                NoPlan::Failed(sentence)
            })
        }
    }
}

async fn fresh_plan(job: &RunJob) -> Result<PlanFile, NoPlan> {
    let errors = check_on_a_thread(job.pipeline.clone()).await?;
    if !errors.is_empty() {
        return Err(NoPlan::Failed(expression_sentence(&errors)));
    }
    let inputs = inputs(job).await?;
    let (source, parts) = if let Some(items) = SourceShards::of_items(&job.pipeline.source) {
        (PlannedSource::from(items.count()), Vec::new())
    } else {
        let spec = &job.frozen.spec.pipeline;
        let planned = files_as_shards(&job.stores, spec, &job.pipeline, &inputs).await;
        planned.map_err(|error| match &error {
            SourceError::Look(store) if store.is_transient() => NoPlan::Wait(error.to_string()),
            SourceError::Look(_) | SourceError::Size(_) | SourceError::Sharding(_) => {
                NoPlan::Failed(error.to_string())
            }
        })?
    };
    let plan = plan(&job.pipeline, source.clone());
    let cannot_run = |error: GraphError| NoPlan::Failed(format!("a bug in planning: {error}"));
    plan.check().map_err(cannot_run)?;
    let tables = tables(job).await?;
    let read = inputs.iter().chain(tables.values().flatten());
    let uris: Vec<String> = read.map(|input| input.uri.clone()).collect();
    let refused = |error: PlacesError| NoPlan::Failed(error.to_string());
    let dead_letters = places::dead_letters_of(&plan);
    let shards = plan.output_shards();
    places::check_places(&job.frozen.spec, shards, &dead_letters, uris.clone())
        .await
        .map_err(refused)?;
    let replaced = job.output().replaced().await;
    let replaced = replaced.map_err(|error| no_output(&error))?;
    places::check_replaced(&job.frozen.spec, &uris, &replaced)
        .await
        .map_err(refused)?;
    Ok(PlanFile {
        digest: plan.digest(),
        pipeline: pipeline_json(job)?,
        inputs,
        source_shards: source.shards,
        parts,
        shuffle_shards: source.shuffle_shards,
        gather: source.gather,
        tables,
        graph: plan.graph(),
        edited_in: None,
    })
}

/// Compiles the expressions on a separate thread, because this keeps a CPU busy and must not block
/// the runtime's threads.
async fn check_on_a_thread(pipeline: Pipeline) -> Result<Vec<ExpressionError>, NoPlan> {
    let (answer, errors) = oneshot::channel();
    let check = move || {
        // If the coordinator is shutting down, nobody receives the result.
        let _gone = answer.send(check_expressions(&pipeline));
    };
    std::thread::Builder::new()
        .name("compile".to_owned())
        .spawn(check)
        .map_err(|source| NoPlan::Fatal(PlanningError::StartCompiler { source }))?;
    errors
        .await
        .map_err(|_| NoPlan::Fatal(PlanningError::Compile))
}

async fn inputs(job: &RunJob) -> Result<Vec<InputFile>, NoPlan> {
    match &job.frozen.spec.pipeline.source.files {
        Some(files) => list(job, SOURCE_FILES, files).await,
        None => Ok(Vec::new()),
    }
}

async fn tables(job: &RunJob) -> Result<TableFiles, NoPlan> {
    let mut tables = TableFiles::new();
    for (name, table) in &job.frozen.spec.pipeline.tables {
        let files = list(job, &table_files(name), &table.files).await?;
        tables.insert(name.clone(), files);
    }
    check_sizes(&tables).map_err(|error| NoPlan::Failed(error.to_string()))?;
    Ok(tables)
}

/// Lists a set of files; `field` is its path in the manifest.
async fn list(job: &RunJob, field: &str, files: &FilesSource) -> Result<Vec<InputFile>, NoPlan> {
    let listed = list_readable(&job.stores, field, files).await;
    listed.map_err(|error: ListError| {
        if error.is_transient() {
            NoPlan::Wait(error.to_string())
        } else {
            NoPlan::Failed(error.to_string())
        }
    })
}

fn pipeline_json(job: &RunJob) -> Result<serde_json::Value, NoPlan> {
    serde_json::to_value(&job.frozen.spec.pipeline)
        .map_err(|source| NoPlan::Fatal(PlanningError::PlanFile { source }))
}

fn expression_sentence(errors: &[ExpressionError]) -> String {
    let named: Vec<_> = errors
        .iter()
        .take(EXPRESSION_ERRORS_NAMED)
        .map(|each| format!("{}: {}", each.path, each.message))
        .collect();
    let more = errors.len().saturating_sub(EXPRESSION_ERRORS_NAMED);
    let rest = if more == 0 {
        String::new()
    } else {
        format!("; and {more} more")
    };
    format!("{}{rest}", named.join("; "))
}

/// Writes a record into the ledger, such as the result, which is not reported before that. Waits
/// for storage.
async fn append(
    job: &RunJob,
    ledger: &mut Ledger,
    record: LogRecord,
    epoch: Epoch,
    status: &watch::Sender<Status>,
) -> Result<(), PlanningError> {
    let records = [record];
    let mut backoff = Backoff::new(job.stores.chance());
    let mut few = 0;
    let mut shows = |error: &LedgerError| match Judge::of(job).ledger(error) {
        Verdict::TryAgain => true,
        Verdict::TryAFewTimes => {
            few += 1;
            few < FEW_TRIES
        }
        Verdict::GiveUp => false,
    };
    loop {
        match ledger.append(&records).await {
            Ok(()) => return Ok(()),
            Err(error) if shows(&error) => {
                let sentence = format!("spec.storage.uri: {error}");
                show(
                    status,
                    Status {
                        epoch,
                        ..Status::storage_unavailable(&sentence)
                    },
                );
            }
            Err(source) => return Err(PlanningError::Ledger { source }),
        }
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests;
