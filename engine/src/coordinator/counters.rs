//! Adds up the counters of own code over all committed tasks, each task once. Reads no file of a
//! command.

use std::fmt;
use std::sync::Arc;

use crate::coordinator::outbox::Outbox;
use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{JobResult, TaskOutput};
use crate::coordinator::state::{JobState, State};
use crate::id::TaskId;

/// How many names a job may have at most. Each of its tasks has the same limit. The job's status
/// shows all names, and must stay small.
pub const MAX_COUNTERS: usize = 20;
/// The longest name, in characters.
pub const MAX_COUNTER_NAME: usize = 40;
/// The most that one task may count under a name: 2⁵³ - 1. Any JSON library writes this number
/// exactly, and the total of all tasks fits into 128 bits.
pub const MAX_COUNT: u64 = (1 << 53) - 1;
/// Characters of a wrong name that a message shows.
const SHOWN_CHARACTERS: usize = 64;

/// A valid name of a counter. Cheap to clone, because a coordinator keeps the names of every task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterName(Arc<str>);

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not the name of a counter (got {got:?}); a letter, and then up to 39 letters, digits and _.-"
)]
pub struct CounterNameError {
    /// The beginning of the refused name.
    got: String,
}

impl CounterName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, CounterNameError> {
        let is_plain =
            |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
        if begins && name.len() <= MAX_COUNTER_NAME && name.chars().all(is_plain) {
            return Ok(Self(name.into()));
        }
        let got = name.chars().take(SHOWN_CHARACTERS).collect();
        Err(CounterNameError { got })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What committed tasks counted under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CounterTotal {
    /// How many tasks counted under this name. A task that counted 0 is included.
    pub(crate) tasks: u64,
    pub(crate) count: u128,
}

impl State {
    /// Adds what a committed task counted. Replaces each name in its output by the equal name that
    /// is stored already, so that each name is in memory only once.
    pub(crate) fn count_counters(&mut self, output: &mut TaskOutput) {
        for (name, count) in output.more.iter_mut().flat_map(|more| &mut more.counters) {
            if let Some((known, _)) = self.counters.get_key_value(name) {
                *name = known.clone();
            }
            let total = self.counters.entry(name.clone()).or_default();
            total.tasks += 1;
            total.count += u128::from(*count);
        }
    }

    /// Subtracts what [`Self::count_counters`] added, if the output is lost. A name that no task
    /// uses any more is forgotten.
    pub(crate) fn uncount_counters(&mut self, output: &TaskOutput) {
        for (name, count) in output.counters() {
            let Some(total) = self.counters.get_mut(name) else {
                continue;
            };
            total.tasks -= 1;
            total.count -= u128::from(*count);
            if total.tasks == 0 {
                self.counters.remove(name);
            }
        }
    }

    /// Ends the job if its commands count under more names than a job may have. `last` is the task
    /// that was committed just now, if there is one.
    pub(crate) fn judge_counters(&mut self, out: &mut Outbox, last: Option<TaskId>) {
        let found = self.counters.len();
        if found <= MAX_COUNTERS || self.job != JobState::Running {
            return;
        }
        let place = last.map_or(String::new(), |task| format!("{}: ", self.describe(task)));
        let names = self.counters.keys().take(3).map(CounterName::to_string);
        let names = names.collect::<Vec<_>>().join(", ");
        let message = format!(
            "{place}the commands of the job count under more names than allowed (got {found}, such as {names}); at most {MAX_COUNTERS} different names in all files ZEPHYR_COUNTERS"
        );
        let reason = FailureReason::TaskFailed;
        self.fail_job(out, JobResult::Failed { reason, message });
    }

    /// The totals by name, as 64-bit numbers. A total that does not fit is shown as the greatest
    /// 64-bit number.
    pub(crate) fn counters_report(&self) -> Vec<(CounterName, u64)> {
        let shown = self.counters.iter().take(MAX_COUNTERS);
        let shown = shown.map(|(name, total)| {
            let count = u64::try_from(total.count).unwrap_or(u64::MAX);
            (name.clone(), count)
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_letter_and_then_letters_digits_and_few_marks() {
        let longest = "a".repeat(MAX_COUNTER_NAME);
        for name in ["a", "Rows_in.v2-x", longest.as_str()] {
            assert_eq!(CounterName::parse(name).unwrap().as_str(), name);
        }
        let too_long = "a".repeat(MAX_COUNTER_NAME + 1);
        for name in ["", "1a", "_a", "a b", "é", "a\n", "a/b", too_long.as_str()] {
            let error = CounterName::parse(name).unwrap_err().to_string();
            assert!(
                error.contains("is not the name of a counter (got "),
                "{error}"
            );
        }
        let error = CounterName::parse(&"é".repeat(9000)).unwrap_err();
        assert!(error.to_string().len() < 300);
    }
}
