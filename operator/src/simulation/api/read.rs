//! Get and list. Changes nothing but the pages that are kept.

use std::sync::Arc;

use serde_json::Value;

use super::answer::{Answer, list as list_body, view};
use super::request::ApiRequest;
use super::store::{Key, Store};
use super::write::scale_of;

/// One object, or its scale.
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

/// A page of a list, as it is now.
pub(crate) fn list(store: &mut Store, request: &ApiRequest) -> Answer {
    if let Some(token) = &request.query.next_page {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
        return match store.take_pages(token) {
            Some((version, items)) => page(store, request, version, items),
            None => Answer::gone(message),
        };
    }
    let items = meant(store, request);
    let version = store.version();
    page(store, request, version, items)
}

/// The list as it was when `version` was the newest.
pub(crate) fn list_at(store: &mut Store, request: &ApiRequest, version: u64) -> Answer {
    let items = store
        .all_at(request.kind, version)
        .into_iter()
        .filter(|(key, object)| is_meant(request, key, object))
        .map(|(_, object)| object)
        .collect();
    page(store, request, version, items)
}

/// What the request's namespace and selectors mean.
pub(crate) fn meant(store: &Store, request: &ApiRequest) -> Vec<Arc<Value>> {
    store
        .all(request.kind)
        .filter(|(key, object)| is_meant(request, key, object))
        .map(|(_, object)| Arc::clone(object))
        .collect()
}

fn is_meant(request: &ApiRequest, key: &Key, object: &Value) -> bool {
    request
        .namespace
        .as_ref()
        .is_none_or(|namespace| *namespace == key.namespace)
        && request.query.selector.matches(object)
}

fn page(
    store: &mut Store,
    request: &ApiRequest,
    version: u64,
    mut items: Vec<Arc<Value>>,
) -> Answer {
    let limit = request.query.limit.unwrap_or(usize::MAX);
    if items.len() <= limit {
        return Answer::ok(list_body(request, &items, version, None, 0));
    }
    let rest = items.split_off(limit);
    let remaining = rest.len();
    let token = store.keep_pages(version, rest);
    Answer::ok(list_body(request, &items, version, Some(&token), remaining))
}
