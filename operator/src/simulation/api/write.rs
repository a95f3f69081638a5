//! Implements create, update and patch, with the checks of the API server. This module does not
//! handle HTTP.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, view};
use super::kinds::{EVENTS, Kind, PODS, STATEFUL_SETS};
use super::metadata::{refuse_change, remove, text, tidy};
use super::request::ApiRequest;
use super::store::{Actor, Key, Store};

/// The message of the error for a write that is based on an older version.
const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Creates the object of `request`.
pub(crate) fn create(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let facts = request.kind.facts();
    let namespace = request.namespace.clone().unwrap_or_default();
    let mut object = request.body.clone();
    if !object.is_object() {
        return Answer::fail(400, "BadRequest", "the body holds no object");
    }
    if let Some(refusal) = other_namespace(request, &object) {
        return refusal;
    }
    if !text(&object["metadata"]["resourceVersion"]).is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Answer::fail(500, "", message);
    }
    let Some(name) = name_of(store, &object) else {
        let why = "Required value: name or generateName is required";
        let path = "metadata.name";
        return Answer::invalid(request.kind, "", path, "FieldValueRequired", why);
    };
    if let Some(refusal) = ending_namespace(store, request, &namespace, &name) {
        return refusal;
    }
    let key = Key::new(request.kind, &namespace, &name);
    if let Some(existing) = store.get(&key) {
        let is_ending = !existing["metadata"]["deletionTimestamp"].is_null();
        let mut answer = Answer::already_exists(request.kind, &name);
        if is_ending {
            let message = format!(
                "object is being deleted: {} \"{name}\" already exists",
                facts.qualified()
            );
            answer.set(|body| body["message"] = json!(message));
        }
        return answer;
    }
    object["metadata"]["name"] = json!(name);
    if facts.is_namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    begin(request.kind, &mut object);
    for field in [
        "uid",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        remove(&mut object["metadata"], field);
    }
    tidy(request.kind, &mut object);
    if request.query.is_dry_run {
        let shown = store.named(&key, object, now);
        return Answer::with(201, view(request, &Arc::new(shown)));
    }
    let stored = store.add(key, object, by, now);
    Answer::with(201, view(request, &stored))
}

/// Sets the initial values of an object, before any controller handles it.
fn begin(kind: Kind, object: &mut Value) {
    let facts = kind.facts();
    if facts.has_status {
        remove(object, "status");
    }
    if kind == PODS {
        object["status"] = json!({"phase": "Pending"});
    } else if kind == STATEFUL_SETS {
        object["status"] = json!({"replicas": 0, "availableReplicas": 0});
    } else if kind == EVENTS {
        object["deprecatedSource"] = json!({});
    } else if facts.has_status && facts.is_built_in {
        object["status"] = json!({});
    }
}

/// Replaces the object of `request`, or one of its subresources.
pub(crate) fn update(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let (key, name) = target(request);
    let Some(before) = store.get(&key).cloned() else {
        return Answer::not_found(request.kind, &name);
    };
    let body = &request.body;
    if let Some(refusal) =
        other_name(request, &name, body).or_else(|| other_namespace(request, body))
    {
        return refusal;
    }
    let uid = text(&body["metadata"]["uid"]);
    if !uid.is_empty() && uid != text(&before["metadata"]["uid"]) {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            stored_under(&key),
            text(&before["metadata"]["uid"])
        );
        return Answer::conflict(request.kind, &name, &why);
    }
    let needs_version = !request.kind.facts().is_built_in;
    if needs_version && text(&body["metadata"]["resourceVersion"]).is_empty() {
        return without_version(request.kind, &name);
    }
    if let Some(conflict) = conflict(request, &name, &before, body) {
        return conflict;
    }
    store_change(store, request, &key, &before, body.clone(), by, now)
}

/// Returns the error for an update without a version. It names the resource and not the kind.
fn without_version(kind: Kind, name: &str) -> Answer {
    let facts = kind.facts();
    let why = "Invalid value: 0: must be specified for an update";
    let path = "metadata.resourceVersion";
    let mut answer = Answer::invalid(kind, name, path, "FieldValueInvalid", why);
    answer.set(|body| {
        body["details"]["kind"] = json!(facts.plural);
        body["message"] = json!(format!(
            "{} \"{name}\" is invalid: {path}: {why}",
            facts.qualified()
        ));
    });
    answer
}

/// Merges the patch of `request` into its object.
pub(crate) fn patch(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let (key, name) = target(request);
    if !request
        .content_type
        .starts_with("application/merge-patch+json")
    {
        return unknown_patch();
    }
    let Some(before) = store.get(&key).cloned() else {
        return Answer::not_found(request.kind, &name);
    };
    let mut after = if request.subresource.as_deref() == Some("scale") {
        scale_of(&before)
    } else {
        Value::clone(&before)
    };
    merge(&mut after, &request.body);
    let refusal = other_name(request, &name, &after)
        .or_else(|| other_namespace(request, &after))
        .or_else(|| conflict(request, &name, &before, &after));
    match refusal {
        Some(refusal) => refusal,
        None => store_change(store, request, &key, &before, after, by, now),
    }
}

/// Returns the error for a patch in another format than a merge patch. No client in the simulation
/// sends one.
fn unknown_patch() -> Answer {
    // The server sends this message for custom resources. For built-in kinds the server would
    // accept more formats.
    let message = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    Answer::fail(415, "UnsupportedMediaType", message)
}

/// Refuses a body whose object is not the object in the address of the request.
fn other_name(request: &ApiRequest, name: &str, body: &Value) -> Option<Answer> {
    let given = text(&body["metadata"]["name"]);
    (request.subresource.as_deref() != Some("scale") && !given.is_empty() && given != name).then(
        || {
            let message = format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            );
            Answer::fail(400, "BadRequest", &message)
        },
    )
}

fn other_namespace(request: &ApiRequest, body: &Value) -> Option<Answer> {
    let given = text(&body["metadata"]["namespace"]);
    let asked = request.namespace.as_deref().unwrap_or("");
    (!given.is_empty() && given != asked).then(|| {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        Answer::fail(400, "BadRequest", message)
    })
}

/// Refuses a write with a version that is not the newest. A write without a version is accepted.
fn conflict(request: &ApiRequest, name: &str, before: &Value, after: &Value) -> Option<Answer> {
    let version = text(&after["metadata"]["resourceVersion"]);
    let is_old = !version.is_empty() && version != text(&before["metadata"]["resourceVersion"]);
    is_old.then(|| Answer::conflict(request.kind, name, MODIFIED))
}

/// Returns the key of an object in etcd, which some messages contain.
fn stored_under(key: &Key) -> String {
    let facts = key.kind.facts();
    let resource = if facts.is_built_in {
        facts.plural.to_owned()
    } else {
        format!("{}/{}", facts.group, facts.plural)
    };
    format!("/registry/{resource}/{}/{}", key.namespace, key.name)
}

/// Stores the parts that `after` may change: everything except the status, only the status, or the
/// number of replicas.
fn store_change(
    store: &mut Store,
    request: &ApiRequest,
    key: &Key,
    before: &Value,
    after: Value,
    by: Actor,
    now: Timestamp,
) -> Answer {
    let mut next = match request.subresource.as_deref() {
        Some("status") => {
            let mut next = before.clone();
            match after.get("status") {
                Some(status) => next["status"] = status.clone(),
                None => remove(&mut next, "status"),
            }
            next
        }
        Some("scale") => {
            let mut next = before.clone();
            next["spec"]["replicas"] = after["spec"]["replicas"].clone();
            next
        }
        Some(other) => {
            let message = format!("the server could not find the requested resource ({other})");
            return Answer::fail(404, "NotFound", &message);
        }
        None => {
            let mut next = after;
            if request.kind.facts().has_status {
                match before.get("status") {
                    Some(status) => next["status"] = status.clone(),
                    None => remove(&mut next, "status"),
                }
            }
            next
        }
    };
    if let Some(refusal) = refuse_change(request.kind, &key.name, before, &next) {
        return refusal;
    }
    for field in [
        "uid",
        "namespace",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match before["metadata"].get(field) {
            Some(value) => next["metadata"][field] = value.clone(),
            None => remove(&mut next["metadata"], field),
        }
    }
    tidy(request.kind, &mut next);
    if request.query.is_dry_run {
        return Answer::ok(view(request, &Arc::new(next)));
    }
    let stored = store.replace(key, next, by, now);
    if request.subresource.as_deref() == Some("scale") {
        return Answer::ok(scale_of(&stored));
    }
    Answer::ok(view(request, &stored))
}

/// Returns the scale subresource of a Deployment or `StatefulSet`.
pub(crate) fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
    });
    // A value of 0 is not shown.
    if object["spec"]["replicas"] != json!(0) {
        scale["spec"]["replicas"] = object["spec"]["replicas"].clone();
    }
    scale
}

/// Applies a JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            remove(target, key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// Returns the object that a request names.
pub(super) fn target(request: &ApiRequest) -> (Key, String) {
    let name = request.name.clone().unwrap_or_default();
    let namespace = request.namespace.as_deref().unwrap_or("");
    (Key::new(request.kind, namespace, &name), name)
}

/// Returns the name of a new object. A generated name contains the version of the store.
fn name_of(store: &Store, object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    if let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let prefix = metadata["generateName"].as_str()?;
    Some(format!("{prefix}{:05}", store.version() + 1))
}

/// Returns the error for a creation in a namespace that is being deleted or does not exist.
fn ending_namespace(
    store: &Store,
    request: &ApiRequest,
    namespace: &str,
    name: &str,
) -> Option<Answer> {
    let facts = request.kind.facts();
    if !facts.is_namespaced {
        return None;
    }
    let kind = super::kinds::NAMESPACES;
    let Some(found) = store.get(&Key::new(kind, "", namespace)) else {
        return Some(Answer::not_found(kind, namespace));
    };
    if found["status"]["phase"] != "Terminating" {
        return None;
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let message = format!("{} \"{name}\" is forbidden: {why}", facts.qualified());
    let mut answer = Answer::refuse(403, "Forbidden", request.kind, name, &message);
    let causes = json!([{
        "reason": "NamespaceTerminating", "field": "metadata.namespace",
        "message": format!("namespace {namespace} is being terminated"),
    }]);
    answer.set(|body| body["details"]["causes"] = causes);
    Some(answer)
}
