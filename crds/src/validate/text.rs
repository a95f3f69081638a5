//! Names and other short texts: names of objects, labels, environment variables, images,
//! expressions.

use crate::field_error::FieldError;
use crate::life::RestoreFrom;
use crate::names::{MAX_MANAGER, RESERVED_PREFIX};
use crate::pipeline::MAX_EXPRESSION;
use crate::pod_template::{RESERVED_ENV_NAMES, RESERVED_ENV_PREFIXES};
use crate::rules::{MANAGER_ALLOWED, RESTORE_DIGEST_ALLOWED, RESTORE_JOB_ALLOWED};

/// The longest part of a label's or annotation's key after its prefix, and longest value of a
/// label.
const MAX_LABEL: usize = 63;
/// The longest prefix of a key, and longest name of an object: a DNS subdomain.
const MAX_SUBDOMAIN: usize = 253;
/// The longest reference to an image.
const MAX_IMAGE: usize = 512;

pub(super) fn object_name(path: &str, name: &str) -> Option<FieldError> {
    (!is_subdomain(name)).then(|| {
        let allowed = "a name in the same namespace: lower case letters, digits, dashes and dots";
        FieldError::new(path, "is not a valid object name", allowed).got(name)
    })
}

/// The value of `managedBy`. The API server has the same rule.
pub(super) fn manager(path: &str, name: &str) -> Option<FieldError> {
    let is_edge = |c: char| c.is_ascii_alphanumeric();
    let is_own = |own: &str| {
        let is_inner = |c: char| is_edge(c) || matches!(c, '-' | '_' | '.');
        own.starts_with(is_edge) && own.ends_with(is_edge) && own.chars().all(is_inner)
    };
    let parts = name.split_once('/').filter(|_| name.len() <= MAX_MANAGER);
    let is_valid = parts.is_some_and(|(domain, own)| is_subdomain(domain) && is_own(own));
    (!is_valid)
        .then(|| FieldError::new(path, "is not a name with a domain", MANAGER_ALLOWED).got(name))
}

/// The uid of a job and the digest of its archive. The API server has the same rules.
pub(super) fn restore_from(from: &RestoreFrom) -> Vec<FieldError> {
    let is_hex = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let groups: Vec<&str> = from.job.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_uid = lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| is_hex(group));
    let is_digest = from.digest.len() == 32 && is_hex(&from.digest);
    let uid = (!is_uid).then(|| {
        let path = "spec.restoreFrom.job";
        FieldError::new(path, "is not the uid of a job", RESTORE_JOB_ALLOWED).got(&from.job)
    });
    let digest = (!is_digest).then(|| {
        let path = "spec.restoreFrom.digest";
        let problem = "is not the digest of an archive";
        FieldError::new(path, problem, RESTORE_DIGEST_ALLOWED).got(&from.digest)
    });
    uid.into_iter().chain(digest).collect()
}

pub(super) fn expression(path: &str, text: &str) -> Option<FieldError> {
    if text.trim().is_empty() {
        return Some(FieldError::new(
            path,
            "is empty",
            "a jq expression, . for the record itself",
        ));
    }
    let length = text.chars().count();
    (length > MAX_EXPRESSION).then(|| {
        FieldError::new(
            path,
            "is too long",
            format!("at most {MAX_EXPRESSION} characters"),
        )
        .got(format!("{length} characters"))
    })
}

/// The longest name of a value, a table or an aggregate, in bytes.
pub(super) const MAX_NAME: usize = 63;

/// Whether a name has only letters, digits and underscores, and no digit first.
pub(super) fn is_word(name: &str) -> bool {
    let is_wordy = |character: char| character.is_ascii_alphanumeric() || character == '_';
    name.chars().all(is_wordy)
        && !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

pub(super) fn environment_name(path: &str, name: &str) -> Option<FieldError> {
    if !is_word(name) {
        let allowed = "letters, digits and underscores, no digit first";
        return Some(
            FieldError::new(path, "is not a valid environment variable name", allowed).got(name),
        );
    }
    let is_reserved = RESERVED_ENV_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || RESERVED_ENV_NAMES.contains(&name);
    is_reserved.then(|| {
        let allowed = format!(
            "any name except {}* and {}",
            RESERVED_ENV_PREFIXES.join("*, "),
            RESERVED_ENV_NAMES.join(", ")
        );
        FieldError::new(path, "is a reserved name", allowed).got(name)
    })
}

/// A key of labels, annotations or node labels: an optional prefix and a name.
pub(crate) fn qualified_key(path: &str, key: &str) -> Option<FieldError> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_valid = prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label(name);
    (!is_valid).then(|| {
        let allowed = "an optional host name and a slash, then at most 63 letters, digits, dashes, underscores and dots";
        FieldError::new(path, "has a key that is not valid", allowed).got(key)
    })
}

pub(crate) fn label_value(path: &str, value: &str) -> Option<FieldError> {
    (!is_label(value)).then(|| {
        let allowed = "at most 63 letters, digits, dashes, underscores and dots, a letter or digit first and last";
        FieldError::new(path, "is not a valid label value", allowed).got(value)
    })
}

/// Keys that only the operator sets.
pub(super) fn reserved_key(path: &str, kind: &str, key: &str) -> Option<FieldError> {
    let is_reserved = [RESERVED_PREFIX, "app.kubernetes.io/"]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    is_reserved.then(|| {
        let allowed = format!("any {kind} but {RESERVED_PREFIX}* and app.kubernetes.io/*");
        FieldError::new(path, "has a key with a reserved prefix", allowed).got(key)
    })
}

/// Reports a text that is not a reference to an image; empty text has the meaning `or_empty`.
pub(super) fn image(path: &str, image: &str, or_empty: &str) -> Option<FieldError> {
    if image.is_empty() || is_image(image) {
        return None;
    }
    let allowed = format!(
        "registry/repository:tag or registry/repository@sha256:digest with the repository in lower case, or empty for {or_empty}"
    );
    Some(FieldError::new(path, "is not a valid image reference", allowed).got(image))
}

fn is_image(image: &str) -> bool {
    let (image, digest) = image
        .split_once('@')
        .map_or((image, None), |(image, digest)| (image, Some(digest)));
    let is_digest = |digest: &str| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let (host, rest) = match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) => (Some(first), rest),
        _ => (None, image),
    };
    let (repository, tag) = rest
        .rsplit_once(':')
        .map_or((rest, None), |(repository, tag)| (repository, Some(tag)));
    let is_tag = |tag: &str| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        !tag.is_empty()
            && tag.len() <= 128
            && tag.chars().all(is_word)
            && !tag.starts_with(['.', '-'])
    };
    image.len() <= MAX_IMAGE
        && digest.is_none_or(is_digest)
        && host.is_none_or(is_host)
        && repository.split('/').all(is_repository_part)
        && tag.is_none_or(is_tag)
}

fn is_host(host: &str) -> bool {
    let (name, port) = host
        .split_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.split('.').all(is_part)
        && port.is_none_or(|port| {
            (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
        })
}

fn is_repository_part(part: &str) -> bool {
    let is_inner =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(is_edge) && part.ends_with(is_edge) && part.chars().all(is_inner)
}

fn is_label(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= MAX_LABEL
            && text.starts_with(is_edge)
            && text.ends_with(is_edge)
            && text.chars().all(is_inner))
}

fn is_subdomain(text: &str) -> bool {
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(is_edge)
            && part.ends_with(is_edge)
            && part.chars().all(|c| is_edge(c) || c == '-')
    };
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_part)
}
