//! The requests by kind of object: requests of the operator, with the different answers that they
//! may get.

pub(crate) mod config_maps;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod namespaces;
pub(crate) mod pods;
pub(crate) mod stateful_sets;

/// A uid that no object has.
pub(crate) const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
