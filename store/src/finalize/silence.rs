//! Decides whether a job with another name that holds a folder may still have a running process. A
//! job that was deleted before its end leaves its claim forever. The coordinators of a job write
//! the job's probe object again and again, as a sign of life. A job counts as gone only if its sign
//! of life has not changed for a long time. This module writes only this job's own sign of life,
//! from which it learns the store's time. [`glance`] writes nothing.
//!
//! A folder is never taken over if the other job's storage cannot be read, or if it is not also
//! this job's storage. In the second case the two storages may have different clocks, and the
//! address of the other one may mean another place for the other job.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use zephyr_engine::id::JobUid;

use super::OutputError;
use super::intent::Intent;
use super::output::Output;
use super::owner::shown;
use crate::reclaim::read_marker;
use crate::storage::{
    JobStorage, Location, SIGN_OF_LIFE_INTERVAL, Scheme, Sign, is_suspended, last_touched, touch,
};

/// How old the last sign of life must be before a job counts as gone. A coordinator writes a sign
/// every two minutes, also while it waits for the store. While a job's coordinator waits for a
/// node, it writes no sign. If such a coordinator starts after the folder was taken over, it
/// completes no file, and the job fails with an error that names its successor.
const SILENCE: Duration = Duration::from_hours(1);

/// How long this job itself must have watched without seeing a new sign. After an outage of the
/// store, the last signs of all coordinators are old. Each coordinator that still runs writes a new
/// sign within one interval.
const WATCHED: Duration = SIGN_OF_LIFE_INTERVAL.saturating_mul(3);

/// What a coordinator has observed of the job that holds the wanted folder. Each process has one
/// value.
#[derive(Debug, Default)]
pub struct OwnerWatch {
    seen: Option<Seen>,
}

/// The last sign of life, and since when it has not changed.
#[derive(Debug)]
struct Seen {
    job: String,
    at: Option<SystemTime>,
    since: Instant,
}

/// A job that has no running process any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    uid: String,
    owner: String,
    reason: String,
}

/// What the storage shows about the job that holds the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Signs {
    /// Nothing is known, for this reason.
    Unknown(String),
    /// The job has ended. This is recorded in its storage.
    Ended,
    /// The job is suspended. It keeps its folder, because it continues when it is resumed.
    Suspended,
    /// The job has not ended, and this is the age of its last sign of life, if there is one.
    Silent(Option<Duration>),
}

/// The conclusion about the other job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The job may still be running, for this reason.
    MayRun(String),
    /// The job seems to be gone, but it must be watched for a while.
    Watch(String),
    /// The job has no running process any more, with the reason.
    Gone(String),
}

impl OwnerWatch {
    /// Reads the other job's storage once. Succeeds only if the job is known to be gone.
    ///
    /// # Errors
    /// The job may still be running, or it must be watched for longer.
    pub(super) async fn ask(
        &mut self,
        output: &Output,
        location: &Location,
        owner: &Intent,
    ) -> Result<Gone, OutputError> {
        let (signs, at) = signs_of(output, owner, Clock::OfStore).await;
        let now = Instant::now();
        let seen = match self.seen.take() {
            Some(seen) if seen.job == owner.job_uid && seen.at == at => seen,
            Some(_) | None => Seen {
                job: owner.job_uid.clone(),
                at,
                since: now,
            },
        };
        let watched = now.duration_since(seen.since);
        self.seen = Some(seen);
        conclusion(judge(&signs, watched), location, owner)
    }
}

/// Like [`OwnerWatch::ask`], but reads once and writes nothing. `now` is the time of this machine.
///
/// # Errors
/// The errors that [`OwnerWatch::ask`] returns at its first call.
pub(super) async fn glance(
    output: &Output,
    location: &Location,
    owner: &Intent,
    now: SystemTime,
) -> Result<Gone, OutputError> {
    let (signs, _) = signs_of(output, owner, Clock::OfMachine(now)).await;
    conclusion(judge(&signs, Duration::ZERO), location, owner)
}

/// Converts the verdict to the result for the job that wants the folder.
fn conclusion(verdict: Verdict, location: &Location, owner: &Intent) -> Result<Gone, OutputError> {
    let (folder, intent) = (location.parent().to_string(), location.to_string());
    match verdict {
        Verdict::Gone(reason) => Ok(Gone {
            uid: owner.job_uid.clone(),
            owner: owner.owner(),
            reason,
        }),
        Verdict::Watch(silence) => Err(OutputError::Watched {
            folder,
            intent,
            owner: owner.owner(),
            silence,
            watched: WATCHED.as_secs() / 60,
        }),
        Verdict::MayRun(reason) => Err(OutputError::Held {
            folder,
            intent,
            owner: owner.owner(),
            removal: removal(location),
            reason: shown(&reason),
        }),
    }
}

impl Gone {
    pub(super) fn is(&self, intent: &Intent) -> bool {
        self.uid == intent.job_uid
    }

    /// Returns which job held the folder and why the folder is taken over, for users.
    pub(super) fn shown(&self) -> String {
        format!("{}, {}", self.owner, self.reason)
    }
}

/// Draws the conclusion. `watched` says how long the signs have not changed. Pure.
fn judge(signs: &Signs, watched: Duration) -> Verdict {
    let silence = match signs {
        Signs::Unknown(reason) => return Verdict::MayRun(reason.clone()),
        Signs::Ended => return Verdict::Gone("which has ended".to_owned()),
        Signs::Suspended => {
            return Verdict::MayRun(
                "it is suspended, and keeps the folder until it is resumed and ends; a job that was cancelled or deleted while it was suspended keeps it too".to_owned(),
            );
        }
        Signs::Silent(Some(age)) if *age < SILENCE => {
            return Verdict::MayRun(format!(
                "its last sign of life is {} min old, and {} min of silence are needed",
                age.as_secs() / 60,
                SILENCE.as_secs() / 60
            ));
        }
        Signs::Silent(Some(age)) => {
            format!("whose last sign of life is {} min old", age.as_secs() / 60)
        }
        Signs::Silent(None) => "of which spec.storage.uri holds no sign of life".to_owned(),
    };
    if watched < WATCHED {
        Verdict::Watch(silence)
    } else {
        Verdict::Gone(silence)
    }
}

/// Returns the `spec.storage.uri` of a job.
pub(super) fn storage_uri(output: &Output) -> String {
    output.storage.root().parent().to_string()
}

/// The clock by which the age of a sign of life is measured.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// The clock of the store. It is read by writing this job's own sign of life.
    OfStore,
    /// The clock of this machine, with its current time.
    OfMachine(SystemTime),
}

/// Returns what the storage shows, and when the last sign of life was written.
async fn signs_of(output: &Output, owner: &Intent, clock: Clock) -> (Signs, Option<SystemTime>) {
    match look(output, owner, clock).await {
        Ok(found) => found,
        Err(reason) => (Signs::Unknown(reason), None),
    }
}

async fn look(
    output: &Output,
    owner: &Intent,
    clock: Clock,
) -> Result<(Signs, Option<SystemTime>), String> {
    let own = storage_uri(output);
    match &owner.storage {
        Some(storage) if *storage == own => {}
        Some(storage) => {
            return Err(format!(
                "its ledger is under another spec.storage.uri, {storage}"
            ));
        }
        None => return Err("it does not say where its ledger is".to_owned()),
    }
    let cannot = |error: &dyn std::fmt::Display| format!("its ledger cannot be read: {error}");
    let job = JobUid::parse(&owner.job_uid).map_err(|error| cannot(&error))?;
    let storage = JobStorage::new(output.stores.clone(), &own, job);
    let storage = storage.map_err(|error| cannot(&error))?;
    let ended = read_marker(&storage).await;
    if ended.map_err(|error| cannot(&error))?.is_some() {
        return Ok((Signs::Ended, None));
    }
    let at = last_touched(&storage).await;
    let at = at.map_err(|error| cannot(&error))?;
    // On another machine, the same address means a different disk.
    if at.is_none() && storage.root().scheme() == Scheme::File {
        return Err("its ledger is not on this machine".to_owned());
    }
    if at.is_some()
        && is_suspended(&storage)
            .await
            .map_err(|error| cannot(&error))?
    {
        return Ok((Signs::Suspended, at));
    }
    // This job's sign must be written after the other job's sign was read. Then the store's clock
    // gives it a later time.
    let age = match at {
        None => None,
        Some(at) => {
            let now = match clock {
                Clock::OfStore => time_of(&output.storage).await,
                Clock::OfMachine(now) => Ok(now),
            };
            let now = now.map_err(|error| cannot(&error))?;
            Some(now.duration_since(at).unwrap_or(Duration::ZERO))
        }
    };
    Ok((Signs::Silent(age), at))
}

/// Returns the current time by the store's clock.
async fn time_of(storage: &JobStorage) -> Result<SystemTime, String> {
    touch(storage, Sign::Alive)
        .await
        .map_err(|error| error.to_string())?;
    let touched = last_touched(storage).await;
    let touched = touched.map_err(|error| error.to_string())?;
    touched.ok_or_else(|| "the file that this job has just written is missing".to_owned())
}

/// Returns the command with which a user removes an object.
fn removal(location: &Location) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let uri = quoted(&location.to_string());
    match location.scheme() {
        Scheme::S3 => format!("aws s3 rm {uri}"),
        Scheme::Gs => format!("gcloud storage rm {uri}"),
        Scheme::Az => format!(
            "az storage blob delete --container-name {} --name {}",
            quoted(location.bucket()),
            quoted(location.path().as_ref())
        ),
        Scheme::File => {
            let path = location.local_path().unwrap_or_default();
            format!("rm {}", quoted(&path.display().to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_job_is_gone_only_if_it_has_ended_or_was_silent_for_long_enough() {
        let unknown = Signs::Unknown("it cannot be reached".to_owned());
        for (signs, watched, is_gone, is_watched) in [
            (unknown.clone(), Duration::ZERO, false, false),
            (unknown, SILENCE * 100, false, false),
            (Signs::Suspended, SILENCE * 100, false, false),
            (Signs::Ended, Duration::ZERO, true, false),
            (Signs::Silent(Some(Duration::ZERO)), SILENCE, false, false),
            (
                Signs::Silent(Some(SILENCE.saturating_sub(SECOND))),
                SILENCE,
                false,
                false,
            ),
            (Signs::Silent(Some(SILENCE)), Duration::ZERO, false, true),
            (
                Signs::Silent(Some(SILENCE)),
                WATCHED.saturating_sub(SECOND),
                false,
                true,
            ),
            (Signs::Silent(Some(SILENCE)), WATCHED, true, false),
            (
                Signs::Silent(None),
                WATCHED.saturating_sub(SECOND),
                false,
                true,
            ),
            (Signs::Silent(None), WATCHED, true, false),
        ] {
            let verdict = judge(&signs, watched);
            let found = (
                matches!(verdict, Verdict::Gone(_)),
                matches!(verdict, Verdict::Watch(_)),
            );
            assert_eq!(found, (is_gone, is_watched), "{signs:?} {watched:?}");
        }
        assert!(WATCHED > SIGN_OF_LIFE_INTERVAL * 2);
    }

    #[test]
    fn the_command_that_removes_a_claim_is_valid_in_a_shell() {
        for (uri, expected) in [
            (
                "s3://b/o/_STARTED.json",
                "aws s3 rm 's3://b/o/_STARTED.json'",
            ),
            ("gs://b/a b/x", "gcloud storage rm 'gs://b/a b/x'"),
            (
                "az://c/o/it's",
                "az storage blob delete --container-name 'c' --name 'o/it'\\''s'",
            ),
            ("file:///o/x", "rm '/o/x'"),
        ] {
            assert_eq!(removal(&Location::parse(uri).unwrap()), expected);
        }
    }
}
