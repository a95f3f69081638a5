//! The limits of an evaluation: memory for the values that it makes, and steps. All code that
//! allocates or repeats calls this module, so that an endless program leads to an error and does
//! not end the process. This module does not check the stack; `stack` does.

use std::cell::Cell;

use crate::Exhausted;

/// How many bytes the values of one evaluation may hold at a time. This is many times what a record
/// of 60 MiB needs. Together with a stack of 256 MiB it is less than the 1 GiB of a small worker.
pub const MAX_HELD_BYTES: usize = 512 << 20;

/// How many steps one evaluation may take. One step is an operation of about 10 ns, such as a call
/// of a definition or a visit of an element or member. A longer operation is several steps. So an
/// endless program is stopped after seconds, and a program that makes new values of everything in a
/// record of 60 MiB has enough steps.
pub const MAX_STEPS: u64 = 200_000_000;

/// How many more steps are allowed for each byte of the input. An element has at least two bytes.
/// Making a value of it, calling a definition for it and sorting it among ten million others takes
/// about 40 steps. So a program that reads and sorts everything has enough steps for a record of
/// any length, and an endless loop on a record of 64 MiB is stopped after half a minute.
pub const STEPS_A_BYTE: u64 = 32;

/// How many steps an allocation costs, in addition to the steps for its bytes.
const ALLOCATION_STEPS: usize = 4;

/// How many bytes are filled or searched in one step.
const STEP_BYTES: usize = 128;

/// How many bytes the JSON of one value may have. This is four times the largest record, because a
/// part that occurs in a value several times is written several times.
pub(crate) const MAX_JSON_BYTES: usize = 256 << 20;

/// How many bytes one allocation takes in addition to its content, for reference counts and the
/// rounding of the allocator.
pub(crate) const ALLOCATION_BYTES: usize = 48;

/// What one evaluation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes the values may have that the evaluation made and still holds.
    pub bytes: usize,
    /// How many steps the evaluation may take in loops and calls.
    pub steps: u64,
    /// How many more steps are allowed for each byte of the input.
    pub steps_a_byte: u64,
}

impl Limits {
    /// The default limits.
    pub const DEFAULT: Self = Self {
        bytes: MAX_HELD_BYTES,
        steps: MAX_STEPS,
        steps_a_byte: STEPS_A_BYTE,
    };

    /// Returns the limits for an input with this number of bytes.
    pub(crate) fn for_input(self, bytes: usize) -> Self {
        let more = self.steps_a_byte.saturating_mul(bytes as u64);
        Self {
            steps: self.steps.saturating_add(more),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

thread_local! {
    /// The limits of the evaluation, for error messages.
    static LIMITS: Cell<Limits> = const { Cell::new(Limits::DEFAULT) };
    /// How many bytes all values of this thread hold.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// How many bytes [`HELD`] may reach.
    static MAX_HELD: Cell<usize> = const { Cell::new(usize::MAX) };
    /// How many steps are left.
    static STEPS: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// An evaluation. Its limits apply until this is dropped; then the earlier limits apply again.
pub(crate) struct Meter {
    outer: (usize, u64, Limits),
}

impl Meter {
    /// Begins an evaluation. Values that already exist do not count.
    pub(crate) fn start(limits: Limits) -> Self {
        let outer = (MAX_HELD.get(), STEPS.get(), LIMITS.get());
        LIMITS.set(limits);
        MAX_HELD.set(HELD.get().saturating_add(limits.bytes));
        STEPS.set(limits.steps);
        Self { outer }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        MAX_HELD.set(self.outer.0);
        STEPS.set(self.outer.1);
        LIMITS.set(self.outer.2);
    }
}

/// Returns how many bytes the values of this thread hold.
pub(crate) fn held() -> usize {
    HELD.get()
}

/// Counts this number of steps. Fails if fewer are left, or if values take too much memory.
#[inline]
pub(crate) fn step(steps: usize) -> Result<(), Exhausted> {
    let left = STEPS.get();
    let steps = steps as u64;
    if left < steps {
        return Err(Exhausted::Steps(LIMITS.get().steps / 1_000_000));
    }
    STEPS.set(left - steps);
    room(0)
}

/// Counts the steps for this number of bytes.
#[inline]
pub(crate) fn step_bytes(bytes: usize) -> Result<(), Exhausted> {
    step(1 + bytes / STEP_BYTES)
}

/// Counts steps without a check. If fewer steps are left, the next check fails.
#[inline]
fn spend(steps: usize) {
    STEPS.set(STEPS.get().saturating_sub(steps as u64));
}

/// Fails if the limit does not allow this number of additional bytes.
#[inline]
pub(crate) fn room(bytes: usize) -> Result<(), Exhausted> {
    if HELD.get().saturating_add(bytes) <= MAX_HELD.get() {
        Ok(())
    } else {
        Err(Exhausted::Memory(LIMITS.get().bytes >> 20))
    }
}

/// Bytes that count as held until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(usize);

impl Held {
    #[inline]
    pub(crate) fn new(bytes: usize) -> Self {
        HELD.set(HELD.get().wrapping_add(bytes));
        spend(ALLOCATION_STEPS + bytes / STEP_BYTES);
        Self(bytes)
    }

    /// Changes the number of bytes that count as held.
    #[inline]
    pub(crate) fn set(&mut self, bytes: usize) {
        HELD.set(HELD.get().wrapping_sub(self.0).wrapping_add(bytes));
        spend(bytes.saturating_sub(self.0) / STEP_BYTES);
        self.0 = bytes;
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        HELD.set(HELD.get().wrapping_sub(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_dropped_values_is_no_longer_counted() {
        let _meter = Meter::start(Limits {
            bytes: 100,
            steps: 14,
            ..Limits::DEFAULT
        });
        let mut held = Held::new(60);
        assert!(room(40).is_ok());
        assert!(room(41).is_err());
        held.set(10);
        let copy = held.clone();
        assert!(room(80).is_ok());
        drop((held, copy));
        assert!(room(100).is_ok());
        assert!(step(2).is_ok());
        assert!(step(10).is_err());
    }

    #[test]
    fn making_values_takes_steps() {
        let _meter = Meter::start(Limits {
            bytes: 1 << 20,
            steps: 20,
            ..Limits::DEFAULT
        });
        let held = Held::new(10 * STEP_BYTES);
        assert!(step(6).is_ok());
        drop(held);
        assert!(step(1).is_err());
    }

    #[test]
    fn an_evaluation_within_another_has_limits_of_its_own() {
        let limits = |bytes| Limits {
            bytes,
            steps: 6,
            ..Limits::DEFAULT
        };
        let outer = Meter::start(limits(100));
        let held = Held::new(90);
        let inner = Meter::start(limits(50));
        assert!(room(50).is_ok());
        assert!(step(1).is_ok());
        drop(inner);
        assert!(room(11).is_err());
        assert!(step(1).is_ok());
        drop((held, outer));
    }
}
