//! Manages the bidirectional streams to the coordinators. The operator opens one stream for each
//! running generation.
//!
//! Keeps the latest report of each coordinator, and requests a reconcile when a report arrives.
//! This module decides nothing about jobs, and uses no Kubernetes client. Only `progress/wire.rs`
//! uses the wire's messages.

pub mod dial;
mod disruptions;
mod pod_ends;
#[cfg(test)]
mod release_0_1_0;
pub mod token;
mod wire;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use self::dial::{Dial, Message};
use self::disruptions::Disruptions;
pub use self::disruptions::Lost;
use self::pod_ends::PodEnds;
use self::token::Token;
pub(crate) use self::wire::last_bytes;
use crate::clock::Clock;
use crate::driver::Jobs;
use crate::identity::JobIdentity;
use crate::pods::{PodEnd, PodFacts};
use crate::run_report::{NoStream, RunReport};

/// The first wait before a stream is opened again. The waits double, up to `LONGEST_RETRY`.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How much time passes at least between two reads of reports from one coordinator. A correct
/// coordinator sends at most one report per second. If a coordinator sends faster, its reports stay
/// in the sender's buffers.
const REPORT_SPACING: Duration = Duration::from_millis(500);
/// The largest additional wait before a job's stream is opened, in milliseconds. It depends on the
/// job, so that the operator does not open all streams at the same moment.
const RETRY_SPREAD_MS: u64 = 500;
/// How many messages wait for a coordinator at most. Further messages are sent at the next
/// reconcile.
const OUTBOX: usize = 1024;

/// The streams of all jobs.
#[derive(Clone)]
pub struct RunStreams {
    streams: Arc<Mutex<BTreeMap<String, RunStream>>>,
    dialler: Dialler,
}

/// The dependencies of a stream's task.
#[derive(Clone)]
struct Dialler {
    changed: Arc<Jobs>,
    dial: Arc<dyn Dial>,
    clock: Clock,
}

/// The coordinator to connect to, and the token that authorizes this.
#[derive(Clone, Debug)]
pub struct StreamTarget {
    /// The job.
    pub job: JobIdentity,
    /// The generation whose coordinator the operator connects to.
    pub generation: u32,
    /// The URL of its coordinator.
    pub address: String,
    /// The generation's bearer token.
    pub token: Token,
}

/// The stream of one job's current generation; dropping it closes the stream.
struct RunStream {
    generation: u32,
    state: Arc<Mutex<StreamState>>,
    #[expect(dead_code, reason = "dropping it ends the dialling")]
    dialler: AbortOnDropHandle<()>,
}

/// The state that a stream's task and the reconciles share.
#[derive(Default)]
struct StreamState {
    report: Option<RunReport>,
    no_stream: Option<NoStream>,
    /// The newest epoch that sent a report.
    newest_epoch: u64,
    /// How many tasks were committed when this operator first received the generation's plan.
    first_tasks_done: Option<u64>,
    outbox: Option<mpsc::Sender<Message>>,
    pod_ends: PodEnds,
    disruptions: Disruptions,
    kept: KeptWorkers,
    drain: Drain,
    /// The request to end the run with a certain result, and when the request was first made.
    /// Absent if the coordinator is not asked to end the run.
    end: Option<(Message, Timestamp)>,
}

/// How many workers stay. The coordinator is informed of the number before the other workers are
/// removed.
#[derive(Debug, Default)]
struct KeptWorkers {
    /// The latest number.
    wanted: Option<u32>,
    /// The number that was sent to the coordinator on its current stream.
    said: Option<u32>,
    /// The replicas that the watch showed last. The watch may show a change by this operator late.
    shown: Option<u32>,
}

/// Whether the run drains, which means that it starts no further task. The operator sends this on
/// each new stream. So a run cannot drain because of a message from an earlier operator.
#[derive(Debug, Default)]
struct Drain {
    wanted: bool,
    /// The value that was sent to the coordinator on its current stream.
    said: Option<bool>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Dial(dial::Error),
    #[error("report: epoch {found} reported after epoch {newest}")]
    OldEpoch { found: u64, newest: u64 },
    #[error("report: the plan of epoch {epoch} changed; a plan is made once")]
    PlanChanged { epoch: u64 },
    #[error("the coordinator closed the stream")]
    Closed,
}

impl RunStreams {
    /// Returns a record without streams. `changed` is notified whenever a job's report or its
    /// stream changes.
    pub fn new(changed: Arc<Jobs>, dial: Arc<dyn Dial>, clock: Clock) -> Self {
        Self {
            streams: Arc::default(),
            dialler: Dialler {
                changed,
                dial,
                clock,
            },
        }
    }

    /// Keeps a stream to `target`'s generation, and closes any other stream of that job.
    pub fn ensure(&self, target: StreamTarget) {
        let mut streams = lock(&self.streams);
        if streams
            .get(&target.job.uid)
            .is_some_and(|stream| stream.generation == target.generation)
        {
            return;
        }
        let state = Arc::new(Mutex::new(StreamState {
            no_stream: Some(NoStream {
                since: self.dialler.clock.now(),
                why: "it has not answered yet".to_owned(),
            }),
            ..StreamState::default()
        }));
        let generation = target.generation;
        let uid = target.job.uid.clone();
        let dialler = AbortOnDropHandle::new(tokio::spawn(dial_forever(
            self.dialler.clone(),
            target,
            Arc::clone(&state),
        )));
        streams.insert(
            uid,
            RunStream {
                generation,
                state,
                dialler,
            },
        );
    }

    /// Closes the stream of a job.
    pub fn close(&self, job_uid: &str) {
        lock(&self.streams).remove(job_uid);
    }

    /// Closes the streams of all jobs for which `is_alive` returns false.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        lock(&self.streams).retain(|uid, _| is_alive(uid));
    }

    /// Returns the latest report of a job's generation.
    pub fn report(&self, job_uid: &str, generation: u32) -> Option<RunReport> {
        self.with(job_uid, generation, |state| {
            let connected = state.outbox.is_some();
            state.report.clone().map(|report| RunReport {
                connected,
                ..report
            })
        })?
    }

    /// Returns the time since which the coordinator of a job's generation has no stream, and the
    /// reason. Returns `None` while it has one.
    pub fn no_stream(&self, job_uid: &str, generation: u32) -> Option<NoStream> {
        self.with(job_uid, generation, |state| state.no_stream.clone())?
    }

    /// Returns the ends of worker pods that were not yet reported to the coordinator on its current
    /// stream. `pods` are all existing worker pods, and `left_alone` contains the uids of pods that
    /// still exist although their owner was deleted.
    pub fn unreported_ends<'a>(
        &self,
        job_uid: &str,
        generation: u32,
        pods: impl Iterator<Item = &'a PodFacts>,
        left_alone: &BTreeSet<String>,
    ) -> Vec<PodEnd> {
        self.with(job_uid, generation, |state| {
            state.pod_ends.unreported(pods, left_alone)
        })
        .unwrap_or_default()
    }

    /// Returns how many workers the generation has lost. `before` is the count in status, `pods`
    /// are all existing worker pods, and `left_alone` contains the uids of pods that still exist
    /// although their owner was deleted.
    pub fn lost<'a>(
        &self,
        job_uid: &str,
        generation: u32,
        before: Lost,
        pods: impl Iterator<Item = &'a PodFacts>,
        left_alone: &BTreeSet<String>,
        (workers_uid, replicas): (&str, u32),
    ) -> Option<Lost> {
        self.with(job_uid, generation, |state| {
            let reported = state
                .report
                .as_ref()
                .and_then(|report| Some((report.epoch?, report.disruptions)));
            state.disruptions.set_owner(workers_uid);
            state.disruptions.leave_alone(left_alone);
            state.disruptions.look(before, reported, pods, replicas)
        })
    }

    /// Reports ended pods to the coordinator. If there is no stream, or its outbox is full, the
    /// ends stay unreported.
    pub fn report_pod_ends(&self, job_uid: &str, generation: u32, ends: &[PodEnd]) {
        self.with(job_uid, generation, |state| {
            for end in ends {
                let Some(outbox) = &state.outbox else { return };
                if outbox.try_send(Message::PodEnded(end.clone())).is_err() {
                    return;
                }
                state.pod_ends.set_reported(end);
            }
        });
    }

    /// Informs the coordinator that its result is in status. The message may get lost: the deletion
    /// of the generation has the same effect.
    pub fn acknowledge_result(&self, job_uid: &str, generation: u32, epoch: u64) {
        self.with(job_uid, generation, |state| {
            if let Some(outbox) = &state.outbox {
                // If the outbox is full, the coordinator does not read its messages, so this
                // message may be dropped.
                drop(outbox.try_send(Message::ResultStored { epoch }));
            }
        });
    }

    /// Informs the coordinator how many workers stay, before the other workers are removed. After a
    /// reconnect the coordinator is informed again.
    pub fn keep_workers(&self, job_uid: &str, generation: u32, workers: u32) {
        self.with(job_uid, generation, |state| state.keep_workers(workers));
    }

    /// Like [`Self::keep_workers`], for the number of replicas that the watch shows. The operator
    /// may not know that number, because it started a moment ago, or because somebody else changed
    /// the number.
    pub fn note_replicas(&self, job_uid: &str, generation: u32, replicas: u32) {
        self.with(job_uid, generation, |state| state.note_replicas(replicas));
    }

    /// Informs the coordinator whether the run drains: then it starts no further task. After a
    /// reconnect the coordinator is informed again.
    pub fn drain(&self, job_uid: &str, generation: u32, drains: bool) {
        self.with(job_uid, generation, |state| {
            state.drain.wanted = drains;
            state.send_drain();
        });
    }

    /// Asks the coordinator to end the job; after a reconnect the coordinator is asked again.
    pub fn end_run(
        &self,
        job_uid: &str,
        generation: u32,
        (reason, message): (&str, &str),
        removes_output: bool,
    ) {
        let now = self.dialler.clock.now();
        self.with(job_uid, generation, |state| {
            let end = Message::EndRun {
                reason: reason.to_owned(),
                message: message.to_owned(),
                removes_output,
            };
            state.end = Some((end, now));
            state.send_end();
        });
    }

    /// Returns when the coordinator was first asked to end the job.
    pub fn end_requested_at(&self, job_uid: &str, generation: u32) -> Option<Timestamp> {
        self.with(job_uid, generation, |state| {
            state.end.as_ref().map(|(_, since)| *since)
        })?
    }

    fn with<T>(
        &self,
        job_uid: &str,
        generation: u32,
        act: impl FnOnce(&mut StreamState) -> T,
    ) -> Option<T> {
        let state = {
            let streams = lock(&self.streams);
            let stream = streams
                .get(job_uid)
                .filter(|stream| stream.generation == generation)?;
            Arc::clone(&stream.state)
        };
        let mut state = lock(&state);
        Some(act(&mut state))
    }
}

impl StreamState {
    fn keep_workers(&mut self, workers: u32) {
        self.kept.wanted = Some(workers);
        self.send_kept();
    }

    fn note_replicas(&mut self, replicas: u32) {
        if self.kept.shown.replace(replicas) != Some(replicas) {
            self.kept.wanted = Some(replicas);
        }
        self.send_kept();
    }

    /// Sends the number of workers that stay, unless the coordinator already has that number.
    fn send_kept(&mut self) {
        let KeptWorkers { wanted, said, .. } = self.kept;
        if let (Some(workers), Some(outbox)) = (wanted, &self.outbox)
            && wanted != said
            && outbox.try_send(Message::WorkersKept { workers }).is_ok()
        {
            self.kept.said = wanted;
        }
    }

    /// Informs the coordinator whether the run drains, unless the current stream already did this.
    fn send_drain(&mut self) {
        let Drain { wanted, said } = self.drain;
        if let Some(outbox) = &self.outbox
            && said != Some(wanted)
            && outbox.try_send(Message::Drain { drains: wanted }).is_ok()
        {
            self.drain.said = Some(wanted);
        }
    }

    /// Sends the request to end the run, if there is one. If the message gets lost, the operator
    /// ends the job after a while without the coordinator.
    fn send_end(&self) {
        if let (Some((end, _)), Some(outbox)) = (&self.end, &self.outbox) {
            drop(outbox.try_send(end.clone()));
        }
    }
}

/// Opens streams again and again until the handle is dropped, because a coordinator may be
/// reachable again at any time.
async fn dial_forever(dialler: Dialler, target: StreamTarget, state: Arc<Mutex<StreamState>>) {
    let spread = Duration::from_millis(spread(&target.job.uid));
    let mut wait = FIRST_RETRY;
    loop {
        let mut was_connected = false;
        let Err(error) = run_stream(&dialler, &target, &state, &mut was_connected).await;
        let was_connected = end_stream(&mut lock(&state), &error, dialler.clock.now());
        let (job, generation) = (&target.job, target.generation);
        if was_connected {
            info!(job = %job.name, namespace = %job.namespace, generation, %error, "stream to the coordinator ended");
        } else {
            debug!(job = %job.name, namespace = %job.namespace, generation, %error, "coordinator not reached");
        }
        if was_connected {
            wait = FIRST_RETRY;
            dialler.changed.touch(&target.job.key());
        }
        sleep(wait + spread).await;
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}

/// Runs one stream, from its opening to its end.
async fn run_stream(
    dialler: &Dialler,
    target: &StreamTarget,
    state: &Mutex<StreamState>,
    was_connected: &mut bool,
) -> Result<std::convert::Infallible, Error> {
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let opened = dialler.dial.dial(target.clone(), messages).await;
    let mut reports = opened.map_err(Error::Dial)?;
    while let Some(report) = reports.next().await {
        let report = report.map_err(Error::Dial)?;
        take_report(&mut lock(state), report, &outbox, dialler.clock.now())?;
        *was_connected = true;
        dialler.changed.touch(&target.job.key());
        sleep(REPORT_SPACING).await;
    }
    Err(Error::Closed)
}

/// Records that no stream is open. Returns whether one was open before.
fn end_stream(state: &mut StreamState, error: &Error, now: Timestamp) -> bool {
    let why = wire::cut(source_last(error), wire::MAX_SENTENCE);
    match &mut state.no_stream {
        Some(no_stream) => no_stream.why = why,
        None => state.no_stream = Some(NoStream { since: now, why }),
    }
    state.outbox.take().is_some()
}

/// Returns the text of an error and its innermost cause, which is the most specific.
fn source_last(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let (outer, inner) = (error.to_string(), cause.to_string());
    if outer.contains(&inner) {
        outer
    } else {
        format!("{outer}: {inner}")
    }
}

/// Stores one report. The first report makes the stream usable.
fn take_report(
    state: &mut StreamState,
    mut report: RunReport,
    outbox: &mpsc::Sender<Message>,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some(found) = report.epoch {
        let newest = state.newest_epoch;
        if found < newest {
            return Err(Error::OldEpoch { found, newest });
        }
        let before = state
            .report
            .as_ref()
            .filter(|last| last.epoch == Some(found))
            .and_then(|last| last.planned.as_ref());
        if before.is_some() && report.planned.is_some() && before != report.planned.as_ref() {
            return Err(Error::PlanChanged { epoch: found });
        }
        state.newest_epoch = found;
    }
    // While the coordinator makes the plan, it reports no tasks. So progress is counted from the
    // number of tasks that were committed when the plan was first known.
    let progressed = report.planned.is_some()
        && report.tasks_done > *state.first_tasks_done.get_or_insert(report.tasks_done);
    let last = state.report.as_ref();
    report.epoch_since = last
        .filter(|last| last.epoch == report.epoch)
        .and_then(|last| last.epoch_since)
        .or_else(|| report.epoch.map(|_| now));
    report.progressed = progressed || state.report.as_ref().is_some_and(|last| last.progressed);
    state.report = Some(report);
    state.no_stream = None;
    if state.outbox.is_none() {
        state.outbox = Some(outbox.clone());
        state.pod_ends.forget_reported();
        state.kept.said = None;
        state.send_kept();
        state.drain.said = None;
        state.send_drain();
        state.send_end();
    }
    Ok(())
}

/// Returns the additional wait of this job in milliseconds. It is the same at each try.
fn spread(job_uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    job_uid.hash(&mut hasher);
    hasher.finish() % RETRY_SPREAD_MS
}

/// Locks `mutex`. The values behind these locks are consistent after every statement, so a value is
/// usable even if a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_report::Planned;

    fn report(epoch: u64, tasks_done: u64) -> RunReport {
        RunReport {
            epoch: Some(epoch),
            tasks_done,
            planned: Some(Planned {
                stages: 1,
                max_shards: 4,
            }),
            ..RunReport::default()
        }
    }

    #[test]
    fn a_report_of_an_older_epoch_ends_the_stream() {
        let (outbox, _messages) = mpsc::channel(1);
        let mut state = StreamState::default();
        take_report(&mut state, report(2, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert!(matches!(
            take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH),
            Err(Error::OldEpoch {
                found: 1,
                newest: 2
            })
        ));
        assert_eq!(state.report.map(|report| report.epoch), Some(Some(2)));
    }

    #[test]
    fn a_report_with_another_plan_in_the_same_epoch_ends_the_stream() {
        let (outbox, _messages) = mpsc::channel(1);
        let mut state = StreamState::default();
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        let mut other = report(1, 0);
        other.planned.as_mut().unwrap().max_shards = 9;
        assert!(matches!(
            take_report(&mut state, other.clone(), &outbox, Timestamp::UNIX_EPOCH),
            Err(Error::PlanChanged { epoch: 1 })
        ));
        other.epoch = Some(2);
        take_report(&mut state, other, &outbox, Timestamp::UNIX_EPOCH).unwrap();
    }

    /// A coordinator that sends endless reports, as fast as they are read.
    struct Flood(Arc<std::sync::atomic::AtomicU64>);

    impl Dial for Flood {
        fn dial(
            &self,
            _: StreamTarget,
            _: mpsc::Receiver<Message>,
        ) -> futures::future::BoxFuture<'static, Result<dial::Reports, dial::Error>> {
            let sent = Arc::clone(&self.0);
            let reports = futures::stream::repeat_with(move || {
                let number = sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(report(1, number))
            });
            Box::pin(async move { Ok(reports.boxed()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_sends_without_end_is_read_twice_a_second() {
        let sent = Arc::default();
        let jobs = Arc::<Jobs>::default();
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let streams = RunStreams::new(jobs, Arc::new(Flood(Arc::clone(&sent))), clock);
        let key = token::SigningKey::new(&[7; 32]).unwrap();
        streams.ensure(StreamTarget {
            job: JobIdentity {
                namespace: "team".to_owned(),
                name: "count".to_owned(),
                uid: "uid".to_owned(),
            },
            generation: 0,
            address: String::new(),
            token: key.token("uid", 0),
        });
        sleep(Duration::from_mins(1)).await;
        let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
        assert!((100..=122).contains(&sent), "{sent}");
        assert_eq!(
            streams.report("uid", 0).map(|report| report.tasks_done + 1),
            Some(sent)
        );
    }

    fn kept(messages: &mut mpsc::Receiver<Message>) -> Vec<u32> {
        let all = std::iter::from_fn(|| messages.try_recv().ok());
        all.filter_map(|message| match message {
            Message::WorkersKept { workers } => Some(workers),
            Message::Drain { drains: false } => None,
            other @ (Message::Drain { .. }
            | Message::PodEnded(_)
            | Message::ResultStored { .. }
            | Message::EndRun { .. }) => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn a_coordinator_is_told_on_each_stream_whether_it_drains() {
        let (outbox, mut messages) = mpsc::channel(8);
        let mut told =
            || -> Vec<Message> { std::iter::from_fn(|| messages.try_recv().ok()).collect() };
        let drain = |drains| vec![Message::Drain { drains }];
        let mut state = StreamState::default();
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            told(),
            drain(false),
            "the message of an earlier operator is undone"
        );
        state.drain.wanted = true;
        state.send_drain();
        state.send_drain();
        assert_eq!(told(), drain(true), "once");
        end_stream(&mut state, &Error::Closed, Timestamp::UNIX_EPOCH);
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(told(), drain(true));
    }

    #[test]
    fn a_coordinator_is_informed_once_on_each_stream_how_many_workers_stay() {
        let (outbox, mut messages) = mpsc::channel(8);
        let mut state = StreamState::default();
        state.note_replicas(4);
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            kept(&mut messages),
            [4],
            "the number from before the stream is sent"
        );
        state.keep_workers(2);
        // The watch still shows the old number.
        state.note_replicas(4);
        state.note_replicas(2);
        assert_eq!(kept(&mut messages), [2]);
        state.note_replicas(1);
        assert_eq!(
            kept(&mut messages),
            [1],
            "a number that somebody set by hand is sent too"
        );
        end_stream(&mut state, &Error::Closed, Timestamp::UNIX_EPOCH);
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(kept(&mut messages), [1]);
    }

    #[test]
    fn a_coordinator_has_no_stream_from_the_end_of_one_to_the_next_report() {
        let (outbox, _messages) = mpsc::channel(1);
        let mut state = StreamState::default();
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(state.no_stream, None);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(end_stream(&mut state, &Error::Closed, at(10)));
        assert!(!end_stream(
            &mut state,
            &Error::Dial(dial::Error::OpenTimeout),
            at(20)
        ));
        let expected = NoStream {
            since: at(10),
            why: "open: no answer within 10 s".to_owned(),
        };
        assert_eq!(state.no_stream, Some(expected));
        take_report(&mut state, report(1, 0), &outbox, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(state.no_stream, None);
    }

    #[test]
    fn progress_is_a_commit_after_the_first_report_with_a_plan() {
        let (outbox, _messages) = mpsc::channel(1);
        let mut state = StreamState::default();
        let mut progressed = Vec::new();
        let waiting = RunReport::default();
        for next in [
            waiting.clone(),
            report(1, 7),
            report(1, 7),
            report(1, 8),
            waiting,
            report(2, 8),
        ] {
            take_report(&mut state, next, &outbox, Timestamp::UNIX_EPOCH).unwrap();
            progressed.push(state.report.as_ref().unwrap().progressed);
        }
        assert_eq!(progressed, [false, false, false, true, true, true]);
    }
}
