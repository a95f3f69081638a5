//! Errors of storage. Each error is a sentence that names the call, the bucket and the key.
//!
//! This module decides whether an error may disappear by itself. Other modules decide to which
//! limit an error is charged.

use std::error::Error;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};
use rustix::io::Errno;
use zephyr_crds::names;

use crate::storage::answer::{Answer, chain, host_of};
use crate::storage::checksums::WrongChecksum;
use crate::storage::error_codes::{Class, class_of};
use crate::storage::ranges::WrongRange;
use crate::storage::{Location, Need, Scheme, obstacle};

/// A failed call. Displays as
/// `reading s3://bucket/key: bucket "bucket" does not exist (NoSuchBucket)`.
#[derive(Debug)]
pub struct StorageError {
    /// The call that was tried, such as `reading`, `writing` or `listing`.
    pub call: &'static str,
    /// The uri of the object.
    pub object: String,
    /// The cause.
    pub cause: Cause,
}

/// Whether a call changes the store. A store may be unavailable for one kind of call only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// The call does not change the store.
    Read,
    /// The call changes the store.
    Write,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The bucket or container does not exist.
    NoSuchBucket(String),
    /// The object does not exist, or no longer exists.
    NotFound,
    /// The object is not the one that was listed.
    Changed,
    /// The object exists already.
    AlreadyExists,
    /// The credentials are missing, wrong, expired, or not allowed to do this.
    Denied(String),
    /// There was no answer in time.
    TimedOut(String),
    /// There was no connection.
    Unreachable(String),
    /// The store asks to wait, or failed internally: 429, 5xx, `SlowDown`.
    Busy(String),
    /// A local disk is full.
    NoSpace(String),
    /// A local disk is read-only.
    ReadOnly(String),
    /// On a local disk, something other than a file is under the name that is read or written, such
    /// as a folder or a dead link.
    Misplaced(String),
    /// The multipart upload does not exist, or no longer exists.
    NoSuchUpload,
    /// The object differs from what was written, so it is damaged.
    Damaged(String),
    /// The configuration is wrong for the store.
    Configuration(String),
    /// Any other error, in the store's words.
    Other(String),
}

/// The names of calls that change nothing. Every other call counts as a write.
const READING_CALLS: [&str; 7] = [
    "reading",
    "looking for",
    "looking into",
    "listing",
    "listing uploads of",
    "asking for",
    "opening",
];

/// The names of calls on a single object. On a local disk it is a file. All other calls are on
/// folders, or on either.
const FILE_CALLS: [&str; 6] = [
    "reading",
    "writing",
    "completing",
    "completing the upload of",
    "renaming",
    "deleting",
];

/// Returns what a call needs under its name. `None` if the call only asks whether there is a file,
/// because then anything else means that there is none.
fn need_of(call: &str) -> Option<Need> {
    if call == "looking for" {
        None
    } else if FILE_CALLS.contains(&call) {
        Some(Need::File)
    } else {
        Some(Need::Folder)
    }
}

/// How many characters are copied from a store's answer at most.
const MAX_DETAIL_CHARS: usize = 300;

impl StorageError {
    /// Makes the error of a call on an object.
    pub fn new(call: &'static str, object: &Location, cause: Cause) -> Self {
        Self {
            call,
            object: object.to_string(),
            cause,
        }
    }

    /// Makes the error from an error of a store.
    pub fn from_store(call: &'static str, object: &Location, error: &object_store::Error) -> Self {
        Self::new(call, object, classify(call, object, error))
    }

    /// Makes the error from an error of the file system.
    pub fn from_io(call: &'static str, object: &Location, error: &std::io::Error) -> Self {
        Self::of_io(call, object, need_of(call), error)
    }

    /// Makes the error from an error of the file system about something in a folder.
    pub fn from_io_in(call: &'static str, folder: &Location, error: &std::io::Error) -> Self {
        Self::of_io(call, folder, Some(Need::Folder), error)
    }

    fn of_io(
        call: &'static str,
        object: &Location,
        need: Option<Need>,
        error: &std::io::Error,
    ) -> Self {
        let path = object.local_path().unwrap_or_default();
        let cause = classify_io(&path, need, error);
        Self::new(
            call,
            object,
            cause.unwrap_or_else(|| Cause::Other(error.to_string())),
        )
    }

    /// Whether the call changes the store.
    pub fn kind(&self) -> CallKind {
        if READING_CALLS.contains(&self.call) {
            CallKind::Read
        } else {
            CallKind::Write
        }
    }

    /// Whether a local disk is full. Waiting does not help if the waiting process itself fills the
    /// disk.
    pub fn is_full_disk(&self) -> bool {
        matches!(self.cause, Cause::NoSpace(_))
    }

    /// Whether something other than a file is under the name on a local disk. Only a person can
    /// repair that.
    pub fn is_misplaced(&self) -> bool {
        matches!(self.cause, Cause::Misplaced(_))
    }

    /// Adds the number of bytes that one task had to write to the error of a full disk.
    #[must_use]
    pub(crate) fn after_writing(mut self, bytes: u64) -> Self {
        if let Cause::NoSpace(disk) = &mut self.cause {
            let written = format!("; the task had at least {} to write", size_text(bytes));
            disk.push_str(&written);
        }
        self
    }

    /// Adds to the error that the call was given up after this number of failures in this time.
    #[must_use]
    pub(crate) fn after(mut self, failures: u32, since: Duration) -> Self {
        if failures > 1
            && let Cause::TimedOut(detail) | Cause::Unreachable(detail) | Cause::Busy(detail) =
                &mut self.cause
        {
            let seconds = since.as_secs();
            let tried = format!("; it was tried {failures} times in {seconds} s without success");
            detail.push_str(&tried);
        }
        self
    }

    /// Whether the same call may succeed later without any action by a person.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::TimedOut(_) | Cause::Unreachable(_) | Cause::Busy(_) | Cause::NoSpace(_) => true,
            Cause::NoSuchBucket(_)
            | Cause::NotFound
            | Cause::Changed
            | Cause::AlreadyExists
            | Cause::Denied(_)
            | Cause::ReadOnly(_)
            | Cause::Misplaced(_)
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
            Self::Misplaced(detail) => write!(f, "{detail}; remove or rename that, or give another path"),
            Self::NoSuchUpload => f.write_str("the upload does not exist any more (NoSuchUpload)"),
            Self::Damaged(detail) => write!(f, "damaged: {detail}"),
            Self::Configuration(detail) => write!(f, "storage configuration: {detail}"),
            Self::Other(detail) => f.write_str(detail),
        }
    }
}

/// The client's message for a redirect without a location.
const BARE_REDIRECT: &str = "Received redirect without LOCATION";

/// The client's message for an endpoint that is not `https://`.
const HTTP_IS_NOT_ALLOWED: &str = "URL scheme is not allowed";

/// The beginning of the message of the store in memory for a missing upload.
const NO_UPLOAD_IN_MEMORY: &str = "MultipartUpload not found";

/// The beginning of the client's message if it got no token.
const NO_TOKEN: &str = "Error performing token request";

/// The hosts of the machine's own services that the client asks for credentials if none were given.
const CREDENTIAL_HOSTS: [&str; 4] = [
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
    "metadata",
];

const OTHER_REGION: &str = "the bucket is in another region than the configured one (aws_region)";

/// Finds the cause of an error from its status, code and kind. It compares a message only as a
/// whole, or the beginning that the client itself writes, because the rest may contain names that
/// users chose.
fn classify(call: &str, object: &Location, error: &object_store::Error) -> Cause {
    // An I/O error of a connection has another meaning than the same error of a disk.
    if let Some(path) = object.local_path() {
        let on_disk = chain(error).find_map(|e| e.downcast_ref::<std::io::Error>());
        if let Some(cause) = on_disk.and_then(|e| classify_io(&path, need_of(call), e)) {
            return cause;
        }
    }
    if let Some(wrong) = chain(error).find_map(|e| e.downcast_ref::<WrongChecksum>()) {
        return Cause::Damaged(cut(&wrong.to_string()));
    }
    if let Some(wrong) = WrongRange::of(error) {
        return Cause::Other(cut(&wrong.to_string()));
    }
    let answer = Answer::of(error);
    let is_busy = |answer: &Answer| matches!(answer.status, 429 | 500..);
    let asked_for_credentials =
        host_of(error).is_some_and(|host| CREDENTIAL_HOSTS.contains(&host.as_str()));
    if asked_for_credentials && !answer.as_ref().is_some_and(is_busy) {
        let secret = std::env::var(names::CREDENTIALS_SECRET_VARIABLE).ok();
        return Cause::Denied(no_credentials(object.scheme(), secret.as_deref()));
    }
    match answer {
        Some(answer) if !is_busy(&answer) && begins(error, NO_TOKEN) => {
            Cause::Denied(cut(&format!(
                "no token was given: {}: {}",
                answer.status_text, answer.body
            )))
        }
        Some(answer) => classify_answer(object, error, &answer),
        None => classify_rest(object, error),
    }
}

/// Returns the message if neither the environment nor the machine has credentials. `secret` is the
/// Secret that the job names.
fn no_credentials(scheme: Scheme, secret: Option<&str>) -> String {
    let keys = match scheme {
        Scheme::Gs => "GOOGLE_SERVICE_ACCOUNT_KEY",
        Scheme::Az => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        Scheme::S3 | Scheme::File => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    };
    match secret.filter(|name| !name.is_empty()) {
        Some(secret) => format!(
            "Secret {secret} in spec.storage.credentialsSecret has no credentials for this store, and this machine has none of its own; give it keys such as {keys}"
        ),
        None => format!(
            "no credentials were given and this machine has none of its own; set {keys} in the environment, or for a job on a cluster in the Secret that spec.storage.credentialsSecret names (a command on this machine reads no Secret)"
        ),
    }
}

fn classify_answer(object: &Location, error: &object_store::Error, answer: &Answer) -> Cause {
    let detail = cut(&answer.to_string());
    match class_of(object.scheme(), answer.code.as_deref(), answer.status) {
        Class::Busy => Cause::Busy(detail),
        Class::Denied => Cause::Denied(detail),
        Class::NotFound => Cause::NotFound,
        Class::NoSuchBucket => Cause::NoSuchBucket(object.bucket().to_owned()),
        Class::NoSuchUpload => Cause::NoSuchUpload,
        Class::Changed => Cause::Changed,
        Class::AlreadyExists => Cause::AlreadyExists,
        Class::ByCall => by_call(error).unwrap_or(Cause::Other(detail)),
        Class::Configuration if answer.code.as_deref() == Some("PermanentRedirect") => {
            Cause::Configuration(OTHER_REGION.to_owned())
        }
        Class::Configuration => Cause::Configuration(detail),
        Class::Permanent => Cause::Other(detail),
    }
}

/// Returns the cause if a condition of the call failed. The client knows which condition it was.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are not exhaustive"
)]
fn by_call(error: &object_store::Error) -> Option<Cause> {
    match error {
        object_store::Error::NotFound { .. } => Some(Cause::NotFound),
        object_store::Error::AlreadyExists { .. } => Some(Cause::AlreadyExists),
        object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => {
            Some(Cause::Changed)
        }
        _ => None,
    }
}

/// Returns the cause of an error that is not an answer of a store. Such errors come from the client
/// itself, from a connection, or from the store in memory.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are not exhaustive; others are reported in its words"
)]
fn classify_rest(object: &Location, error: &object_store::Error) -> Cause {
    let deepest = deepest(error);
    if deepest.starts_with(NO_UPLOAD_IN_MEMORY) {
        return Cause::NoSuchUpload;
    }
    if deepest.starts_with(BARE_REDIRECT) {
        return Cause::Configuration(OTHER_REGION.to_owned());
    }
    if deepest == HTTP_IS_NOT_ALLOWED {
        let option = match object.scheme() {
            Scheme::S3 | Scheme::File => "aws_allow_http",
            Scheme::Gs => "google_allow_http",
            Scheme::Az => "azure_allow_http",
        };
        return Cause::Configuration(format!(
            "the endpoint is http://, which is used only with {option}: \"true\""
        ));
    }
    if let Some(cause) = by_call(error) {
        return cause;
    }
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => Cause::Denied(cut(&deepest)),
        object_store::Error::NotImplemented { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => {
            Cause::Configuration(cut(&error.to_string()))
        }
        _ => match chain(error).find_map(|e| e.downcast_ref::<HttpError>()) {
            Some(http) if http.kind() == HttpErrorKind::Timeout => Cause::TimedOut(cut(&deepest)),
            Some(_) => Cause::Unreachable(cut(&deepest)),
            None => Cause::Other(cut(&own_words(error))),
        },
    }
}

/// Returns the message of an error without the words that the client puts before it
/// (`Generic S3 error: `).
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are not exhaustive; the others have words of their own"
)]
pub(super) fn own_words(error: &object_store::Error) -> String {
    match error {
        object_store::Error::Generic { source, .. } => match source.downcast_ref() {
            Some(inner) => own_words(inner),
            None => source.to_string(),
        },
        other => other.to_string(),
    }
}

/// Whether the message of an error in the chain begins with this text.
fn begins(error: &object_store::Error, with: &str) -> bool {
    chain(error).any(|error| error.to_string().starts_with(with))
}

/// Returns the cause of an error of the file system about a file. `None` if the error has no
/// special meaning.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are not exhaustive; the others say nothing special"
)]
fn classify_io(path: &Path, need: Option<Need>, error: &std::io::Error) -> Option<Cause> {
    if let Some(cause) = need.and_then(|need| misplaced(path, need, error)) {
        return Some(cause);
    }
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Some(Cause::NoSpace(mount_of(path) + &room_on(path)))
        }
        std::io::ErrorKind::ReadOnlyFilesystem => Some(Cause::ReadOnly(mount_of(path))),
        std::io::ErrorKind::NotFound => Some(Cause::NotFound),
        std::io::ErrorKind::AlreadyExists => Some(Cause::AlreadyExists),
        std::io::ErrorKind::PermissionDenied => Some(Cause::Denied(error.to_string())),
        _ => None,
    }
}

/// Returns the cause if the error is caused by something under the name or on the path to it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are not exhaustive; the others say nothing of names"
)]
fn misplaced(path: &Path, need: Need, error: &std::io::Error) -> Option<Cause> {
    let is_loop = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
    let in_the_way = || obstacle(path, need);
    let detail = match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::AlreadyExists => in_the_way()?,
        std::io::ErrorKind::IsADirectory
        | std::io::ErrorKind::NotADirectory
        | std::io::ErrorKind::DirectoryNotEmpty
        | std::io::ErrorKind::InvalidFilename => {
            in_the_way().unwrap_or_else(|| format!("{}: {error}", path.display()))
        }
        _ if is_loop => in_the_way().unwrap_or_else(|| format!("{}: {error}", path.display())),
        _ => return None,
    };
    Some(Cause::Misplaced(detail))
}

/// Returns the size of the file system of a path, and its free space. Empty if they are not known.
fn room_on(path: &Path) -> String {
    let there = path.ancestors().find(|path| path.exists());
    let Some(Ok(disk)) = there.map(rustix::fs::statvfs) else {
        return String::new();
    };
    if disk.f_blocks == 0 {
        return String::new();
    }
    let (all, free) = (
        disk.f_blocks.saturating_mul(disk.f_frsize),
        disk.f_bavail.saturating_mul(disk.f_frsize),
    );
    format!(" ({} in all, {} free)", size_text(all), size_text(free))
}

/// Returns a size as text, such as `1.5 MiB`.
fn size_text(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes >> bits > 0);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(bits, name)| {
            let tenths = (u128::from(bytes) * 10) >> bits;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

/// Returns where the file system of a path is mounted. An error names this place, because the file
/// system is full and not the path.
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

fn deepest(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL_CHARS)
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

    /// An error with another one as its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}{1}")]
    struct Behind(&'static str, #[source] Box<dyn Error + Send + Sync>);

    fn behind(text: &'static str, behind: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "test",
            source: Box::new(Behind(text, said(behind))),
        }
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

    #[test]
    fn errors_that_are_not_an_answer_of_the_store_are_reported_too() {
        const REGION: &str = "storage configuration: the bucket is in another region than the configured one (aws_region)";
        const NONE: &str = "access denied: no credentials were given and this machine has none of its own; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or for a job on a cluster in the Secret that spec.storage.credentialsSecret names (a command on this machine reads no Secret)";
        for (error, expected) in [
            (
                behind(
                    "Error performing GET http://x/b/k in 1s - ",
                    "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
                ),
                REGION,
            ),
            (
                behind(
                    "Error performing PUT http://169.254.169.254/latest/api/token in 1s - ",
                    "HTTP error",
                ),
                NONE,
            ),
            (
                behind(
                    "Error performing GET http://metadata.google.internal:80/x in 1s - ",
                    "Server returned non-2xx status code: 404 Not Found: ",
                ),
                NONE,
            ),
            (
                behind(
                    "Error performing GET http://x/b/169.254.169.254 in 1s - ",
                    "no",
                ),
                "Error performing GET http://x/b/169.254.169.254 in 1s - no",
            ),
            (
                behind(
                    "DeleteObjects request failed for key SlowDown (code: InternalError): ",
                    "no",
                ),
                "DeleteObjects request failed for key SlowDown (code: InternalError): no",
            ),
            (
                behind(
                    "",
                    "DeleteObjects request failed for key SlowDown: No. (code: AccessDenied)",
                ),
                "access denied: 200 AccessDenied",
            ),
        ] {
            let error = of(&error);
            assert_eq!(error.to_string(), format!("reading s3://b/k: {expected}"));
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn missing_credentials_name_the_secret_that_should_have_them() {
        for (scheme, keys) in [
            (Scheme::S3, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            (Scheme::Gs, "GOOGLE_SERVICE_ACCOUNT_KEY"),
            (
                Scheme::Az,
                "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            ),
        ] {
            let expected = format!(
                "Secret s3-credentials in spec.storage.credentialsSecret has no credentials for this store, and this machine has none of its own; give it keys such as {keys}"
            );
            assert_eq!(no_credentials(scheme, Some("s3-credentials")), expected);
            let without = no_credentials(scheme, Some(""));
            assert_eq!(without, no_credentials(scheme, None));
            let begins = "no credentials were given and this machine has none of its own; set ";
            assert!(
                without.starts_with(&format!("{begins}{keys} in the environment")),
                "{without}"
            );
        }
    }

    #[test]
    fn errors_of_azure_are_reported_in_its_words_and_with_its_options() {
        const TOKEN: &str = "Error performing token request: ";
        let location = Location::parse("az://c/k").unwrap();
        for (error, expected) in [
            (
                behind(
                    TOKEN,
                    "Server returned non-2xx status code: 401 Unauthorized: {\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret provided.\"}",
                ),
                "access denied: no token was given: 401 Unauthorized: {\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret provided.\"}",
            ),
            (
                behind(
                    "Error performing list request: ",
                    "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AuthenticationFailed</Code><Message>M.</Message></Error>",
                ),
                "access denied: 403 AuthenticationFailed: M.",
            ),
            (
                behind(
                    "builder error for url (http://azurite:10000/c): ",
                    "URL scheme is not allowed",
                ),
                "storage configuration: the endpoint is http://, which is used only with azure_allow_http: \"true\"",
            ),
        ] {
            let error = StorageError::from_store("reading", &location, &error);
            assert_eq!(
                (error.to_string(), error.is_transient()),
                (format!("reading az://c/k: {expected}"), false)
            );
        }
        let busy = behind(
            TOKEN,
            "Server returned non-2xx status code: 503 Service Unavailable: ",
        );
        assert!(StorageError::from_store("reading", &location, &busy).is_transient());
    }
}

#[cfg(test)]
#[path = "error_answers.rs"]
mod answers;
