//! Merges sorted runs of entries into one run, or into the step's records. Only one entry of each
//! run and the current group are in memory. The order of the runs is the order of (shard,
//! position), so "the first record" has the same meaning in each merge.

use crate::ops::error::OperatorError;
use crate::ops::keyed::{Entry, Keyed};
use crate::ops::payload::StateError;
use crate::ops::runs::SortedRuns;
use crate::record::Record;

/// The groups of several runs, one by one in the order of (partition, key).
struct Groups<'p, K: Keyed, S> {
    operation: &'p K,
    runs: SortedRuns<'p, S>,
}

/// A group whose entries were all added.
struct Merged<T> {
    partition: u32,
    key: Vec<u8>,
    content: Content<T>,
}

/// A group with one entry can be passed on without decoding.
enum Content<T> {
    Payload(Vec<u8>),
    State(T),
}

impl<'p, K, S, E> Groups<'p, K, S>
where
    K: Keyed,
    S: Iterator<Item = Result<Entry, E>>,
    E: From<OperatorError>,
{
    fn new(operation: &'p K, runs: Vec<S>) -> Self {
        Self {
            operation,
            runs: SortedRuns::new(operation.path(), runs),
        }
    }

    fn next(&mut self) -> Result<Option<Merged<K::State>>, E> {
        let Some(Entry {
            partition,
            key,
            payload,
        }) = self.runs.next()?
        else {
            return Ok(None);
        };
        let mut content = Content::Payload(payload);
        while self.runs.peek() == Some((partition, key.as_slice())) {
            let Some(later) = self.runs.next()? else {
                break;
            };
            let state = match content {
                Content::Payload(payload) => self.operation.decode(&payload),
                Content::State(state) => Ok(state),
            };
            let absorbed = state.and_then(|mut state| {
                self.operation.absorb(&mut state, &later.payload)?;
                Ok(state)
            });
            content = Content::State(absorbed.map_err(|error| failed(self.operation, &error))?);
        }
        Ok(Some(Merged {
            partition,
            key,
            content,
        }))
    }
}

/// Merges neighbouring runs into one that replaces them.
pub(crate) fn entries<'a, K, S, E>(
    operation: &'a K,
    runs: Vec<S>,
) -> impl Iterator<Item = Result<Entry, E>> + 'a
where
    K: Keyed,
    S: Iterator<Item = Result<Entry, E>> + 'a,
    E: From<OperatorError> + 'a,
{
    let mut groups = Groups::new(operation, runs);
    until_error(move || {
        let merged = groups.next()?;
        Ok(merged.map(
            |Merged {
                 partition,
                 key,
                 content,
             }| {
                let payload = match content {
                    Content::Payload(payload) => payload,
                    Content::State(state) => operation.encode(&state),
                };
                Entry {
                    partition,
                    key,
                    payload,
                }
            },
        ))
    })
}

/// Merges all runs of a partition into the step's records, in the order of their keys.
pub(crate) fn records<'a, K, S, E>(
    operation: &'a K,
    runs: Vec<S>,
) -> impl Iterator<Item = Result<Record, E>> + 'a
where
    K: Keyed,
    S: Iterator<Item = Result<Entry, E>> + 'a,
    E: From<OperatorError> + 'a,
{
    let mut groups = Groups::new(operation, runs);
    let mut is_first = true;
    until_error(move || {
        let Some(merged) = groups.next()? else {
            let of_nothing = is_first.then(|| operation.finish_empty()).flatten();
            is_first = false;
            let record = of_nothing.transpose();
            return Ok(record.map_err(|error| failed(operation, &error))?);
        };
        is_first = false;
        let state = match merged.content {
            Content::Payload(payload) => operation.decode(&payload),
            Content::State(state) => Ok(state),
        };
        let record = state.and_then(|state| operation.finish(state));
        Ok(Some(record.map_err(|error| failed(operation, &error))?))
    })
}

/// Adds the step's path to the error of a group.
pub(crate) fn failed<K: Keyed>(operation: &K, error: &StateError) -> OperatorError {
    match error {
        StateError::Damaged(problem) => OperatorError::of_damage(operation.path(), problem),
        StateError::Refused(message) => OperatorError::of_data(operation.path(), message.as_str()),
    }
}

/// An iterator over the results of `next`, which ends with the first error.
fn until_error<T, E>(
    mut next: impl FnMut() -> Result<Option<T>, E>,
) -> impl Iterator<Item = Result<T, E>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let item = next().transpose();
        ended = !matches!(item, Some(Ok(_)));
        item
    })
}
