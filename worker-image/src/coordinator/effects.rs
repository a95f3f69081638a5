//! Executes the engine's storage effects: ledger commits one at a time, everything else in
//! parallel. This module decides nothing: every answer becomes an event of the loop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use zephyr_engine::coordinator::Event;
use zephyr_engine::coordinator::record::{LogRecord, OutputFile};
use zephyr_engine::id::{Epoch, StageId, TaskAttempt};
use zephyr_engine::plan::{Plan, Stage, StageOutput};
use zephyr_store::finalize::{self, Finalized, Output, OutputError};
use zephyr_store::ledger::{Ledger, LedgerError};
use zephyr_store::shuffle::{self, IndexShape};
use zephyr_store::storage::StorageError;

use super::retry::{Judge, Retries};
use crate::job::RunJob;
use crate::metrics::CoordinatorMetrics;

/// How many storage calls run at the same time, besides the one of the ledger. They are enough to
/// hide the latency of the store, and few enough for the memory of one small pod.
const CALLS_AT_ONCE: usize = 16;
/// How many records one log object contains at most. At a few hundred bytes per record, the object
/// has one or two megabytes.
const RECORDS_PER_COMMIT: usize = 5_000;
/// How much time passes at least between the starts of two commits. A commit to an object store
/// takes longer anyway. On a local disk, commits of a few records each would use more CPU than
/// everything else.
const COMMIT_INTERVAL: Duration = Duration::from_millis(5);
/// How often the deletion of a losing attempt's file is tried at most. Nothing waits for the
/// deletion.
const DISCARD_TRIES: u32 = 5;

/// How long the end of a job waits for the calls that complete final files. A call that takes
/// longer is given up. The store may execute it all the same.
const COMPLETIONS_TIMEOUT: Duration = Duration::from_secs(20);

/// Why an effect can never be executed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// The ledger belongs to another coordinator, or cannot be used.
    #[error("commit to the ledger: {source}")]
    Commit {
        /// The cause.
        #[source]
        source: LedgerError,
    },
    /// A retry would fail again, because the run's local disk is full, or because the store refuses
    /// the calls. Nobody can repair the cause during the run.
    #[error("{call}: {source}")]
    Permanent {
        /// The call.
        call: String,
        /// Its result.
        #[source]
        source: StorageError,
    },
    /// The task of an effect panicked, which is a bug.
    #[error("an effect's task died: {source}")]
    Died {
        /// How it died.
        #[source]
        source: JoinError,
    },
}

/// The dependencies of an effect.
struct Tools {
    job: Arc<RunJob>,
    plan_digest: String,
    epoch: Epoch,
    retries: Retries,
    metrics: CoordinatorMetrics,
    runtime: Handle,
    output: Output,
    judge: Judge,
}

/// What a task of a later stage reads from the files of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Each task reads one of this many partitions of all files.
    OfPartitions(u32),
    /// Each task reads some whole files.
    OfFiles,
}

/// A storage call that waits in the queue.
pub(super) enum Call {
    /// See `Effect::PublishStage`.
    Publish {
        /// The stage.
        stage: StageId,
        /// How later stages read it.
        readers: Readers,
        /// How often the stage was published before.
        version: u32,
        /// The winners.
        outputs: Vec<(TaskAttempt, OutputFile)>,
    },
    /// See `Effect::Finalize`.
    Finalize(TaskAttempt, Vec<OutputFile>),
    /// See `Effect::Discard`.
    Discard(TaskAttempt, OutputFile),
    /// See `Effect::WriteManifest`.
    WriteManifest {
        /// The files of the sink.
        files: Vec<(TaskAttempt, OutputFile)>,
        /// All other final files.
        more: Vec<(TaskAttempt, OutputFile)>,
    },
}

impl Call {
    /// The final files that this call makes, if it makes any. Otherwise `None`.
    fn completes(&self) -> Option<Vec<OutputFile>> {
        match self {
            Self::Finalize(_, files) => Some(files.clone()),
            Self::WriteManifest { .. } => Some(Vec::new()),
            Self::Publish { .. } | Self::Discard(..) => None,
        }
    }
}

/// A running call that completes final files.
struct Completion {
    call: AbortHandle,
    files: Vec<OutputFile>,
}

/// The calls that still completed final files when the job ended.
pub(super) struct Completions {
    running: Vec<Completion>,
    /// Each running call has one permit of `CALLS_AT_ONCE`.
    permits: Arc<Semaphore>,
}

impl Completions {
    /// Waits until they have ended, or gives them up. Returns the files that they may have
    /// completed.
    pub(super) async fn settle(self) -> Vec<OutputFile> {
        let all = self
            .permits
            .acquire_many(u32::try_from(CALLS_AT_ONCE).unwrap_or(u32::MAX));
        if timeout(COMPLETIONS_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                ?COMPLETIONS_TIMEOUT,
                "completions of final files are given up"
            );
            for completion in &self.running {
                completion.call.abort();
            }
        }
        let files = self.running.into_iter();
        files.flat_map(|completion| completion.files).collect()
    }
}

/// A running commit. Returns the ledger and the index of the last record.
type Commit = JoinSet<Result<(Ledger, u64), LedgerError>>;

/// All effects that are running or waiting.
pub(super) struct Effects {
    tools: Arc<Tools>,
    waiting: VecDeque<Call>,
    running: JoinSet<Result<Option<Event>, EffectError>>,
    /// The calls that complete final files and whose answers the loop does not know yet.
    completions: Vec<Completion>,
    /// See [`Completions`].
    permits: Arc<Semaphore>,
    /// Whether the job has ended, so that no call may complete a final file any more.
    is_over: bool,
    /// The ledger. `None` while a commit is running.
    ledger: Option<Ledger>,
    commit: Commit,
    /// When the next commit may begin.
    next_commit: Instant,
    /// Records that are collected while a commit is running, or until the next one may begin.
    gathered: VecDeque<LogRecord>,
    /// The index of the first of these records.
    first_gathered: u64,
}

impl Effects {
    /// Returns effects without work. Storage calls run on the runtime in which this is called, even
    /// if another thread requests them.
    pub(super) fn new(
        job: Arc<RunJob>,
        plan_digest: String,
        epoch: Epoch,
        ledger: Ledger,
        retries: Retries,
        metrics: CoordinatorMetrics,
    ) -> Self {
        Self {
            tools: Arc::new(Tools {
                output: job.output(),
                judge: Judge::of(&job),
                job,
                plan_digest,
                epoch,
                retries,
                metrics,
                runtime: Handle::current(),
            }),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            completions: Vec::new(),
            permits: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            is_over: false,
            ledger: Some(ledger),
            commit: JoinSet::new(),
            next_commit: Instant::now(),
            gathered: VecDeque::new(),
            first_gathered: 0,
        }
    }

    /// Adds records for the ledger, after all records that were added before.
    pub(super) fn append(&mut self, records: Vec<LogRecord>) {
        self.gathered.extend(records);
        self.commit_gathered();
    }

    /// Adds a storage call. After the job's end, a call that completes final files is dropped.
    pub(super) fn call(&mut self, call: Call) {
        if self.is_over && call.completes().is_some() {
            return;
        }
        self.waiting.push_back(call);
        self.start_waiting();
    }

    /// Drops all waiting calls that complete final files, because the job has ended: the folder of
    /// the output will belong to nobody. Returns those that run.
    pub(super) fn stop_completing(&mut self) -> Completions {
        self.is_over = true;
        self.waiting.retain(|call| call.completes().is_none());
        Completions {
            running: std::mem::take(&mut self.completions),
            permits: Arc::clone(&self.permits),
        }
    }

    /// Waits for the next answer, and returns it. May be cancelled. Waits forever if no call is
    /// running.
    pub(super) async fn next(&mut self) -> Result<Event, EffectError> {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.commit.join_next() => {
                    let ended = ended.map_err(|source| EffectError::Died { source })?;
                    let (ledger, through) = ended.map_err(|source| EffectError::Commit { source })?;
                    self.ledger = Some(ledger);
                    self.commit_gathered();
                    return Ok(Event::Durable { through });
                }
                () = sleep_until(self.next_commit), if self.may_commit() => self.commit_gathered(),
                Some(ended) = self.running.join_next_with_id() => {
                    self.start_waiting();
                    let (id, ended) = match ended {
                        Err(error) if self.is_over && error.is_cancelled() => continue,
                        ended => ended.map_err(|source| EffectError::Died { source })?,
                    };
                    self.completions.retain(|completion| completion.call.id() != id);
                    match ended {
                        Ok(Some(event)) => return Ok(event),
                        Ok(None) => {}
                        // The result is durable, and the clean-up must go on.
                        Err(error) if self.is_over => {
                            tracing::warn!(%error, "a call failed after the end of the job");
                        }
                        Err(error) => return Err(error),
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Returns whether there are records for the next commit.
    fn may_commit(&self) -> bool {
        self.ledger.is_some() && !self.gathered.is_empty()
    }

    fn commit_gathered(&mut self) {
        let now = Instant::now();
        if !self.may_commit() || now < self.next_commit {
            return;
        }
        let Some(mut ledger) = self.ledger.take() else {
            return;
        };
        self.next_commit = now + COMMIT_INTERVAL;
        let count = self.gathered.len().min(RECORDS_PER_COMMIT);
        let records: Vec<_> = self.gathered.drain(..count).collect();
        self.first_gathered += count as u64;
        let through = self.first_gathered - 1;
        let tools = Arc::clone(&self.tools);
        let commit = async move {
            commit(&tools, &mut ledger, &records).await?;
            tools.metrics.ledger_commits.inc();
            tools.metrics.ledger_records.inc_by(records.len() as u64);
            Ok((ledger, through))
        };
        self.commit.spawn_on(commit, &self.tools.runtime);
    }

    fn start_waiting(&mut self) {
        while self.running.len() < CALLS_AT_ONCE {
            let Some(call) = self.waiting.pop_front() else {
                break;
            };
            let tools = Arc::clone(&self.tools);
            let completes = call.completes();
            let permit = completes
                .is_some()
                .then(|| Arc::clone(&self.permits).try_acquire_owned());
            let carry_out = async move {
                let _held = permit;
                carry_out(&tools, call).await
            };
            let call = self.running.spawn_on(carry_out, &self.tools.runtime);
            if let Some(files) = completes {
                self.completions.push(Completion { call, files });
            }
        }
    }
}

/// Repeats the same call until its result is known. This is safe, because the ledger recognizes a
/// repeated put of its own.
async fn commit(
    tools: &Tools,
    ledger: &mut Ledger,
    records: &[LogRecord],
) -> Result<(), LedgerError> {
    let ledger = Mutex::new(ledger);
    let append = || async { ledger.lock().await.append(records).await };
    tools
        .retries
        .call(
            "commit to the ledger under spec.storage.uri",
            |error| tools.judge.ledger(error),
            append,
        )
        .await
}

async fn carry_out(tools: &Tools, call: Call) -> Result<Option<Event>, EffectError> {
    let retries = &tools.retries;
    let event = match call {
        Call::Publish {
            stage,
            readers,
            version,
            outputs,
        } => {
            let name = format!("publish the outputs of stage {stage} under spec.storage.uri");
            let publish = async || publish(tools, stage, readers, version, &outputs).await;
            let published = retries
                .retry_unless_permanent(&name, tools.judge, publish)
                .await;
            let outputs =
                published.map_err(|source| EffectError::Permanent { call: name, source })?;
            Some(Event::StagePublished {
                stage,
                version,
                outputs,
            })
        }
        Call::Finalize(task, files) => {
            let name = "complete a final file under spec.pipeline.sink.files.path";
            // The owner of the folder is checked before every try. If the job could not reach the
            // store, another job may have taken the folder over in the meantime.
            let judge = |error: &OutputError| tools.judge.output(error);
            let mut answer = Event::FileFinalized { task: task.task };
            for file in &files {
                let complete = || finalize::complete_output(&tools.output, file);
                match retries.call(name, judge, complete).await {
                    Ok(Finalized::Stands) => {}
                    Ok(Finalized::Lost) => {
                        answer = Event::FileLost { task };
                        break;
                    }
                    Err(error) => return given_up(name, error).map(Some),
                }
            }
            Some(answer)
        }
        Call::Discard(task, file) => {
            discard(tools, task, &file).await;
            None
        }
        Call::WriteManifest { files, more } => Some(close(tools, &files, &more).await?),
    };
    Ok(event)
}

/// Writes what the readers of a finished stage need to find its files. Returns its path.
async fn publish(
    tools: &Tools,
    stage: StageId,
    readers: Readers,
    version: u32,
    outputs: &[(TaskAttempt, OutputFile)],
) -> Result<String, StorageError> {
    let (storage, epoch) = (&tools.job.storage, tools.epoch);
    match readers {
        Readers::OfFiles => shuffle::publish_stage(storage, epoch, stage, version, outputs).await,
        Readers::OfPartitions(partitions) => {
            let shape = IndexShape {
                stage,
                tasks: u32::try_from(outputs.len()).unwrap_or(u32::MAX),
                partitions,
            };
            shuffle::publish_index(storage, epoch, version, shape, outputs).await
        }
    }
}

/// Returns how later stages read the files of a stage.
pub(super) fn readers(plan: &Plan, stage: StageId) -> Readers {
    let gathers = |other: &Stage| other.gathers().is_some() && other.reads().any(|id| id == stage);
    let written = plan.stages.get(stage.0 as usize);
    match written.map(|stage| &stage.output) {
        Some(StageOutput::Shuffle { partitions, .. }) if !plan.stages.iter().any(gathers) => {
            Readers::OfPartitions(*partitions)
        }
        _ => Readers::OfFiles,
    }
}

async fn close(
    tools: &Tools,
    files: &[(TaskAttempt, OutputFile)],
    more: &[(TaskAttempt, OutputFile)],
) -> Result<Event, EffectError> {
    let name = "write _SUCCESS.json";
    let close = || finalize::close(&tools.output, &tools.plan_digest, files, more);
    let judge = |error: &OutputError| tools.judge.output(error);
    match tools.retries.call(name, judge, close).await {
        Ok(manifest) => Ok(Event::ManifestWritten { manifest }),
        Err(error) => given_up(name, error),
    }
}

/// Returns what follows if a call for the output failed permanently: an error if the run cannot
/// continue, an event if the job has lost its output.
fn given_up(call: &str, error: OutputError) -> Result<Event, EffectError> {
    let message = error.to_string();
    if let OutputError::Store(source)
    | OutputError::Storage(source)
    | OutputError::MayNotList(source) = error
        && !source.is_misplaced()
    {
        let call = call.to_owned();
        return Err(EffectError::Permanent { call, source });
    }
    Ok(Event::OutputTaken { message })
}

async fn discard(tools: &Tools, task: TaskAttempt, file: &OutputFile) {
    let mut backoff = super::retry::Backoff::new(tools.job.stores.chance());
    for _ in 0..DISCARD_TRIES {
        match finalize::discard(&tools.job.stores, file).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%task, %error, "cannot delete the file of a superseded attempt");
            }
        }
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zephyr_crds::frozen::FrozenJob;
    use zephyr_engine::coordinator::record::FinalPlace;
    use zephyr_engine::coordinator::uncharged::Uncharged;
    use zephyr_engine::id::{Attempt, JobUid, ShardId, TaskId};
    use zephyr_store::ledger::{MergePolicy, WriterToken};
    use zephyr_store::storage::{JobStorage, Stores};

    use super::*;
    use crate::coordinator::status::Outages;

    fn record(shard: u32) -> LogRecord {
        let (stage, shard) = (StageId(0), ShardId(shard));
        let attempt = Attempt {
            epoch: Epoch(1),
            number: 1,
        };
        LogRecord::Revoked {
            task: TaskAttempt {
                task: TaskId { stage, shard },
                attempt,
            },
        }
    }

    async fn effects() -> Effects {
        let job = json!({
            "version": 1, "namespace": "test", "name": "test", "uid": "uid", "generation": 1,
            "coordinatorAddress": "http://127.0.0.1:1",
            "spec": {
                "pipeline": {
                    "source": {"items": {"values": [1]}},
                    "sink": {"files": {"path": "file:///nowhere/o-{shard}.jsonl"}},
                },
                "storage": {"uri": "file:///nowhere"},
                "workers": {"replicas": 1},
            },
        });
        let job = RunJob::new(FrozenJob::from_json(&job.to_string()).unwrap()).unwrap();
        let uid = JobUid::parse("uid").unwrap();
        let storage = JobStorage::new(Stores::in_memory(), "s3://b/jobs", uid).unwrap();
        let opened = Ledger::open(&storage, WriterToken::from_random(1)).await;
        let taken = opened.unwrap().take_over(MergePolicy::default()).await;
        let metrics = CoordinatorMetrics::default();
        let retries = Retries::new(Outages::default(), metrics.clone(), job.stores.chance());
        let ledger = taken.unwrap().ledger;
        let (job, epoch, digest) = (Arc::new(job), ledger.epoch(), String::new());
        Effects::new(job, digest, epoch, ledger, retries, metrics)
    }

    #[test]
    fn the_documentation_says_how_often_deleting_a_file_is_tried() {
        let told = Uncharged::CleanUp.row().bound;
        assert!(
            told.starts_with(&format!("{DISCARD_TRIES} tries for ")),
            "{told}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_record_is_committed_at_once_and_a_stream_of_records_in_groups() {
        let mut effects = effects().await;
        let began = Instant::now();
        for shard in 0..10 {
            effects.append(vec![record(shard)]);
            let durable = effects.next().await.unwrap();
            assert_eq!(
                durable,
                Event::Durable {
                    through: shard.into()
                }
            );
            assert_eq!(began.elapsed(), COMMIT_INTERVAL * shard);
        }
        for shard in 10..20 {
            effects.append(vec![record(shard)]);
        }
        let durable = effects.next().await.unwrap();
        assert_eq!(durable, Event::Durable { through: 19 });
        assert_eq!(began.elapsed(), COMMIT_INTERVAL * 10);
    }

    #[tokio::test]
    async fn after_the_end_of_the_job_no_final_file_is_completed_any_more() {
        let mut effects = effects().await;
        let LogRecord::Revoked { task } = record(0) else {
            unreachable!("the records of this test are of one kind");
        };
        let place = FinalPlace::Staged {
            uri: "file:///nowhere/o-0.jsonl".to_owned(),
            staged: "file:///nowhere/o-0.jsonl.e1a1".to_owned(),
        };
        let file = OutputFile {
            rows: 1,
            bytes: 1,
            crc32c: 0,
            place: place.into(),
        };
        for _ in 0..3 * CALLS_AT_ONCE {
            effects.call(Call::Finalize(task, vec![file.clone()]));
        }
        effects.call(Call::Discard(task, file.clone()));
        let late = effects.stop_completing();
        assert_eq!(
            effects.waiting.len(),
            1,
            "the file of another attempt is still deleted"
        );
        assert_eq!(late.settle().await.len(), CALLS_AT_ONCE);
        effects.call(Call::Finalize(task, vec![file]));
        assert_eq!(effects.waiting.len(), 1);
    }
}
