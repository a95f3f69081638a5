//! How long a job waits after a failed look: by its cause.
//!
//! Pure. The queue keeps the wait, whatever changes meanwhile.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{Error, apply};
use crate::calls::{CallError, Refusal};
use crate::defect::{self, Defect};
use crate::queue::Outcome;

/// The wait after a failed call, at first and at most; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Calls of one job within a minute, after one has failed. The doubled waits keep to it only if each look makes one call.
const CALLS_A_MINUTE: u32 = 10;
/// The wait after another writer was first: the watch brings its version in a moment.
const CONFLICT_RETRY: Duration = Duration::from_millis(500);
/// The longest wait that the API server is believed to want: beyond it, looking again costs it nothing.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
/// The wait of a job that is set aside, at first and at most; doubled each time.
const FIRST_SET_ASIDE: Duration = Duration::from_mins(1);
const LONGEST_SET_ASIDE: Duration = Duration::from_mins(15);
/// The part of a wait by which those of different jobs differ: jobs that fail together do not come back together.
const SPREAD: f64 = 0.2;

/// What to do after a look at the job with this uid failed after so many `calls`, for the `failures`-th time in a row (from 1).
pub fn after_failure(error: &Error, uid: &str, failures: u32, calls: u32) -> Outcome {
    let backoff = doubled(FIRST_RETRY, failures, LONGEST_RETRY);
    let wait = match error {
        // Nothing gets better before somebody changes the object.
        Error::Decode { .. } | Error::Validate(_) => return Outcome::Settled,
        Error::Observe(_) => backoff,
        Error::Apply(cause) => match cause.call().map(CallError::refusal) {
            Some(Refusal::Conflict) if defect::is(Defect::ConflictIsFatal) => {
                return Outcome::Settled;
            }
            Some(Refusal::Conflict) => (backoff / 2).max(CONFLICT_RETRY),
            // The job is deleted with it.
            Some(Refusal::NamespaceEnding) => LONGEST_RETRY,
            Some(
                Refusal::NotFound
                | Refusal::AlreadyExists
                | Refusal::Forbidden
                | Refusal::Invalid
                | Refusal::Transient,
            )
            | None => backoff,
        },
    };
    let wait = wait
        .max(pace(failures, calls))
        .max(asked_for(call_of(error)));
    Outcome::BackOff(spread(wait, uid))
}

/// The wait that keeps looks of so many `calls` to [`CALLS_A_MINUTE`]. The first failure may be a moment's: the look after it is
/// soon.
fn pace(failures: u32, calls: u32) -> Duration {
    if failures < 2 || calls < 2 {
        return Duration::ZERO;
    }
    LONGEST_RETRY / (CALLS_A_MINUTE / calls).max(1)
}

/// How long the roots of earlier generations are left alone after a deletion of one failed, for the `failures`-th time in a row
/// (from 1).
pub fn after_old_root(error: &apply::Error, uid: &str, failures: u32) -> Duration {
    let wait = doubled(FIRST_RETRY, failures, LONGEST_RETRY);
    spread(wait.max(asked_for(error.call())), uid)
}

/// The wait that the API server wants, as far as it is believed.
fn asked_for(call: Option<&CallError>) -> Duration {
    let wait = call.and_then(CallError::retry_after).unwrap_or_default();
    wait.min(LONGEST_RETRY_AFTER)
}

/// What to do with a job that is set aside for the `failures`-th time in a row (from 1).
pub fn after_panic(uid: &str, failures: u32) -> Outcome {
    let wait = doubled(FIRST_SET_ASIDE, failures, LONGEST_SET_ASIDE);
    Outcome::BackOff(spread(wait, uid))
}

fn call_of(error: &Error) -> Option<&CallError> {
    match error {
        Error::Decode { .. } | Error::Validate(_) => None,
        Error::Observe(cause) => cause.call(),
        Error::Apply(cause) => apply::Error::call(cause),
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(times.saturating_sub(1)))
        .min(longest)
}

/// A little more than `wait`, by an amount that is the job's own: a wait that the API server asks for is never shortened.
fn spread(wait: Duration, uid: &str) -> Duration {
    /// Steps of the spread.
    const STEPS: u16 = 1_000;
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let step = u16::try_from(hasher.finish() % u64::from(STEPS)).unwrap_or(0);
    wait.mul_f64(1.0 + SPREAD * f64::from(step) / f64::from(STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::tests::answer;
    use crate::controller::observe;

    fn waits(source: fn() -> CallError, calls: u32) -> Vec<Duration> {
        let wait = |failures| {
            let error = Error::Observe(observe::Error::GetJob {
                job: "count".to_owned(),
                source: source(),
            });
            after_failure(&error, "uid", failures, calls)
        };
        [1, 2, 3, 7, 100]
            .map(wait)
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::BackOff(wait) => wait,
                Outcome::Settled | Outcome::LookAgain(_) | Outcome::Gone => Duration::ZERO,
            })
            .collect()
    }

    fn spread_seconds(seconds: [u64; 5]) -> Vec<Duration> {
        seconds
            .map(|seconds| spread(Duration::from_secs(seconds), "uid"))
            .into()
    }

    #[test]
    fn waits_double_up_to_a_minute_and_those_that_the_server_asks_for_are_kept() {
        let busy = || answer(503, "ServiceUnavailable", "");
        assert_eq!(waits(busy, 1), spread_seconds([1, 2, 4, 60, 60]));
        let asks = || {
            let mut status =
                kube::core::Status::failure("slow down", "TooManyRequests").with_code(429);
            status.details =
                serde_json::from_value(serde_json::json!({"retryAfterSeconds": 30})).unwrap();
            CallError::Answer(Box::new(kube::Error::Api(Box::new(status))))
        };
        assert_eq!(waits(asks, 1), spread_seconds([30, 30, 30, 60, 60]));
    }

    #[test]
    fn looks_of_many_calls_that_fail_keep_to_ten_calls_a_minute() {
        let busy = || answer(503, "ServiceUnavailable", "");
        assert_eq!(waits(busy, 2), spread_seconds([1, 12, 12, 60, 60]));
        assert_eq!(waits(busy, 4), spread_seconds([1, 30, 30, 60, 60]));
        assert_eq!(waits(busy, 8), spread_seconds([1, 60, 60, 60, 60]));
    }

    #[test]
    fn jobs_that_fail_together_come_back_at_different_times_and_none_too_early() {
        let wait = Duration::from_mins(1);
        let all: std::collections::BTreeSet<_> = (0..100)
            .map(|job| spread(wait, &format!("uid-{job}")))
            .collect();
        assert!(all.len() > 80, "{}", all.len());
        assert!(
            all.iter()
                .all(|one| (wait..=wait.mul_f64(1.2)).contains(one))
        );
    }
}
