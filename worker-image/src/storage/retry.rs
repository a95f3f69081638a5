//! Trying again: which errors, how long, how often said. Holds no connection.

use std::time::Duration;

use tokio::time::Instant;

use crate::chance::Chance;
use crate::storage::{Location, StorageError, Stores};

/// The longest pause: a store that came back is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often a store that stays away is mentioned in the log.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Makes a call until it succeeds, fails for a reason that will not pass, or the patience of `stores` is used up.
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
        if !error.is_transient() {
            return Err(error);
        }
        let Some(pause) = pauses.next(&error) else {
            return Err(error);
        };
        tokio::time::sleep(pause).await;
    }
}

/// Pauses between attempts: doubling, with jitter, until the patience is used up.
pub(crate) struct Pauses {
    chance: Chance,
    start: Instant,
    patience: Duration,
    next: Duration,
    warned: Option<Instant>,
}

impl Pauses {
    pub(crate) fn new(stores: &Stores) -> Self {
        let (patience, next) = (stores.patience(), stores.first_pause());
        Self {
            chance: stores.chance().clone(),
            start: Instant::now(),
            patience,
            next,
            warned: None,
        }
    }

    /// How long to wait before the next attempt; nothing where it is time to give up.
    pub(crate) fn next(&mut self, error: &StorageError) -> Option<Duration> {
        if self.start.elapsed() >= self.patience {
            return None;
        }
        if self
            .warned
            .is_none_or(|at| at.elapsed() >= WARNING_INTERVAL)
        {
            self.warned = Some(Instant::now());
            tracing::warn!(%error, "storage call failed, trying again");
        }
        let pause = self.next.mul_f64(self.chance.jitter());
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}
