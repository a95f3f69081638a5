//! Defines the metrics that both roles serve under `/metrics`. Other modules change the numbers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of buckets, in seconds. One of them is 50 ms, the promised upper bound for the
/// loop's delay.
const WAIT_BUCKETS: [f64; 13] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// A worker's counters.
#[derive(Clone, Debug, Default)]
pub struct WorkerMetrics {
    /// Tasks that succeeded in this worker.
    pub tasks_done: Counter,
    /// Tasks that failed in this worker.
    pub tasks_failed: Counter,
    /// Slots that are not idle.
    pub slots_busy: Gauge,
}

impl WorkerMetrics {
    /// Registers them for `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "zephyr_worker_tasks_done",
            "Tasks that succeeded on this worker",
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

/// A coordinator's counters.
#[derive(Clone, Debug)]
pub struct CoordinatorMetrics {
    /// Events the loop has handled.
    pub events: Counter,
    /// Records put into the ledger.
    pub ledger_records: Counter,
    /// Objects put into the ledger: group commits.
    pub ledger_commits: Counter,
    /// Storage calls that failed and are being retried.
    pub storage_failures: Counter,
    /// Calls without the generation's token.
    pub calls_refused: Counter,
    /// Reports that named a file of another attempt.
    pub reports_refused: Counter,
    /// Open sessions of workers.
    pub sessions: Gauge,
    /// Second attempts of stragglers.
    pub speculations: Gauge,
    /// Tasks committed, of all stages.
    pub tasks_done: Gauge,
    /// Tasks planned, of all stages.
    pub tasks_total: Gauge,
    /// Bad records that committed tasks skipped.
    pub records_skipped: Gauge,
    /// How long heartbeats wait for the loop.
    pub heartbeat_wait_seconds: Histogram,
}

impl Default for CoordinatorMetrics {
    fn default() -> Self {
        Self {
            events: Counter::default(),
            ledger_records: Counter::default(),
            ledger_commits: Counter::default(),
            storage_failures: Counter::default(),
            calls_refused: Counter::default(),
            reports_refused: Counter::default(),
            sessions: Gauge::default(),
            speculations: Gauge::default(),
            tasks_done: Gauge::default(),
            tasks_total: Gauge::default(),
            records_skipped: Gauge::default(),
            heartbeat_wait_seconds: Histogram::new(WAIT_BUCKETS),
        }
    }
}

impl CoordinatorMetrics {
    /// Registers them for `/metrics`.
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
            "zephyr_coordinator_calls_refused",
            "Calls that did not carry this generation's token",
            self.calls_refused.clone(),
        );
        registry.register(
            "zephyr_coordinator_reports_refused",
            "Reports of workers that named a file which is not their attempt's own",
            self.reports_refused.clone(),
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
            "zephyr_coordinator_records_skipped",
            "Bad records that committed tasks skipped",
            self.records_skipped.clone(),
        );
        registry.register(
            "zephyr_coordinator_tasks_total",
            "Tasks planned",
            self.tasks_total.clone(),
        );
        registry.register(
            "zephyr_coordinator_heartbeat_wait_seconds",
            "Time from a heartbeat's arrival until the loop has seen it",
            self.heartbeat_wait_seconds.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_metric_has_a_row_in_the_documentation() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring.md");
        let page = std::fs::read_to_string(page).unwrap();
        let mut registry = Registry::default();
        WorkerMetrics::default().register(&mut registry);
        CoordinatorMetrics::default().register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let mut count = 0;
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {kind}");
            assert!(page.contains(&row), "docs/monitoring.md has no row {row}");
            count += 1;
        }
        assert_eq!(count, 15);
    }
}
