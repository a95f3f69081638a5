//! Defines the types of all identities. State keys, paths and messages are made from them.
//!
//! A state key is always `job uid / epoch / stage / shard / attempt / name`. This module reads no
//! clock and generates no identity: the caller provides times, random incarnations and epochs.

use std::fmt;

/// The uid of the `ZephyrJob` object. It identifies a job; the name does not: a job that is created
/// again under the same name sees nothing of the old one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobUid(String);

/// The most characters a job uid may have: a Kubernetes uid has 36.
pub const MAX_JOB_UID_LENGTH: usize = 64;

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part}: not an identity (got {got:?}); allowed are 1 to {max} characters of a-z, A-Z, 0-9, '-', '_' and '.', not beginning with '.'"
)]
pub struct IdentityError {
    /// The part of the key that the text should be.
    pub part: &'static str,
    /// The text, cut to 64 characters.
    pub got: String,
    /// The most characters allowed.
    pub max: usize,
}

/// An identity becomes a path segment, so only characters without a special meaning in a path are
/// allowed.
fn identity(part: &'static str, text: &str, max: usize) -> Result<String, IdentityError> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > max || text.starts_with('.') || !text.chars().all(harmless) {
        let got = text.chars().take(64).collect();
        return Err(IdentityError { part, got, max });
    }
    Ok(text.to_owned())
}

impl JobUid {
    /// Accepts a uid that is valid as a path segment.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        identity("job uid", text, MAX_JOB_UID_LENGTH).map(Self)
    }

    /// The uid's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A number for each set of Kubernetes objects that runs the job, from 1. The operator assigns
    /// it.
    Generation(u32)
}
number! {
    /// A number for each coordinator process, from 1. The process assigns it with a put-if-absent
    /// in the ledger.
    Epoch(u64)
}
/// A stage's position in the plan, 0-based. Paths and records contain this number. People count
/// stages from 1, so the printed number is one greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub u32);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (u64::from(self.0) + 1).fmt(f)
    }
}

/// A source of a pipeline, 0-based: 0 is `spec.pipeline.source`. People count sources from 1, so
/// the printed number is one greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

impl SourceId {
    /// The source of the pipeline itself.
    pub const MAIN: Self = Self(0);
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (u64::from(self.0) + 1).fmt(f)
    }
}

number! {
    /// A shard's position in its stage, 0-based.
    ShardId(u32)
}
number! {
    /// One session of a worker. The shell that accepted it assigns the number, and never uses it
    /// twice in the same process.
    SessionId(u64)
}
number! {
    /// A point in time, in milliseconds of a monotonic clock. Only differences are meaningful.
    Timestamp(u64)
}

impl Timestamp {
    /// The moment `milliseconds` later.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One shard of one stage: the unit of work, of failure and of commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The stage.
    pub stage: StageId,
    /// The shard.
    pub shard: ShardId,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} shard {}", self.stage, self.shard)
    }
}

/// One try of one task: the epoch that dispatched it, and a number that grows with each try of the
/// task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The epoch that dispatched it.
    pub epoch: Epoch,
    /// The number of the try among the task's tries of that epoch, from 1.
    pub number: u32,
}

impl fmt::Display for Attempt {
    /// Writes the attempt as in object names: `e3a1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}a{}", self.epoch, self.number)
    }
}

/// One try, with the task it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskAttempt {
    /// The task.
    pub task: TaskId,
    /// The try.
    pub attempt: Attempt,
}

impl fmt::Display for TaskAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attempt {}", self.task, self.attempt)
    }
}

/// A worker: a pod and one incarnation of the process in it. A replacement pod of the same name is
/// another worker, and so is a restarted container of the same pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    pod_uid: String,
    incarnation: u64,
}

/// The most characters a pod uid may have: a Kubernetes uid has 36.
pub const MAX_POD_UID_LENGTH: usize = 64;

impl WorkerId {
    /// Accepts a pod uid that is valid as an identity, and the random number of this process.
    pub fn parse(pod_uid: &str, incarnation: u64) -> Result<Self, IdentityError> {
        Ok(Self {
            pod_uid: identity("worker's pod uid", pod_uid, MAX_POD_UID_LENGTH)?,
            incarnation,
        })
    }

    /// The pod's uid.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// The process's random number.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.pod_uid, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_could_leave_its_folder_is_refused() {
        for text in [
            "",
            "..",
            ".x",
            "a/b",
            "a\\b",
            "a b",
            "a\0",
            "é",
            &"x".repeat(65),
        ] {
            assert!(JobUid::parse(text).is_err(), "{text:?}");
            assert!(WorkerId::parse(text, 1).is_err(), "{text:?}");
        }
        assert!(JobUid::parse("0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7").is_ok());
    }

    #[test]
    fn if_the_clock_seems_to_go_back_no_time_has_passed() {
        assert_eq!(Timestamp(5).since_ms(Timestamp(9)), 0);
        assert_eq!(Timestamp(u64::MAX).after_ms(1), Timestamp(u64::MAX));
    }
}
