//! What survives: the plan, and the log of facts, as objects that are written once and never again.
//!
//! Under `{storage}/{job uid}/`: `plan.json`, `epochs/{e}/open`, `epochs/{e}/log/{seq}`, `epochs/{e}/snapshot-0`. Every
//! one is put only if absent and carries its writer's token. Decides nothing about the job: it keeps records in order
//! and keeps out whoever was replaced.
//!
//! Nothing here depends on the order or completeness of a listing, nor on a clock.

mod append;
mod encoding;
mod error;
mod inspect;
mod plan;
mod record;
mod take_over;
#[cfg(test)]
mod tests;

pub use append::Ledger;
pub use encoding::WriterToken;
pub use error::LedgerError;
pub use inspect::inspect;
pub use plan::{PlanFile, keep_plan, load_plan};
pub use take_over::TakeOver;
