//! Hides the environment and the memory of this process, which hold keys of the storage, from
//! processes of the same user, such as commands of own code. Starts nothing.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on only processes with `CAP_SYS_PTRACE` can read `/proc/<this>/environ` and the memory
/// of this process. Its files in `/proc` belong to root from then on, so what has to be written
/// there is written before. A program that it executes begins without this.
pub(super) fn hide_from_commands() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "own code can read the environment of this process");
    }
}
