//! Tests scenarios of whole runs. The invariants are checked after every step.

mod bad_records;
mod budgets;
mod cluster;
mod counters;
mod drain;
mod endings;
mod fleet;
mod graphs;
mod incidents;
mod liveness;
mod losses;
mod models;
mod replay;
mod scenarios;
mod sessions;
mod setbacks;
mod simulation;
mod slots;
mod stages;
mod tail;
mod waste;
