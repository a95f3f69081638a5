//! Raises the limit of open files and connections of this process. Opens none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the maximum that the system allows this process. A coordinator has a
/// connection for each worker. If containers use systemd's default, the limit is 1,024 and the
/// maximum half a million.
pub fn raise_open_files_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, ?current, ?maximum, "the limit of open files cannot be raised; workers beyond it are not served");
    }
}
