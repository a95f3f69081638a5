//! What can go wrong with storage, as sentences that name the call, the bucket and the key.
//!
//! Says whether an error may pass by itself; whose budget it is charged to is decided elsewhere.

use std::error::Error;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use object_store::client::{HttpError, HttpErrorKind};

use crate::storage::{Location, Scheme};

/// A failed call. Displays as `reading s3://bucket/key: bucket "bucket" does not exist (NoSuchBucket)`.
#[derive(Debug)]
pub struct StorageError {
    /// What was tried: `reading`, `writing`, `listing`.
    pub call: &'static str,
    /// Uri of the object.
    pub object: String,
    /// What came of it.
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The bucket or container does not exist.
    NoSuchBucket(String),
    /// The object does not exist (any more).
    NotFound,
    /// The object is another one than was listed.
    Changed,
    /// There is such an object already.
    AlreadyExists,
    /// The credentials are missing, wrong, expired, or not allowed to do this.
    Denied(String),
    /// No answer in time.
    TimedOut(String),
    /// No connection.
    Unreachable(String),
    /// The store asks for patience, or failed inside: 429, 5xx, `SlowDown`.
    Busy(String),
    /// A local disk is full.
    NoSpace(String),
    /// A local disk cannot be written: read-only.
    ReadOnly(String),
    /// The multipart upload does not exist (any more).
    NoSuchUpload,
    /// The object is not what was written: damaged.
    Damaged(String),
    /// What the configuration says makes no sense to the store.
    Configuration(String),
    /// Anything else, in the store's words.
    Other(String),
}

/// Longest text taken over from a store's answer.
const DETAIL_MAX_CHARS: usize = 300;

impl StorageError {
    /// The error of a call on an object.
    pub fn new(call: &'static str, object: &Location, cause: Cause) -> Self {
        Self {
            call,
            object: object.to_string(),
            cause,
        }
    }

    /// Reads what a store said.
    pub fn from_store(call: &'static str, object: &Location, error: &object_store::Error) -> Self {
        Self::new(call, object, classify(object, error))
    }

    /// Reads what the file system said.
    pub fn from_io(call: &'static str, object: &Location, error: &std::io::Error) -> Self {
        let path = object.local_path().unwrap_or_default();
        let cause = classify_io(&path, error).unwrap_or_else(|| Cause::Other(error.to_string()));
        Self::new(call, object, cause)
    }

    /// Whether the same call may succeed later with nobody doing anything.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::TimedOut(_) | Cause::Unreachable(_) | Cause::Busy(_) | Cause::NoSpace(_) => true,
            Cause::NoSuchBucket(_)
            | Cause::NotFound
            | Cause::Changed
            | Cause::AlreadyExists
            | Cause::Denied(_)
            | Cause::ReadOnly(_)
            | Cause::NoSuchUpload
            | Cause::Damaged(_)
            | Cause::Configuration(_)
            | Cause::Other(_) => false,
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.call, self.object, self.cause)
    }
}

impl Error for StorageError {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket(bucket) => write!(f, "bucket {bucket:?} does not exist (NoSuchBucket)"),
            Self::NotFound => f.write_str("there is no such object (404)"),
            Self::Changed => f.write_str("changed while reading: it is not the object that was listed when the job was planned"),
            Self::AlreadyExists => f.write_str("exists already"),
            Self::Denied(detail) => write!(f, "access denied: {detail}"),
            Self::TimedOut(detail) => write!(f, "no answer in time: {detail}"),
            Self::Unreachable(detail) => write!(f, "no connection to the store: {detail}"),
            Self::Busy(detail) => write!(f, "the store is unavailable: {detail}"),
            Self::NoSpace(mount) => write!(f, "no space on {mount}"),
            Self::ReadOnly(mount) => write!(f, "cannot write on {mount}: it is read-only"),
            Self::NoSuchUpload => f.write_str("the upload does not exist any more (NoSuchUpload)"),
            Self::Damaged(detail) => write!(f, "damaged: {detail}"),
            Self::Configuration(detail) => write!(f, "storage configuration: {detail}"),
            Self::Other(detail) => f.write_str(detail),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are not exhaustive; what is not named is told by its text"
)]
fn classify(object: &Location, error: &object_store::Error) -> Cause {
    // A connection has I/O errors of its own, which mean something else than a disk's.
    if let Some(path) = object.local_path() {
        let on_disk = chain(error).find_map(|e| e.downcast_ref::<std::io::Error>());
        if let Some(cause) = on_disk.and_then(|e| classify_io(&path, e)) {
            return cause;
        }
    }
    let text = chain(error)
        .map(ToString::to_string)
        .max_by_key(String::len)
        .unwrap_or_default();
    // Azure and the store in memory have other words for it; an invalid part was thrown away with its upload.
    if [
        "NoSuchUpload",
        "InvalidBlockList",
        "InvalidPart",
        "MultipartUpload not found",
    ]
    .iter()
    .any(|word| text.contains(word))
    {
        return Cause::NoSuchUpload;
    }
    if text.contains("NoSuchBucket")
        || text.contains("ContainerNotFound")
        || text.contains("The specified bucket does not exist")
    {
        return Cause::NoSuchBucket(object.bucket().to_owned());
    }
    // The address of the metadata service is asked only where no credentials were given.
    if text.contains("169.254.169.254") || text.contains("metadata.google.internal") {
        return Cause::Denied(
            "no credentials were given and this machine has none of its own".to_owned(),
        );
    }
    // Two writers at once: nothing was written, and the same call may succeed.
    if text.contains("OperationAborted") || text.contains("ConditionalRequestConflict") {
        return Cause::Busy(answer("409", &text));
    }
    // What lies deepest says so, and what lies around it is longer.
    if deepest(error).contains("scheme is not allowed") {
        let option = match object.scheme() {
            Scheme::S3 | Scheme::File => "aws_allow_http",
            Scheme::Gs => "google_allow_http",
            Scheme::Az => "azure_allow_http",
        };
        return Cause::Configuration(format!(
            "the endpoint is http://, which is used only with {option}: \"true\""
        ));
    }
    match error {
        object_store::Error::NotFound { .. } => Cause::NotFound,
        object_store::Error::AlreadyExists { .. } => Cause::AlreadyExists,
        object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => {
            Cause::Changed
        }
        object_store::Error::PermissionDenied { .. } => Cause::Denied(answer("403", &text)),
        object_store::Error::Unauthenticated { .. } => Cause::Denied(answer("401", &text)),
        object_store::Error::NotImplemented { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => Cause::Configuration(cut(&text)),
        _ => classify_text(error, &text),
    }
}

fn classify_text(error: &object_store::Error, text: &str) -> Cause {
    const DENIED: [&str; 7] = [
        "ExpiredToken",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "AccessDenied",
        "AuthorizationHeaderMalformed",
    ];
    if let Some(code) = DENIED.iter().find(|code| text.contains(**code)) {
        return Cause::Denied((*code).to_owned());
    }
    if text.contains("redirect without LOCATION") || text.contains("PermanentRedirect") {
        return Cause::Configuration(
            "the bucket lies in another region than the one configured (aws_region)".to_owned(),
        );
    }
    if let Some(status) = text.split("status code: ").nth(1) {
        let transient =
            status.starts_with('5') || status.starts_with("429") || status.starts_with("408");
        let detail = answer(status.split(':').next().unwrap_or_default(), text);
        return if transient {
            Cause::Busy(detail)
        } else if text.contains("performing token request") {
            Cause::Denied(cut(&format!("no token was given: {status}")))
        } else if status.starts_with("401") || status.starts_with("403") {
            Cause::Denied(detail)
        } else {
            Cause::Other(detail)
        };
    }
    if text.contains("SlowDown") || text.contains("InternalError") {
        return Cause::Busy(answer("200", text));
    }
    if let Some(http) = chain(error).find_map(|e| e.downcast_ref::<HttpError>()) {
        let detail = cut(&deepest(http));
        let is_late = http.kind() == HttpErrorKind::Timeout;
        return if is_late {
            Cause::TimedOut(detail)
        } else {
            Cause::Unreachable(detail)
        };
    }
    Cause::Other(cut(text))
}

/// Reads what the file system said about a file; nothing where it says nothing special.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are not exhaustive; the others say nothing special"
)]
fn classify_io(path: &Path, error: &std::io::Error) -> Option<Cause> {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Some(Cause::NoSpace(mount_of(path)))
        }
        std::io::ErrorKind::ReadOnlyFilesystem => Some(Cause::ReadOnly(mount_of(path))),
        std::io::ErrorKind::NotFound => Some(Cause::NotFound),
        std::io::ErrorKind::AlreadyExists => Some(Cause::AlreadyExists),
        std::io::ErrorKind::PermissionDenied => Some(Cause::Denied(error.to_string())),
        _ => None,
    }
}

/// Where the file system of a path is mounted: what is full is that, not the path.
fn mount_of(path: &Path) -> String {
    let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
    let mut there = path.ancestors().filter(|path| device(path).is_some());
    let nearest = there.next().unwrap_or(path);
    let mount = nearest
        .ancestors()
        .take_while(|above| device(above) == device(nearest))
        .last();
    mount.unwrap_or(nearest).display().to_string()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

fn deepest(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The status with the code that S3's XML or the like gives: `403 AccessDenied`.
fn answer(status: &str, text: &str) -> String {
    let between =
        |open: &str, close: &str| Some(text.split_once(open)?.1.split_once(close)?.0.to_owned());
    let status = status.trim();
    match (
        between("<Code>", "</Code>"),
        between("<Message>", "</Message>"),
    ) {
        (Some(code), Some(message)) => cut(&format!("{status} {code}: {message}")),
        (Some(code), None) => cut(&format!("{status} {code}")),
        (None, _) => status.to_owned(),
    }
}

fn cut(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(DETAIL_MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: &object_store::Error) -> StorageError {
        StorageError::from_store("reading", &Location::parse("s3://b/k").unwrap(), error)
    }

    fn said(text: &str) -> Box<dyn Error + Send + Sync> {
        text.to_owned().into()
    }

    #[test]
    fn an_error_names_call_bucket_and_key() {
        let body = "Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>";
        let error = of(&object_store::Error::NotFound {
            path: "k".to_owned(),
            source: said(body),
        });
        assert_eq!(
            error.to_string(),
            "reading s3://b/k: bucket \"b\" does not exist (NoSuchBucket)"
        );
        assert!(!error.is_transient());

        let body = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code><Message>No.</Message></Error>";
        let error = of(&object_store::Error::PermissionDenied {
            path: "k".to_owned(),
            source: said(body),
        });
        assert_eq!(
            error.to_string(),
            "reading s3://b/k: access denied: 403 AccessDenied: No."
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn a_store_that_is_busy_may_recover_and_a_wrong_key_may_not() {
        let generic = |text: &str| {
            of(&object_store::Error::Generic {
                store: "S3",
                source: said(text),
            })
        };
        for text in [
            "status code: 503 Service Unavailable: <Code>SlowDown</Code>",
            "status code: 429 Too Many Requests: ",
            "Server returned error response: InternalError",
        ] {
            assert!(generic(text).is_transient(), "{text}");
        }
        for text in [
            "status code: 400 Bad Request: <Code>ExpiredToken</Code>",
            "Received redirect without LOCATION",
            "what",
        ] {
            assert!(!generic(text).is_transient(), "{text}");
        }
    }

    #[test]
    fn a_full_and_a_read_only_disk_are_named_by_their_mount() {
        let location = Location::parse("file:///proc/self/no/x").unwrap();
        for (kind, said, passes) in [
            (std::io::ErrorKind::StorageFull, "no space on /proc", true),
            (std::io::ErrorKind::QuotaExceeded, "no space on /proc", true),
            (
                std::io::ErrorKind::ReadOnlyFilesystem,
                "cannot write on /proc: it is read-only",
                false,
            ),
        ] {
            let error = StorageError::from_io("writing", &location, &kind.into());
            let expected = format!("writing file:///proc/self/no/x: {said}");
            assert_eq!(
                (error.to_string(), error.is_transient()),
                (expected, passes)
            );
        }
    }

    /// What S3 answers, in the words of its client.
    fn answer(status: &str, code: &str) -> String {
        let body = format!("<Error><Code>{code}</Code><Message>M.</Message></Error>");
        format!("Server returned non-2xx status code: {status}: {body}")
    }

    fn told(text: &str, is_403: bool) -> (String, bool) {
        let source = said(text);
        let path = "k".to_owned();
        let error = of(&if is_403 {
            object_store::Error::PermissionDenied { path, source }
        } else {
            object_store::Error::Generic {
                store: "S3",
                source,
            }
        });
        let text = error.to_string();
        let rest = text.strip_prefix("reading s3://b/k: ").unwrap();
        (rest.to_owned(), error.is_transient())
    }

    #[test]
    fn what_will_not_pass_by_itself_is_told_with_call_and_bucket_and_tried_no_further() {
        const REGION: &str = "storage configuration: the bucket lies in another region than the one configured (aws_region)";
        for code in [
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "RequestTimeTooSkewed",
        ] {
            let expected = format!("access denied: 403 {code}: M.");
            assert_eq!(
                told(&answer("403 Forbidden", code), true),
                (expected, false)
            );
        }
        for (text, expected) in [
            (answer("400 Bad Request", "ExpiredToken"), "access denied: ExpiredToken"),
            (answer("400 Bad Request", "InvalidToken"), "access denied: InvalidToken"),
            (answer("400 Bad Request", "AuthorizationHeaderMalformed"), "access denied: AuthorizationHeaderMalformed"),
            (answer("301 Moved Permanently", "PermanentRedirect"), REGION),
            ("Received redirect without LOCATION, this normally indicates an incorrectly configured region".to_owned(), REGION),
            ("error sending request for url (http://169.254.169.254/latest/api/token)".to_owned(), "access denied: no credentials were given and this machine has none of its own"),
            (answer("405 Method Not Allowed", "MethodNotAllowed"), "405 Method Not Allowed MethodNotAllowed: M."),
        ] {
            assert_eq!(told(&text, false), (expected.to_owned(), false));
        }
    }

    #[test]
    fn what_is_wrong_at_azure_is_told_in_its_words_and_with_its_options() {
        let location = Location::parse("az://c/k").unwrap();
        for (said_by_azure, expected) in [
            (
                "Error performing token request: Error performing POST https://login.microsoftonline.com/t/oauth2/v2.0/token in 1s - Server returned non-2xx status code: 401 Unauthorized: {\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret provided.\"}",
                "access denied: no token was given: 401 Unauthorized: {\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret provided.\"}",
            ),
            (
                "Error performing list request: Server returned non-2xx status code: 403 Forbidden: <Error><Code>AuthenticationFailed</Code><Message>M.</Message></Error>",
                "access denied: 403 Forbidden AuthenticationFailed: M.",
            ),
            (
                "builder error for url (http://azurite:10000/c): URL scheme is not allowed",
                "storage configuration: the endpoint is http://, which is used only with azure_allow_http: \"true\"",
            ),
        ] {
            let error = object_store::Error::Generic {
                store: "MicrosoftAzure",
                source: said(said_by_azure),
            };
            let error = StorageError::from_store("reading", &location, &error);
            assert_eq!(
                (error.to_string(), error.is_transient()),
                (format!("reading az://c/k: {expected}"), false)
            );
        }
        let busy = "Error performing token request: Server returned non-2xx status code: 503 Service Unavailable: ";
        let busy = object_store::Error::Generic {
            store: "MicrosoftAzure",
            source: said(busy),
        };
        assert!(StorageError::from_store("reading", &location, &busy).is_transient());
    }

    #[test]
    fn what_a_store_asks_patience_for_may_pass_by_itself() {
        for (status, code) in [
            ("503 Service Unavailable", "SlowDown"),
            ("500 Internal Server Error", "InternalError"),
            ("429 Too Many Requests", "TooManyRequests"),
            ("408 Request Timeout", "RequestTimeout"),
            ("507 Insufficient Storage", "XMinioStorageFull"),
        ] {
            let expected = format!("the store is unavailable: {status} {code}: M.");
            assert_eq!(told(&answer(status, code), false), (expected, true));
        }
        let conflict = answer("409 Conflict", "OperationAborted");
        let expected = "the store is unavailable: 409 OperationAborted: M.";
        assert_eq!(told(&conflict, false), (expected.to_owned(), true));
    }
}
