//! Remembers the objects that this operator made for a job and that no watch has shown yet. As long
//! as a watch is silent, an object may exist although it is not in the cache.
//!
//! Pure. `plan.rs` decides what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::controller::action::Action;

/// How long an object counts as existing although no watch shows it. A silent watch is restarted
/// after 295 s, and then shows whether the object exists. If the restarted watch fails, the
/// operator tries once in this time to create the object again.
const BELIEVED: Duration = Duration::from_mins(6);

/// An object of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The `ConfigMap` with the frozen job.
    Root,
    /// The Service in front of the coordinator.
    Service,
    /// The coordinator's Deployment.
    Coordinator,
    /// The `StatefulSet` of workers.
    Workers,
}

/// When this operator last created an object, or found an existing one of the same name, by
/// generation.
#[derive(Clone, Debug, Default)]
pub struct Made(BTreeMap<(u32, Part), Instant>);

impl Made {
    /// Records a successful action. An action that creates nothing changes nothing.
    pub fn note(&mut self, action: &Action, now: Instant) {
        let (frozen, part) = match action {
            Action::CreateRoot { frozen } => (frozen, Part::Root),
            Action::CreateService { frozen, .. } => (frozen, Part::Service),
            Action::CreateCoordinator { frozen, .. } => (frozen, Part::Coordinator),
            Action::CreateWorkers { frozen, .. } => (frozen, Part::Workers),
            Action::MarkRoot { .. }
            | Action::CreateTokenSecret { .. }
            | Action::MendService { .. }
            | Action::ScaleCoordinator { .. }
            | Action::ScaleWorkers { .. }
            | Action::ForceDeletePod { .. }
            | Action::ReportPodEnds { .. }
            | Action::AcknowledgeResult { .. }
            | Action::EndRun { .. }
            | Action::DeleteRoot { .. }
            | Action::DeleteJob { .. } => return,
        };
        let generation = frozen.generation;
        self.0.retain(|(of, _), _| *of == generation);
        self.0.insert((generation, part), now);
    }

    /// Returns the objects of `generation` that count as existing although no watch has shown them.
    /// `heard` returns when the watch of an object's kind last showed anything.
    pub fn unseen(
        &self,
        generation: u32,
        heard: impl Fn(Part) -> Option<Instant>,
        now: Instant,
    ) -> BTreeSet<Part> {
        let is_unseen = |part: Part, made: Instant| {
            let was_silent = heard(part).is_none_or(|heard| heard <= made);
            was_silent && now.duration_since(made) < BELIEVED
        };
        self.0
            .iter()
            .filter(|((of, part), made)| *of == generation && is_unseen(*part, **made))
            .map(|((_, part), _)| *part)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_created_object_counts_as_existing_until_its_watch_reports_or_for_six_minutes() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let frozen = Arc::new(crate::children::tests::frozen(json!({})));
        let generation = frozen.generation;
        let mut made = Made::default();
        let root_uid = String::new();
        made.note(
            &Action::CreateRoot {
                frozen: frozen.clone(),
            },
            after(0),
        );
        made.note(&Action::CreateService { frozen, root_uid }, after(10));
        let unseen = |heard: Option<u64>, now| {
            let all = made.unseen(generation, |_| heard.map(after), after(now));
            all.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(unseen(None, 20), [Part::Root, Part::Service]);
        assert_eq!(unseen(Some(5), 20), [Part::Service]);
        assert_eq!(unseen(Some(11), 20), []);
        assert_eq!(unseen(None, 365), [Part::Service]);
        assert_eq!(unseen(None, 370), []);
        let other = made.unseen(generation + 1, |_| None, after(20));
        assert_eq!(other, BTreeSet::new());
    }

    #[test]
    fn objects_that_were_created_for_an_earlier_generation_are_forgotten() {
        let mut frozen = crate::children::tests::frozen(json!({}));
        let mut made = Made::default();
        for generation in [1, 2] {
            frozen.generation = generation;
            let frozen = Arc::new(frozen.clone());
            made.note(&Action::CreateRoot { frozen }, Instant::now());
        }
        assert_eq!(made.0.len(), 1);
    }
}
