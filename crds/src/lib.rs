//! `ZephyrJob`: the types that a user writes and reads, and the checks that need no cluster.
//!
//! No client, no I/O, no engine type. Operator, worker and CLI convert from these types; this crate
//! never depends on them.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive copies each public struct into a function body, where nothing outside can use it"
)]

pub mod conditions;
pub mod crd;
pub mod duration;
pub mod exec;
pub mod field_error;
pub mod fraction;
pub mod frozen;
pub mod job;
pub mod life;
pub mod names;
pub mod on_error;
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
pub mod workers;

pub use job::{ZephyrJob, ZephyrJobSpec};
pub use status::ZephyrJobStatus;
