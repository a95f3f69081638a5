//! Scenarios of whole runs, with the invariants checked after every step.

mod budgets;
mod cluster;
mod incident;
mod liveness;
mod replay;
mod sessions;
mod simulation;
mod stages;
