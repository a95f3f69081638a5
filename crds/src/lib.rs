//! `ZephyrJob`: the types a user writes and reads, and what can be found wrong in them without a cluster.
//!
//! No client, no I/O, no engine type: the operator, the worker and the CLI convert from here, never the other way round.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive copies each public struct into a function body, where pub cannot reach"
)]

pub mod conditions;
pub mod crd;
pub mod duration;
pub mod field_error;
pub mod frozen;
pub mod job;
pub mod names;
pub mod pipeline;
pub mod places;
pub mod pod_template;
pub mod preemptible;
pub mod quantity;
pub mod resources;
mod rules;
mod schema;
pub mod status;
pub mod structural;
pub mod validate;

pub use job::{ZephyrJob, ZephyrJobSpec};
pub use status::ZephyrJobStatus;
