//! Checks of uris of objects and prefixes, one at a time.

use super::Place;
use crate::field_error::FieldError;
use crate::pipeline::MAX_PATH;

/// What to write instead of an input folder.
pub(crate) const FOLDER_ALLOWED: &str = "add * for the files in it, or ** for all files below it";

/// The first error in a uri, whatever the uri is used for. Credentials and control characters are
/// never shown.
pub(super) fn validate(path: &str, uri: &str, place: Place) -> Option<FieldError> {
    let schemes = match place {
        Place::Cluster => "a uri begins with s3://, gs:// or az:// and a bucket",
        Place::Local => {
            "a uri begins with s3://, gs:// or az:// and a bucket, or with file:/// and a path"
        }
    };
    let error = |wrong: &str, allowed: &str| Some(FieldError::new(path, wrong, allowed));
    let shown = |wrong: &str, allowed: &str| Some(FieldError::new(path, wrong, allowed).got(uri));
    if uri.is_empty() {
        return error("is empty", &format!("required: {schemes}"));
    }
    if uri.chars().any(char::is_control) {
        return error(
            "has a control character",
            "control characters are not allowed",
        );
    }
    if uri.chars().count() > MAX_PATH {
        return shown("is too long", &format!("at most {MAX_PATH} characters"));
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        return shown("has no scheme", schemes);
    };
    if rest
        .split('/')
        .next()
        .is_some_and(|authority| authority.contains('@'))
    {
        return error(
            "contains credentials",
            "credentials in a uri are not allowed, name a Secret in spec.storage.credentialsSecret",
        );
    }
    match scheme {
        "s3" | "gs" | "az" => {
            let bucket = rest.split('/').next().unwrap_or_default();
            if !is_bucket(bucket) {
                return shown(
                    "has no valid bucket",
                    "a bucket follows the scheme: lower case letters, digits, dots, dashes",
                );
            }
        }
        "file" if place == Place::Local => {
            if rest.len() < 2 || !rest.starts_with('/') {
                return shown("has no absolute path", "file:/// and a path");
            }
        }
        _ => return shown("has a scheme that is not allowed", schemes),
    }
    let is_dots = |part: &str| {
        let plain = part.to_ascii_lowercase();
        part == "." || part == ".." || plain.contains("%2e") || plain.contains("%2f")
    };
    // In a store, a key with an empty segment differs from the key without it, and this program
    // cannot use such a key. On a local disk both name the same file.
    if scheme != "file" && rest.contains("//") {
        return shown(
            "has an empty segment (//)",
            "single slashes between the parts of the path",
        );
    }
    if rest.split('/').any(is_dots) {
        return shown(
            "has . or .. in its path, plain or percent-encoded",
            ".. is not allowed, every part of the path is a name",
        );
    }
    None
}

fn is_bucket(bucket: &str) -> bool {
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    bucket.len() >= 2
        && bucket.starts_with(is_edge)
        && bucket.ends_with(is_edge)
        && bucket
            .chars()
            .all(|c| is_edge(c) || matches!(c, '.' | '_' | '-'))
}

/// Checks that an input path names a file, and that the brackets and braces of its globs are
/// balanced.
pub(super) fn glob(path: &str, glob: &str) -> Option<FieldError> {
    let name = glob
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or("", |(_, name)| name);
    if glob.ends_with('/') {
        return Some(FieldError::new(path, "names a folder", FOLDER_ALLOWED).got(glob));
    }
    if name.is_empty() {
        let allowed = "a bucket and the name of a file, or a pattern such as folder/*";
        return Some(FieldError::new(path, "names no file", allowed).got(glob));
    }
    let mut open: Option<char> = None;
    let mut characters = glob.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && open != Some('[') {
            // The next character stands for itself.
            if characters.next().is_none() {
                let allowed = "write \\\\ for the character itself";
                let wrong = "has a \\ at its end, which escapes nothing";
                return Some(FieldError::new(path, wrong, allowed).got(glob));
            }
            continue;
        }
        match (open, character) {
            (None, '[' | '{') => open = Some(character),
            (None, ']' | '}') | (Some('['), '/') => return Some(unbalanced(path, glob)),
            (Some('['), ']') | (Some('{'), '}') => open = None,
            _ => {}
        }
    }
    open.map(|_| unbalanced(path, glob))
}

fn unbalanced(path: &str, glob: &str) -> FieldError {
    FieldError::new(
        path,
        "has brackets or braces that do not match",
        "globs are *, **, ?, [..] and {a,b}",
    )
    .got(glob)
}
