//! Whether the operator is ready and alive, as sentences. Serves nothing; `admin.rs` does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the driver may be silent. It reports every ten seconds even if nothing happens.
const SILENCE: Duration = Duration::from_mins(1);

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
}

impl Health {
    /// Records what the start is waiting for.
    pub fn set_missing(&self, sentence: String) {
        self.lock().missing = sentence;
    }

    /// Records that the caches are filled and jobs are reconciled.
    pub fn set_ready(&self) {
        self.lock().is_ready = true;
    }

    /// Records that the driver is alive.
    pub fn pulse(&self) {
        self.lock().pulse = Some(Instant::now());
    }

    /// Whether jobs are reconciled; if not, why.
    pub fn readiness(&self) -> Result<(), String> {
        let state = self.lock();
        if state.is_ready {
            return Ok(());
        }
        let missing = if state.missing.is_empty() {
            "the API server has not answered yet"
        } else {
            &state.missing
        };
        Err(format!("not ready: {missing}"))
    }

    /// Whether the process works; if not, why. If the start takes too long, the process ends by
    /// itself.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_stands_still_is_reported_and_one_that_starts_is_not() {
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
