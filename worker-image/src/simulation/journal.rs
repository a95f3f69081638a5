//! Keeps all events of a run, in order, as lines. The hash of the lines shows whether two runs are
//! equal. Also keeps the errors that were found, because panics of tasks would otherwise be lost.
//! This module judges nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::rng::Hash;

/// How many errors are kept at most. The first ones are the most useful.
const MAX_VIOLATIONS: usize = 5;

/// The journal of a run. Cheap to clone.
#[derive(Clone)]
pub(super) struct Journal(Arc<Inner>);

struct Inner {
    began: Instant,
    is_printing: bool,
    lines: Mutex<Lines>,
}

struct Lines {
    hash: Hash,
    count: u64,
    violations: Vec<String>,
}

impl Journal {
    /// Returns an empty journal of a run that begins now.
    pub(super) fn new(is_printing: bool) -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            is_printing,
            lines: Mutex::new(Lines {
                hash: Hash::new(),
                count: 0,
                violations: Vec::new(),
            }),
        }))
    }

    /// Returns the milliseconds since the run began.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Records an event.
    pub(super) fn note(&self, line: &str) {
        let now = self.now_ms();
        if self.0.is_printing {
            println!("{now:>8} {line}");
        }
        let mut lines = self.lines();
        lines.hash.bytes(&now.to_le_bytes());
        lines.hash.bytes(line.as_bytes());
        lines.hash.bytes(b"\n");
        lines.count += 1;
    }

    /// Records an error.
    pub(super) fn violated(&self, line: &str) {
        self.note(&format!("WRONG: {line}"));
        let mut lines = self.lines();
        if lines.violations.len() < MAX_VIOLATIONS {
            lines.violations.push(line.to_owned());
        }
    }

    /// Returns the errors found up to now.
    pub(super) fn violations(&self) -> Vec<String> {
        self.lines().violations.clone()
    }

    /// Returns the hash of all lines.
    pub(super) fn trace(&self) -> u64 {
        self.lines().hash.value()
    }

    /// Returns the number of lines.
    pub(super) fn count(&self) -> u64 {
        self.lines().count
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
