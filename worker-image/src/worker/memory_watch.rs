//! Decides when the largest task process of a worker must end: shortly before the container's
//! memory is used up. Otherwise the kernel would often end the whole container
//! (`memory.oom.group`), including the supervisor and all other tasks. This module does not kill
//! the process; the slot does.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::task::exec::guardian::{below, processes};

/// The reserve is the memory limit divided by this number. When less memory than the reserve is
/// left, a process is ended. Even a process that fills memory as fast as possible does not fill the
/// reserve between two measurements.
const RESERVE_SHARE: u64 = 10;
/// How many bytes the reserve has at least, in a small container.
const MIN_RESERVE_BYTES: u64 = 32 * 1024 * 1024;
/// The interval between measurements while less than half of the limit is used. If more is used,
/// the interval is `LOOK_OFTEN`.
const LOOK_SELDOM: Duration = Duration::from_millis(250);
const LOOK_OFTEN: Duration = Duration::from_millis(10);
/// How many bytes a page of memory has. `statm` counts pages. All supported platforms have pages of
/// this size.
const PAGE_BYTES: u64 = 4096;

/// Knows how much memory each task process of one worker uses.
pub(super) struct MemoryWatch {
    limit_bytes: u64,
    commands: WatchedCommands,
    /// The bytes that the process of each slot uses, including its commands.
    used: Vec<AtomicU64>,
    /// Whether the commands of the slot use most of these bytes.
    mostly_commands: Vec<AtomicBool>,
}

/// The commands of a job, as far as memory is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchedCommands {
    /// There are none.
    None,
    /// They run as long as a task.
    OfTasks,
    /// Some of them stay between two tasks.
    Kept,
}

/// What a slot must do after a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Measure again after this time.
    Fine(Duration),
    /// End this slot's process.
    TooMuch,
}

impl MemoryWatch {
    /// Returns a watch of `slots` slots. A limit of 0 means that there is no limit. The processes
    /// below a task's process are counted only if the job has commands, because finding them
    /// requires a look at all processes of the machine.
    pub(super) fn new(limit_bytes: u64, slots: u32, commands: WatchedCommands) -> Self {
        Self {
            limit_bytes,
            commands,
            used: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            mostly_commands: (0..slots).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Measures a slot's process, and returns what to do. `process` is `None` if there is no
    /// process.
    pub(super) fn look(&self, slot: u32, process: Option<u32>) -> Finding {
        if self.limit_bytes == 0 {
            return Finding::Fine(LOOK_SELDOM);
        }
        let bytes = process.and_then(anonymous_bytes).unwrap_or(0);
        let commands = process
            .filter(|_| self.commands != WatchedCommands::None)
            .map_or(0, bytes_below);
        if let Some(mostly) = self.mostly_commands.get(slot as usize) {
            mostly.store(commands > bytes, Ordering::Relaxed);
        }
        let own = anonymous_bytes(std::process::id()).unwrap_or(0);
        self.judge(slot, bytes.saturating_add(commands), own)
    }

    /// Whether the slot's commands used most of the memory of the slot at the last measurement.
    pub(super) fn is_mostly_commands(&self, slot: u32) -> bool {
        let mostly = self.mostly_commands.get(slot as usize);
        mostly.is_some_and(|mostly| mostly.load(Ordering::Relaxed))
    }

    /// Whether the memory of a slot can grow after its task has ended. This is possible only if
    /// commands are kept.
    pub(super) fn watches_idle_slots(&self) -> bool {
        self.limit_bytes > 0 && self.commands == WatchedCommands::Kept
    }

    /// Returns whether a process without a task keeps more than half of a slot's share. The memory
    /// of commands that are kept for the next shard is recorded, but it does not count towards that
    /// half.
    pub(super) fn holds_too_much(&self, slot: u32, process: Option<u32>) -> bool {
        if self.limit_bytes == 0 {
            return false;
        }
        let bytes = process.and_then(anonymous_bytes).unwrap_or(0);
        let kept = process
            .filter(|_| self.commands == WatchedCommands::Kept)
            .map_or(0, bytes_below);
        self.note(slot, bytes.saturating_add(kept));
        bytes > self.limit_bytes / (self.used.len() as u64).max(1) / 2
    }

    /// Records that the slot no longer has a process.
    pub(super) fn forget(&self, slot: u32) {
        self.note(slot, 0);
    }

    fn note(&self, slot: u32, bytes: u64) {
        if let Some(used) = self.used.get(slot as usize) {
            used.store(bytes, Ordering::Relaxed);
        }
    }

    fn judge(&self, slot: u32, bytes: u64, supervisor_bytes: u64) -> Finding {
        self.note(slot, bytes);
        let all = self.used.iter().map(|used| used.load(Ordering::Relaxed));
        let total = all.clone().fold(supervisor_bytes, u64::saturating_add);
        let reserve = (self.limit_bytes / RESERVE_SHARE).max(MIN_RESERVE_BYTES);
        let is_largest = all.max().is_none_or(|largest| bytes >= largest);
        if total > self.limit_bytes.saturating_sub(reserve) && bytes > 0 && is_largest {
            self.forget(slot);
            return Finding::TooMuch;
        }
        Finding::Fine(if total > self.limit_bytes / 2 {
            LOOK_OFTEN
        } else {
            LOOK_SELDOM
        })
    }
}

/// Returns how much memory of a process is not backed by files. The kernel cannot reclaim this
/// memory.
fn anonymous_bytes(process: u32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{process}/statm")).ok()?)
}

/// Returns the sum of [`anonymous_bytes`] over all processes below a process.
fn bytes_below(process: u32) -> u64 {
    let Ok(root) = i32::try_from(process) else {
        return 0;
    };
    let below = below(root, &processes());
    let sizes = below
        .into_iter()
        .filter_map(|process| anonymous_bytes(process.unsigned_abs()));
    sizes.fold(0, u64::saturating_add)
}

/// Reads the memory that is resident but not shared. The fields of `statm` are size, resident,
/// shared …, in pages.
fn parse(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared).saturating_mul(PAGE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn only_the_largest_process_is_ended_and_only_if_memory_is_nearly_used_up() {
        let watch = MemoryWatch::new(1000 * MIB, 2, WatchedCommands::None);
        assert_eq!(
            watch.judge(0, 100 * MIB, 50 * MIB),
            Finding::Fine(LOOK_SELDOM)
        );
        assert_eq!(
            watch.judge(1, 600 * MIB, 50 * MIB),
            Finding::Fine(LOOK_OFTEN)
        );
        assert_eq!(
            watch.judge(0, 300 * MIB, 50 * MIB),
            Finding::Fine(LOOK_OFTEN),
            "not the largest"
        );
        assert_eq!(watch.judge(1, 601 * MIB, 50 * MIB), Finding::TooMuch);
        assert_eq!(
            watch.judge(0, 300 * MIB, 50 * MIB),
            Finding::Fine(LOOK_SELDOM),
            "the other one is gone"
        );
    }

    #[test]
    fn without_a_limit_no_process_is_ended() {
        assert_eq!(
            MemoryWatch::new(0, 1, WatchedCommands::Kept).look(0, Some(std::process::id())),
            Finding::Fine(LOOK_SELDOM)
        );
    }

    #[test]
    fn the_processes_below_a_task_count_as_its_memory() {
        let script = "sh -c 'x=$(head -c 50000000 /dev/zero | tr \"\\0\" x); read -r y'; true";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        while bytes_below(child.id()) < 40 * MIB {
            std::thread::yield_now();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(bytes_below(child.id()), 0);
    }

    #[test]
    fn pages_backed_by_files_do_not_count() {
        assert_eq!(parse("5000 300 100 10 0 900 0\n"), Some(200 * PAGE_BYTES));
        assert_eq!(parse(""), None);
    }
}
