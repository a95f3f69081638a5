//! Builds answers: objects, lists, events of a watch and errors, in the formats of the API server.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::{Kind, KindFacts};
use super::request::ApiRequest;

/// An answer to a request that is not a watch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Arc<Value>,
    /// Seconds for the header `Retry-After`.
    pub(crate) retry_after: Option<u32>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Arc<Value>>) -> Self {
        Self::with(200, body)
    }

    pub(crate) fn with(code: u16, body: impl Into<Arc<Value>>) -> Self {
        Self {
            code,
            body: body.into(),
            retry_after: None,
        }
    }

    /// Changes the body.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Value)) {
        change(Arc::make_mut(&mut self.body));
    }

    /// Returns an error that names an object.
    pub(crate) fn refuse(code: u16, reason: &str, kind: Kind, name: &str, message: &str) -> Self {
        let facts = kind.facts();
        let mut details = json!({"name": name, "kind": facts.plural});
        if !facts.group.is_empty() {
            details["group"] = json!(facts.group);
        }
        Self::error(code, reason, message, &details)
    }

    /// Returns an error that names no object.
    pub(crate) fn fail(code: u16, reason: &str, message: &str) -> Self {
        Self::error(code, reason, message, &Value::Null)
    }

    fn error(code: u16, reason: &str, message: &str, details: &Value) -> Self {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code,
        });
        if !reason.is_empty() {
            body["reason"] = json!(reason);
        }
        if !details.is_null() {
            body["details"] = details.clone();
        }
        Self::with(code, body)
    }

    pub(crate) fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.facts().qualified());
        Self::refuse(404, "NotFound", kind, name, &message)
    }

    pub(crate) fn already_exists(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.facts().qualified());
        Self::refuse(409, "AlreadyExists", kind, name, &message)
    }

    pub(crate) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            kind.facts().qualified()
        );
        Self::refuse(409, "Conflict", kind, name, &message)
    }

    /// Returns the error for a failed precondition of a deletion. It names the kind and not the
    /// resource.
    pub(crate) fn precondition(kind: Kind, name: &str, why: &str) -> Self {
        let qualified = kind.facts().qualified_kind();
        let message = format!("Operation cannot be fulfilled on {qualified} \"{name}\": {why}");
        let mut answer = Self::refuse(409, "Conflict", kind, name, &message);
        answer.set(|body| body["details"]["kind"] = json!(kind.facts().kind));
        answer
    }

    /// Returns the error for an invalid field `path` of an object, with the reason `cause`.
    pub(crate) fn invalid(kind: Kind, name: &str, path: &str, cause: &str, why: &str) -> Self {
        let qualified = kind.facts().qualified_kind();
        let message = format!("{qualified} \"{name}\" is invalid: {path}: {why}");
        let mut answer = Self::refuse(422, "Invalid", kind, name, &message);
        answer.set(|body| {
            let details = &mut body["details"];
            details["kind"] = json!(kind.facts().kind);
            details["causes"] = json!([{"reason": cause, "message": why, "field": path}]);
            if let Some(fields) = details.as_object_mut().filter(|_| name.is_empty()) {
                fields.remove("name");
            }
        });
        answer
    }

    pub(crate) fn gone(message: &str) -> Self {
        Self::fail(410, "Expired", message)
    }

    /// Returns the answer of most kinds to a deletion.
    pub(crate) fn deleted(kind: Kind, name: &str, uid: &Value) -> Self {
        let facts = kind.facts();
        let mut details = json!({"name": name, "kind": facts.plural, "uid": uid});
        if !facts.group.is_empty() {
            details["group"] = json!(facts.group);
        }
        Self::ok(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        }))
    }
}

/// Returns an object in the format that `request` asks for. Stored objects contain their kind.
pub(crate) fn view(request: &ApiRequest, object: &Arc<Value>) -> Arc<Value> {
    if request.is_partial {
        return Arc::new(json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        }));
    }
    if request.is_core_event {
        return Arc::new(core_event(object));
    }
    Arc::clone(object)
}

/// Returns one page of a list. `next` contains the token of the next page and, if known, the number
/// of remaining objects.
pub(crate) fn list(
    request: &ApiRequest,
    items: &[Arc<Value>],
    version: u64,
    next: Option<(&str, Option<usize>)>,
) -> Value {
    let facts: &KindFacts = request.kind.facts();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((token, remaining)) = next {
        metadata["continue"] = json!(token);
        if let Some(remaining) = remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let items: Vec<Value> = items
        .iter()
        .map(|object| {
            let mut shown = Value::clone(&view(request, object));
            if facts.is_built_in && !request.is_partial {
                without_kind(&mut shown);
            }
            shown
        })
        .collect();
    let (kind, api_version) = if request.is_partial {
        (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        )
    } else if request.is_core_event {
        ("EventList".to_owned(), "v1".to_owned())
    } else {
        (format!("{}List", facts.kind), facts.api_version())
    };
    let mut body =
        json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items});
    if request.is_partial && items.is_empty() {
        body["items"] = Value::Null;
    }
    body
}

/// Returns one line of a watch.
pub(crate) fn event_line(what: &str, object: &Value) -> Vec<u8> {
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n").into_bytes()
}

fn without_kind(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
}

/// Converts an event of `events.k8s.io` into the form in which `v1` shows it.
fn core_event(object: &Value) -> Value {
    let mut event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": object["metadata"],
        "involvedObject": object["regarding"], "reason": object["reason"], "message": object["note"],
        "type": object["type"], "action": object["action"], "eventTime": object["eventTime"], "series": object["series"],
        "lastTimestamp": object["deprecatedLastTimestamp"], "source": {},
        "reportingComponent": object["reportingController"], "reportingInstance": object["reportingInstance"],
    });
    if let Some(fields) = event.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    event
}
