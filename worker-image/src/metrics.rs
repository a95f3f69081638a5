//! The few numbers that both roles show under `/metrics`. Counts nothing itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a worker counts.
#[derive(Clone, Debug, Default)]
pub struct WorkerMetrics {
    /// Tasks that ended well here.
    pub tasks_done: Counter,
    /// Tasks that failed here.
    pub tasks_failed: Counter,
    /// Slots that are not idle.
    pub slots_busy: Gauge,
}

impl WorkerMetrics {
    /// Makes them readable.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "zephyr_worker_tasks_done",
            "Tasks that ended well on this worker",
            self.tasks_done.clone(),
        );
        registry.register(
            "zephyr_worker_tasks_failed",
            "Tasks that failed on this worker",
            self.tasks_failed.clone(),
        );
        registry.register(
            "zephyr_worker_slots_busy",
            "Task slots that are not idle",
            self.slots_busy.clone(),
        );
    }
}

/// What a coordinator counts.
#[derive(Clone, Debug, Default)]
pub struct CoordinatorMetrics {
    /// Events the loop has handled.
    pub events: Counter,
    /// Records put into the ledger.
    pub ledger_records: Counter,
    /// Objects put into the ledger: group commits.
    pub ledger_commits: Counter,
    /// Storage calls that failed and are tried again.
    pub storage_failures: Counter,
    /// Worker sessions that are up.
    pub sessions: Gauge,
    /// Second attempts of stragglers.
    pub speculations: Gauge,
    /// Tasks committed, of all stages.
    pub tasks_done: Gauge,
    /// Tasks planned, of all stages.
    pub tasks_total: Gauge,
}

impl CoordinatorMetrics {
    /// Makes them readable.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "zephyr_coordinator_events",
            "Events handled by the coordinator's loop",
            self.events.clone(),
        );
        registry.register(
            "zephyr_ledger_records",
            "Records put into the ledger",
            self.ledger_records.clone(),
        );
        registry.register(
            "zephyr_ledger_commits",
            "Group commits put into the ledger",
            self.ledger_commits.clone(),
        );
        registry.register(
            "zephyr_storage_failures",
            "Storage calls that failed and are tried again",
            self.storage_failures.clone(),
        );
        registry.register(
            "zephyr_coordinator_sessions",
            "Worker sessions that are up",
            self.sessions.clone(),
        );
        registry.register(
            "zephyr_coordinator_speculations",
            "Second attempts of stragglers, since this coordinator took over",
            self.speculations.clone(),
        );
        registry.register(
            "zephyr_coordinator_tasks_done",
            "Tasks committed",
            self.tasks_done.clone(),
        );
        registry.register(
            "zephyr_coordinator_tasks_total",
            "Tasks planned",
            self.tasks_total.clone(),
        );
    }
}
