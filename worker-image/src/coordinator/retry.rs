//! Retries storage calls until they succeed. Each failure is shown in status until the call
//! succeeds.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zephyr_store::chance::Chance;
use zephyr_store::finalize::OutputError;
use zephyr_store::ledger::LedgerError;
use zephyr_store::storage::{Reminder, StorageError};

use super::status::Outages;
use crate::job::RunJob;
use crate::metrics::CoordinatorMetrics;

/// The first wait between two tries of one call. The waits grow up to `MAX_BACKOFF`.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// Growing waits between tries. They are random within limits, so that many callers do not retry at
/// the same time.
pub(super) struct Backoff {
    chance: Chance,
    next: Duration,
}

impl Backoff {
    /// Starts with the shortest wait.
    pub(super) fn new(chance: &Chance) -> Self {
        Self {
            chance: chance.clone(),
            next: BACKOFF_FIRST,
        }
    }

    /// Waits once.
    pub(super) async fn wait(&mut self) {
        let wait = self.next.mul_f64(self.chance.jitter());
        self.next = (self.next * 2).min(MAX_BACKOFF);
        sleep(wait).await;
    }
}

/// How often a call of the coordinator is tried if a local disk is full, or if a store refuses the
/// call permanently in a run on one machine. These tries take about 40 s, in which a person can
/// free space or grant rights. Only a run on one machine keeps its ledger on a disk, and without a
/// ledger it cannot even record how it ended.
pub(super) const FEW_TRIES: u32 = 8;

/// Decides what to do about an error. The decision depends on whether a retry may succeed, and on
/// who could repair the cause. Pure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    is_local: bool,
}

impl Judge {
    /// Returns the judge for the calls of this run.
    pub(super) fn of(job: &RunJob) -> Self {
        let is_local = job.is_local;
        Self { is_local }
    }

    /// Decides about an error of the object store. In a cluster, somebody may repair the bucket or
    /// the credentials while the job waits and status shows the error. If a job runs on one
    /// machine, its user sees the message at the end of the run, can repair the cause, and can
    /// resume the run.
    pub(super) fn storage(self, error: &StorageError) -> Verdict {
        if error.is_full_disk() {
            Verdict::TryAFewTimes
        } else if !self.is_local || error.is_transient() {
            Verdict::TryAgain
        } else if error.is_misplaced() {
            Verdict::GiveUp
        } else {
            Verdict::TryAFewTimes
        }
    }

    /// Decides about an error of the ledger. Waiting does not help if the ledger belongs to another
    /// coordinator, or contains foreign objects.
    pub(super) fn ledger(self, error: &LedgerError) -> Verdict {
        match error {
            LedgerError::Unavailable(error) | LedgerError::Store(error) => self.storage(error),
            LedgerError::Fenced { .. }
            | LedgerError::Refused { .. }
            | LedgerError::Address(_)
            | LedgerError::InDoubt => Verdict::GiveUp,
        }
    }

    /// Decides about an error of the output. A store that refuses a call may accept it after
    /// somebody has repaired the cause. But waiting does not remove an existing object.
    pub(super) fn output(self, error: &OutputError) -> Verdict {
        match error.store_error() {
            Some(error) if !error.is_misplaced() => self.storage(error),
            Some(_) | None => Verdict::GiveUp,
        }
    }
}

/// Retries calls until they succeed.
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
    /// Show it and retry.
    TryAgain,
    /// Show it and retry, but only a few times: a disk is full, or a call of a local run is refused
    /// permanently.
    TryAFewTimes,
    /// Return it to the caller.
    GiveUp,
}

impl Retries {
    /// Returns retries that show failures in `outages`.
    pub(super) fn new(outages: Outages, metrics: CoordinatorMetrics, chance: &Chance) -> Self {
        Self {
            chance: chance.clone(),
            outages,
            metrics,
            calls: Arc::default(),
        }
    }

    /// Makes a call until it succeeds, or until `judge` decides that retrying is useless.
    pub(super) async fn call<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        name: &str,
        judge: impl Fn(&E) -> Verdict,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut backoff = Backoff::new(&self.chance);
        let mut reminder = Reminder::default();
        let mut few = 0;
        let outcome = loop {
            match attempt().await {
                Ok(value) => break Ok(value),
                Err(error) => match judge(&error) {
                    Verdict::GiveUp => break Err(error),
                    Verdict::TryAFewTimes if few + 1 == FEW_TRIES => break Err(error),
                    verdict @ (Verdict::TryAFewTimes | Verdict::TryAgain) => {
                        few += u32::from(verdict == Verdict::TryAFewTimes);
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

    /// Makes a call until it succeeds, or until this run must end.
    pub(super) async fn retry_unless_permanent<T, F: Future<Output = Result<T, StorageError>>>(
        &self,
        name: &str,
        judge: Judge,
        attempt: impl FnMut() -> F,
    ) -> Result<T, StorageError> {
        self.call(name, |error| judge.storage(error), attempt).await
    }

    /// Makes a call until it succeeds, whatever the errors are.
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
    use zephyr_store::storage::{Cause, Location};

    use super::*;

    const CLUSTER: Judge = Judge { is_local: false };
    const LOCAL: Judge = Judge { is_local: true };

    fn failed(cause: Cause) -> StorageError {
        let object = Location::parse("s3://b/k").unwrap();
        StorageError::new("writing", &object, cause)
    }

    fn retries(outages: &Outages) -> Retries {
        let metrics = CoordinatorMetrics::default();
        Retries::new(outages.clone(), metrics, &Chance::from_seed(0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_local_disk_is_shown_and_retried_only_for_a_while() {
        let outages = Outages::default();
        let (tries, began) = (Cell::new(0), Instant::now());
        let write = || {
            assert_eq!(outages.sentence().is_some(), tries.get() > 0);
            tries.set(tries.get() + 1);
            std::future::ready(Err::<(), _>(failed(Cause::NoSpace("/ledger".to_owned()))))
        };
        let ended = retries(&outages)
            .retry_unless_permanent("write", CLUSTER, write)
            .await;
        assert!(
            ended
                .unwrap_err()
                .to_string()
                .contains("no space on /ledger")
        );
        assert_eq!((tries.get(), outages.sentence()), (FEW_TRIES, None));
        let took = began.elapsed();
        assert!((10..=60).contains(&took.as_secs()), "{took:?}");
        let told = Uncharged::CoordinatorDisk.row().bound;
        assert!(told.starts_with(&format!("{FEW_TRIES} tries,")), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanently_refused_local_run_ends_after_a_while_and_a_job_in_a_cluster_waits() {
        let outages = Outages::default();
        let began = Instant::now();
        let deny = || std::future::ready(Err::<(), _>(failed(Cause::Denied("403".to_owned()))));
        let ended = retries(&outages)
            .retry_unless_permanent("complete", LOCAL, deny)
            .await;
        assert_eq!(
            ended.unwrap_err().to_string(),
            "writing s3://b/k: access denied: 403"
        );
        let took = began.elapsed();
        assert!((10..=60).contains(&took.as_secs()), "{took:?}");
        for (cause, local, cluster) in [
            (
                Cause::Denied(String::new()),
                Verdict::TryAFewTimes,
                Verdict::TryAgain,
            ),
            (
                Cause::NoSuchBucket(String::new()),
                Verdict::TryAFewTimes,
                Verdict::TryAgain,
            ),
            (
                Cause::Busy(String::new()),
                Verdict::TryAgain,
                Verdict::TryAgain,
            ),
            (
                Cause::Unreachable(String::new()),
                Verdict::TryAgain,
                Verdict::TryAgain,
            ),
            (
                Cause::Misplaced(String::new()),
                Verdict::GiveUp,
                Verdict::TryAgain,
            ),
            (
                Cause::NoSpace(String::new()),
                Verdict::TryAFewTimes,
                Verdict::TryAFewTimes,
            ),
        ] {
            let error = failed(cause);
            assert_eq!(LOCAL.storage(&error), local, "{error}");
            assert_eq!(CLUSTER.storage(&error), cluster, "{error}");
        }
        let misplaced = OutputError::Store(failed(Cause::Misplaced(String::new())));
        assert_eq!(CLUSTER.output(&misplaced), Verdict::GiveUp);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_waits_for_a_store_that_does_not_answer_for_a_day() {
        let outages = Outages::default();
        let began = Instant::now();
        let write = || {
            let is_back = began.elapsed() > Duration::from_hours(24);
            let away = || Err(failed(Cause::Unreachable("refused".to_owned())));
            std::future::ready(if is_back { Ok(()) } else { away() })
        };
        let ended = retries(&outages)
            .retry_unless_permanent("write", CLUSTER, write)
            .await;
        assert!(ended.is_ok());
    }
}
