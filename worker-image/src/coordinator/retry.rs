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
use crate::storage::{Reminder, StorageError};

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

/// How often the coordinator's own call finds a local disk full before it gives up: some 40 s, in which somebody who looks on can
/// make room. Only a run on one machine keeps its ledger on a disk, and without a ledger it cannot even say how it ended.
pub(super) const FULL_DISK_TRIES: u32 = 8;

/// What may pass by itself, or when somebody mends bucket or credentials, is tried again. A ledger that belongs to another
/// coordinator, or holds what is not ours, is none that waiting could mend.
pub(super) fn judge_ledger(error: &LedgerError) -> Verdict {
    match error {
        LedgerError::Unavailable(error) if error.is_full_disk() => Verdict::TryAFewTimes,
        LedgerError::Unavailable(_) | LedgerError::Store(_) => Verdict::TryAgain,
        LedgerError::Fenced { .. }
        | LedgerError::Refused { .. }
        | LedgerError::Address(_)
        | LedgerError::InDoubt => Verdict::GiveUp,
    }
}

/// See `judge_ledger`.
pub(super) fn judge_storage(error: &StorageError) -> Verdict {
    if error.is_full_disk() {
        Verdict::TryAFewTimes
    } else {
        Verdict::TryAgain
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Show it and try again.
    TryAgain,
    /// Show it and try again, but not for ever: a disk is full.
    TryAFewTimes,
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
        let mut full = 0;
        let outcome = loop {
            match attempt().await {
                Ok(value) => break Ok(value),
                Err(error) => match judge(&error) {
                    Verdict::GiveUp => break Err(error),
                    Verdict::TryAFewTimes if full + 1 == FULL_DISK_TRIES => break Err(error),
                    verdict @ (Verdict::TryAFewTimes | Verdict::TryAgain) => {
                        full += u32::from(verdict == Verdict::TryAFewTimes);
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

    /// Makes a call until it succeeds, or a local disk is full for good: nothing else can be done than to wait.
    pub(super) async fn unless_full<T, F: Future<Output = Result<T, StorageError>>>(
        &self,
        name: &str,
        attempt: impl FnMut() -> F,
    ) -> Result<T, StorageError> {
        self.call(name, judge_storage, attempt).await
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use zephyr_engine::coordinator::uncharged::Uncharged;

    use super::*;
    use crate::storage::{Cause, Location};

    fn failed(cause: Cause) -> StorageError {
        let object = Location::parse("s3://b/k").unwrap();
        StorageError::new("writing", &object, cause)
    }

    fn retries(outages: &Outages) -> Retries {
        let metrics = CoordinatorMetrics::default();
        Retries::new(outages.clone(), metrics, &Chance::from_seed(0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_local_disk_that_stays_full_is_given_up_after_a_while_and_shown_until_then() {
        let outages = Outages::default();
        let (tries, began) = (Cell::new(0), Instant::now());
        let write = || {
            assert_eq!(outages.sentence().is_some(), tries.get() > 0);
            tries.set(tries.get() + 1);
            std::future::ready(Err::<(), _>(failed(Cause::NoSpace("/ledger".to_owned()))))
        };
        let ended = retries(&outages).unless_full("write", write).await;
        assert!(
            ended
                .unwrap_err()
                .to_string()
                .contains("no space on /ledger")
        );
        assert_eq!((tries.get(), outages.sentence()), (FULL_DISK_TRIES, None));
        let took = began.elapsed();
        assert!((10..=60).contains(&took.as_secs()), "{took:?}");
        let told = Uncharged::CoordinatorDisk.row().bound;
        assert!(
            told.starts_with(&format!("{FULL_DISK_TRIES} tries,")),
            "{told}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_for_a_day_is_waited_for() {
        let outages = Outages::default();
        let began = Instant::now();
        let write = || {
            let is_back = began.elapsed() > Duration::from_hours(24);
            let away = || Err(failed(Cause::Unreachable("refused".to_owned())));
            std::future::ready(if is_back { Ok(()) } else { away() })
        };
        let ended = retries(&outages).unless_full("write", write).await;
        assert!(ended.is_ok());
    }
}
