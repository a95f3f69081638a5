//! A simulated process, as its environment sees it. It may pause: then it does not send, receive or
//! do anything, and later it resumes with everything that it was about to do. When the process
//! ends, its tasks end too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;

/// One process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Process {
    name: Arc<str>,
    stands_still: Arc<AtomicBool>,
    /// Wakes waiting tasks in the order in which they began to wait, which a `watch` does not
    /// guarantee.
    goes_on: Arc<Notify>,
}

impl Process {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            stands_still: Arc::default(),
            goes_on: Arc::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Pauses or resumes the process.
    pub(super) fn stall(&self, stands_still: bool) {
        self.stands_still.store(stands_still, Ordering::Relaxed);
        if !stands_still {
            self.goes_on.notify_waiters();
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stands_still.load(Ordering::Relaxed)
    }

    /// Waits while the process is paused. Everything that the process sends or receives waits here.
    pub(super) async fn awake(&self) {
        loop {
            let goes_on = self.goes_on.notified();
            if !self.is_stalled() {
                return;
            }
            goes_on.await;
        }
    }

    /// Wraps `work` so that it pauses together with the process.
    pub(super) fn run<F: Future + Send + 'static>(&self, work: F) -> Stalling<F> {
        Stalling {
            process: self.clone(),
            work: Box::pin(work),
            waking: None,
        }
    }
}

/// See [`Process::run`].
pub(super) struct Stalling<F> {
    process: Process,
    work: Pin<Box<F>>,
    waking: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<F: Future> Future for Stalling<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            if let Some(waking) = &mut self.waking {
                if waking.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.waking = None;
            }
            if !self.process.is_stalled() {
                return self.work.as_mut().poll(context);
            }
            let process = self.process.clone();
            self.waking = Some(Box::pin(async move { process.awake().await }));
        }
    }
}
