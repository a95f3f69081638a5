//! Implements the service that workers call: converts each session's messages into events for the
//! loop. This module only decides which workers are accepted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{Map, Stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};
use zephyr_engine::coordinator::Event;
use zephyr_engine::id::{Epoch, SessionId, WorkerId};
use zephyr_proto::worker::worker_server::Worker;
use zephyr_proto::worker::{CoordinatorMessage, WorkerMessage, worker_message};

use super::offenders::{MAX_REPORTS, Offenders};
use super::registrations::{MAX_SESSIONS, Registrations};
use crate::convert::identity::{RunIdentity, WireError};
use crate::convert::wire::{claimed, event};

/// How long a worker may take to send `Hello` in a new session.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How many messages wait for one worker at most. If there are more, the worker does not read its
/// messages. Then the session is closed, and the worker reconnects and reports what it runs.
pub(super) const OUTBOUND_QUEUED: usize = 1024;
/// How much time passes at least between two heartbeats of one session that are sent to the loop.
const HEARTBEAT_SPACING: Duration = Duration::from_millis(50);

/// An input of the loop.
pub(crate) enum Input {
    /// A worker opened a session: its message, and the channel for answers.
    Opened(Event, SessionId, WorkerSender),
    /// A worker reported a file of another attempt.
    ForeignFile(SessionId),
    /// If the operator ends the job now, its complete files are removed.
    RemoveOutput,
    /// An event.
    Happened(Event),
}

/// A heartbeat of a worker.
pub(crate) struct ReceivedHeartbeat {
    /// The session in which it arrived.
    pub session: SessionId,
    /// When it arrived.
    pub received: Instant,
}

/// A message for a worker, or the reason why its session ends. It is boxed, because a queue
/// allocates room for 32 of them when it is created.
pub(crate) type OutboundMessage = Box<Result<CoordinatorMessage, Status>>;

/// All messages for a worker in a session.
pub(crate) type OutboundMessages =
    Map<ReceiverStream<OutboundMessage>, fn(OutboundMessage) -> Result<CoordinatorMessage, Status>>;

/// The coordinator's end of a session.
pub(crate) struct WorkerSender {
    /// The worker.
    pub worker: WorkerId,
    /// Messages to the worker.
    pub messages: mpsc::Sender<OutboundMessage>,
    /// Ends the session.
    pub close: CancellationToken,
}

/// The channels through which the services reach the loop, once the loop exists.
#[derive(Clone)]
pub(crate) struct LoopHandle {
    /// The loop's epoch.
    pub epoch: Epoch,
    /// All inputs except heartbeats.
    pub inputs: mpsc::Sender<Input>,
    /// Heartbeats, which are handled first.
    pub heartbeats: mpsc::Sender<ReceivedHeartbeat>,
    /// Whether the job is to be suspended.
    pub drains: watch::Sender<bool>,
}

/// The service.
pub(crate) struct WorkerSessions {
    /// The run.
    pub identity: RunIdentity,
    /// The channels to the loop. `None` while the job is being planned.
    pub handle: watch::Receiver<Option<LoopHandle>>,
    /// Processes that are refused.
    pub offenders: Offenders,
    /// Pods that open sessions too often.
    pub registrations: Registrations,
    /// The number of the last session.
    pub last_session: AtomicU64,
}

#[tonic::async_trait]
impl Worker for WorkerSessions {
    type SessionStream = OutboundMessages;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.open(request.into_inner()).await.map(Response::new)
    }
}

impl WorkerSessions {
    /// Opens a session on the worker's stream of messages. Returns the stream of messages for the
    /// worker.
    pub(crate) async fn open<S>(&self, mut inbound: S) -> Result<OutboundMessages, Status>
    where
        S: Stream<Item = Result<WorkerMessage, Status>> + Send + Unpin + 'static,
    {
        let Some(handle) = self.handle.borrow().clone() else {
            return Err(Status::unavailable(
                "the coordinator is still planning; try again later",
            ));
        };
        let first = timeout(HELLO_TIMEOUT, inbound.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("Hello: not received in time"))?;
        let first = first
            .transpose()?
            .ok_or_else(|| Status::invalid_argument("Hello: the stream ended before it"))?;
        self.identity
            .check("Hello", &first.job_uid, first.generation)
            .map_err(|error| refusal(&error))?;
        if first.epoch > handle.epoch.0 {
            let text = format!(
                "epoch {} was seen by this worker; this coordinator has epoch {} and is out of date",
                first.epoch, handle.epoch
            );
            return Err(Status::failed_precondition(text));
        }
        let Some(worker_message::Message::Hello(hello)) = first.message else {
            return Err(Status::invalid_argument(
                "Hello: another message came first; a session begins with it",
            ));
        };
        let claimed = claimed(&hello).map_err(|error| refusal(&error))?;
        if self.offenders.is_fenced(&claimed.worker) {
            let text = format!(
                "Hello: worker {} reported {MAX_REPORTS} times a file that is not its own and is no longer accepted; only another process of its pod is accepted",
                claimed.worker
            );
            return Err(Status::permission_denied(text));
        }
        let pod_uid = claimed.worker.pod_uid();
        if let Err(wait) = self.registrations.admit(pod_uid, Instant::now()) {
            return Err(too_often(pod_uid, wait));
        }
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        tracing::info!(%session, worker = %claimed.worker, pod = claimed.pod_name, slots = claimed.slots, running = claimed.running.len(), "a worker opens a session");
        let worker = claimed.worker.clone();
        let opening = Event::Hello {
            session,
            worker: claimed.worker,
            ordinal: claimed.ordinal,
            slots: claimed.slots,
            running: claimed.running,
        };
        let (messages, outbound) = mpsc::channel(OUTBOUND_QUEUED);
        let close = CancellationToken::new();
        let last_message = messages.clone();
        let sender = WorkerSender {
            worker,
            messages,
            close: close.clone(),
        };
        let opened = handle
            .inputs
            .send(Input::Opened(opening, session, sender))
            .await;
        opened.map_err(|_| Status::unavailable("the coordinator ends"))?;
        let reader = Reader {
            identity: self.identity.clone(),
            session,
            handle,
            last_message,
            close,
        };
        tokio::spawn(reader.read(inbound));
        Ok(ReceiverStream::new(outbound).map(|message| *message))
    }
}

/// Returns a refusal with gRPC's standard detail that says how long to wait before the next try.
fn too_often(pod_uid: &str, wait: Duration) -> Status {
    let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let mut pushback = MetadataMap::new();
    pushback.insert("grpc-retry-pushback-ms", MetadataValue::from(milliseconds));
    let text = format!(
        "Hello: pod {pod_uid} opened {MAX_SESSIONS} sessions in a few seconds; the next one is accepted after {milliseconds} ms"
    );
    Status::with_metadata(Code::ResourceExhausted, text, pushback)
}

/// Returns the answer to a message that cannot be accepted.
pub(super) fn refusal(error: &WireError) -> Status {
    match error {
        WireError::OtherJob { .. } | WireError::OtherGeneration { .. } => {
            Status::permission_denied(error.to_string())
        }
        WireError::Missing { .. }
        | WireError::Identity { .. }
        | WireError::OutOfRange { .. }
        | WireError::NotOwn { .. }
        | WireError::Counter { .. } => Status::invalid_argument(error.to_string()),
    }
}

/// Reads one session until its end.
struct Reader {
    identity: RunIdentity,
    session: SessionId,
    handle: LoopHandle,
    /// The channel for the last message to the worker: that its messages are no longer read.
    last_message: mpsc::Sender<OutboundMessage>,
    close: CancellationToken,
}

/// Why a session is no longer read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the stream broke: {code:?}: {message}")]
    Stream { code: tonic::Code, message: String },
    #[error("{0}")]
    Message(WireError),
    #[error("a message is of epoch {got}; this session is of epoch {expected}")]
    Epoch { got: u64, expected: Epoch },
    #[error("a message is empty, or of a kind that this release does not know")]
    Empty,
    #[error("Hello was sent again")]
    HelloAgain,
    #[error("the loop is gone")]
    NoLoop,
}

impl ReadError {
    /// Returns the message for the worker, or `None` if the worker could not receive it.
    fn answer(&self) -> Option<Status> {
        match self {
            Self::Stream { .. } => None,
            Self::Message(error) => Some(refusal(error)),
            Self::Epoch { .. } => Some(Status::failed_precondition(self.to_string())),
            Self::Empty | Self::HelloAgain => Some(Status::invalid_argument(self.to_string())),
            Self::NoLoop => Some(Status::unavailable(self.to_string())),
        }
    }
}

impl Reader {
    async fn read<S>(self, mut inbound: S)
    where
        S: Stream<Item = Result<WorkerMessage, Status>> + Send + Unpin,
    {
        let session = self.session;
        match self.pass_on(&mut inbound).await {
            Ok(()) => tracing::info!(%session, "a session ends"),
            Err(error) => {
                tracing::info!(%session, %error, "a session ends");
                if let ReadError::Message(WireError::NotOwn { .. }) = error {
                    // If the loop has ended, nobody needs to be informed.
                    let _gone = self.handle.inputs.send(Input::ForeignFile(session)).await;
                } else if let Some(answer) = error.answer() {
                    // If the queue is full, the worker notices the end of the stream instead.
                    let _full = self.last_message.try_send(Box::new(Err(answer)));
                }
            }
        }
        self.close.cancel();
        if self
            .handle
            .inputs
            .send(Input::Happened(Event::SessionClosed { session }))
            .await
            .is_err()
        {
            tracing::debug!(%session, "the loop is gone");
        }
    }

    async fn pass_on<S>(&self, inbound: &mut S) -> Result<(), ReadError>
    where
        S: Stream<Item = Result<WorkerMessage, Status>> + Send + Unpin,
    {
        let mut last_heartbeat: Option<Instant> = None;
        loop {
            let message = tokio::select! {
                biased;
                () = self.close.cancelled() => return Ok(()),
                message = inbound.next() => message,
            };
            let message = message.transpose().map_err(|status| ReadError::Stream {
                code: status.code(),
                message: status.message().to_owned(),
            })?;
            let Some(WorkerMessage {
                job_uid,
                generation,
                epoch,
                message,
            }) = message
            else {
                return Ok(());
            };
            self.identity
                .check("worker's message", &job_uid, generation)
                .map_err(ReadError::Message)?;
            let message = message.ok_or(ReadError::Empty)?;
            if let worker_message::Message::Heartbeat(_) = message {
                let now = Instant::now();
                if last_heartbeat.is_none_or(|last| now.duration_since(last) >= HEARTBEAT_SPACING) {
                    last_heartbeat = Some(now);
                    // A full queue contains thousands of heartbeats that the loop has not handled,
                    // so one more adds nothing.
                    let _full = self.handle.heartbeats.try_send(ReceivedHeartbeat {
                        session: self.session,
                        received: now,
                    });
                }
                continue;
            }
            if epoch != self.handle.epoch.0 {
                return Err(ReadError::Epoch {
                    got: epoch,
                    expected: self.handle.epoch,
                });
            }
            if let worker_message::Message::Hello(_) = message {
                return Err(ReadError::HelloAgain);
            }
            if let worker_message::Message::Bye(_) = message {
                return Ok(());
            }
            if let worker_message::Message::Draining(draining) = &message {
                let (session, tasks) = (self.session, draining.handed_back.len());
                tracing::info!(%session, tasks, "a worker terminates and hands its tasks back");
            }
            let event = event(self.session, message).map_err(ReadError::Message)?;
            self.handle
                .inputs
                .send(Input::Happened(event))
                .await
                .map_err(|_| ReadError::NoLoop)?;
        }
    }
}
