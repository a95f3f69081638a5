//! Knows whether the operator is ready and alive, and says why if it is not. `admin.rs` serves the
//! answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the driver may be silent. It reports every ten seconds even if nothing happens.
const SILENCE: Duration = Duration::from_mins(1);

/// How long a watch may fail before the operator reports that it is not ready. The restart of an
/// API server takes less time.
const WATCH_TIMEOUT: Duration = Duration::from_mins(1);
/// After how long without another failure a watch counts as working. A failed watch is tried at
/// least twice in this time.
const WATCH_WELL: Duration = Duration::from_secs(75);

/// The operator's state.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_ready: bool,
    /// What the start is waiting for.
    missing: String,
    /// When the driver last reported; absent before it starts.
    pulse: Option<Instant>,
    /// The watches that failed, by the kind of their objects.
    watches: BTreeMap<&'static str, FailedWatch>,
}

#[derive(Debug)]
struct FailedWatch {
    /// The time of the first of the consecutive failures; `last` is the time of the latest.
    since: Instant,
    last: Instant,
    why: String,
}

impl Health {
    /// Records what the start is waiting for.
    pub fn set_missing(&self, sentence: String) {
        self.lock().missing = sentence;
    }

    /// Records that the watch of a kind failed. It is tried again.
    pub fn watch_failed(&self, kind: &'static str, why: String) {
        let last = Instant::now();
        let mut state = self.lock();
        let row = state.watches.get(kind);
        let row = row.filter(|row| last.duration_since(row.last) < WATCH_WELL);
        let since = row.map_or(last, |row| row.since);
        state.watches.insert(kind, FailedWatch { since, last, why });
    }

    /// Records that the watch of a kind delivered something.
    pub fn watch_works(&self, kind: &'static str) {
        self.lock().watches.remove(kind);
    }

    /// Records that the caches are filled and jobs are reconciled.
    pub fn set_ready(&self) {
        self.lock().is_ready = true;
    }

    /// Records that the driver is alive.
    pub fn pulse(&self) {
        self.lock().pulse = Some(Instant::now());
    }

    /// Returns whether jobs are reconciled, and if not, why.
    pub fn readiness(&self) -> Result<(), String> {
        let state = self.lock();
        if state.is_ready {
            return state.watching();
        }
        let missing = if state.missing.is_empty() {
            "the API server has not answered yet"
        } else {
            &state.missing
        };
        Err(format!("not ready: {missing}"))
    }

    /// Returns whether the process works, and if not, why. A slow start is not a failure here,
    /// because the process ends by itself if the start takes too long.
    pub fn liveness(&self) -> Result<(), String> {
        let silence = self.lock().pulse.map(|pulse| pulse.elapsed());
        match silence.filter(|silence| *silence > SILENCE) {
            None => Ok(()),
            Some(silence) => Err(format!(
                "the controller has made no progress for {} s",
                silence.as_secs()
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether all watches work, and if not, why. While a watch fails, the operator uses
    /// the facts that the watch delivered last.
    fn watching(&self) -> Result<(), String> {
        let fails = |row: &FailedWatch| {
            row.last.elapsed() < WATCH_WELL
                && row.since.elapsed() >= WATCH_TIMEOUT
                && row.last.duration_since(row.since) >= WATCH_TIMEOUT / 2
        };
        let failing = self.watches.iter().find(|(_, row)| fails(row));
        failing.map_or(Ok(()), |(kind, row)| {
            Err(format!(
                "the watch of {kind} has failed for {} s: {}",
                row.since.elapsed().as_secs(),
                row.why
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_controller_without_progress_is_reported_but_not_during_its_start() {
        let health = Health::default();
        tokio::time::advance(SILENCE * 2).await;
        assert_eq!(health.liveness(), Ok(()));
        health.pulse();
        tokio::time::advance(SILENCE).await;
        assert_eq!(health.liveness(), Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
        let expected = "the controller has made no progress for 61 s".to_owned();
        assert_eq!(health.liveness(), Err(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_keeps_failing_is_named_and_one_that_failed_once_is_not() {
        let health = Health::default();
        health.set_ready();
        health.watch_failed("Pods", "pods is forbidden".to_owned());
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(30)).await;
            assert_eq!(
                health.readiness(),
                Ok(()),
                "a watch without a further failure works"
            );
        }
        for _ in 0..2 {
            health.watch_failed("Pods", "pods is forbidden".to_owned());
            assert_eq!(health.readiness(), Ok(()));
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        health.watch_failed("Pods", "pods is forbidden".to_owned());
        let expected = "the watch of Pods has failed for 60 s: pods is forbidden".to_owned();
        assert_eq!(health.readiness(), Err(expected));
        health.watch_works("Pods");
        assert_eq!(health.readiness(), Ok(()));
    }

    #[test]
    fn the_reason_why_the_start_waits_is_named() {
        let health = Health::default();
        let not_ready = |health: &Health| health.readiness().unwrap_err();
        assert_eq!(
            not_ready(&health),
            "not ready: the API server has not answered yet"
        );
        health.set_missing("these caches are not filled: Pods".to_owned());
        assert_eq!(
            not_ready(&health),
            "not ready: these caches are not filled: Pods"
        );
        health.set_ready();
        assert_eq!(health.readiness(), Ok(()));
    }
}
