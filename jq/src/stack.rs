//! How much stack is left. Evaluation recurses as deep as a program and its values nest. All code
//! that recurses calls this module first, so that endless recursion leads to an error and does not
//! end the process.

use std::cell::Cell;
use std::{io, thread};

use crate::{Exhausted, meter};

/// How many bytes of stack a thread that evaluates untrusted programs has. This is many times what
/// real jq programs and documents need. Only the pages of the stack that are used take memory.
pub const STACK_BYTES: usize = 256 << 20;

/// How many bytes of stack a thread is assumed to have left if its size was not declared. This is
/// half of the stack of a thread of Rust.
const UNKNOWN_BYTES: usize = 1 << 20;

/// How many bytes are kept free below the floor, for code that does not call this module.
const RESERVE_BYTES: usize = 256 << 10;

thread_local! {
    /// The lowest address that recursion may reach; 0 before the first check.
    static FLOOR: Cell<usize> = const { Cell::new(0) };
}

/// Declares that this thread has about `bytes` of stack from here on. Call it at the start of a
/// thread; without it, 1 MiB is assumed. If the number is too large, endless recursion crashes.
pub fn declare(bytes: usize) {
    let usable = bytes.saturating_sub(RESERVE_BYTES);
    FLOOR.set(here().saturating_sub(usable).max(1));
}

/// Runs `work` on a new thread with a stack of [`STACK_BYTES`], which is declared, and waits for
/// its end. The inner result is `Err` if `work` panicked.
///
/// # Errors
/// The thread cannot be started.
pub fn on_full_stack<T: Send>(
    name: &str,
    work: impl FnOnce() -> T + Send,
) -> io::Result<thread::Result<T>> {
    thread::scope(|scope| {
        let work = || {
            declare(STACK_BYTES);
            work()
        };
        let started = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        started.map(thread::ScopedJoinHandle::join)
    })
}

/// Whether more recursion is allowed.
pub(crate) fn has_room() -> bool {
    here() >= floor()
}

/// Counts a step into a value. Fails if the value nests too deep or the program takes too many
/// steps.
pub(crate) fn check() -> Result<(), Exhausted> {
    if !has_room() {
        return Err(Exhausted::Nesting);
    }
    meter::step(1)
}

/// Returns the lowest address that this thread may use.
pub(crate) fn floor() -> usize {
    let floor = FLOOR.get();
    if floor != 0 {
        return floor;
    }
    let floor = here().saturating_sub(UNKNOWN_BYTES).max(1);
    FLOOR.set(floor);
    floor
}

/// Returns the approximate address of the current end of the stack.
#[inline]
pub(crate) fn here() -> usize {
    let marker = 0_u8;
    std::hint::black_box(&raw const marker) as usize
}
