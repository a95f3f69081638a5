//! Converts identities between wire and core types. If a part is missing or invalid, this is an
//! error that names the part. There are no defaults.

use zephyr_engine::coordinator::counters::CounterNameError;
use zephyr_engine::id::{
    Attempt, Epoch, Generation, IdentityError, JobUid, ShardId, StageId, TaskAttempt, TaskId,
};

use zephyr_proto::worker as wire;
use zephyr_store::ownership::OwnershipError;

/// Why a message cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A part is missing.
    #[error("{message}: {part} is missing; every such message carries it")]
    Missing {
        /// The message.
        message: &'static str,
        /// The missing part.
        part: &'static str,
    },
    /// A part is invalid.
    #[error("{message}: {source}")]
    Identity {
        /// The message.
        message: &'static str,
        /// What is wrong with it.
        #[source]
        source: IdentityError,
    },
    /// A number is out of range.
    #[error("{message}: {part} is out of range (got {got}); {allowed}")]
    OutOfRange {
        /// The message.
        message: &'static str,
        /// The part.
        part: &'static str,
        /// The number.
        got: u64,
        /// The allowed range.
        allowed: &'static str,
    },
    /// A file is not where its attempt has to write.
    #[error("{message}: {source}")]
    NotOwn {
        /// The message.
        message: &'static str,
        /// The file, and where it has to be.
        #[source]
        source: OwnershipError,
    },
    /// A counter has a name that is not valid.
    #[error("{message}: {source}")]
    Counter {
        /// The message.
        message: &'static str,
        /// What is wrong with the name.
        #[source]
        source: CounterNameError,
    },
    /// The message belongs to another job.
    #[error("{message}: job uid is {got:?}; this is job {expected}")]
    OtherJob {
        /// The message.
        message: &'static str,
        /// The uid in the message, cut to 64 characters.
        got: String,
        /// The uid of this job.
        expected: JobUid,
    },
    /// The message belongs to another generation.
    #[error("{message}: generation is {got}; this is generation {expected}")]
    OtherGeneration {
        /// The message.
        message: &'static str,
        /// The generation in the message.
        got: u32,
        /// The generation of this process.
        expected: Generation,
    },
}

/// The run to which this process belongs. Every message must name this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIdentity {
    /// The job.
    pub job: JobUid,
    /// The generation.
    pub generation: Generation,
}

impl RunIdentity {
    /// Refuses a message of another job or generation.
    pub fn check(
        &self,
        message: &'static str,
        job_uid: &str,
        generation: u32,
    ) -> Result<(), WireError> {
        if job_uid.is_empty() {
            return Err(WireError::Missing {
                message,
                part: "job uid",
            });
        }
        if generation == 0 {
            return Err(WireError::Missing {
                message,
                part: "generation",
            });
        }
        if job_uid != self.job.as_str() {
            let got = job_uid.chars().take(64).collect();
            return Err(WireError::OtherJob {
                message,
                got,
                expected: self.job.clone(),
            });
        }
        if generation != self.generation.0 {
            return Err(WireError::OtherGeneration {
                message,
                got: generation,
                expected: self.generation,
            });
        }
        Ok(())
    }
}

/// Reads an epoch; 0 is invalid.
pub fn epoch(message: &'static str, epoch: u64) -> Result<Epoch, WireError> {
    match epoch {
        0 => Err(WireError::Missing {
            message,
            part: "epoch",
        }),
        number => Ok(Epoch(number)),
    }
}

/// Reads a task attempt.
pub fn task_attempt(
    message: &'static str,
    task: Option<&wire::TaskAttempt>,
) -> Result<TaskAttempt, WireError> {
    let task = task.ok_or(WireError::Missing {
        message,
        part: "task",
    })?;
    if task.number == 0 {
        return Err(WireError::Missing {
            message,
            part: "attempt number",
        });
    }
    let attempt = Attempt {
        epoch: epoch(message, task.epoch)?,
        number: task.number,
    };
    Ok(TaskAttempt {
        task: TaskId {
            stage: StageId(task.stage),
            shard: ShardId(task.shard),
        },
        attempt,
    })
}

/// Reads a list of task attempts.
pub fn task_attempts(
    message: &'static str,
    tasks: &[wire::TaskAttempt],
) -> Result<Vec<TaskAttempt>, WireError> {
    tasks
        .iter()
        .map(|task| task_attempt(message, Some(task)))
        .collect()
}

/// Writes a task attempt.
pub fn to_wire(task: TaskAttempt) -> wire::TaskAttempt {
    wire::TaskAttempt {
        stage: task.task.stage.0,
        shard: task.task.shard.0,
        epoch: task.attempt.epoch.0,
        number: task.attempt.number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_survives_the_wire_and_a_missing_part_is_named() {
        let whole = wire::TaskAttempt {
            stage: 0,
            shard: 7,
            epoch: 3,
            number: 2,
        };
        assert_eq!(to_wire(task_attempt("Done", Some(&whole)).unwrap()), whole);
        let table = [
            (None, "Done: task is missing"),
            (
                Some(wire::TaskAttempt { epoch: 0, ..whole }),
                "Done: epoch is missing",
            ),
            (
                Some(wire::TaskAttempt { number: 0, ..whole }),
                "Done: attempt number is missing",
            ),
        ];
        for (task, message) in table {
            let error = task_attempt("Done", task.as_ref()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_message_of_another_job_or_generation_is_refused() {
        let ours = RunIdentity {
            job: JobUid::parse("a").unwrap(),
            generation: Generation(2),
        };
        assert_eq!(ours.check("Hello", "a", 2), Ok(()));
        for (uid, generation, message) in [
            ("", 2, "Hello: job uid is missing"),
            ("a", 0, "Hello: generation is missing"),
            ("b", 2, "Hello: job uid is \"b\""),
            ("a", 1, "Hello: generation is 1; this is generation 2"),
        ] {
            let error = ours
                .check("Hello", uid, generation)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
