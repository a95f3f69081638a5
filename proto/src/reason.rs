//! Defines why a run ended, as one word in `Result.reason` of `run.proto`. A word of another
//! release that is unknown here is kept unchanged.
//!
//! In the message the reason is a string, so that an older release can still read the report of a
//! newer one.

use std::fmt;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The output is complete.
    Succeeded,
    /// The plan could not be made, because of an expression, a path or the input.
    PlanFailed,
    /// A task failed as often as the budget allows.
    TaskFailed,
    /// A task failed as often as the budget allows, the last time because it ran for longer than
    /// its user allows.
    TaskTimedOut,
    /// A task lost its worker as often as the budget allows.
    TaskDisrupted,
    /// Storage lost or damaged the output of a task.
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
    /// The user cancelled the job. The operator sends this reason.
    Cancelled,
    /// The job was active for longer than its user allows. The operator sends this reason.
    DeadlineExceeded,
    /// A word that this release does not know.
    Other(String),
}

impl EndReason {
    /// All words that this release knows.
    pub const KNOWN: [Self; 12] = [
        Self::Succeeded,
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

    /// Returns the word in a message.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Succeeded => "Succeeded",
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

/// The default is the empty word, for a message without a reason.
impl Default for EndReason {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl From<String> for EndReason {
    fn from(word: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| known.as_str() == word);
        known.unwrap_or(Self::Other(word))
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_reason_is_read_from_its_own_word() {
        for known in EndReason::KNOWN {
            assert_eq!(EndReason::from(known.as_str().to_owned()), known);
        }
    }

    #[test]
    fn a_word_of_another_release_is_kept() {
        for word in ["", "QuotaSpent", "taskFailed", "TaskFailed "] {
            let read = EndReason::from(word.to_owned());
            assert_eq!(
                (read.as_str(), &read),
                (word, &EndReason::Other(word.to_owned()))
            );
        }
    }
}
