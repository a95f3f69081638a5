//! The number of workers that a spec asks for: a fixed number, or two bounds between which the
//! operator chooses. Chooses no number itself.

use crate::field_error::FieldError;
use crate::job::{MAX_WORKERS, WorkersSpec};

/// What is wrong with a fixed number beside bounds.
pub(crate) const BOTH: &str = "has replicas beside minReplicas or maxReplicas";
/// What is wrong without any number.
pub(crate) const NEITHER: &str = "has neither replicas nor maxReplicas";
/// What is allowed instead of both.
pub(crate) const ALLOWED: &str =
    "either replicas, a fixed number, or maxReplicas with or without minReplicas";
/// What is wrong with bounds in the wrong order.
pub(crate) const LEAST_ABOVE_GREATEST: &str = "has a minReplicas above maxReplicas";
/// What is allowed instead.
pub(crate) const LEAST_ALLOWED: &str = "at most maxReplicas";

/// The number of workers that a spec asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkersAsked {
    /// This number.
    Fixed(u32),
    /// A number between these two, by the work that is left.
    Elastic {
        /// The least number.
        least: u32,
        /// The greatest number.
        greatest: u32,
    },
}

impl WorkersSpec {
    /// The number of workers that the spec asks for. A spec with an error in these fields asks for
    /// one worker at least.
    pub fn asked(&self) -> WorkersAsked {
        match (self.replicas, self.max_replicas) {
            (Some(replicas), _) => WorkersAsked::Fixed(replicas.clamp(1, MAX_WORKERS)),
            (None, greatest) => {
                let greatest = greatest.unwrap_or(1).clamp(1, MAX_WORKERS);
                let least = self.min_replicas.unwrap_or(1).clamp(1, greatest);
                WorkersAsked::Elastic { least, greatest }
            }
        }
    }
}

/// Returns what is wrong with the combination of the three numbers. Each of them has bounds of its
/// own, which are checked elsewhere.
pub(crate) fn numbers(workers: &WorkersSpec) -> Option<FieldError> {
    let WorkersSpec {
        replicas,
        min_replicas: least,
        max_replicas: greatest,
        ..
    } = workers;
    let path = "spec.workers";
    match (replicas, least, greatest) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Some(FieldError::new(path, BOTH, ALLOWED)),
        (None, _, None) => Some(FieldError::new(path, NEITHER, ALLOWED)),
        (None, Some(least), Some(greatest)) if least > greatest => {
            Some(FieldError::new(path, LEAST_ABOVE_GREATEST, LEAST_ALLOWED).got(least))
        }
        (Some(_), None, None) | (None, _, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(replicas: Option<u32>, least: Option<u32>, greatest: Option<u32>) -> String {
        let mut workers: WorkersSpec = serde_json::from_str("{}").unwrap();
        workers.replicas = replicas;
        workers.min_replicas = least;
        workers.max_replicas = greatest;
        numbers(&workers).map_or_else(
            || format!("{:?}", workers.asked()),
            |error| error.to_string(),
        )
    }

    #[test]
    fn workers_are_a_fixed_number_or_between_two_bounds() {
        let both = format!("spec.workers: {BOTH}; {ALLOWED}");
        let neither = format!("spec.workers: {NEITHER}; {ALLOWED}");
        for (replicas, least, greatest, words) in [
            (Some(3), None, None, "Fixed(3)"),
            (None, None, Some(9), "Elastic { least: 1, greatest: 9 }"),
            (None, Some(2), Some(9), "Elastic { least: 2, greatest: 9 }"),
            (None, Some(9), Some(9), "Elastic { least: 9, greatest: 9 }"),
            (
                None,
                Some(10),
                Some(9),
                "spec.workers: has a minReplicas above maxReplicas (got 10); at most maxReplicas",
            ),
            (Some(3), Some(2), None, &both),
            (Some(3), None, Some(9), &both),
            (Some(3), Some(2), Some(9), &both),
            (None, None, None, &neither),
            (None, Some(2), None, &neither),
        ] {
            let found = asked(replicas, least, greatest);
            assert_eq!(found, words, "{replicas:?} {least:?} {greatest:?}");
        }
    }
}
