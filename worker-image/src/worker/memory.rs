//! Reads how many OOM kills the kernel has counted in this process's control group.

use std::fs;
use std::path::{Path, PathBuf};

/// The file in which the kernel counts the OOM kills of this process's control group.
#[derive(Clone, Debug)]
pub(super) struct OomCounter {
    file: Option<PathBuf>,
}

impl OomCounter {
    /// Finds the file, in version 1 or 2 of control groups. Outside Linux there is no such file.
    pub(super) fn find() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            file: candidates(&own)
                .into_iter()
                .find(|path| count(path).is_some()),
        }
    }

    /// Returns the number of OOM kills so far, or 0 if there is no such file.
    pub(super) fn read(&self) -> u64 {
        self.file.as_deref().and_then(count).unwrap_or(0)
    }
}

/// Returns the paths at which the file may be. In a container with its own view of the control
/// groups the file is at the root; otherwise it is below the path of this process.
fn candidates(own: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            found.push(Path::new("/sys/fs/cgroup").join(path).join("memory.events"));
        } else if controllers.split(',').any(|each| each == "memory") {
            found.push(
                Path::new("/sys/fs/cgroup/memory")
                    .join(path)
                    .join("memory.oom_control"),
            );
        }
    }
    found.push(PathBuf::from("/sys/fs/cgroup/memory.events"));
    found.push(PathBuf::from("/sys/fs/cgroup/memory/memory.oom_control"));
    found
}

fn count(path: &Path) -> Option<u64> {
    parse(&fs::read_to_string(path).ok()?)
}

/// Returns the number in the line `oom_kill <number>`, which the files of both versions have.
fn parse(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_file_are_understood() {
        assert_eq!(
            parse("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(
            parse("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(parse("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn the_processs_own_group_is_tried_before_the_root() {
        let found = candidates("12:memory:/kubepods/x\n0::/kubepods/y\n");
        assert_eq!(
            found[0],
            Path::new("/sys/fs/cgroup/memory/kubepods/x/memory.oom_control")
        );
        assert_eq!(
            found[1],
            Path::new("/sys/fs/cgroup/kubepods/y/memory.events")
        );
    }
}
