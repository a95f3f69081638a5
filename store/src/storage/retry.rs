//! Retries calls. Decides which errors are retried, for how long, and how often this is logged.
//! Holds no connection.
//!
//! The time is counted from the first failure of a call. The duration of the first try does not
//! count, even if this try is slow or if its result is read late.

use std::time::Duration;

use tokio::time::Instant;

use crate::chance::Chance;
use crate::storage::{Location, StorageError, Stores};

/// How long a pause is at most, so that the recovery of a store is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a store must stay unavailable before the log mentions it again.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Makes a call until it succeeds, fails for a permanent reason, or has failed for longer than the
/// retry time of `stores`. The error then says how often it was tried.
pub async fn persist<T, F, Answer>(
    stores: &Stores,
    call: &'static str,
    object: &Location,
    mut attempt: F,
) -> Result<T, StorageError>
where
    F: FnMut() -> Answer,
    Answer: Future<Output = object_store::Result<T>>,
{
    let mut pauses = Pauses::new(stores);
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => StorageError::from_store(call, object, &error),
        };
        let Some(pause) = pauses.next(&error) else {
            return Err(pauses.give_up(error));
        };
        tokio::time::sleep(pause).await;
    }
}

/// Decides when a lasting problem is mentioned in the log: at once, and then once a minute.
#[derive(Debug, Default)]
pub struct Reminder(Option<Instant>);

impl Reminder {
    /// Returns whether the problem must be mentioned now. If so, notes the time.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .0
            .is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

/// The pauses between tries of a call. They double, with jitter, until the retry time is used up.
pub(crate) struct Pauses {
    chance: Chance,
    first_failure: Option<Instant>,
    failures: u32,
    retry_time: Duration,
    next: Duration,
    reminder: Reminder,
}

impl Pauses {
    pub(crate) fn new(stores: &Stores) -> Self {
        let chance = stores.chance().clone();
        Self::of(chance, stores.retry_time(), stores.first_pause())
    }

    fn of(chance: Chance, retry_time: Duration, first: Duration) -> Self {
        Self {
            chance,
            first_failure: None,
            failures: 0,
            retry_time,
            next: first,
            reminder: Reminder::default(),
        }
    }

    /// Returns how long to wait before the next try. `None` if the retry time is used up, or if
    /// waiting is useless.
    pub(crate) fn next(&mut self, error: &StorageError) -> Option<Duration> {
        // Waiting is useless if the disk is full, because the waiting process itself may fill it.
        if !error.is_transient() || error.is_full_disk() {
            return None;
        }
        let now = Instant::now();
        let pause = self.pause_at(now)?;
        if self.reminder.is_due(now) {
            tracing::warn!(%error, "storage call failed, trying again");
        }
        Some(pause)
    }

    /// Adds the number of tries and their duration to the last error of a call that is given up.
    pub(crate) fn give_up(&self, error: StorageError) -> StorageError {
        let since = self.first_failure.map(|first| first.elapsed());
        error.after(self.failures, since.unwrap_or_default())
    }

    fn pause_at(&mut self, now: Instant) -> Option<Duration> {
        let first_failure = *self.first_failure.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        if now.duration_since(first_failure) >= self.retry_time {
            return None;
        }
        let pause = self.next.mul_f64(self.chance.jitter());
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tricky::{Trick, Tricks, tricky};
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn ten_minutes_without_an_answer_cost_100_to_200_tries_and_ten_lines_of_log() {
        let began = Instant::now();
        let outage = Duration::from_mins(10);
        let mut pauses = Pauses::of(Chance::system(), outage, Duration::from_millis(100));
        let (mut now, mut tries, mut reminders) = (began, 1, 0);
        let mut longest = Duration::ZERO;
        loop {
            reminders += u32::from(pauses.reminder.is_due(now));
            let Some(pause) = pauses.pause_at(now) else {
                break;
            };
            longest = longest.max(pause);
            now += pause;
            tries += 1;
        }
        assert!(now.duration_since(began) >= outage);
        assert!(longest <= LONGEST_PAUSE);
        assert!((60..200).contains(&tries), "{tries} tries");
        assert!((10..=11).contains(&reminders), "{reminders} lines");
    }

    #[tokio::test]
    async fn a_throttling_store_is_asked_again_until_it_answers() {
        let inner = Arc::new(InMemory::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let busy: Tricks = Arc::new(move |_, _| {
            let is_busy = counted.fetch_add(1, Ordering::SeqCst) < 5;
            let trick = if is_busy { Trick::Fail } else { Trick::Pass };
            Box::pin(std::future::ready(trick))
        });
        let location = Location::parse("s3://b/k").unwrap();
        let stores = tricky(&inner, busy);
        let store = stores.open(&location).unwrap().objects;
        let error = persist(&stores, "reading", &location, || store.get(location.path()))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.cause, crate::storage::Cause::NotFound);
        assert_eq!(calls.load(Ordering::SeqCst), 6);
    }

    /// Makes calls that fail after the given time. Returns the number of tries, and the error.
    async fn failing(stores: &Stores, call_lasts: Duration) -> (u32, String) {
        let location = Location::parse("s3://b/k").unwrap();
        let mut calls = 0;
        let call = || {
            calls += 1;
            async move {
                tokio::time::sleep(call_lasts).await;
                Err::<(), _>(object_store::Error::Generic {
                    store: "test",
                    source: "Server returned non-2xx status code: 503 Service Unavailable: ".into(),
                })
            }
        };
        let error = persist(stores, "reading", &location, call)
            .await
            .unwrap_err();
        assert!(error.is_transient());
        (calls, error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn retry_time_counts_from_the_first_failure_and_its_end_is_reported() {
        let stores = Stores::in_memory().with_retry_time(Duration::from_mins(2));
        // The call takes longer than the whole retry time. It is still tried once more.
        let (calls, error) = failing(&stores, Duration::from_mins(10)).await;
        assert_eq!(calls, 2);
        assert_eq!(
            error,
            "reading s3://b/k: the store is unavailable: 503 Service Unavailable; it was tried 2 times in 600 s without success"
        );
        let (calls, error) = failing(&stores, Duration::ZERO).await;
        assert!((15..60).contains(&calls), "{calls}");
        let reminders = format!("; it was tried {calls} times in 12");
        assert!(error.contains(&reminders), "{error}");
    }

    #[test]
    fn a_call_does_not_wait_for_a_full_disk_or_a_permanent_error() {
        use crate::storage::Cause;
        let location = Location::parse("file:///x").unwrap();
        let stores = Stores::in_memory();
        for (cause, waits) in [
            (Cause::NoSpace("/".to_owned()), false),
            (Cause::Denied("no".to_owned()), false),
            (Cause::Busy("503".to_owned()), true),
        ] {
            let mut pauses = Pauses::new(&stores);
            let error = StorageError::new("writing", &location, cause);
            assert_eq!(pauses.next(&error).is_some(), waits, "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_of_a_call_that_is_tried_once_does_not_mention_tries() {
        let stores = Stores::in_memory().with_retry_time(Duration::ZERO);
        let (calls, error) = failing(&stores, Duration::from_secs(1)).await;
        assert_eq!(calls, 1);
        assert!(error.ends_with(": 503 Service Unavailable"), "{error}");
    }
}
