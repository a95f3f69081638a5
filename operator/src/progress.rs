//! The streams to the coordinators: one for each generation that lives, dialled by the operator, both ways.
//!
//! Keeps the latest report of each and asks for a reconcile when one arrives. Decides nothing about jobs, and knows no
//! Kubernetes client. The wire's messages stay in `progress/wire.rs`.

mod pod_ends;
pub mod token;
mod wire;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tracing::{debug, info};

use self::pod_ends::PodEnds;
use self::token::Token;
use self::wire::proto;
use crate::controller::validate::JobIdentity;
use crate::pods::{PodEnd, PodFacts};
use crate::run_report::{RunReport, Unheard};

/// How long a dial may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the coordinator may take to accept the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that answers no ping for [`KEEPALIVE_TIMEOUT`] after this long is gone: the finite end of a silent stream.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the first, and the longest before any, new dial.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Streams of one operator do not dial in step.
const RETRY_SPREAD_MS: u64 = 500;
/// Messages that may wait for a coordinator; more are told at the next reconcile.
const OUTBOX: usize = 1024;

/// The streams of all jobs.
#[derive(Clone)]
pub struct RunStreams {
    streams: Arc<Mutex<BTreeMap<String, RunStream>>>,
    changed: mpsc::Sender<JobIdentity>,
}

/// Which coordinator to dial, and what proves that we may.
#[derive(Clone, Debug)]
pub struct StreamTarget {
    pub job: JobIdentity,
    pub generation: u32,
    pub address: String,
    pub token: Token,
}

/// The stream of one job's current generation; dropping it closes the stream.
struct RunStream {
    generation: u32,
    state: Arc<Mutex<StreamState>>,
    #[expect(dead_code, reason = "dropping it ends the dialling")]
    dialler: AbortOnDropHandle<()>,
}

/// What a stream's task and the reconciles share.
#[derive(Default)]
struct StreamState {
    report: Option<RunReport>,
    unheard: Option<Unheard>,
    /// The newest epoch that spoke.
    newest_epoch: u64,
    /// Tasks committed when this operator first heard of the generation's plan.
    first_tasks_done: Option<u64>,
    outbox: Option<mpsc::Sender<proto::OperatorMessage>>,
    pod_ends: PodEnds,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("address {address}: {source}")]
    Address {
        address: String,
        source: tonic::transport::Error,
    },
    #[error("the token is not a header value")]
    Token,
    #[error("dial: {0}")]
    Dial(#[source] tonic::transport::Error),
    #[error("open: {0}")]
    Open(#[source] Box<tonic::Status>),
    #[error("open: no answer within {} s", OPEN_TIMEOUT.as_secs())]
    OpenTimeout,
    #[error("read: {0}")]
    Read(#[source] Box<tonic::Status>),
    #[error("report: {0}")]
    Report(#[source] wire::Error),
    #[error("report: epoch {found} speaks after epoch {newest}")]
    OldEpoch { found: u64, newest: u64 },
    #[error("the coordinator closed the stream")]
    Closed,
    #[error("the operator ends")]
    Ending,
}

impl RunStreams {
    /// `changed` gets a job's identity whenever its report or its stream changes.
    pub fn new(changed: mpsc::Sender<JobIdentity>) -> Self {
        Self {
            streams: Arc::default(),
            changed,
        }
    }

    /// Keeps a stream to `target`'s generation, and to no other of that job.
    pub fn ensure(&self, target: StreamTarget) {
        let mut streams = lock(&self.streams);
        if streams
            .get(&target.job.uid)
            .is_some_and(|stream| stream.generation == target.generation)
        {
            return;
        }
        let state = Arc::new(Mutex::new(StreamState {
            unheard: Some(Unheard {
                since: Timestamp::now(),
                why: "it has not answered yet".to_owned(),
            }),
            ..StreamState::default()
        }));
        let generation = target.generation;
        let uid = target.job.uid.clone();
        let dialler = AbortOnDropHandle::new(tokio::spawn(dial_for_ever(
            target,
            Arc::clone(&state),
            self.changed.clone(),
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

    /// Closes the streams of all jobs for which `is_alive` says no.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        lock(&self.streams).retain(|uid, _| is_alive(uid));
    }

    /// The latest report of a job's generation.
    pub fn report(&self, job_uid: &str, generation: u32) -> Option<RunReport> {
        self.with(job_uid, generation, |state| {
            let connected = state.outbox.is_some();
            state.report.clone().map(|report| RunReport {
                connected,
                ..report
            })
        })?
    }

    /// Since when, and why, the coordinator of a job's generation is not heard; nothing while it is.
    pub fn unheard(&self, job_uid: &str, generation: u32) -> Option<Unheard> {
        self.with(job_uid, generation, |state| state.unheard.clone())?
    }

    /// Ends of worker pods, `pods` being all that exist now, which the coordinator has not been told on its stream.
    pub fn untold_ends<'a>(
        &self,
        job_uid: &str,
        generation: u32,
        pods: impl Iterator<Item = &'a PodFacts>,
    ) -> Vec<PodEnd> {
        self.with(job_uid, generation, |state| state.pod_ends.untold(pods))
            .unwrap_or_default()
    }

    /// Tells the coordinator of ended pods. What does not fit, or finds no stream, remains untold.
    pub fn tell_pod_ends(&self, job_uid: &str, generation: u32, ends: &[PodEnd]) {
        self.with(job_uid, generation, |state| {
            for end in ends {
                let Some(outbox) = &state.outbox else { return };
                if outbox.try_send(wire::pod_ended(end)).is_err() {
                    return;
                }
                state.pod_ends.set_told(end);
            }
        });
    }

    /// Tells the coordinator that its result is in status. It need not arrive: the generation's deletion says the same.
    pub fn acknowledge_result(&self, job_uid: &str, generation: u32, epoch: u64) {
        self.with(job_uid, generation, |state| {
            if let Some(outbox) = &state.outbox {
                // A full outbox belongs to a coordinator that does not read; it will not read this either.
                drop(outbox.try_send(wire::result_stored(epoch)));
            }
        });
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

/// Dials again and again until the handle is dropped: a coordinator may come back at any time.
async fn dial_for_ever(
    target: StreamTarget,
    state: Arc<Mutex<StreamState>>,
    changed: mpsc::Sender<JobIdentity>,
) {
    let spread = Duration::from_millis(spread(&target.job.uid));
    let mut wait = FIRST_RETRY;
    loop {
        let mut was_heard = false;
        let Err(error) = run_stream(&target, &state, &changed, &mut was_heard).await;
        let was_connected = end_stream(&mut lock(&state), &error, Timestamp::now());
        let (job, generation) = (&target.job, target.generation);
        if was_connected {
            info!(job = %job.name, namespace = %job.namespace, generation, %error, "stream to the coordinator ended");
        } else {
            debug!(job = %job.name, namespace = %job.namespace, generation, %error, "coordinator not reached");
        }
        if was_heard {
            wait = FIRST_RETRY;
            if changed.send(target.job.clone()).await.is_err() {
                return;
            }
        }
        sleep(wait + spread).await;
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}

/// One stream, from the dial to its end.
async fn run_stream(
    target: &StreamTarget,
    state: &Mutex<StreamState>,
    changed: &mpsc::Sender<JobIdentity>,
    was_heard: &mut bool,
) -> Result<std::convert::Infallible, Error> {
    let channel = Endpoint::from_shared(target.address.clone())
        .map_err(|source| Error::Address {
            address: target.address.clone(),
            source,
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(Error::Dial)?;
    let (outbox, messages) = mpsc::channel(OUTBOX);
    if outbox
        .try_send(wire::hello(&target.job.uid, target.generation))
        .is_err()
    {
        return Err(Error::Ending);
    }
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    let bearer: MetadataValue<Ascii> = target.token.bearer().parse().map_err(|_| Error::Token)?;
    request.metadata_mut().insert("authorization", bearer);
    let mut client = proto::run_client::RunClient::new(channel);
    let mut reports = timeout(OPEN_TIMEOUT, client.operate(request))
        .await
        .map_err(|_| Error::OpenTimeout)?
        .map_err(|status| Error::Open(Box::new(status)))?
        .into_inner();
    while let Some(message) = reports
        .message()
        .await
        .map_err(|status| Error::Read(Box::new(status)))?
    {
        let report = wire::read_report(message, &target.job.uid, target.generation)
            .map_err(Error::Report)?;
        take_report(&mut lock(state), report, &outbox)?;
        *was_heard = true;
        changed
            .send(target.job.clone())
            .await
            .map_err(|_| Error::Ending)?;
    }
    Err(Error::Closed)
}

/// Notes that no stream is up; whether one was.
fn end_stream(state: &mut StreamState, error: &Error, now: Timestamp) -> bool {
    let why = source_last(error);
    match &mut state.unheard {
        Some(unheard) => unheard.why = why,
        None => state.unheard = Some(Unheard { since: now, why }),
    }
    state.outbox.take().is_some()
}

/// An error with its innermost cause, which names what happened.
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

/// Takes one report over. The first of a stream makes the stream usable.
fn take_report(
    state: &mut StreamState,
    mut report: RunReport,
    outbox: &mpsc::Sender<proto::OperatorMessage>,
) -> Result<(), Error> {
    if let Some(found) = report.epoch {
        let newest = state.newest_epoch;
        if found < newest {
            return Err(Error::OldEpoch { found, newest });
        }
        state.newest_epoch = found;
    }
    // Planning reports no tasks yet: the base is what was committed when the plan was first known.
    let progressed = report.planned.is_some()
        && report.tasks_done > *state.first_tasks_done.get_or_insert(report.tasks_done);
    report.progressed = progressed || state.report.as_ref().is_some_and(|last| last.progressed);
    state.report = Some(report);
    state.unheard = None;
    if state.outbox.is_none() {
        state.outbox = Some(outbox.clone());
        state.pod_ends.forget_told();
    }
    Ok(())
}

/// A wait of this job's own, the same at each dial.
fn spread(job_uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    job_uid.hash(&mut hasher);
    hasher.finish() % RETRY_SPREAD_MS
}

/// The values behind these locks are whole after every statement, so one that a panic left behind is as good as any.
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
        take_report(&mut state, report(2, 0), &outbox).unwrap();
        assert!(matches!(
            take_report(&mut state, report(1, 0), &outbox),
            Err(Error::OldEpoch {
                found: 1,
                newest: 2
            })
        ));
        assert_eq!(state.report.map(|report| report.epoch), Some(Some(2)));
    }

    #[test]
    fn a_coordinator_is_unheard_from_the_end_of_its_stream_to_the_next_report() {
        let (outbox, _messages) = mpsc::channel(1);
        let mut state = StreamState::default();
        take_report(&mut state, report(1, 0), &outbox).unwrap();
        assert_eq!(state.unheard, None);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(end_stream(&mut state, &Error::Closed, at(10)));
        assert!(!end_stream(&mut state, &Error::OpenTimeout, at(20)));
        let expected = Unheard {
            since: at(10),
            why: "open: no answer within 10 s".to_owned(),
        };
        assert_eq!(state.unheard, Some(expected));
        take_report(&mut state, report(1, 0), &outbox).unwrap();
        assert_eq!(state.unheard, None);
    }

    #[test]
    fn progress_is_what_was_committed_after_the_first_report_with_a_plan() {
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
            take_report(&mut state, next, &outbox).unwrap();
            progressed.push(state.report.as_ref().unwrap().progressed);
        }
        assert_eq!(progressed, [false, false, false, true, true, true]);
    }
}
