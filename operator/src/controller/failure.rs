//! Decides how long a job waits after a failed reconcile. The wait depends on the cause of the
//! failure.
//!
//! Pure. The queue does not shorten the wait if something changes in the meantime.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use zephyr_crds::conditions::Reason;

use super::status::WriteProblem;
use super::{Error, apply};
use crate::calls::{CallError, Refusal};
use crate::defect::{self, Defect};
use crate::queue::Outcome;

/// The wait after the first failed call. Each further failure doubles it, up to `LONGEST_RETRY`.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// After how many failures in a row a failure that may be temporary counts as lasting. This is
/// after about seven seconds.
const LASTS_FROM: u32 = 4;
/// How many calls one job may make per minute after a failed call. If a reconcile makes several
/// calls, the doubled waits are not enough for this.
const CALLS_A_MINUTE: u32 = 10;
/// How long a job waits after another writer was faster. The watch delivers the other writer's
/// version within a moment.
const CONFLICT_RETRY: Duration = Duration::from_millis(500);
/// The longest wait that the API server may request. A longer wait is shortened to this one,
/// because one reconcile in this time costs the API server almost nothing.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
/// The wait after an internal error of the operator first stopped the processing of a job. Each
/// further internal error doubles it, up to `LONGEST_SET_ASIDE`.
const FIRST_SET_ASIDE: Duration = Duration::from_mins(1);
const LONGEST_SET_ASIDE: Duration = Duration::from_mins(15);
/// The largest part of a wait by which the wait is lengthened. The actual part depends on the job,
/// so that jobs that fail together do not retry together.
const SPREAD: f64 = 0.2;

/// Returns what to do after a failed reconcile of the job with this uid. `failures` is the number
/// of consecutive failures including this one, and `calls` is the number of calls that the
/// reconcile made.
pub fn after_failure(error: &Error, uid: &str, failures: u32, calls: u32) -> Outcome {
    let backoff = doubled(FIRST_RETRY, failures, LONGEST_RETRY);
    let wait = match error {
        // Nothing improves until somebody changes the object.
        Error::Decode { .. } | Error::Validate(_) => return Outcome::Settled,
        Error::Observe(_) => backoff,
        Error::Apply(cause) => match cause.call().map(CallError::refusal) {
            Some(Refusal::Conflict) if defect::is(Defect::ConflictIsFatal) => {
                return Outcome::Settled;
            }
            Some(Refusal::Conflict) => (backoff / 2).max(CONFLICT_RETRY),
            // The job is deleted together with its namespace.
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

/// Returns whether the failure is that another writer was first.
pub fn is_conflict(error: &Error) -> bool {
    call_of(error).is_some_and(|call| call.refusal() == Refusal::Conflict)
}

/// Returns a sentence about a failed reconcile, if it could not read the job's objects or could not
/// write the job's status. `failures` is the number of consecutive failures. Returns `None` if
/// status already reports the failure, or if the failure may be temporary.
pub fn sentence(error: &Error, failures: u32) -> Option<WriteProblem> {
    let call = call_of(error)?;
    let reason = match call.refusal() {
        Refusal::Forbidden => Reason::Forbidden,
        Refusal::Invalid => Reason::Blocked,
        Refusal::Transient if failures >= LASTS_FROM => Reason::Blocked,
        Refusal::Transient
        | Refusal::NotFound
        | Refusal::AlreadyExists
        | Refusal::Conflict
        | Refusal::NamespaceEnding => return None,
    };
    let message = match error {
        Error::Observe(cause) => format!(
            "the operator cannot read the objects of the job, which continues unchanged: {cause}; the operator tries again"
        ),
        Error::Apply(cause @ apply::Error::WriteStatus { .. }) => {
            format!(
                "status is out of date, because the operator cannot write it: {cause}; the operator tries again"
            )
        }
        Error::Apply(_) | Error::Decode { .. } | Error::Validate(_) => return None,
    };
    Some(WriteProblem { reason, message })
}

/// Returns how long to wait so that reconciles with `calls` calls each do not exceed
/// [`CALLS_A_MINUTE`]. The first failure may be temporary, so the wait after it is short.
fn pace(failures: u32, calls: u32) -> Duration {
    if failures < 2 || calls < 2 {
        return Duration::ZERO;
    }
    LONGEST_RETRY / (CALLS_A_MINUTE / calls).max(1)
}

/// Returns how long deletions of earlier generations' roots pause after one of them failed.
/// `failures` is the number of consecutive failures including this one.
pub fn after_old_root(error: &apply::Error, uid: &str, failures: u32) -> Duration {
    let wait = doubled(FIRST_RETRY, failures, LONGEST_RETRY);
    spread(wait.max(asked_for(error.call())), uid)
}

/// Returns the wait that the API server requests, up to the limit.
fn asked_for(call: Option<&CallError>) -> Duration {
    let wait = call.and_then(CallError::retry_after).unwrap_or_default();
    wait.min(LONGEST_RETRY_AFTER)
}

/// Returns what to do after an internal error of the operator stopped the processing of a job.
/// `failures` is the number of consecutive failures including this one.
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

/// Returns slightly more than `wait`. The added time depends on the job. A wait that the API server
/// requests is never shortened.
fn spread(wait: Duration, uid: &str) -> Duration {
    /// How many different added times there are.
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
    fn a_refused_call_is_reported_at_once_and_a_temporary_error_only_if_it_lasts() {
        let look = |source| {
            Error::Observe(observe::Error::GetJob {
                job: "count".to_owned(),
                source,
            })
        };
        let status = |source| {
            Error::Apply(apply::Error::WriteStatus {
                namespace: "team".to_owned(),
                name: "count".to_owned(),
                source,
            })
        };
        let expected = |error: &Error, failures| sentence(error, failures).map(|said| said.message);
        let forbidden = || answer(403, "Forbidden", "pods is forbidden");
        assert_eq!(
            expected(&look(forbidden()), 1).as_deref(),
            Some(
                "the operator cannot read the objects of the job, which continues unchanged: get job count: pods is forbidden; the operator tries again"
            )
        );
        assert_eq!(
            expected(&status(answer(422, "Invalid", "denied by w")), 1).as_deref(),
            Some(
                "status is out of date, because the operator cannot write it: write status of ZephyrJob team/count: denied by \
                 w; the operator tries again"
            )
        );
        for error in [look, status] {
            let busy = error(answer(503, "ServiceUnavailable", ""));
            assert_eq!(expected(&busy, LASTS_FROM - 1), None);
            assert!(expected(&busy, LASTS_FROM).is_some());
            assert_eq!(expected(&error(answer(409, "Conflict", "")), 100), None);
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_waits_that_the_server_requests_are_kept() {
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
    fn failing_reconciles_with_many_calls_stay_below_ten_calls_a_minute() {
        let busy = || answer(503, "ServiceUnavailable", "");
        assert_eq!(waits(busy, 2), spread_seconds([1, 12, 12, 60, 60]));
        assert_eq!(waits(busy, 4), spread_seconds([1, 30, 30, 60, 60]));
        assert_eq!(waits(busy, 8), spread_seconds([1, 60, 60, 60, 60]));
    }

    #[test]
    fn jobs_that_fail_together_retry_at_different_times_and_none_too_early() {
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
