//! Keeps the worker's session with the coordinator, and reconnects forever. The session has its own
//! thread and runtime, so that the supervisor cannot delay a heartbeat. This module does not run
//! tasks; it only sends and receives messages about them.

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Status, Streaming};
use zephyr_engine::id::Epoch;
use zephyr_proto::worker::{
    CoordinatorMessage, Heartbeat, Hello, WorkerMessage, coordinator_message, worker_message,
};
use zephyr_store::chance::Chance;

use crate::convert::identity::{RunIdentity, WireError, epoch};
use crate::transport::client::{ConnectError, Connection, connect};
use crate::transport::token::Token;

/// The first wait before the next try to connect. The waits grow up to `MAX_BACKOFF`.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How many outgoing messages wait in the session. Further messages wait in the supervisor, which
/// must keep them anyway.
const OUTBOUND_QUEUED: usize = 64;
/// The interval of heartbeats until the coordinator has sent its own.
const HEARTBEAT_INTERVAL_FIRST: Duration = Duration::from_secs(5);
/// The shortest interval of heartbeats, if the coordinator sends a shorter one.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_mins(1);

/// The settings of a session.
pub(super) struct SessionOptions {
    /// The run.
    pub identity: RunIdentity,
    /// The coordinator's address.
    pub address: String,
    /// The token that opens the session.
    pub token: Token,
}

/// A way to connect to a coordinator.
pub(crate) trait Line: Send + 'static {
    /// A connection on which no session is open yet.
    type Connection: Send;
    /// The coordinator's messages in a session.
    type Inbound: Stream<Item = Result<CoordinatorMessage, Status>> + Send + Unpin;

    /// Connects to the coordinator.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, ConnectError>> + Send;

    /// Opens a session. `hello` is the first message of the worker.
    fn open(
        connection: Self::Connection,
        outbound: ReceiverStream<WorkerMessage>,
    ) -> impl Future<Output = Result<Self::Inbound, Status>> + Send;
}

/// Connects to a coordinator by gRPC.
struct Grpc {
    address: String,
    token: Token,
}

impl Line for Grpc {
    type Connection = Connection;
    type Inbound = Streaming<CoordinatorMessage>;

    async fn connect(&self) -> Result<Connection, ConnectError> {
        connect(&self.address, &self.token).await
    }

    async fn open(
        connection: Connection,
        outbound: ReceiverStream<WorkerMessage>,
    ) -> Result<Self::Inbound, Status> {
        let Connection {
            mut client,
            authorization,
        } = connection;
        let mut request = Request::new(outbound);
        request
            .metadata_mut()
            .insert("authorization", authorization);
        client
            .session(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

/// What the supervisor provides for a new session.
pub(crate) struct Opening {
    /// The first message, with the worker's identity and its running attempts.
    pub hello: Hello,
    /// The further messages, in order. If the channel closes, the session ends.
    pub outbound: mpsc::Receiver<worker_message::Message>,
}

/// An event that the session sends to the supervisor. Events arrive in the order in which they
/// happened.
pub(crate) enum FromSession {
    /// There is a connection, and the first message is needed.
    Connected(oneshot::Sender<Opening>),
    /// A message of the coordinator with this epoch, which is the newest epoch that the session has
    /// seen.
    Received(Epoch, coordinator_message::Message),
    /// The session has ended. Another one is being opened.
    Over,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("open session: the coordinator answered {code:?}: {message}")]
    Open { code: tonic::Code, message: String },
    #[error("session: the stream broke: {code:?}: {message}")]
    Stream { code: tonic::Code, message: String },
    #[error("session: {0}")]
    Message(WireError),
    #[error("session: refused a coordinator of epoch {got}; epoch {seen} was seen before")]
    OldEpoch { got: Epoch, seen: Epoch },
    #[error("session: a message from the coordinator is empty")]
    Empty,
    #[error("session: the supervisor is gone")]
    NoSupervisor,
}

/// Why the session's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the session's thread: {source}")]
pub struct StartSessionError {
    #[source]
    source: std::io::Error,
}

/// Starts the thread. The thread ends when the receiver of `events` is dropped.
pub(super) fn start(
    options: SessionOptions,
    events: mpsc::Sender<FromSession>,
) -> Result<(), StartSessionError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartSessionError { source })?;
    let SessionOptions {
        identity,
        address,
        token,
    } = options;
    let line = Grpc { address, token };
    let session = Session::new(line, identity, Chance::system(), events);
    let thread = std::thread::Builder::new().name("session".to_owned());
    thread
        .spawn(move || runtime.block_on(session.keep()))
        .map(drop)
        .map_err(|source| StartSessionError { source })
}

/// A worker's sessions, one after the other.
pub(crate) struct Session<L> {
    line: L,
    identity: RunIdentity,
    chance: Chance,
    events: mpsc::Sender<FromSession>,
    newest: Epoch,
}

impl<L: Line> Session<L> {
    /// Returns a session that has not seen an epoch yet.
    pub(crate) fn new(
        line: L,
        identity: RunIdentity,
        chance: Chance,
        events: mpsc::Sender<FromSession>,
    ) -> Self {
        Self {
            line,
            identity,
            chance,
            events,
            newest: Epoch(0),
        }
    }

    /// Runs one session after the other, forever.
    pub(crate) async fn keep(mut self) {
        let mut backoff = BACKOFF_FIRST;
        while !self.events.is_closed() {
            let began = Instant::now();
            match self.hold().await {
                Ok(()) => tracing::info!("the session ended"),
                Err(SessionError::NoSupervisor) => return,
                Err(error) => tracing::warn!(%error, "no session"),
            }
            if self.events.send(FromSession::Over).await.is_err() {
                return;
            }
            if began.elapsed() > MAX_BACKOFF {
                backoff = BACKOFF_FIRST;
            }
            let wait = backoff.mul_f64(self.chance.jitter());
            tokio::select! {
                biased;
                () = sleep(wait) => {}
                () = self.events.closed() => return,
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    async fn hold(&mut self) -> Result<(), SessionError> {
        let connection = self.line.connect().await.map_err(SessionError::Connect)?;
        let (ask, answer) = oneshot::channel();
        self.events
            .send(FromSession::Connected(ask))
            .await
            .map_err(|_| SessionError::NoSupervisor)?;
        let Opening { hello, outbound } = answer.await.map_err(|_| SessionError::NoSupervisor)?;
        let (sender, stream) = mpsc::channel(OUTBOUND_QUEUED);
        let first = wrap(
            &self.identity,
            self.newest,
            worker_message::Message::Hello(hello),
        );
        sender
            .send(first)
            .await
            .map_err(|_| SessionError::NoSupervisor)?;
        let opened = L::open(connection, ReceiverStream::new(stream)).await;
        let inbound = opened.map_err(|status| SessionError::Open {
            code: status.code(),
            message: words(&status),
        })?;
        let (settings, watched) = watch::channel(Settings {
            epoch: self.newest,
            heartbeat: HEARTBEAT_INTERVAL_FIRST,
        });
        let identity = self.identity.clone();
        let pump = tokio::spawn(speak(identity, outbound, sender, watched));
        let end = self.listen(inbound, &settings).await;
        pump.abort();
        end
    }

    async fn listen(
        &mut self,
        mut inbound: L::Inbound,
        settings: &watch::Sender<Settings>,
    ) -> Result<(), SessionError> {
        loop {
            let message = tokio::select! {
                biased;
                message = inbound.next() => message,
                () = self.events.closed() => return Err(SessionError::NoSupervisor),
            };
            let received = message.transpose().map_err(|status| SessionError::Stream {
                code: status.code(),
                message: words(&status),
            })?;
            let Some(CoordinatorMessage {
                job_uid,
                generation,
                epoch: number,
                message,
            }) = received
            else {
                return Ok(());
            };
            self.identity
                .check("coordinator's message", &job_uid, generation)
                .map_err(SessionError::Message)?;
            let got = epoch("coordinator's message", number).map_err(SessionError::Message)?;
            if got < self.newest {
                return Err(SessionError::OldEpoch {
                    got,
                    seen: self.newest,
                });
            }
            self.newest = got;
            let message = message.ok_or(SessionError::Empty)?;
            if let coordinator_message::Message::Welcome(welcome) = &message {
                let told = Duration::from_millis(welcome.heartbeat_interval_ms);
                let heartbeat = told.clamp(MIN_HEARTBEAT_INTERVAL, MAX_HEARTBEAT_INTERVAL);
                settings.send_replace(Settings {
                    epoch: got,
                    heartbeat,
                });
            }
            self.events
                .send(FromSession::Received(got, message))
                .await
                .map_err(|_| SessionError::NoSupervisor)?;
        }
    }
}

/// The settings that the coordinator sent at the beginning of the session.
#[derive(Clone, Copy)]
struct Settings {
    epoch: Epoch,
    heartbeat: Duration,
}

/// Sends heartbeats at their interval, and the supervisor's messages.
async fn speak(
    identity: RunIdentity,
    mut outbound: mpsc::Receiver<worker_message::Message>,
    sender: mpsc::Sender<WorkerMessage>,
    mut settings: watch::Receiver<Settings>,
) {
    let mut sequence = 0;
    let mut heartbeats = heartbeat_timer(settings.borrow_and_update().heartbeat);
    loop {
        let message = tokio::select! {
            biased;
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                heartbeats = heartbeat_timer(settings.borrow_and_update().heartbeat);
                continue;
            }
            _ = heartbeats.tick() => {
                sequence += 1;
                worker_message::Message::Heartbeat(Heartbeat { sequence })
            }
            message = outbound.recv() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let epoch = settings.borrow().epoch;
        if sender.send(wrap(&identity, epoch, message)).await.is_err() {
            return;
        }
    }
}

fn heartbeat_timer(every: Duration) -> tokio::time::Interval {
    let mut heartbeat_timer = interval(every);
    heartbeat_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat_timer
}

fn wrap(identity: &RunIdentity, epoch: Epoch, message: worker_message::Message) -> WorkerMessage {
    WorkerMessage {
        job_uid: identity.job.to_string(),
        generation: identity.generation.0,
        epoch: epoch.0,
        message: Some(message),
    }
}

fn words(status: &Status) -> String {
    status.message().chars().take(256).collect()
}
