//! Counts reports of workers that named files of other attempts. This module closes no session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use zephyr_engine::id::WorkerId;

/// A process that has sent this many such reports is refused. A single report may have a temporary
/// cause. But a process that repeats it would report the same file forever, and its task would
/// never end.
pub(super) const MAX_REPORTS: u32 = 3;

/// How many processes are remembered at most: as many as there can be workers. If there are more,
/// some are forgotten, and their count starts again.
const MAX_OFFENDERS: usize = 10_000;

/// The number of such reports of each process. Clones share the same data.
#[derive(Clone, Default)]
pub(crate) struct Offenders(Arc<Mutex<BTreeMap<WorkerId, u32>>>);

impl Offenders {
    /// Counts one more report of this process.
    pub(super) fn note(&self, worker: &WorkerId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_OFFENDERS && !known.contains_key(worker) {
            known.pop_first();
        }
        let reports = known.entry(worker.clone()).or_default();
        *reports = reports.saturating_add(1);
    }

    /// Returns whether this process must be refused.
    pub(super) fn is_fenced(&self, worker: &WorkerId) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(worker)
            .is_some_and(|reports| *reports >= MAX_REPORTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_refused_after_its_third_report_but_not_the_next_one_in_its_pod() {
        let offenders = Offenders::default();
        let process = |incarnation| WorkerId::parse("pod", incarnation).unwrap();
        for fenced in [false, false, true, true] {
            offenders.note(&process(1));
            assert_eq!(offenders.is_fenced(&process(1)), fenced);
        }
        assert!(!offenders.is_fenced(&process(2)));
        let told = zephyr_engine::coordinator::uncharged::Uncharged::ForeignReport.row();
        assert!(told.bound.starts_with(&format!("{MAX_REPORTS} times")));
    }

    #[test]
    fn no_more_processes_are_remembered_than_there_can_be_workers() {
        let offenders = Offenders::default();
        for incarnation in 0..MAX_OFFENDERS as u64 + 5 {
            offenders.note(&WorkerId::parse("pod", incarnation).unwrap());
        }
        assert_eq!(offenders.0.lock().unwrap().len(), MAX_OFFENDERS);
    }
}
