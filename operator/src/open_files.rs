//! Raises the limit of open files. The operator keeps a stream to each coordinator open, and the
//! usual soft limit is 1,024 files. No other limit is changed. If the limit cannot be raised, the
//! operator runs on.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Raises the soft limit to the hard limit. A failure is only logged.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => info!(before = ?current, now = ?maximum, "limit of open files raised"),
        Err(error) => warn!(%error, limit = ?current, "limit of open files not raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_becomes_the_hard_one() {
        raise_limit();
        let limits = getrlimit(Resource::Nofile);
        assert_eq!(limits.current, limits.maximum);
    }
}
