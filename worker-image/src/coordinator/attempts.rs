//! Writes the attempts that have ended into the job's folder, for people. Nothing waits for these
//! writes, and a failed one changes nothing for the job: what does not fit into the memory set
//! aside is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use zephyr_crds::names;
use zephyr_engine::coordinator::EndedAttempt;
use zephyr_engine::id::{Epoch, Timestamp};
use zephyr_store::attempts::{
    AttemptLine, Batch, MAX_ATTEMPTS_PER_OBJECT, put_attempts, time_text,
};
use zephyr_store::storage::{Reminder, StorageError};

use crate::job::RunJob;

/// How many attempts wait for a write at most. At a few hundred bytes each they take some
/// megabytes, and at most 20 MB if each has the longest error.
const MAX_WAITING: usize = 20_000;

/// With how many waiting attempts a write begins at once.
const ENOUGH: usize = 1_000;

/// How long an attempt waits for others before a write begins. Also how long after a failed write
/// the next one begins.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long the last writes may delay the job's end.
const LAST_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts that go into one object.
struct Unwritten {
    /// The number of the object.
    number: u64,
    /// How many attempts were dropped before it.
    dropped: u64,
    ended: Vec<EndedAttempt>,
}

/// A write that has ended. What was not written comes back.
type Written = Result<(), (Unwritten, StorageError)>;

/// The attempts that are not written yet.
pub(super) struct Attempts {
    writer: Writer,
    runtime: Handle,
    waiting: VecDeque<EndedAttempt>,
    /// How many were not kept.
    dropped: u64,
    /// The number of the next object.
    next: u64,
    /// What the store did not accept.
    failed: Option<Unwritten>,
    reminder: Reminder,
    writing: JoinSet<Written>,
    /// When the next write begins, if anything waits.
    due: Option<Instant>,
    /// Whether nothing waits for others, because this process may end soon.
    hurries: bool,
    /// Whether nothing is kept: the job runs on one machine, where nobody asks for its history, or
    /// it has ended.
    is_closed: bool,
}

impl Attempts {
    /// Begins with no attempt. `began` is the current time, which is time 0 of the engine. Writes
    /// run on the runtime in which this is called.
    pub(super) fn new(job: Arc<RunJob>, epoch: Epoch, began: SystemTime) -> Self {
        Self {
            is_closed: job.is_local,
            writer: Writer { job, epoch, began },
            runtime: Handle::current(),
            waiting: VecDeque::new(),
            dropped: 0,
            next: 0,
            failed: None,
            reminder: Reminder::default(),
            writing: JoinSet::new(),
            due: None,
            hurries: false,
        }
    }

    /// Adds attempts that have ended.
    pub(super) fn add(&mut self, ended: Vec<EndedAttempt>) {
        if self.is_closed {
            return;
        }
        for one in ended {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push_back(one);
            } else {
                self.dropped += 1;
            }
        }
        let now = Instant::now();
        self.due = self.due.or(Some(now + INTERVAL));
        if self.failed.is_none() && (self.hurries || self.waiting.len() >= ENOUGH) {
            self.due = Some(now);
        }
        self.write_if_due();
    }

    /// Sets whether attempts are written as soon as they end.
    pub(super) fn hurry(&mut self, hurries: bool) {
        self.hurries = hurries;
        if hurries && self.due.is_some() {
            self.due = Some(Instant::now());
            self.write_if_due();
        }
    }

    /// Waits for the end of a write. May be cancelled. Waits forever if nothing is being written.
    pub(super) async fn written(&mut self) {
        let Some(ended) = self.writing.join_next().await else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        self.due = match ended {
            Ok(Ok(())) => {
                let is_enough = self.hurries || self.waiting.len() >= ENOUGH;
                let next = if is_enough { now } else { now + INTERVAL };
                (!self.waiting.is_empty()).then_some(next)
            }
            Ok(Err((batch, error))) => {
                if self.reminder.is_due(now) {
                    let attempts = batch.ended.len();
                    tracing::info!(%error, attempts, "ended attempts are not written yet");
                }
                self.failed = Some(batch);
                Some(now + INTERVAL)
            }
            Err(error) => {
                tracing::warn!(%error, "the write of ended attempts died");
                Some(now + INTERVAL)
            }
        };
        self.write_if_due();
    }

    /// Begins a write, if one is due and none is running.
    pub(super) fn write_if_due(&mut self) {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if !is_due || !self.writing.is_empty() {
            return;
        }
        self.due = None;
        if let Some(batch) = self.next_batch() {
            let writer = self.writer.clone();
            let write = async move { writer.write(batch).await };
            self.writing.spawn_on(write, &self.runtime);
        }
    }

    /// Writes everything that waits, and keeps nothing from now on. What cannot be written within
    /// [`LAST_TIMEOUT`] is lost.
    pub(super) fn close(&mut self) -> impl Future<Output = ()> + Send + use<> {
        self.is_closed = true;
        self.due = None;
        let mut writing = std::mem::take(&mut self.writing);
        let mut batches = VecDeque::new();
        while let Some(batch) = self.next_batch() {
            batches.push_back(batch);
        }
        let writer = self.writer.clone();
        async move {
            let all = async {
                while let Some(ended) = writing.join_next().await {
                    if let Ok(Err((batch, _))) = ended {
                        batches.push_front(batch);
                    }
                }
                for batch in batches {
                    if let Err((batch, error)) = writer.write(batch).await {
                        let attempts = batch.ended.len();
                        tracing::warn!(%error, attempts, "ended attempts are lost");
                    }
                }
            };
            if timeout(LAST_TIMEOUT, all).await.is_err() {
                tracing::warn!(
                    ?LAST_TIMEOUT,
                    "ended attempts are lost: the store took too long"
                );
            }
        }
    }

    /// Takes the batch that the store did not accept, or the attempts that have waited longest.
    fn next_batch(&mut self) -> Option<Unwritten> {
        if let Some(failed) = self.failed.take() {
            return Some(failed);
        }
        let count = self.waiting.len().min(MAX_ATTEMPTS_PER_OBJECT);
        if count == 0 {
            return None;
        }
        let number = self.next;
        self.next += 1;
        Some(Unwritten {
            number,
            dropped: self.dropped,
            ended: self.waiting.drain(..count).collect(),
        })
    }
}

/// What is needed to write an object.
#[derive(Clone)]
struct Writer {
    job: Arc<RunJob>,
    epoch: Epoch,
    /// The time of the engine's time 0.
    began: SystemTime,
}

impl Writer {
    async fn write(&self, unwritten: Unwritten) -> Written {
        let batch = Batch {
            epoch: self.epoch.0,
            number: unwritten.number,
            dropped: unwritten.dropped,
            lines: unwritten.ended.iter().map(|one| self.line(one)).collect(),
        };
        let put = put_attempts(&self.job.storage, &batch).await;
        put.map_err(|error| (unwritten, error))
    }

    fn line(&self, ended: &EndedAttempt) -> AttemptLine {
        let frozen = &self.job.frozen;
        let set = || names::workers(&frozen.name, frozen.generation);
        let worker = ended.ordinal.map(|ordinal| format!("{}-{ordinal}", set()));
        let (task, attempt) = (ended.task.task, ended.task.attempt);
        AttemptLine {
            stage: task.stage.0.saturating_add(1),
            shard: task.shard.0,
            epoch: attempt.epoch.0,
            attempt: attempt.number,
            worker: worker.unwrap_or_default(),
            pod_uid: ended.pod_uid.clone(),
            started: ended.started.map(|time| self.time(time)),
            ended: self.time(ended.ended),
            outcome: ended.ending.as_str().to_owned(),
            records_read: ended.records,
            bytes_read: ended.bytes.map(|(read, _)| read),
            bytes_written: ended.bytes.map(|(_, written)| written),
            error: ended.error.clone(),
        }
    }

    fn time(&self, time: Timestamp) -> String {
        let time = self.began.checked_add(Duration::from_millis(time.0));
        time.map(time_text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
