//! One simulated worker. It runs nothing, but sends heartbeats in the requested interval, reports
//! each task as soon as it is over, and reconnects forever. When it reconnects, it reports the
//! tasks that it holds.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};
use tonic::Streaming;
use zephyr_engine::id::{Epoch, StageId, TaskAttempt};
use zephyr_proto::worker::{
    Bye, CoordinatorMessage, Done, Draining, Heartbeat, Hello, Run, WorkerMessage,
    coordinator_message, worker_message,
};
use zephyr_worker::convert::identity::to_wire;

use super::dialogue::{Dialogue, Link, done, task_attempt_of, wrap};

/// First and longest wait before the next try to connect, as in a worker.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Heartbeat interval until the coordinator has sent its own.
const HEARTBEAT_INTERVAL_FIRST: Duration = Duration::from_secs(5);
/// Finished tasks in one message, as in a worker.
const DONE_PER_MESSAGE: usize = 64;

/// What happens with tasks of the first stage at a worker. Those of later stages are held forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// They do not end.
    Hold,
    /// They take no time.
    AtOnce,
    /// Each takes between half and one and a half times this duration in its slot, so that tasks
    /// that began at the same time do not end at the same time.
    Lasting(Duration),
}

/// The effect of an order of the fleet on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Its connection breaks.
    Cut,
    /// It was asked to terminate: it hands back its unfinished tasks, says `Bye` and is silent from
    /// then on.
    Drain,
    /// It becomes silent, and its connection stays open.
    FallSilent,
}

/// The largest number of orders that wait for a worker. A worker gets one or two orders in its
/// life.
pub(super) const ORDERS_QUEUED: usize = 16;
/// How long a node that is taken away keeps running.
const DRAIN_DEADLINE_MS: u64 = 25_000;

/// Called whenever a worker is asked to run a task, or a commit is acknowledged, with the worker's
/// position in the fleet.
pub(super) type Witness = dyn Fn(usize, TaskAttempt) + Send + Sync;

/// The shared state of all workers of a fleet.
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) work: watch::Sender<Work>,
    /// Observes the tasks that workers are asked to run.
    pub(super) witness: Box<Witness>,
    /// Observes acknowledgements.
    pub(super) acknowledged: Box<Witness>,
    /// Sessions after the first one of the same worker.
    pub(super) sessions_again: AtomicU64,
    /// Tasks that were ever acknowledged to any worker.
    pub(super) acknowledged_by_all: AtomicU64,
}

/// The visible state of a worker while it lives.
#[derive(Default)]
pub(super) struct View {
    /// Whether it was accepted in a session and has not seen that session end.
    pub(super) connected: AtomicBool,
    /// How often it was accepted.
    pub(super) welcomes: AtomicU32,
    /// Heartbeats it has sent.
    pub(super) heartbeats: AtomicU64,
    /// Tasks it was given that are not finished.
    pub(super) held: AtomicU32,
    /// Tasks it has finished that are not acknowledged.
    pub(super) reports: AtomicU32,
    /// Tasks that were acknowledged.
    pub(super) acknowledged: AtomicU64,
}

/// A simulated worker.
pub(super) struct Worker {
    place: usize,
    shared: Arc<Shared>,
    view: Arc<View>,
    orders: mpsc::Receiver<Order>,
    hello: Hello,
    /// The newest epoch that it has seen.
    newest: Epoch,
    /// Tasks that it has received and that have no slot yet.
    queue: VecDeque<TaskAttempt>,
    /// Tasks that have a slot, with the time of their end.
    running: Vec<(TaskAttempt, Option<Instant>)>,
    /// Finished tasks that are not acknowledged.
    reports: BTreeSet<TaskAttempt>,
    /// Finished tasks that were not reported in this session.
    unsent: VecDeque<TaskAttempt>,
}

/// A session has ended, for any reason. Another one is opened.
struct Over;

impl Worker {
    pub(super) fn new(
        place: usize,
        shared: Arc<Shared>,
        view: Arc<View>,
        orders: mpsc::Receiver<Order>,
        hello: Hello,
    ) -> Self {
        Self {
            place,
            shared,
            view,
            orders,
            hello,
            newest: Epoch(0),
            queue: VecDeque::new(),
            running: Vec::new(),
            reports: BTreeSet::new(),
            unsent: VecDeque::new(),
        }
    }

    /// Runs one session after the other, forever.
    pub(super) async fn live(mut self) -> Infallible {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let began = Instant::now();
            let Over = self.session().await;
            self.view.connected.store(false, Ordering::Relaxed);
            if began.elapsed() > MAX_BACKOFF {
                backoff = BACKOFF_FIRST;
            }
            let wait = backoff.mul_f64(rand::rng().random_range(0.5..=1.0));
            sleep(wait).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    async fn session(&mut self) -> Over {
        let hello = Hello {
            running: self.answers_for().map(to_wire).collect(),
            ..self.hello.clone()
        };
        self.unsent = self.reports.iter().copied().collect();
        let shared = Arc::clone(&self.shared);
        let Ok(dialogue) = Dialogue::open(&shared.link, self.newest, hello).await else {
            return Over;
        };
        let Dialogue {
            outbound,
            mut inbound,
            ..
        } = dialogue;
        let mut work = shared.work.subscribe();
        let mut heartbeats = heartbeat_timer(HEARTBEAT_INTERVAL_FIRST);
        let mut welcomed = false;
        loop {
            let mut order = None;
            let next_end = self.running.iter().filter_map(|(_, end)| *end).min();
            tokio::select! {
                biased;
                Some(given) = self.orders.recv() => order = Some(given),
                message = inbound.message() => {
                    let Ok(Some(message)) = message else { return Over };
                    match self.take_in(message) {
                        Ok(None) => {}
                        Ok(Some(heartbeat_interval)) => {
                            welcomed = true;
                            heartbeats = heartbeat_timer(heartbeat_interval);
                        }
                        Err(over) => return over,
                    }
                }
                _ = heartbeats.tick() => self.say_alive(&outbound),
                permit = outbound.reserve(), if welcomed && !self.unsent.is_empty() => {
                    let Ok(permit) = permit else { return Over };
                    permit.send(self.report());
                }
                () = at(next_end) => {}
                changed = work.changed() => {
                    if changed.is_err() {
                        return Over;
                    }
                }
            }
            match order {
                None => {}
                Some(Order::Cut) => return Over,
                Some(Order::Drain) => {
                    self.drain(outbound, inbound).await;
                    return self.be_gone().await;
                }
                // The connection lives as long as its two ends do.
                Some(Order::FallSilent) => return self.be_gone().await,
            }
            let work = *work.borrow_and_update();
            self.go_on(work);
        }
    }

    /// Returns the heartbeat interval if this was `Welcome`.
    fn take_in(&mut self, message: CoordinatorMessage) -> Result<Option<Duration>, Over> {
        use coordinator_message::Message;
        let epoch = Epoch(message.epoch);
        if epoch < self.newest {
            return Err(Over);
        }
        self.newest = epoch;
        match message.message.ok_or(Over)? {
            Message::Welcome(welcome) => {
                self.view.connected.store(true, Ordering::Relaxed);
                if self.view.welcomes.fetch_add(1, Ordering::Relaxed) > 0 {
                    self.shared.sessions_again.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(Some(Duration::from_millis(welcome.heartbeat_interval_ms)));
            }
            Message::Run(run) => self.take_tasks(&run),
            Message::Cancel(cancel) => {
                for task in &cancel.tasks {
                    let task = task_attempt_of(Some(task));
                    self.queue.retain(|queued| *queued != task);
                    self.running.retain(|(running, _)| *running != task);
                }
            }
            Message::Ack(ack) => {
                for task in &ack.tasks {
                    let task = task_attempt_of(Some(task));
                    if self.reports.remove(&task) {
                        (self.shared.acknowledged)(self.place, task);
                        let all = &self.shared.acknowledged_by_all;
                        all.fetch_add(1, Ordering::Relaxed);
                        self.view.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Message::Shutdown(_) => {
                self.queue.clear();
                self.running.clear();
            }
        }
        Ok(None)
    }

    fn take_tasks(&mut self, run: &Run) {
        for task in &run.tasks {
            let task = task_attempt_of(task.task.as_ref());
            (self.shared.witness)(self.place, task);
            self.queue.push_back(task);
        }
    }

    /// Finishes tasks whose time is over and fills the slots.
    fn go_on(&mut self, work: Work) {
        let now = Instant::now();
        let end_of = |task: &TaskAttempt, known: Option<Instant>| match work {
            _ if task.task.stage != StageId(0) => None,
            Work::Hold => None,
            Work::AtOnce => Some(now),
            Work::Lasting(time) => Some(known.unwrap_or_else(|| now + spread(time))),
        };
        for (task, end) in &mut self.running {
            *end = end_of(task, *end);
        }
        loop {
            let (over, running) = std::mem::take(&mut self.running)
                .into_iter()
                .partition(|(_, end)| end.is_some_and(|end| end <= now));
            self.running = running;
            for (task, _) in over {
                self.reports.insert(task);
                self.unsent.push_back(task);
            }
            let free = (self.hello.slots as usize).saturating_sub(self.running.len());
            let next: Vec<_> = self.queue.drain(..free.min(self.queue.len())).collect();
            if next.is_empty() {
                break;
            }
            self.running
                .extend(next.into_iter().map(|task| (task, end_of(&task, None))));
        }
        let count = |length: usize| u32::try_from(length).unwrap();
        let held = count(self.queue.len() + self.running.len());
        self.view.held.store(held, Ordering::Relaxed);
        self.view
            .reports
            .store(count(self.reports.len()), Ordering::Relaxed);
    }

    /// Returns the tasks for which the worker is responsible: they run, wait for a slot, or are
    /// finished and not acknowledged.
    fn answers_for(&self) -> impl Iterator<Item = TaskAttempt> {
        let running = self.running.iter().map(|(task, _)| *task);
        running
            .chain(self.queue.iter().copied())
            .chain(self.reports.iter().copied())
    }

    /// Sends a heartbeat. If the queue is full, the heartbeat is dropped, so that the worker does
    /// not wait.
    fn say_alive(&self, outbound: &mpsc::Sender<WorkerMessage>) {
        let sequence = self.view.heartbeats.fetch_add(1, Ordering::Relaxed) + 1;
        let heartbeat = worker_message::Message::Heartbeat(Heartbeat { sequence });
        let _full = outbound.try_send(self.wrap(heartbeat));
    }

    /// Reports finished tasks, hands back the others, and says `Bye`.
    async fn drain(
        &mut self,
        outbound: mpsc::Sender<WorkerMessage>,
        mut inbound: Streaming<CoordinatorMessage>,
    ) {
        while !self.unsent.is_empty() {
            let report = self.report();
            let _broken = outbound.send(report).await;
        }
        let running = self.running.iter().map(|(task, _)| *task);
        let handed_back = running.chain(self.queue.iter().copied()).map(to_wire);
        let draining = worker_message::Message::Draining(Draining {
            deadline_ms: DRAIN_DEADLINE_MS,
            handed_back: handed_back.collect(),
        });
        for message in [draining, worker_message::Message::Bye(Bye {})] {
            let _broken = outbound.send(self.wrap(message)).await;
        }
        drop(outbound);
        // The coordinator ends the stream after it has read everything.
        while let Ok(Some(message)) = inbound.message().await {
            let _nothing_follows = self.take_in(message);
        }
    }

    /// Stays disconnected until the fleet ends this worker.
    async fn be_gone(&self) -> Over {
        self.view.connected.store(false, Ordering::Relaxed);
        std::future::pending().await
    }

    fn report(&mut self) -> WorkerMessage {
        let count = self.unsent.len().min(DONE_PER_MESSAGE);
        let tasks = self.unsent.drain(..count).map(done).collect();
        self.wrap(worker_message::Message::Done(Done { tasks }))
    }

    fn wrap(&self, message: worker_message::Message) -> WorkerMessage {
        wrap(&self.shared.link.identity, self.newest, message)
    }
}

fn spread(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.5..1.5))
}

fn heartbeat_timer(every: Duration) -> Interval {
    let mut heartbeat_timer = interval(every);
    heartbeat_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat_timer
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
