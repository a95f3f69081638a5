//! Defines the settings of a worker, and its visible state. `main` and `local` read the
//! environment; this module does not.

use std::path::PathBuf;
use std::sync::Arc;

use zephyr_engine::coordinator::config::MAX_SLOTS;

use crate::job::RunJob;
use crate::metrics::WorkerMetrics;
use crate::transport::token::Token;

/// Settings of one worker.
pub struct WorkerOptions {
    /// The job.
    pub job: Arc<RunJob>,
    /// The token that opens the session.
    pub token: Token,
    /// The coordinator's address.
    pub address: String,
    /// Its pod's uid.
    pub pod_uid: String,
    /// Its pod's name, for people.
    pub pod_name: String,
    /// How many child processes the worker has; at least 1.
    pub slots: u32,
    /// How many bytes of memory all tasks together may use; 0 if this is not known.
    pub memory_bytes: u64,
    /// Whether `memory_bytes` is the container's limit, above which the kernel ends processes.
    pub memory_is_limited: bool,
    /// How many bytes of its node's disk the pod may use; 0 if there is no limit.
    pub disk_limit_bytes: u64,
    /// The executable of child processes. The default is this executable. Its `main` must first
    /// call [`child_main_if_requested`](crate::child_main_if_requested).
    pub executable: Option<PathBuf>,
    /// The folder for data that does not fit into memory. The pod writes nowhere else. Each slot
    /// has its own folder in it.
    pub spill_directory: PathBuf,
    /// Counters for `/metrics`.
    pub metrics: WorkerMetrics,
}

/// Returns the number of task slots of a worker: the requested number, or one for each processor if
/// 0 is requested. The number is limited, because a machine may have more processors than a
/// coordinator accepts slots.
pub fn task_slots(asked_for: u32, processors: u32) -> u32 {
    match asked_for {
        0 => processors.clamp(1, MAX_SLOTS),
        slots => slots,
    }
}

/// Whether the worker can accept work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// There is no session with the coordinator.
    NoSession,
    /// A session with the coordinator of the newest epoch is open.
    Ready,
    /// The worker was asked to terminate.
    Draining,
    /// The worker cannot work for this coordinator, for this reason.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_slot_for_each_processor_and_never_more_than_are_accepted() {
        for (asked_for, processors, slots) in [
            (0, 0, 1),
            (0, 2, 2),
            (0, 256, 256),
            (0, 384, 256),
            (0, u32::MAX, 256),
            (3, 384, 3),
        ] {
            assert_eq!(
                task_slots(asked_for, processors),
                slots,
                "{asked_for} {processors}"
            );
        }
    }
}
