//! Checks the conditions that every run must satisfy, whatever failed in it. The judges only read
//! the record of a run.

mod end;
mod generations;
mod requests;

use std::collections::BTreeMap;
use std::fmt;

use super::world::Record;

pub(super) use self::end::normal;

/// The judges. Each reports one kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judge {
    /// A step did not complete, or the operator did not become idle.
    Convergence,
    /// The end differs from that of the run without faults.
    EndState,
    /// Objects were created or deleted more or less often than without faults.
    Counts,
    /// Two generations could start tasks at the same time, or a generation's number was not in
    /// status.
    Generations,
    /// Two generations used the same name.
    Names,
    /// A deletion did not contain the uid of its object.
    Preconditions,
    /// Too many requests were made while they failed.
    Budget,
    /// Status was written too often.
    WriteFloor,
    /// Status does not describe the actual state.
    Truth,
    Panic,
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) judge: Judge,
    pub(super) what: String,
}

/// The result of the run without faults.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) end: BTreeMap<String, serde_json::Value>,
    pub(super) counts: BTreeMap<String, u32>,
    has_any_number: bool,
}

impl Reference {
    /// Extracts the result from a record. If `has_any_number` is set, the number of the generation
    /// is ignored.
    pub(super) fn of(record: &Record, has_any_number: bool) -> Self {
        Self {
            end: normal(record, has_any_number),
            counts: requests::counts(record, has_any_number),
            has_any_number,
        }
    }
}

/// Returns all violations in a run. `reference` is absent for the run without faults.
pub(super) fn judge(
    record: &Record,
    reference: Option<&Reference>,
    panics: &[String],
) -> Vec<Complaint> {
    let mut violations = Vec::new();
    let mut violated = |judge: Judge, all: Vec<String>| {
        violations.extend(all.into_iter().map(|what| Complaint { judge, what }));
    };
    violated(Judge::Panic, panics.to_vec());
    violated(Judge::Convergence, record.stuck.iter().cloned().collect());
    violated(
        Judge::Preconditions,
        requests::deletions_without_uid(record),
    );
    violated(Judge::Budget, requests::over_budget(record));
    violated(Judge::WriteFloor, requests::status_too_often(record));
    violated(Judge::Names, generations::names_used_twice(record));
    violated(Judge::Generations, generations::wrong_generations(record));
    if record.stuck.is_none() {
        violated(Judge::Truth, end::untrue_status(record));
        if let Some(reference) = reference {
            let any = reference.has_any_number;
            let (end, counts) = (normal(record, any), requests::counts(record, any));
            violated(Judge::EndState, end::differences(&reference.end, &end));
            violated(
                Judge::Counts,
                requests::other_counts(&reference.counts, &counts),
            );
        }
    }
    violations
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.judge, self.what)
    }
}
