//! Many simulated workers of one job in this process: creates, kills and restarts them. Waits for
//! nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use zephyr_engine::id::TaskAttempt;
use zephyr_proto::worker::Hello;

use super::dialogue::Link;
use super::worker::{ORDERS_QUEUED, Order, Shared, View, Work, Worker};

/// The workers. They end when this is dropped.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    slots: u32,
    members: Vec<Member>,
}

struct Member {
    pod: u32,
    view: Arc<View>,
    orders: mpsc::Sender<Order>,
    life: JoinHandle<Infallible>,
}

impl Fleet {
    /// An empty fleet. `witness` is called with worker and attempt whenever a worker is asked to
    /// run one.
    pub(crate) fn new(
        link: Link,
        slots: u32,
        work: Work,
        witness: impl Fn(usize, TaskAttempt) + Send + Sync + 'static,
    ) -> Self {
        let (work, _) = watch::channel(work);
        Self {
            shared: Arc::new(Shared {
                link,
                work,
                witness: Box::new(witness),
                acknowledged: Box::new(|_worker, _task| {}),
                sessions_again: AtomicU64::new(0),
                acknowledged_by_all: AtomicU64::new(0),
            }),
            slots,
            members: Vec::new(),
        }
    }

    /// `witness` is called with worker and attempt whenever a commit is acknowledged to a worker.
    /// This must be called while the fleet is empty.
    pub(crate) fn with_acknowledged(
        mut self,
        witness: impl Fn(usize, TaskAttempt) + Send + Sync + 'static,
    ) -> Self {
        Arc::get_mut(&mut self.shared).unwrap().acknowledged = Box::new(witness);
        self
    }

    /// Adds workers, all at the same time.
    pub(crate) fn add(&mut self, count: usize) {
        for place in self.members.len()..self.members.len() + count {
            let member = self.begin(place, 0);
            self.members.push(member);
        }
    }

    fn begin(&self, place: usize, pod: u32) -> Member {
        let hello = Hello {
            pod_uid: pod_uid(place, pod),
            pod_name: format!("test-workers-g1-{place}"),
            // 0 is not a valid incarnation.
            incarnation: rand::random::<u64>() | 1,
            slots: self.slots,
            memory_bytes: 0,
            running: Vec::new(),
        };
        let view = Arc::new(View::default());
        let (orders, received) = mpsc::channel(ORDERS_QUEUED);
        let shared = Arc::clone(&self.shared);
        let worker = Worker::new(place, shared, Arc::clone(&view), received, hello);
        Member {
            pod,
            view,
            orders,
            life: tokio::spawn(worker.live()),
        }
    }

    /// From now on all tasks end as `work` says.
    pub(crate) fn set_work(&self, work: Work) {
        self.shared.work.send_replace(work);
    }

    /// The worker ends without a message, and its connection with it.
    pub(crate) fn kill(&self, place: usize) {
        self.members[place].life.abort();
    }

    /// Another process in the same pod, as when the kubelet restarts a container.
    pub(crate) fn restart(&mut self, place: usize) {
        let pod = self.members[place].pod;
        self.kill(place);
        self.members[place] = self.begin(place, pod);
    }

    /// Another pod of the same name, as when a node was taken away; returns the uid of the one
    /// before.
    pub(crate) fn replace(&mut self, place: usize) -> String {
        let pod = self.members[place].pod;
        self.kill(place);
        self.members[place] = self.begin(place, pod + 1);
        pod_uid(place, pod)
    }

    /// The worker's connection breaks. The worker continues to run and connects again.
    pub(crate) fn cut(&self, place: usize) {
        self.order(place, Order::Cut);
    }

    /// The worker is asked to terminate: it hands back its tasks, says `Bye` and is silent from
    /// then on.
    pub(crate) fn drain(&self, place: usize) {
        self.order(place, Order::Drain);
    }

    /// The worker becomes silent, and its connection stays open: only the silence shows it.
    pub(crate) fn fall_silent(&self, place: usize) {
        self.order(place, Order::FallSilent);
    }

    fn order(&self, place: usize, order: Order) {
        self.members[place].orders.try_send(order).unwrap();
    }

    /// Whether a worker has a session, as far as it knows.
    pub(crate) fn is_connected(&self, place: usize) -> bool {
        self.members[place].view.connected.load(Ordering::Relaxed)
    }

    /// Sessions that workers opened again, because something had broken an earlier session of the
    /// same process.
    pub(crate) fn sessions_again(&self) -> u64 {
        self.shared.sessions_again.load(Ordering::Relaxed)
    }

    /// Number of workers in the fleet, whatever their state.
    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// Workers that have a session, as far as they know.
    pub(crate) fn connected(&self) -> usize {
        self.count(|view| view.connected.load(Ordering::Relaxed))
    }

    /// Workers that have ended by themselves. There must never be any.
    pub(crate) fn ended(&self) -> usize {
        let ended = |member: &&Member| member.life.is_finished();
        self.members.iter().filter(ended).count()
    }

    /// The number of workers that were accepted exactly `times` times.
    pub(crate) fn welcomed(&self, times: u32) -> usize {
        self.count(|view| view.welcomes.load(Ordering::Relaxed) == times)
    }

    /// Heartbeats that each has sent.
    pub(crate) fn heartbeats(&self) -> Vec<u64> {
        self.members
            .iter()
            .map(|member| member.view.heartbeats.load(Ordering::Relaxed))
            .collect()
    }

    /// Workers that have work in every slot and nothing to report.
    pub(crate) fn holding(&self) -> usize {
        self.count(|view| {
            view.held.load(Ordering::Relaxed) >= self.slots
                && view.reports.load(Ordering::Relaxed) == 0
        })
    }

    /// Tasks whose `Ack` came to a worker that had reported them, including workers that left.
    pub(crate) fn acknowledged_by_all(&self) -> u64 {
        self.shared.acknowledged_by_all.load(Ordering::Relaxed)
    }

    /// Tasks whose `Ack` came to the worker that had reported them.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.members
            .iter()
            .map(|member| member.view.acknowledged.load(Ordering::Relaxed))
            .sum()
    }

    fn count(&self, is_so: impl Fn(&View) -> bool) -> usize {
        self.members
            .iter()
            .filter(|member| is_so(&member.view))
            .count()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &self.members {
            member.life.abort();
        }
    }
}

fn pod_uid(place: usize, pod: u32) -> String {
    format!("pod-{place}-{pod}")
}
