//! The operator's clock. Every decision gets the time from it. Nothing else in this crate reads the
//! system's time.
//!
//! Waits use tokio's timers. A clock that [starts at](Clock::starting_at) a chosen time follows
//! tokio's time as well, so decisions and waits use the same time if a test pauses tokio's time.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A source of the current time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The system's time. It is compared with timestamps of the API server, so it must follow
    /// corrections of the machine's clock, and must go on while the machine is suspended. A
    /// monotonic clock does neither.
    System,
    Derived {
        base: Timestamp,
        origin: Instant,
    },
}

impl Clock {
    /// Returns the system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Returns a clock that shows `base` now and advances with tokio's time. Must be called inside
    /// a runtime.
    pub fn starting_at(base: Timestamp) -> Self {
        Self(Source::Derived {
            base,
            origin: Instant::now(),
        })
    }

    /// Returns the current time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => Timestamp::now(),
            Source::Derived { base, origin } => {
                let elapsed =
                    SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX);
                base.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_derived_clock_follows_only_the_time_of_tokio() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        tokio::time::advance(Duration::from_hours(24)).await;
        assert_eq!(clock.now().as_second(), 24 * 60 * 60);
    }
}
