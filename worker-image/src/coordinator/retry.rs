//! Storage calls that are tried for ever, visibly: each failure is shown until the call succeeds. Nothing is lost and
//! nothing is given up here.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::status::Outages;
use crate::chance::Chance;
use crate::ledger::LedgerError;
use crate::metrics::CoordinatorMetrics;
use crate::storage::Reminder;

/// First and longest wait between two tries of one call.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Waits that grow, with jitter so that many callers do not come back at once.
pub(super) struct Backoff {
    chance: Chance,
    next: Duration,
}

impl Backoff {
    /// From the shortest.
    pub(super) fn new(chance: &Chance) -> Self {
        Self {
            chance: chance.clone(),
            next: BACKOFF_FIRST,
        }
    }

    /// Waits once.
    pub(super) async fn wait(&mut self) {
        let wait = self.next.mul_f64(self.chance.jitter());
        self.next = (self.next * 2).min(BACKOFF_MAX);
        sleep(wait).await;
    }
}

/// What may pass by itself, or when somebody mends bucket or credentials, is tried again. A ledger that belongs to another
/// coordinator, or holds what is not ours, is none that waiting could mend.
pub(super) fn judge_ledger(error: &LedgerError) -> Verdict {
    match error {
        LedgerError::Unavailable(_) | LedgerError::Store(_) => Verdict::TryAgain,
        LedgerError::Fenced { .. }
        | LedgerError::Refused { .. }
        | LedgerError::Address(_)
        | LedgerError::InDoubt => Verdict::GiveUp,
    }
}

/// Tries calls until they succeed.
#[derive(Clone)]
pub(super) struct Retries {
    chance: Chance,
    outages: Outages,
    metrics: CoordinatorMetrics,
    calls: Arc<AtomicU64>,
}

/// What to do about an error.
pub(super) enum Verdict {
    /// Show it and try again.
    TryAgain,
    /// Give it to the caller.
    GiveUp,
}

impl Retries {
    /// Shows failures in `outages`.
    pub(super) fn new(outages: Outages, metrics: CoordinatorMetrics, chance: &Chance) -> Self {
        Self {
            chance: chance.clone(),
            outages,
            metrics,
            calls: Arc::default(),
        }
    }

    /// Makes a call until it succeeds, or until `judge` says that trying again is of no use.
    pub(super) async fn call<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        name: &str,
        judge: impl Fn(&E) -> Verdict,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut backoff = Backoff::new(&self.chance);
        let mut reminder = Reminder::default();
        let outcome = loop {
            match attempt().await {
                Ok(value) => break Ok(value),
                Err(error) => match judge(&error) {
                    Verdict::GiveUp => break Err(error),
                    Verdict::TryAgain => {
                        self.metrics.storage_failures.inc();
                        if reminder.is_due(Instant::now()) {
                            tracing::warn!(%error, call = name, "storage does not answer as it should; trying again");
                        }
                        self.outages.begin(number, format!("{name}: {error}"));
                    }
                },
            }
            backoff.wait().await;
        };
        self.outages.end(number);
        outcome
    }

    /// Makes a call until it succeeds, whatever the error: nothing else can be done about this one than to wait.
    pub(super) async fn for_ever<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        name: &str,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        loop {
            if let Ok(value) = self.call(name, |_| Verdict::TryAgain, &mut attempt).await {
                return value;
            }
        }
    }
}
