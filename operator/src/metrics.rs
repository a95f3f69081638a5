//! Defines the operator's own metrics. The number of series is bounded, because no label contains
//! the name of a job or pod.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use zephyr_crds::status::Phase;

/// The upper bounds of the histogram of reconciles, in seconds. The shortest reconciles write
/// nothing; the longest wait for the API server.
const RECONCILE_BUCKETS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

/// All metrics of the process.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    reconciles: Family<OutcomeLabel, Counter>,
    reconcile_seconds: Histogram,
    actions: Family<ActionLabel, Counter>,
    status_writes: Counter,
    set_aside: Counter,
    watch_failures: Family<KindLabel, Counter>,
    waiting: Gauge,
    in_work: Gauge,
    jobs: Family<PhaseLabel, Gauge>,
    /// The phase of each job, by uid. The gauge counts the jobs in each phase.
    phases: Mutex<BTreeMap<String, Phase>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("zephyr_operator");
        let reconciles = Family::default();
        registry.register(
            "reconciles",
            "Reconciles by outcome: ok, or the step that failed",
            reconciles.clone(),
        );
        let reconcile_seconds = Histogram::new(RECONCILE_BUCKETS);
        registry.register(
            "reconcile_seconds",
            "How long a reconcile took",
            reconcile_seconds.clone(),
        );
        let actions = Family::default();
        registry.register(
            "actions",
            "Writes to the cluster by kind and outcome",
            actions.clone(),
        );
        let status_writes = Counter::default();
        registry.register(
            "status_writes",
            "Writes of a job's status",
            status_writes.clone(),
        );
        let set_aside = Counter::default();
        registry.register(
            "set_aside",
            "Times that the operator failed on a job and paused its work on it",
            set_aside.clone(),
        );
        let watch_failures = Family::default();
        registry.register(
            "watch_failures",
            "Failures of a watch by the kind that is watched",
            watch_failures.clone(),
        );
        let waiting = Gauge::default();
        registry.register("waiting", "Jobs that wait for a free slot", waiting.clone());
        let in_work = Gauge::default();
        registry.register("in_work", "Jobs that are being reconciled", in_work.clone());
        let jobs = Family::default();
        registry.register("jobs", "Jobs by phase", jobs.clone());
        let phases = Mutex::default();
        Self(Arc::new(Inner {
            registry,
            reconciles,
            reconcile_seconds,
            actions,
            status_writes,
            set_aside,
            watch_failures,
            waiting,
            in_work,
            jobs,
            phases,
        }))
    }
}

impl Metrics {
    /// Records the duration of a reconcile, and its result: success or the step that failed.
    pub fn observe_reconcile(&self, took: Duration, failed: Option<&'static str>) {
        self.0.reconcile_seconds.observe(took.as_secs_f64());
        self.0
            .reconciles
            .get_or_create(&OutcomeLabel {
                outcome: failed.unwrap_or("ok"),
            })
            .inc();
    }

    /// Counts one action of a plan. Actions are counted by kind, and by whether they succeeded.
    pub fn count_action(&self, action: &'static str, is_ok: bool) {
        let outcome = if is_ok { "ok" } else { "failed" };
        self.0
            .actions
            .get_or_create(&ActionLabel { action, outcome })
            .inc();
    }

    /// Counts one write of a status.
    pub fn count_status_write(&self) {
        self.0.status_writes.inc();
    }

    /// Counts one internal error of the operator that stopped the processing of a job.
    pub fn count_set_aside(&self) {
        self.0.set_aside.inc();
    }

    /// Counts one failure of the watch of this kind.
    pub fn count_watch_failure(&self, kind: &'static str) {
        self.0
            .watch_failures
            .get_or_create(&KindLabel { kind })
            .inc();
    }

    /// Records the number of jobs that wait for a free slot, and the number of running reconciles.
    pub fn set_depth(&self, (waiting, in_work): (usize, usize)) {
        self.0
            .waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.0
            .in_work
            .set(i64::try_from(in_work).unwrap_or(i64::MAX));
    }

    /// Records that a job is in this phase now.
    pub fn set_phase(&self, uid: &str, phase: Option<Phase>) {
        let mut phases = self.0.phases.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match phase {
            Some(phase) => phases.insert(uid.to_owned(), phase),
            None => phases.remove(uid),
        };
        self.move_gauge(before, phase);
    }

    /// Forgets the jobs for which `is_alive` returns false.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut phases = self.0.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.retain(|uid, phase| {
            let keep = is_alive(uid);
            if !keep {
                self.move_gauge(Some(*phase), None);
            }
            keep
        });
    }

    /// Returns the text that `/metrics` serves.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    fn move_gauge(&self, from: Option<Phase>, to: Option<Phase>) {
        if let Some(phase) = from {
            self.0
                .jobs
                .get_or_create(&PhaseLabel {
                    phase: phase.as_str(),
                })
                .dec();
        }
        if let Some(phase) = to {
            self.0
                .jobs
                .get_or_create(&PhaseLabel {
                    phase: phase.as_str(),
                })
                .inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_row_in_the_documentation() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring.md");
        let page = std::fs::read_to_string(page).unwrap();
        let metrics = Metrics::default();
        // A metric with labels is printed only if it has values.
        metrics.set_phase("a", Some(Phase::Pending));
        metrics.observe_reconcile(Duration::ZERO, None);
        metrics.count_action("scale_workers", true);
        metrics.count_watch_failure("Pods");
        let text = metrics.encode().unwrap();
        let mut count = 0;
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {kind}");
            assert!(page.contains(&row), "docs/monitoring.md has no row {row}");
            count += 1;
        }
        assert_eq!(count, 9);
    }

    #[test]
    fn each_job_is_counted_once_under_its_present_phase() {
        let metrics = Metrics::default();
        metrics.set_phase("a", Some(Phase::Pending));
        metrics.set_phase("a", Some(Phase::Running));
        metrics.set_phase("b", Some(Phase::Running));
        metrics.retain(|uid| uid != "b");
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("zephyr_operator_jobs{phase=\"Running\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("zephyr_operator_jobs{phase=\"Pending\"} 0"),
            "{text}"
        );
    }
}
