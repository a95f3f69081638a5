//! The requests, by kind: what the operator asks, and what it may be answered.

pub(crate) mod config_maps;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod namespaces;
pub(crate) mod pods;
pub(crate) mod stateful_sets;

/// The uid of no object.
pub(crate) const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
