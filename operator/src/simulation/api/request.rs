//! Parses one request. This module decides nothing.

use std::collections::BTreeMap;

use axum::http::{Method, header, request::Parts};
use serde_json::Value;

use super::kinds::{EVENTS, Kind};
use super::selector::Selector;

/// The kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct ApiRequest {
    pub(crate) verb: Verb,
    pub(crate) kind: Kind,
    /// Absent for all namespaces, and for cluster-wide objects.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    pub(crate) query: Query,
    /// Whether events are returned in the format of the core API.
    pub(crate) is_core_event: bool,
    /// Whether the answer contains metadata only.
    pub(crate) is_partial: bool,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// The parameters after the question mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) selector: Selector,
    pub(crate) limit: Option<usize>,
    pub(crate) next_page: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) wants_bookmarks: bool,
    pub(crate) sends_initial_events: bool,
    pub(crate) is_dry_run: bool,
}

impl Verb {
    pub(crate) fn is_write(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Patch | Self::Delete
        )
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

impl ApiRequest {
    /// Parses a request. An unsupported request is an error with a sentence.
    pub(crate) fn read(parts: &Parts, body: &[u8]) -> Result<Self, String> {
        let path = parts.uri.path();
        let unknown = || format!("{} {path} is not served here", parts.method);
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(unknown()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some((*name).to_owned()), None),
            [plural, name, sub] => (*plural, Some((*name).to_owned()), Some((*sub).to_owned())),
            _ => return Err(unknown()),
        };
        let kind = Kind::find(group, version, plural).ok_or_else(unknown)?;
        let parameters = parameters(parts.uri.query().unwrap_or(""));
        let is_watch = parameters
            .get("watch")
            .is_some_and(|value| value != "false" && value != "0");
        let verb = match (&parts.method, &name) {
            (&Method::GET, Some(_)) => Verb::Get,
            (&Method::GET, None) if is_watch => Verb::Watch,
            (&Method::GET, None) => Verb::List,
            (&Method::POST, None) => Verb::Create,
            (&Method::PUT, Some(_)) => Verb::Update,
            (&Method::PATCH, Some(_)) => Verb::Patch,
            (&Method::DELETE, Some(_)) => Verb::Delete,
            _ => return Err(unknown()),
        };
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("")
        };
        let body = if body.is_empty() {
            Value::Null
        } else {
            let text = std::str::from_utf8(body).map_err(|error| format!("{path}: {error}"))?;
            text.parse().map_err(|error| format!("{path}: {error}"))?
        };
        Ok(Self {
            verb,
            kind,
            namespace,
            name,
            subresource,
            query: Query::read(&parameters)?,
            is_core_event: kind == EVENTS && group.is_empty(),
            is_partial: text(header::ACCEPT).contains("as=PartialObjectMetadata"),
            content_type: text(header::CONTENT_TYPE).to_owned(),
            body,
        })
    }
}

impl Query {
    fn read(parameters: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = |key: &str| parameters.get(key).filter(|text| !text.is_empty()).cloned();
        let number = |key: &str| {
            text(key)
                .map(|text| {
                    text.parse()
                        .map_err(|_| format!("{key}={text} is not a number"))
                })
                .transpose()
        };
        let is_set = |key: &str| text(key).is_some_and(|value| value == "true");
        Ok(Self {
            selector: Selector::read(
                &text("labelSelector").unwrap_or_default(),
                &text("fieldSelector").unwrap_or_default(),
            )?,
            limit: number("limit")?
                .filter(|limit| *limit > 0)
                .and_then(|limit: u64| usize::try_from(limit).ok()),
            next_page: text("continue"),
            resource_version: text("resourceVersion"),
            timeout_seconds: number("timeoutSeconds")?,
            wants_bookmarks: is_set("allowWatchBookmarks"),
            sends_initial_events: is_set("sendInitialEvents"),
            is_dry_run: text("dryRun").is_some(),
        })
    }
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

/// Decodes the percent escapes of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escape {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
