//! Counts how often each pod opens a session, so that a pod that keeps reconnecting does not delay
//! others. This module closes no session.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many sessions one pod may open within a `WINDOW`. A correct worker never reaches this limit,
/// because it waits longer before each reconnect, and a container restart takes longer than that.
pub(super) const MAX_SESSIONS: u32 = 20;

/// The period in which sessions are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// How many pods are counted at the same time: twice the maximum number of workers. If there are
/// more, some are forgotten, and their count starts again.
const MAX_PODS: usize = 20_000;

/// The pods that opened a session recently, by uid.
#[derive(Default)]
pub(crate) struct Registrations(Mutex<BTreeMap<String, Opened>>);

/// The sessions of one pod in the current window.
#[derive(Clone, Copy)]
struct Opened {
    /// When the first of these sessions was opened.
    since: Instant,
    sessions: u32,
}

impl Registrations {
    /// Counts one more session of the pod. If the pod has opened too many, returns how long it has
    /// to wait.
    pub(super) fn admit(&self, pod_uid: &str, now: Instant) -> Result<(), Duration> {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |opened: &Opened| now.duration_since(opened.since) >= WINDOW;
        if pods.len() >= MAX_PODS && !pods.contains_key(pod_uid) {
            pods.retain(|_, opened| !is_over(opened));
            if pods.len() >= MAX_PODS {
                pods.pop_first();
            }
        }
        let new = Opened {
            since: now,
            sessions: 0,
        };
        let opened = pods.entry(pod_uid.to_owned()).or_insert(new);
        if is_over(opened) {
            *opened = new;
        }
        if opened.sessions >= MAX_SESSIONS {
            return Err(WINDOW.saturating_sub(now.duration_since(opened.since)));
        }
        opened.sessions += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_opens_too_many_sessions_waits_but_other_pods_do_not() {
        let registrations = Registrations::default();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        for _ in 0..MAX_SESSIONS {
            assert_eq!(registrations.admit("eager", after(0)), Ok(()));
        }
        let wait = |seconds| Err(Duration::from_secs(seconds));
        assert_eq!(registrations.admit("eager", after(0)), wait(10));
        assert_eq!(registrations.admit("eager", after(9)), wait(1));
        assert_eq!(registrations.admit("other", after(9)), Ok(()));
        for _ in 0..MAX_SESSIONS {
            assert_eq!(registrations.admit("eager", after(10)), Ok(()));
        }
        assert_eq!(registrations.admit("eager", after(10)), wait(10));
    }

    #[test]
    fn no_more_pods_are_counted_than_the_limit() {
        let registrations = Registrations::default();
        let now = Instant::now();
        for pod in 0..MAX_PODS + 5 {
            assert_eq!(registrations.admit(&format!("pod-{pod}"), now), Ok(()));
        }
        assert_eq!(registrations.0.lock().unwrap().len(), MAX_PODS);
        let later = now + WINDOW;
        assert_eq!(registrations.admit("later", later), Ok(()));
        assert_eq!(registrations.0.lock().unwrap().len(), 1);
    }
}
