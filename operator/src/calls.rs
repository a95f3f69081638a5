//! Makes one call to the API server, with a timeout, and classifies its errors. Retries nothing.

pub mod retry_after;

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::task_local;
use tokio::time::timeout;

/// How long any single call may take. A reconcile makes a few calls and must end within a minute.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server did not answer in time. Whether it carried out the call is not known.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    /// The API server refused the call, or the connection broke.
    #[error("{}", words(.0))]
    Answer(#[source] Box<kube::Error>),
}

/// The kinds of errors that are handled differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such object.
    NotFound,
    /// An object of this name exists.
    AlreadyExists,
    /// Another writer was faster, or a precondition does not hold.
    Conflict,
    /// Missing rights, quota or admission; `CallError::message` says which.
    Forbidden,
    /// The object breaks a rule of its schema or of admission.
    Invalid,
    /// The namespace is being deleted, and the job with it.
    NamespaceEnding,
    /// Any error that may disappear by itself.
    Transient,
}

task_local! {
    /// How many calls the reconcile in this task has made so far.
    static MADE: Cell<u32>;
}

/// Awaits `look`. Returns its result, and how many calls it made.
pub async fn counted<T>(look: impl Future<Output = T>) -> (T, u32) {
    let look = async {
        let result = look.await;
        (result, MADE.with(Cell::get))
    };
    MADE.scope(Cell::new(0), look).await
}

/// Awaits `call` for at most [`CALL_TIMEOUT`].
pub async fn bounded<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    // Calls outside of a reconcile, such as those of watches, belong to no job and are not counted.
    MADE.try_with(|made| made.set(made.get().saturating_add(1)))
        .unwrap_or_default();
    timeout(CALL_TIMEOUT, call)
        .await
        .map_err(|_| CallError::Timeout)?
        .map_err(|error| CallError::Answer(Box::new(error)))
}

impl CallError {
    /// Returns why the API server refused the call, in the detail that callers need for their
    /// decisions.
    pub fn refusal(&self) -> Refusal {
        let Self::Answer(error) = self else {
            return Refusal::Transient;
        };
        let kube::Error::Api(status) = error.as_ref() else {
            return Refusal::Transient;
        };
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        if causes
            .clone()
            .any(|cause| cause.reason == "NamespaceTerminating")
        {
            return Refusal::NamespaceEnding;
        }
        match (status.code, status.reason.as_str()) {
            // A patch contains the uid of the object. The API server gives this answer if another
            // object has that name now.
            (422, _) if causes.any(|cause| cause.field == "metadata.uid") => Refusal::Conflict,
            (404, _) => Refusal::NotFound,
            (409, "AlreadyExists") => Refusal::AlreadyExists,
            (409, _) => Refusal::Conflict,
            (403, _) => Refusal::Forbidden,
            (400 | 422, _) => Refusal::Invalid,
            _ => Refusal::Transient,
        }
    }

    /// Returns the HTTP code of the answer, if there is one.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// Returns how long the API server asks the client to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    fn status(&self) -> Option<&kube::core::Status> {
        let Self::Answer(error) = self else {
            return None;
        };
        let kube::Error::Api(status) = error.as_ref() else {
            return None;
        };
        Some(status)
    }

    /// Returns the API server's message, or the text of the transport error.
    pub fn message(&self) -> String {
        match self {
            Self::Timeout => self.to_string(),
            Self::Answer(error) => words(error),
        }
    }
}

/// Returns the server's own sentence, without the text that the client adds.
fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    with_causes(error)
}

/// Returns the text of an error and all its causes, because the outermost error only says which
/// call failed.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the error for an answer of the API server.
    pub(crate) fn answer(code: u16, reason: &str, message: &str) -> CallError {
        let status = kube::core::Status {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..kube::core::Status::default()
        };
        CallError::Answer(Box::new(kube::Error::Api(Box::new(status))))
    }

    #[test]
    fn the_two_kinds_of_409_are_distinguished() {
        assert_eq!(
            answer(409, "AlreadyExists", "").refusal(),
            Refusal::AlreadyExists
        );
        assert_eq!(answer(409, "Conflict", "").refusal(), Refusal::Conflict);
        assert_eq!(
            answer(503, "ServiceUnavailable", "").refusal(),
            Refusal::Transient
        );
        assert_eq!(CallError::Timeout.refusal(), Refusal::Transient);
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_not_a_lack_of_rights() {
        let status: kube::core::Status = serde_json::from_value(serde_json::json!({
            "code": 403, "reason": "Forbidden", "message": "unable to create new content",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "", "field": "metadata.namespace"}]},
        }))
        .unwrap();
        let error = CallError::Answer(Box::new(kube::Error::Api(Box::new(status))));
        assert_eq!(error.refusal(), Refusal::NamespaceEnding);
    }

    #[test]
    fn a_patch_of_an_object_that_was_replaced_is_a_conflict() {
        let refused = |field: &str| {
            let why = "Invalid value: \"1-2-3\": field is immutable";
            let status: kube::core::Status = serde_json::from_value(serde_json::json!({
                "code": 422, "reason": "Invalid", "message": format!("StatefulSet.apps \"w\" is invalid: {field}: {why}"),
                "details": {
                    "name": "w", "group": "apps", "kind": "StatefulSet",
                    "causes": [{"reason": "FieldValueInvalid", "message": why, "field": field}],
                },
            }))
            .unwrap();
            CallError::Answer(Box::new(kube::Error::Api(Box::new(status)))).refusal()
        };
        assert_eq!(refused("metadata.uid"), Refusal::Conflict);
        assert_eq!(refused("spec.serviceName"), Refusal::Invalid);
    }
}
