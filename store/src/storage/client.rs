//! The HTTP client of every store. It corrects answers that `object_store` would misread.
//!
//! An error in an answer with status 200 becomes an error. A successful answer with a key such as
//! `SlowDown.jsonl` stays successful. Codes in a header, or in a redirect without a location, are
//! moved into the body. Uploaded data is sent with its MD5. If an answer has another checksum, or
//! another range than the requested one, it becomes an error. This module repeats nothing, and does
//! not decide what an error means for a job.

use std::pin::Pin;

use bytes::Bytes;
use http::{Method, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use crate::storage::Scheme;
use crate::storage::answer::{Said, is_xml_error};
use crate::storage::checksums::{ReportedSums, Sent};
use crate::storage::error_codes::{Class, class_of, codes};
use crate::storage::ranges::Asked;

/// The header with Azure's error code. Answers without a body have it too.
const AZURE_CODE: &str = "x-ms-error-code";

/// Words that `object_store` treats as an error wherever they occur in a successful answer, even in
/// a key. Each has the text that replaces it, which is the same word with an XML entity.
const TAKEN_FOR_ERRORS: [(&str, &str); 2] = [
    ("InternalError", "InternalErro&#114;"),
    ("SlowDown", "SlowDow&#110;"),
];

/// Makes the clients of one kind of store.
#[derive(Debug)]
pub(super) struct StoreConnector(pub(super) Scheme);

impl HttpConnector for StoreConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(StoreClient {
            inner,
            scheme: self.0,
        }))
    }
}

#[derive(Debug)]
struct StoreClient {
    inner: HttpClient,
    scheme: Scheme,
}

impl HttpService for StoreClient {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let method = request.method().clone();
            let sent = Sent::of(self.scheme, &request);
            let asked = Asked::of(&request);
            let is_listing = is_listing(&request);
            if let Some(md5) = sent.as_ref().and_then(|sent| sent.header(&request))
                && let Ok(md5) = md5.parse()
            {
                request.headers_mut().insert("content-md5", md5);
            }
            let mut response = self.inner.execute(request).await?;
            if response.status().is_success() {
                if let Some(sent) = sent {
                    let checked = sent.check(response.headers());
                    checked.map_err(|wrong| HttpError::new(HttpErrorKind::Interrupted, wrong))?;
                }
                if method == Method::HEAD {
                    let reported = ReportedSums::of(response.headers());
                    response.extensions_mut().insert(reported);
                }
            }
            match asked {
                Some(asked) if response.status().is_success() => asked.cut(response).await,
                None if is_listing && response.status().is_success() => {
                    self.corrected_listing(response).await
                }
                Some(_) | None => self.corrected(&method, response).await,
            }
        })
    }
}

/// Whether a request asks for a page of a listing.
fn is_listing(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = query.split('&');
    *request.method() == Method::GET
        && pairs.any(|pair| pair.starts_with("list-type=") || pair == "comp=list")
}

impl StoreClient {
    async fn corrected(
        &self,
        method: &Method,
        response: HttpResponse,
    ) -> Result<HttpResponse, HttpError> {
        let status = response.status();
        if status.is_success() {
            // Only a POST is answered with 200 before the store knows its result.
            return if *method == Method::POST {
                self.corrected_success(response).await
            } else {
                Ok(response)
            };
        }
        let is_bare_redirect = status.is_redirection()
            && status != StatusCode::NOT_MODIFIED
            && !response.headers().contains_key("location");
        if is_bare_redirect {
            return Self::corrected_redirect(response).await;
        }
        if *method == Method::HEAD {
            return Ok(Self::with_body_of_header(response));
        }
        Ok(response)
    }

    async fn corrected_success(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let text = String::from_utf8_lossy(&body);
        if is_xml_error(&text) {
            parts.status = self.status_of_error(&text);
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        // The answer to a removal of many objects can list both removed objects and errors. These
        // errors are real, so they are not masked.
        let is_to_mask = TAKEN_FOR_ERRORS.iter().any(|(word, _)| text.contains(word))
            && !text.contains("<Error>");
        if !is_to_mask {
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        let masked = TAKEN_FOR_ERRORS
            .iter()
            .fold(text.into_owned(), |text, (word, mask)| {
                text.replace(word, mask)
            });
        Ok(HttpResponse::from_parts(parts, masked.into()))
    }

    /// Corrects the answer to a listing. Some stores and proxies answer a listing with 200 and an
    /// error.
    async fn corrected_listing(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let text = String::from_utf8_lossy(&body);
        if is_xml_error(&text) {
            parts.status = self.status_of_error(&text);
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }

    /// Returns the status that an error in an answer with status 200 should have. An unknown error
    /// counts as a fault of the store.
    fn status_of_error(&self, body: &str) -> StatusCode {
        let code = Said::read(body).code;
        let known = codes(self.scheme)
            .iter()
            .find(|known| Some(known.code) == code.as_deref());
        let class = class_of(self.scheme, code.as_deref(), 500);
        let status = known.map_or(500, |known| known.status);
        // The status is 500 and not the documented one, because the client itself retries a call
        // after a 500.
        let status = if class == Class::Busy { 500 } else { status };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Corrects a redirect without a location. The client would discard its body, which contains
    /// the reason.
    async fn corrected_redirect(response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = response.into_parts();
        let body = body.bytes().await?;
        if is_xml_error(&String::from_utf8_lossy(&body)) {
            parts.status = StatusCode::BAD_REQUEST;
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }

    fn with_body_of_header(response: HttpResponse) -> HttpResponse {
        let (parts, body) = response.into_parts();
        let code = parts.headers.get(AZURE_CODE);
        let body = match code.and_then(|code| code.to_str().ok()) {
            Some(code) if code.chars().all(|c| c.is_ascii_alphanumeric()) => {
                Bytes::from(format!("<Error><Code>{code}</Code></Error>")).into()
            }
            Some(_) | None => body,
        };
        HttpResponse::from_parts(parts, body)
    }
}
