//! The durable state of a job: the plan, and the log of facts, as objects that are written once and
//! never changed.
//!
//! Under `{storage}/{job uid}/`: `plan.json`, `epochs/{e}/open`, `epochs/{e}/log/{seq}`,
//! `epochs/{e}/merged/{n}`, `epochs/{e}/snapshots/{seq}`. Each object is put only if absent and
//! carries its writer's token. Makes no decision about the job: it keeps records in order and
//! fences replaced coordinators.
//!
//! A snapshot lists merged objects that together hold all records before log object `seq` of its
//! epoch. Merged objects are never written again, not even by later epochs: a take-over writes only
//! what is new, and refers to the rest.
//!
//! Nothing here depends on the order or completeness of a listing, or on a clock.

mod append;
#[cfg(test)]
mod bad_objects;
mod encoding;
mod error;
mod inspect;
mod plan;
mod record;
#[cfg(test)]
mod release_0_1_0;
mod take_over;
#[cfg(test)]
mod tests;

pub use append::{Ledger, MergePolicy};
pub use encoding::{Header, Kind, LedgerObject, Part, WriterToken, decode, decode_snapshot};
pub use error::LedgerError;
pub use inspect::{inspect, is_opened};
pub use plan::{PlanFile, TableFiles, keep_plan, load_plan};
pub use take_over::{OpenedEpoch, TakeOver};
