//! Runs the reconciles that the queue returns. Each reconcile is a separate task. `queue.rs`
//! decides in which order and when they run.
//!
//! A panic affects only the reconcile of one job. Other jobs continue, and the work on that job is
//! paused.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::health::Health;
use crate::queue::{JobKey, Outcome, Queue};

/// How often the loop reports that it is alive if nothing else happens.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(10);
/// How long a job waits if its reconcile panics and recording the panic also panics.
const LAST_RESORT: Duration = Duration::from_mins(10);

/// The queue, shared by the watches, the streams and the driver.
#[derive(Debug, Default)]
pub struct Jobs {
    queue: Mutex<Queue>,
    changed: Notify,
}

/// What the driver does with a job.
pub trait Look: Send + Sync + 'static {
    /// Reconciles the job once.
    fn look(self: Arc<Self>, key: JobKey) -> BoxFuture<'static, Outcome>;
    /// Handles a reconcile that panicked with this message.
    fn set_aside(self: Arc<Self>, key: JobKey, panic: String) -> BoxFuture<'static, Outcome>;
    /// Receives the number of jobs that wait for a slot, and the number of running reconciles.
    fn show_depth(&self, depth: (usize, usize));
}

impl Jobs {
    /// Records that something about a job changed. Never blocks.
    pub fn touch(&self, key: &JobKey) {
        self.lock().touch(key, Instant::now());
        self.changed.notify_one();
    }

    /// Records that the job no longer exists.
    pub fn forget(&self, key: &JobKey) {
        self.lock().forget(key);
    }

    /// Returns the number of jobs that wait for a slot, and the number of running reconciles.
    pub fn depth(&self) -> (usize, usize) {
        self.lock().depth()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reconciles jobs until the returned future is dropped, which also ends the running reconciles.
pub async fn drive<L: Look>(jobs: Arc<Jobs>, look: Arc<L>, health: Health) -> Infallible {
    let mut looks = JoinSet::new();
    loop {
        health.pulse();
        let next = {
            let mut queue = jobs.lock();
            while let Some(key) = queue.take(Instant::now()) {
                looks.spawn(look_once(Arc::clone(&look), key));
            }
            look.show_depth(queue.depth());
            queue.next_due()
        };
        let pulse = Instant::now() + LIVENESS_INTERVAL;
        tokio::select! {
            biased;
            Some(ended) = looks.join_next() => {
                // A task is cancelled only if the runtime is shutting down.
                if let Ok((key, outcome)) = ended {
                    jobs.lock().finish(&key, outcome, Instant::now());
                }
            }
            () = jobs.changed.notified() => {}
            () = sleep_until(next.map_or(pulse, |next| next.min(pulse))) => {}
        }
    }
}

/// Runs one reconcile, and handles its panic if it panics.
async fn look_once<L: Look>(look: Arc<L>, key: JobKey) -> (JobKey, Outcome) {
    let outcome = match caught(|| Arc::clone(&look).look(key.clone())).await {
        Ok(outcome) => outcome,
        Err(panic) => caught(|| look.set_aside(key.clone(), panic))
            .await
            .unwrap_or(Outcome::BackOff(LAST_RESORT)),
    };
    (key, outcome)
}

/// Runs a future to its end. If it panics, returns the message of the panic.
async fn caught<T, F: Future<Output = T>>(start: impl FnOnce() -> F) -> Result<T, String> {
    // After a panic, only values behind locks are used again. They are consistent after every
    // statement.
    let future = async { start().await };
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|payload| message_of(payload.as_ref()))
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it gave no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::queue::SLOTS_PER_NAMESPACE;

    /// Reconciles for tests. The reconcile of job `panics` panics, and that of job `hangs` never
    /// ends. Reconciles of other jobs are counted and take a second.
    #[derive(Default)]
    struct Counting {
        looks: Mutex<BTreeMap<String, u32>>,
        set_aside: Mutex<Vec<String>>,
        depth: Mutex<(usize, usize)>,
    }

    impl Look for Counting {
        fn look(self: Arc<Self>, key: JobKey) -> BoxFuture<'static, Outcome> {
            async move {
                *self
                    .looks
                    .lock()
                    .unwrap()
                    .entry(key.name.clone())
                    .or_default() += 1;
                assert_ne!(key.name, "panics", "no arithmetic for {}", key.name);
                if key.name.starts_with("hangs") {
                    std::future::pending::<()>().await;
                }
                Outcome::LookAgain(Duration::from_secs(1))
            }
            .boxed()
        }

        fn set_aside(self: Arc<Self>, _: JobKey, panic: String) -> BoxFuture<'static, Outcome> {
            self.set_aside.lock().unwrap().push(panic);
            async { Outcome::BackOff(Duration::from_mins(1)) }.boxed()
        }

        fn show_depth(&self, depth: (usize, usize)) {
            *self.depth.lock().unwrap() = depth;
        }
    }

    fn key(namespace: &str, name: &str) -> JobKey {
        JobKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn run_for(jobs: &Arc<Jobs>, time: Duration) -> Arc<Counting> {
        let counting = Arc::new(Counting::default());
        let driven = drive(Arc::clone(jobs), Arc::clone(&counting), Health::default());
        assert!(tokio::time::timeout(time, driven).await.is_err());
        counting
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_whose_reconcile_panics_is_set_aside_and_the_others_continue() {
        let jobs = Arc::new(Jobs::default());
        for name in ["panics", "fine"] {
            jobs.touch(&key("team", name));
        }
        let counting = run_for(&jobs, Duration::from_millis(119_500)).await;
        let looks = counting.looks.lock().unwrap().clone();
        assert_eq!(
            looks,
            [("fine".to_owned(), 120), ("panics".to_owned(), 2)].into()
        );
        let panics = counting.set_aside.lock().unwrap().clone();
        assert!(panics[0].contains("no arithmetic for panics"), "{panics:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_that_hang_do_not_delay_other_namespaces() {
        let jobs = Arc::new(Jobs::default());
        for job in 0..300 {
            jobs.touch(&key("hanging", &format!("hangs-{job}")));
        }
        jobs.touch(&key("team", "fine"));
        let counting = run_for(&jobs, Duration::from_millis(2_500)).await;
        assert_eq!(counting.looks.lock().unwrap().get("fine"), Some(&3));
        let depth = (300 - SLOTS_PER_NAMESPACE, SLOTS_PER_NAMESPACE);
        assert_eq!(jobs.depth(), depth);
        assert_eq!(
            *counting.depth.lock().unwrap(),
            depth,
            "shown while all hang"
        );
    }
}
