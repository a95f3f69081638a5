//! Makes the header `Retry-After` of a refused call available to callers. An overloaded API server
//! answers with that header and a plain text body, but the client drops headers. This module
//! changes nothing else in an answer, and retries nothing.

use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER};
use axum::http::{Request, Response, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::core::Status;
use kube::core::response::StatusDetails;
use tower::{BoxError, Layer, Service};

/// How many bytes of a refusal are read at most. The body of a refusal is one sentence.
const MAX_REFUSAL: usize = 64 * 1024;

/// Copies the header's seconds into the answer's `Status`, which the client passes on.
#[derive(Clone, Copy, Debug)]
pub struct KeepRetryAfter;

/// Wraps the HTTP client, and copies the wait that a refusal requests into the answer.
#[derive(Clone, Debug)]
pub struct Keeping<S>(S);

impl<S> Layer<S> for KeepRetryAfter {
    type Service = Keeping<S>;

    fn layer(&self, inner: S) -> Keeping<S> {
        Keeping(inner)
    }
}

impl<S, B> Service<Request<kube::client::Body>> for Keeping<S>
where
    S: Service<Request<kube::client::Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let answer = self.0.call(request);
        async move {
            let response = answer.await?.map(Body::new);
            match seconds(&response) {
                Some(seconds) => Ok(with_seconds(response, seconds).await),
                None => Ok(response),
            }
        }
        .boxed()
    }
}

/// Returns the number of seconds that the client must wait, if the answer names it.
fn seconds(response: &Response<Body>) -> Option<u32> {
    let asks = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    asks.contains(&response.status())
        .then(|| {
            response
                .headers()
                .get(RETRY_AFTER)?
                .to_str()
                .ok()?
                .parse()
                .ok()
        })
        .flatten()
}

async fn with_seconds(response: Response<Body>, seconds: u32) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_REFUSAL).await.unwrap_or_default();
    let mut status = serde_json::from_slice::<Status>(&bytes).unwrap_or_else(|_| {
        let words = String::from_utf8_lossy(&bytes);
        Status::failure(words.trim(), "TooManyRequests").with_code(parts.status.as_u16())
    });
    let details = status.details.get_or_insert_with(no_details);
    details.retry_after_seconds = details.retry_after_seconds.max(seconds);
    parts.headers.remove(CONTENT_LENGTH);
    let body = serde_json::to_vec(&status).map_or_else(|_| Body::from(bytes), Body::from);
    Response::from_parts(parts, body)
}

fn no_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::Client;
    use kube::api::Api;
    use zephyr_crds::job::ZephyrJob;

    use super::*;
    use crate::calls::{CallError, bounded};

    /// Returns the error that the client makes from an answer.
    async fn refusal(
        code: u16,
        retry_after: Option<&'static str>,
        body: &'static str,
    ) -> CallError {
        let service = tower::service_fn(move |_: Request<kube::client::Body>| async move {
            let mut response = Response::builder().status(code);
            if let Some(value) = retry_after {
                response = response.header(RETRY_AFTER, value);
            }
            response.body(Body::from(body))
        });
        let client = Client::new(KeepRetryAfter.layer(service), "default");
        let jobs: Api<ZephyrJob> = Api::namespaced(client, "team");
        bounded(jobs.get("count")).await.unwrap_err()
    }

    #[tokio::test]
    async fn the_header_of_a_refusal_in_plain_text_is_kept() {
        let error = refusal(
            429,
            Some("7"),
            "Too many requests, please try again later.\n",
        )
        .await;
        assert_eq!(error.code(), Some(429));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(
            error.message(),
            "Too many requests, please try again later."
        );
    }

    #[tokio::test]
    async fn the_longer_wait_of_header_and_details_counts_and_without_them_there_is_none() {
        let details = r#"{"kind":"Status","code":503,"reason":"ServiceUnavailable","message":"m","details":{"retryAfterSeconds":9}}"#;
        let error = refusal(503, Some("2"), details).await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
        assert_eq!(error.message(), "m");
        for header in [None, Some("Fri, 27 Nov 2026 07:00:00 GMT"), Some("-1")] {
            assert_eq!(refusal(503, header, "no").await.retry_after(), None);
        }
        assert_eq!(refusal(404, Some("9"), "no").await.retry_after(), None);
    }
}
