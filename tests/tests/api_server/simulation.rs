//! Includes the source of the operator's simulation of an API server and of the garbage collector.

#[path = "../../../operator/src/simulation/api/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the simulation also looks into the store; here requests are sent"
)]
pub(crate) mod api;

#[path = "../../../operator/src/simulation/cluster/collect.rs"]
pub(crate) mod collect;
