//! Defines the word that says why a job failed. A word in a ledger of another release that is
//! unknown here is kept unchanged. Decides nothing.

use std::fmt;

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The plan could not be made, because of an expression, a path or the input.
    PlanFailed,
    /// A task failed as often as the budget allows.
    TaskFailed,
    /// A task failed as often as the budget allows, the last time because it ran for longer than
    /// its user allows.
    TaskTimedOut,
    /// A task lost its worker as often as the budget allows.
    TaskDisrupted,
    /// Storage lost or damaged the output of a task, or another job took the output folder.
    OutputLost,
    /// The ledger is damaged, or belongs to another job.
    LedgerDamaged,
    /// More records were skipped than the job allows.
    TooManySkipped,
    /// As many generations as are allowed ended without a result. The operator sends this reason.
    GenerationsExhausted,
    /// Several consecutive generations ended in the same way without progress. The operator sends
    /// this reason.
    NoProgress,
    /// From the operator: the user cancelled the job.
    Cancelled,
    /// From the operator: the job was active for longer than its user allows.
    DeadlineExceeded,
    /// A word that this release does not know.
    Other(String),
}

impl FailureReason {
    /// All words that this release knows.
    pub const KNOWN: [Self; 11] = [
        Self::PlanFailed,
        Self::TaskFailed,
        Self::TaskTimedOut,
        Self::TaskDisrupted,
        Self::OutputLost,
        Self::LedgerDamaged,
        Self::TooManySkipped,
        Self::GenerationsExhausted,
        Self::NoProgress,
        Self::Cancelled,
        Self::DeadlineExceeded,
    ];

    /// The word, in `CamelCase`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::PlanFailed => "PlanFailed",
            Self::TaskFailed => "TaskFailed",
            Self::TaskTimedOut => "TaskTimedOut",
            Self::TaskDisrupted => "TaskDisrupted",
            Self::OutputLost => "OutputLost",
            Self::LedgerDamaged => "LedgerDamaged",
            Self::TooManySkipped => "TooManySkipped",
            Self::GenerationsExhausted => "GenerationsExhausted",
            Self::NoProgress => "NoProgress",
            Self::Cancelled => "Cancelled",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for FailureReason {
    fn from(word: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| known.as_str() == word);
        known.unwrap_or(Self::Other(word))
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_reason_is_read_from_its_own_word() {
        for known in FailureReason::KNOWN {
            assert_eq!(FailureReason::from(known.as_str().to_owned()), known);
        }
        let other = FailureReason::from("QuotaSpent".to_owned());
        assert_eq!(other, FailureReason::Other("QuotaSpent".to_owned()));
        assert_eq!(other.as_str(), "QuotaSpent");
    }
}
