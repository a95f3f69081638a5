//! The only place where two of the three type families meet: CRD types, wire types and core types.
//! Decides nothing.

pub mod identity;
pub mod pipeline;
pub mod report;
pub mod sharding;
pub mod wire;
