//! Converts between the three families of types: CRD types, wire types and core types. All such
//! conversions are in this folder. Decides nothing.

pub mod identity;
pub mod pipeline;
pub mod report;
pub mod sharding;
pub mod wire;
