//! Merges sorted runs into one sorted sequence. Entries with equal keys are returned in the order
//! of their runs. Only one entry of each run is in memory. This module does not use the contents of
//! payloads.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::ops::error::OperatorError;
use crate::ops::keyed::Entry;

/// A merge of runs, as the beginning of this file describes.
pub(crate) struct SortedRuns<'p, S> {
    path: &'p str,
    runs: Vec<S>,
    heads: BinaryHeap<Head>,
    started: bool,
}

/// The next entry of a run. The order is reversed, because a [`BinaryHeap`] returns its greatest
/// element first.
struct Head {
    entry: Entry,
    run: usize,
}

impl<'p, S, E> SortedRuns<'p, S>
where
    S: Iterator<Item = Result<Entry, E>>,
    E: From<OperatorError>,
{
    /// Begins a merge. Errors name the step `path`.
    pub(crate) fn new(path: &'p str, runs: Vec<S>) -> Self {
        Self {
            path,
            heads: BinaryHeap::with_capacity(runs.len()),
            runs,
            started: false,
        }
    }

    /// The partition and key of the entry that comes next, if `next` has been called before.
    pub(crate) fn peek(&self) -> Option<(u32, &[u8])> {
        self.heads
            .peek()
            .map(|head| (head.entry.partition, head.entry.key.as_slice()))
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, E> {
        if !self.started {
            self.started = true;
            for (run, entries) in self.runs.iter_mut().enumerate() {
                if let Some(entry) = entries.next() {
                    self.heads.push(Head { entry: entry?, run });
                }
            }
        }
        let Some(mut first) = self.heads.peek_mut() else {
            return Ok(None);
        };
        let Some(following) = self.runs[first.run].next() else {
            return Ok(Some(PeekMut::pop(first).entry));
        };
        let following = following?;
        if (following.partition, &following.key) <= (first.entry.partition, &first.entry.key) {
            return Err(OperatorError::of_damage(self.path, "entries are out of order").into());
        }
        Ok(Some(std::mem::replace(&mut first.entry, following)))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |head: &Self| (head.entry.partition, head.run);
        let (partition, run) = place(self);
        let (other_partition, other_run) = place(other);
        partition
            .cmp(&other_partition)
            .then_with(|| self.entry.key.cmp(&other.entry.key))
            .then(run.cmp(&other_run))
            .reverse()
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: u32, key: &str, payload: &str) -> Entry {
        Entry {
            partition,
            key: key.into(),
            payload: payload.into(),
        }
    }

    type Run = Vec<Result<Entry, OperatorError>>;

    fn merged(runs: Vec<Vec<Entry>>) -> Result<String, OperatorError> {
        merged_fallible(
            runs.into_iter()
                .map(|run| run.into_iter().map(Ok).collect())
                .collect(),
        )
    }

    fn merged_fallible(runs: Vec<Run>) -> Result<String, OperatorError> {
        let mut runs = SortedRuns::new("step", runs.into_iter().map(Vec::into_iter).collect());
        let mut text = String::new();
        while let Some(entry) = runs.next()? {
            text.push_str(&String::from_utf8(entry.payload).unwrap());
            text.push(' ');
        }
        Ok(text)
    }

    #[test]
    fn equal_keys_come_in_the_order_of_their_runs() {
        let runs = vec![
            vec![entry(0, "b", "b0"), entry(1, "a", "a0")],
            vec![],
            vec![
                entry(0, "a", "a2"),
                entry(0, "b", "b2"),
                entry(0, "c", "c2"),
            ],
            vec![entry(0, "b", "b3")],
        ];
        assert_eq!(merged(runs).unwrap(), "a2 b0 b2 b3 c2 a0 ");
    }

    #[test]
    fn a_run_out_of_order_or_with_a_key_twice_is_damage() {
        for run in [
            vec![entry(0, "b", ""), entry(0, "a", "")],
            vec![entry(0, "a", ""), entry(0, "a", "")],
            vec![entry(1, "a", ""), entry(0, "b", "")],
        ] {
            let error = merged(vec![run]).unwrap_err();
            assert!(error.damaged);
            assert_eq!(
                error.to_string(),
                "step: the shuffle data is damaged: entries are out of order"
            );
        }
    }

    #[test]
    fn a_run_that_cannot_be_read_ends_the_merge_with_its_own_error() {
        let lost = OperatorError::of_damage("elsewhere", "lost");
        let error = merged_fallible(vec![
            vec![Ok(entry(0, "a", ""))],
            vec![Ok(entry(0, "a", "")), Err(lost.clone())],
        ])
        .unwrap_err();
        assert_eq!(error, lost);
    }
}
