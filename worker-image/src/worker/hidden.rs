//! Hides the environment and the memory of this process, which hold keys of the storage, from
//! processes of the same user, such as commands of own code. Starts nothing.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// After this call, only processes with `CAP_SYS_PTRACE` can read `/proc/<this>/environ` and the
/// memory of this process. The files of this process in `/proc` then belong to root, so it must
/// write to them before this call. A program that this process executes is not hidden.
pub(super) fn hide_from_commands() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "own code can read the environment of this process");
    }
}
