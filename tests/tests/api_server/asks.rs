//! Contains the requests that are compared, by kind of object. The operator makes such requests.
//! Each has variants, so that every possible answer occurs.

pub(crate) mod config_maps;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod namespaces;
pub(crate) mod pods;
pub(crate) mod stateful_sets;

/// A uid that no object has.
pub(crate) const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
