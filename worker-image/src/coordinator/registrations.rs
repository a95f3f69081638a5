//! Counts how often each pod opens a session, so that a pod that keeps reconnecting does not delay
//! others. Closes no session.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Sessions that one pod may open in a `WINDOW`. A worker waits a little longer before each further
/// reconnect, so it opens fewer sessions; a restart of a container takes even longer.
pub(super) const MAX_SESSIONS: u32 = 20;

/// The period in which sessions are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Pods that are counted at a time: twice the number of workers. Beyond that the oldest are
/// forgotten, and their count starts again.
const MAX_PODS: usize = 20_000;

/// The pods that opened a session recently.
#[derive(Default)]
pub(crate) struct Registrations(Mutex<BTreeMap<String, Opened>>);

/// Sessions of one pod.
#[derive(Clone, Copy)]
struct Opened {
    /// The time of the first of them.
    since: Instant,
    sessions: u32,
}

impl Registrations {
    /// Counts one more session of the pod; if it is one too many, returns how long the pod has to
    /// wait.
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
