//! How many files and connections this process may have open at once. Opens none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the most that the system allows this process. A coordinator has a connection
/// for each worker, and where containers are given systemd's default the limit is 1,024 and the
/// most that is allowed half a million.
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
