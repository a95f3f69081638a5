//! The durable state of a job: the plan, and the log of its records. They are stored as objects
//! that are written once and never changed, except for the plan: if the pipeline is edited at a
//! restart, the plan of the edited pipeline replaces it.
//!
//! These objects are under `{storage}/{job uid}/`: `plan.json`, `epochs/{e}/open`,
//! `epochs/{e}/log/{seq}`, `epochs/{e}/merged/{n}`, `epochs/{e}/snapshots/{seq}`, `moves/{n}`. Each
//! object is put only if it does not exist yet, and contains the token of its writer. The ledger
//! makes no decision about the job. It keeps records in order, and fences replaced coordinators.
//!
//! A snapshot lists merged objects that together hold all records before log object `seq` of its
//! epoch. No epoch writes the records of a merged object again. A take-over writes only new
//! records, and its snapshot refers to the existing merged objects.
//!
//! The ledger is correct even if a listing omits objects, and in whatever order it shows them. It
//! uses no clock.

mod append;
#[cfg(test)]
mod bad_objects;
mod encoding;
mod error;
mod inspect;
mod moves;
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
pub use inspect::{as_lines, inspect, is_opened, newest_epoch};
pub use moves::{MAX_MOVES, Move, Owner, put_move, read_moves};
pub use plan::{PlanFile, TableFiles, keep_plan, load_plan, replace_plan};
pub use take_over::{OpenedEpoch, TakeOver};
