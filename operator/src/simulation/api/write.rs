//! Create, update, patch and delete, with the checks of the API server. Knows no HTTP.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{Answer, view};
use super::kinds::PODS;
use super::request::ApiRequest;
use super::store::{Actor, Key, Store, whole_seconds};

/// Seconds that a pod gets to end if it names none.
const USUAL_GRACE: i64 = 30;
/// The finalizer of an object that is deleted after what it owns.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are let go.
pub(crate) const ORPHAN: &str = "orphan";

/// Creates the object of `request`.
pub(crate) fn create(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let facts = request.kind.facts();
    let namespace = request.namespace.clone().unwrap_or_default();
    let mut object = request.body.clone();
    if !object.is_object() {
        return Answer::fail(400, "BadRequest", "the body holds no object");
    }
    let given = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or(&namespace);
    if given != namespace {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Answer::fail(400, "BadRequest", message);
    }
    let Some(name) = name_of(store, &object) else {
        let message = "name or generateName is required";
        return Answer::invalid(
            request.kind,
            "",
            "metadata.name",
            &format!("Required value: {message}"),
        );
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
    if facts.has_status && !facts.is_built_in {
        remove(&mut object, "status");
    }
    for field in [
        "uid",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        remove(&mut object["metadata"], field);
    }
    if request.query.is_dry_run {
        return Answer::with(201, view(request, &Arc::new(object)));
    }
    let stored = store.add(key, object, by, now);
    Answer::with(201, view(request, &stored))
}

/// Replaces the object of `request`, or one of its subresources.
pub(crate) fn update(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let (key, name) = target(request);
    let Some(before) = store.get(&key).cloned() else {
        return Answer::not_found(request.kind, &name);
    };
    let body = &request.body;
    if body["metadata"]["name"]
        .as_str()
        .is_some_and(|given| given != name)
    {
        let message = format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            body["metadata"]["name"].as_str().unwrap_or("")
        );
        return Answer::fail(400, "BadRequest", &message);
    }
    let needs_version = !request.kind.facts().is_built_in;
    if needs_version && text(&body["metadata"]["resourceVersion"]).is_empty() {
        let why = "Invalid value: 0: must be specified for an update";
        return Answer::invalid(request.kind, &name, "metadata.resourceVersion", why);
    }
    if let Some(conflict) = conflict(request, &name, &before, &body["metadata"]) {
        return conflict;
    }
    store_change(store, request, &key, &before, body.clone(), by, now)
}

/// Merges the patch of `request` into its object.
pub(crate) fn patch(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let (key, name) = target(request);
    let is_merge = request
        .content_type
        .starts_with("application/merge-patch+json")
        || request
            .content_type
            .starts_with("application/strategic-merge-patch+json");
    if !is_merge {
        let message = format!(
            "the body of the request was in an unknown format - {} is not served here",
            request.content_type
        );
        return Answer::fail(415, "UnsupportedMediaType", &message);
    }
    let Some(before) = store.get(&key).cloned() else {
        return Answer::not_found(request.kind, &name);
    };
    if request.subresource.as_deref() == Some("scale") {
        let mut scale = scale_of(&before);
        merge(&mut scale, &request.body);
        if let Some(conflict) = conflict(request, &name, &before, &request.body["metadata"]) {
            return conflict;
        }
        return store_change(store, request, &key, &before, scale, by, now);
    }
    if let Some(conflict) = conflict(request, &name, &before, &request.body["metadata"]) {
        return conflict;
    }
    let mut after = Value::clone(&before);
    merge(&mut after, &request.body);
    store_change(store, request, &key, &before, after, by, now)
}

/// Deletes the object of `request`: at once, or when its finalizers and its grace have gone.
pub(crate) fn delete(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let (key, name) = target(request);
    let Some(object) = store.get(&key).cloned() else {
        return Answer::not_found(request.kind, &name);
    };
    let options = &request.body;
    let metadata = &object["metadata"];
    for (field, shown) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = &options["preconditions"][field];
        if !wanted.is_null() && *wanted != metadata[field] {
            let why = format!(
                "the {shown} in the precondition ({}) does not match the {shown} in record ({}). The object might have been {}",
                text(wanted),
                text(&metadata[field]),
                if field == "uid" {
                    "deleted and then recreated"
                } else {
                    "modified"
                }
            );
            return Answer::conflict(request.kind, &name, &why);
        }
    }
    if request.query.is_dry_run {
        return Answer::ok(view(request, &object));
    }
    let mut ending = Value::clone(&object);
    let finalizers = ending_finalizers(&mut ending, options);
    let grace = if key.kind == PODS {
        pod_grace(&object, options)
    } else {
        0
    };
    if finalizers == 0 && grace == 0 {
        let uid = metadata["uid"].clone();
        store.remove(&key, by, now);
        return if key.kind == PODS {
            Answer::ok(view(request, &object))
        } else {
            Answer::deleted(request.kind, &name, &uid)
        };
    }
    let asked_before = ending["metadata"]["deletionTimestamp"]
        .as_str()
        .map(str::to_owned);
    let grace_before = ending["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if asked_before.is_none() || grace_before.is_some_and(|before| grace < before) {
        let ends = now
            .saturating_add(SignedDuration::from_secs(grace))
            .unwrap_or(now);
        ending["metadata"]["deletionTimestamp"] = json!(whole_seconds(ends));
        ending["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    }
    let stored = store.replace(&key, ending, by, now);
    Answer::ok(view(request, &stored))
}

/// Puts the finalizers of the wanted propagation in, and counts them all.
fn ending_finalizers(ending: &mut Value, options: &Value) -> usize {
    let wanted = match options["propagationPolicy"].as_str() {
        Some("Foreground") => Some(FOREGROUND),
        Some("Orphan") => Some(ORPHAN),
        _ => None,
    };
    let mut all = ending["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if options["propagationPolicy"].is_string() {
        all.retain(|one| one != FOREGROUND && one != ORPHAN);
    }
    all.extend(wanted.map(|name| json!(name)));
    let count = all.len();
    if count > 0 {
        ending["metadata"]["finalizers"] = json!(all);
    } else {
        remove(&mut ending["metadata"], "finalizers");
    }
    count
}

/// Seconds that a pod gets; none for one that no kubelet knows, or that is over.
fn pod_grace(pod: &Value, options: &Value) -> i64 {
    let is_over = matches!(
        pod["status"]["phase"].as_str(),
        Some("Failed" | "Succeeded")
    );
    if pod["spec"]["nodeName"].is_null() || is_over {
        return 0;
    }
    options["gracePeriodSeconds"]
        .as_i64()
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(USUAL_GRACE)
        .max(0)
}

/// The preconditions in an object's own metadata.
fn conflict(request: &ApiRequest, name: &str, before: &Value, given: &Value) -> Option<Answer> {
    let metadata = &before["metadata"];
    let uid = text(&given["uid"]);
    if !uid.is_empty() && uid != text(&metadata["uid"]) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(&metadata["uid"])
        );
        return Some(Answer::conflict(request.kind, name, &why));
    }
    let version = text(&given["resourceVersion"]);
    (!version.is_empty() && version != text(&metadata["resourceVersion"])).then(|| {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Answer::conflict(request.kind, name, why)
    })
}

/// Stores what `after` may change: all but the status, the status alone, or the number of replicas.
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
            if after["status"].is_null() {
                remove(&mut next, "status");
            } else {
                next["status"] = after["status"].clone();
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
    for field in [
        "uid",
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
    if request.query.is_dry_run {
        return Answer::ok(view(request, &Arc::new(next)));
    }
    let stored = store.replace(key, next, by, now);
    if request.subresource.as_deref() == Some("scale") {
        return Answer::ok(scale_of(&stored));
    }
    Answer::ok(view(request, &stored))
}

/// The scale subresource of a Deployment or `StatefulSet`.
pub(crate) fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
    })
}

/// A JSON merge patch (RFC 7396).
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

fn target(request: &ApiRequest) -> (Key, String) {
    let name = request.name.clone().unwrap_or_default();
    let namespace = request.namespace.as_deref().unwrap_or("");
    (Key::new(request.kind, namespace, &name), name)
}

/// The name that an object asks for; one that is made up has the version of the store in it.
fn name_of(store: &Store, object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    if let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let prefix = metadata["generateName"].as_str()?;
    Some(format!("{prefix}{:05}", store.version() + 1))
}

/// Nothing is created in a namespace that is being deleted, or that is not there.
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}
