//! Implements get and list. This module changes nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{Answer, list as list_body, view};
use super::request::ApiRequest;
use super::store::{Key, Store};
use super::write::scale_of;

/// The message of the error for the next page of a list that has become too old.
const PAGES_GONE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Returns one object, or its scale.
pub(crate) fn get(store: &Store, request: &ApiRequest) -> Answer {
    let name = request.name.as_deref().unwrap_or("");
    let key = Key::new(
        request.kind,
        request.namespace.as_deref().unwrap_or(""),
        name,
    );
    let Some(object) = store.get(&key) else {
        return Answer::not_found(request.kind, name);
    };
    match request.subresource.as_deref() {
        Some("scale") => Answer::ok(scale_of(object)),
        Some(_) | None => Answer::ok(view(request, object)),
    }
}

/// Returns a page of a list: the first page as the list is now, further pages as the list was when
/// its first page was read.
pub(crate) fn list(store: &Store, request: &ApiRequest) -> Answer {
    if let Some(refusal) = request.query.selector.refuse(request.kind) {
        return refusal;
    }
    let Some(token) = &request.query.next_page else {
        return page(request, store.version(), meant(store, request));
    };
    let Some((version, start)) = read_token(token) else {
        let message = "invalid continue token: continue key is not valid: server does not recognize this encoded version ";
        return Answer::fail(400, "BadRequest", message);
    };
    if version < store.oldest() {
        let mut answer = Answer::gone(PAGES_GONE);
        // With this token a client could read the rest in its current state.
        answer.set(|body| body["metadata"]["continue"] = json!(write_token(0, &start)));
        return answer;
    }
    let mut items = meant_at(store, request, version);
    items.retain(|(key, _)| place(key) > start);
    page(request, version, items)
}

/// Returns the list as it was when `version` was the newest.
pub(crate) fn list_at(store: &Store, request: &ApiRequest, version: u64) -> Answer {
    page(request, version, meant_at(store, request, version))
}

/// Returns the objects that match the request's namespace and selectors, in the order of names.
pub(crate) fn meant(store: &Store, request: &ApiRequest) -> Vec<(Key, Arc<Value>)> {
    let all = store
        .all(request.kind)
        .filter(|(key, object)| is_meant(request, key, object));
    all.map(|(key, object)| (key.clone(), Arc::clone(object)))
        .collect()
}

fn meant_at(store: &Store, request: &ApiRequest, version: u64) -> Vec<(Key, Arc<Value>)> {
    let all = store.all_at(request.kind, version).into_iter();
    all.filter(|(key, object)| is_meant(request, key, object))
        .collect()
}

/// Returns whether the object matches the request's namespace and selectors.
pub(crate) fn is_meant(request: &ApiRequest, key: &Key, object: &Value) -> bool {
    let namespace = request.namespace.as_ref();
    namespace.is_none_or(|namespace| *namespace == key.namespace)
        && request.query.selector.matches(object)
}

fn page(request: &ApiRequest, version: u64, mut items: Vec<(Key, Arc<Value>)>) -> Answer {
    let limit = request.query.limit.unwrap_or(usize::MAX);
    let rest = items.split_off(limit.min(items.len()));
    let last = items.last().filter(|_| !rest.is_empty());
    let token = last.map(|(key, _)| write_token(version, &place(key)));
    // With selectors, the number of remaining objects is not known.
    let remaining = request.query.selector.is_empty().then_some(rest.len());
    let items: Vec<_> = items.into_iter().map(|(_, object)| object).collect();
    let next = token.as_deref().map(|token| (token, remaining));
    Answer::ok(list_body(request, &items, version, next))
}

/// Returns the position of an object in the order of names.
fn place(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// Returns the token of the next page. It contains the version of the list, and the position of the
/// last object that was shown.
pub(crate) fn write_token(version: u64, start: &str) -> String {
    format!("page-{version}-{start}")
}

fn read_token(token: &str) -> Option<(u64, String)> {
    let (version, start) = token.strip_prefix("page-")?.split_once('-')?;
    Some((version.parse().ok()?, start.to_owned()))
}
