//! Simulates the network between workers and coordinators: delays, streams that break or become
//! silent, and a service name that resolves to one of the running coordinators, usually the newest.
//! It delivers the real messages, and changes none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use zephyr_proto::worker::{CoordinatorMessage, WorkerMessage};

use super::process::Process;
use super::rng::Rng;
use super::truth::Truth;
use crate::coordinator::{OutboundMessages, WorkerSessions};
use crate::transport::client::ConnectError;
use crate::worker::Line;

/// If a side gets no answer for this long, it considers its stream broken. In a real network, the
/// keepalive of the transport does this.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);
/// How many messages may be in transit in one direction.
const MAX_UNDER_WAY: usize = 1024;

type FromWorker = Result<WorkerMessage, Status>;
type FromCoordinator = Result<CoordinatorMessage, Status>;

/// A coordinator, as other processes see it.
pub(super) struct Endpoint {
    pub(super) process: Process,
    pub(super) sessions: WorkerSessions,
    /// Cancelled when its process has ended.
    pub(super) gone: CancellationToken,
}

impl Endpoint {
    pub(super) fn epoch(&self) -> Option<u64> {
        let handle = self.sessions.handle.borrow();
        handle.as_ref().map(|handle| handle.epoch.0)
    }
}

/// The state of one stream.
struct Wire {
    pod: u64,
    coordinator: Process,
    /// Cancelled when the worker is informed that the stream has ended.
    broken_for_worker: CancellationToken,
    /// Cancelled when the coordinator is informed that the stream has ended.
    broken_for_coordinator: CancellationToken,
    drops_up: AtomicBool,
    drops_down: AtomicBool,
}

/// The network of a run.
pub(super) struct Network {
    truth: Arc<Truth>,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    message_ms_max: u64,
    /// The coordinators. The newest is the last.
    endpoints: Vec<Arc<Endpoint>>,
    wires: Vec<Arc<Wire>>,
}

impl Network {
    pub(super) fn new(seed: u64, message_ms_max: u64, truth: Arc<Truth>) -> Self {
        Self {
            truth,
            state: Mutex::new(State {
                rng: Rng::of(seed, "network"),
                message_ms_max,
                endpoints: Vec::new(),
                wires: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, endpoint: Arc<Endpoint>) {
        let mut state = self.state();
        state.endpoints.retain(|known| !known.gone.is_cancelled());
        state.endpoints.push(endpoint);
    }

    fn way(&self) -> Duration {
        let mut state = self.state();
        let longest = state.message_ms_max;
        Duration::from_millis(state.rng.between(1, longest))
    }

    /// Returns the coordinator to which the service's name resolves. Sometimes this is a
    /// coordinator that was already replaced.
    fn dialled(&self) -> Option<Arc<Endpoint>> {
        const OLD_ONES_PERCENT: u64 = 15;
        let mut state = self.state();
        state.endpoints.retain(|known| !known.gone.is_cancelled());
        let endpoints = state.endpoints.clone();
        if state.rng.percent(OLD_ONES_PERCENT) {
            return state.rng.pick(&endpoints);
        }
        endpoints.last().cloned()
    }

    /// Breaks the stream of a pod. A side that is not informed notices the silence later.
    pub(super) fn breaks(&self, pod: u64, worker_knows: bool, coordinator_knows: bool) {
        for wire in self.wires(|wire| wire.pod == pod) {
            wire.drops_up.store(true, Ordering::Relaxed);
            wire.drops_down.store(true, Ordering::Relaxed);
            wire.end(worker_knows, coordinator_knows);
        }
    }

    /// Makes the stream of a pod lose all messages in these directions, until the keepalives of
    /// both sides notice it.
    pub(super) fn drops_messages(&self, pod: u64, up: bool, down: bool) {
        for wire in self.wires(|wire| wire.pod == pod) {
            wire.drops_up.fetch_or(up, Ordering::Relaxed);
            wire.drops_down.fetch_or(down, Ordering::Relaxed);
            tokio::spawn(async move {
                sleep(KEEPALIVE).await;
                wire.end(true, true);
            });
        }
    }

    /// Ends the streams of a coordinator that has ended, or was paused for too long.
    pub(super) fn leaves(&self, coordinator: &Process) {
        for wire in self.wires(|wire| wire.coordinator.name() == coordinator.name()) {
            wire.end(true, false);
        }
    }

    fn wires(&self, which: impl Fn(&Wire) -> bool) -> Vec<Arc<Wire>> {
        let mut state = self.state();
        state.wires.retain(|wire| {
            !wire.broken_for_worker.is_cancelled() || !wire.broken_for_coordinator.is_cancelled()
        });
        let wires = state.wires.iter().filter(|wire| which(wire));
        wires.cloned().collect()
    }
}

impl Wire {
    fn end(&self, worker_knows: bool, coordinator_knows: bool) {
        if worker_knows {
            self.broken_for_worker.cancel();
        }
        if coordinator_knows {
            self.broken_for_coordinator.cancel();
        }
    }
}

/// How a worker reaches its coordinator.
#[derive(Clone)]
pub(super) struct SimulatedLine {
    pub(super) network: Arc<Network>,
    pub(super) process: Process,
    pub(super) pod: u64,
}

/// A connection without an open session.
pub(super) struct SimulatedConnection {
    line: SimulatedLine,
    endpoint: Arc<Endpoint>,
}

impl Line for SimulatedLine {
    type Connection = SimulatedConnection;
    type Inbound = ReceiverStream<FromCoordinator>;

    async fn connect(&self) -> Result<SimulatedConnection, ConnectError> {
        self.process.awake().await;
        let way = self.network.way();
        sleep(way).await;
        match self.network.dialled() {
            Some(endpoint) if !endpoint.process.is_stalled() => Ok(SimulatedConnection {
                line: self.clone(),
                endpoint,
            }),
            Some(_) | None => Err(ConnectError::Dial {
                address: "coordinator".to_owned(),
                cause: "nobody answers".to_owned(),
            }),
        }
    }

    async fn open(
        connection: SimulatedConnection,
        outbound: ReceiverStream<WorkerMessage>,
    ) -> Result<Self::Inbound, Status> {
        let SimulatedConnection { line, endpoint } = connection;
        let wire = Arc::new(Wire {
            pod: line.pod,
            coordinator: endpoint.process.clone(),
            broken_for_worker: CancellationToken::new(),
            broken_for_coordinator: CancellationToken::new(),
            drops_up: AtomicBool::new(false),
            drops_down: AtomicBool::new(false),
        });
        line.network.state().wires.push(Arc::clone(&wire));
        let stream = Arc::new(SimulatedStream {
            line,
            endpoint,
            wire,
        });
        let (to_coordinator, received) = mpsc::channel(MAX_UNDER_WAY);
        tokio::spawn(Arc::clone(&stream).carry_up(outbound, to_coordinator));
        let (answer, answered) = oneshot::channel();
        tokio::spawn(Arc::clone(&stream).serve(received, answer));
        let broken = Status::unavailable("the stream broke");
        tokio::select! {
            biased;
            () = stream.wire.broken_for_worker.cancelled() => Err(broken),
            opened = answered => opened.unwrap_or(Err(broken)),
        }
    }
}

/// One session's stream.
struct SimulatedStream {
    line: SimulatedLine,
    endpoint: Arc<Endpoint>,
    wire: Arc<Wire>,
}

impl SimulatedStream {
    /// Delivers the worker's messages, in order and with delays.
    async fn carry_up(
        self: Arc<Self>,
        mut sent: ReceiverStream<WorkerMessage>,
        to_coordinator: mpsc::Sender<FromWorker>,
    ) {
        let (sender, mut under_way) = mpsc::channel::<(Instant, WorkerMessage)>(MAX_UNDER_WAY);
        let stream = Arc::clone(&self);
        tokio::spawn(async move {
            let mut due = Instant::now();
            while let Some(message) = sent.next().await {
                stream.line.process.awake().await;
                due = due.max(Instant::now() + stream.line.network.way());
                if sender.send((due, message)).await.is_err() {
                    break;
                }
            }
        });
        let broken = &self.wire.broken_for_coordinator;
        loop {
            let next = tokio::select! {
                biased;
                () = broken.cancelled() => {
                    // The reader may have ended already.
                    let status = Status::unavailable("the stream broke");
                    let _gone = to_coordinator.send(Err(status)).await;
                    return;
                }
                next = under_way.recv() => next,
            };
            let Some((due, message)) = next else {
                if self.wire.drops_up.load(Ordering::Relaxed) {
                    broken.cancelled().await;
                }
                return;
            };
            sleep_until(due).await;
            if self.wire.drops_up.load(Ordering::Relaxed) {
                continue;
            }
            self.endpoint.process.awake().await;
            self.line
                .network
                .truth
                .received(self.endpoint.epoch(), &message);
            if to_coordinator.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }

    /// Opens the session at the coordinator, and delivers the coordinator's messages to the worker.
    async fn serve(
        self: Arc<Self>,
        received: mpsc::Receiver<FromWorker>,
        answer: oneshot::Sender<Result<ReceiverStream<FromCoordinator>, Status>>,
    ) {
        self.endpoint.process.awake().await;
        let opened = self
            .endpoint
            .sessions
            .open(ReceiverStream::new(received))
            .await;
        let way = self.line.network.way();
        let sent = match opened {
            Ok(sent) => sent,
            Err(status) => {
                sleep(way).await;
                // The worker may have stopped waiting.
                let _gone = answer.send(Err(status));
                return;
            }
        };
        let (sender, under_way) = mpsc::channel(MAX_UNDER_WAY);
        let stream = Arc::clone(&self);
        tokio::spawn(stream.listen(sent, sender));
        sleep(way).await;
        let (to_worker, inbound) = mpsc::channel(MAX_UNDER_WAY);
        if answer.send(Ok(ReceiverStream::new(inbound))).is_ok() {
            self.carry_down(under_way, to_worker).await;
        }
    }

    /// Records the coordinator's messages when they are sent.
    async fn listen(
        self: Arc<Self>,
        mut sent: OutboundMessages,
        sender: mpsc::Sender<(Instant, FromCoordinator)>,
    ) {
        let mut due = Instant::now();
        loop {
            let message = tokio::select! {
                biased;
                () = sender.closed() => return,
                () = self.endpoint.gone.cancelled() => return,
                message = sent.next() => message,
            };
            let Some(message) = message else { return };
            if let Ok(message) = &message {
                self.line.network.truth.sent(message);
            }
            due = due.max(Instant::now() + self.line.network.way());
            if sender.send((due, message)).await.is_err() {
                return;
            }
        }
    }

    async fn carry_down(
        &self,
        mut under_way: mpsc::Receiver<(Instant, FromCoordinator)>,
        to_worker: mpsc::Sender<FromCoordinator>,
    ) {
        let broken = &self.wire.broken_for_worker;
        loop {
            let next = tokio::select! {
                biased;
                () = broken.cancelled() => {
                    // The worker may have ended already.
                    let status = Status::unavailable("the stream broke");
                    let _gone = to_worker.send(Err(status)).await;
                    return;
                }
                () = to_worker.closed() => return,
                next = under_way.recv() => next,
            };
            let Some((due, message)) = next else {
                if self.wire.drops_down.load(Ordering::Relaxed) {
                    broken.cancelled().await;
                }
                return;
            };
            sleep_until(due).await;
            if self.wire.drops_down.load(Ordering::Relaxed) {
                continue;
            }
            self.line.process.awake().await;
            if to_worker.send(message).await.is_err() {
                return;
            }
        }
    }
}
