//! Decides whether a job of another name that holds a folder may still have a running process. A
//! job that was deleted before its end leaves a claim forever. Its coordinators write signs of life
//! into their storage; a job counts as gone only after it was seen silent for a long time. This
//! module writes only this job's own sign of life, which shows the store's time; [`glance`] writes
//! nothing.
//!
//! A folder is never taken over if that storage cannot be read, or is not also this job's storage:
//! then its clock and its address may differ.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use zephyr_engine::id::JobUid;

use super::OutputError;
use super::intent::Intent;
use super::output::Output;
use super::owner::shown;
use crate::reclaim::read_marker;
use crate::storage::{JobStorage, Location, SIGN_OF_LIFE_INTERVAL, Scheme, last_touched, touch};

/// Least age of the last sign of life. A coordinator writes one every two minutes, also while it
/// waits for the store. A job whose coordinator waits for a node writes no sign of life. If it
/// comes back later, it has completed no file since then, and it fails with an error that names its
/// successor.
const SILENCE: Duration = Duration::from_hours(1);

/// How long this job itself must have seen no new sign. After an outage of the store all
/// coordinators look silent, and each live one writes a sign within one interval.
const WATCHED: Duration = SIGN_OF_LIFE_INTERVAL.saturating_mul(3);

/// What a coordinator has observed of the job that holds the wanted folder. Each process has one
/// value.
#[derive(Debug, Default)]
pub struct OwnerWatch {
    seen: Option<Seen>,
}

/// The last sign, which has not changed since.
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

/// What the storage shows of the job that holds the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Signs {
    /// Unknown, with the reason.
    Unknown(String),
    /// It has ended: this is recorded in its storage.
    Ended,
    /// The age of its last sign of life, if there is one.
    Silent(Option<Duration>),
}

/// The conclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The job may be alive, with the reason.
    MayRun(String),
    /// The job seems to be gone, but its silence must be watched for a while.
    Watch(String),
    /// The job has no running process any more, with the reason.
    Gone(String),
}

impl OwnerWatch {
    /// Reads the other job's storage once. Succeeds only if the job is known to be gone.
    ///
    /// # Errors
    /// The job may be alive, or it has to be watched for longer.
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

/// The verdict as the answer to the job that wants the folder.
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

    /// The job that held the folder and why it is taken over, for people.
    pub(super) fn shown(&self) -> String {
        format!("{}, {}", self.owner, self.reason)
    }
}

/// The conclusion from the signs, which have been the same for this long. Pure.
fn judge(signs: &Signs, watched: Duration) -> Verdict {
    let silence = match signs {
        Signs::Unknown(reason) => return Verdict::MayRun(reason.clone()),
        Signs::Ended => return Verdict::Gone("which has ended".to_owned()),
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

/// `spec.storage.uri` of a job.
pub(super) fn storage_uri(output: &Output) -> String {
    output.storage.root().parent().to_string()
}

/// The clock by which the age of a sign of life is measured.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// That of the store. It is read by writing this job's own sign of life.
    OfStore,
    /// The clock of this machine, with its current time.
    OfMachine(SystemTime),
}

/// What the storage shows, and when the last sign of life was written.
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
    // The same address is a different disk on another machine.
    if at.is_none() && storage.root().scheme() == Scheme::File {
        return Err("its ledger is not on this machine".to_owned());
    }
    // This comes after reading the other sign: by the store's clock, this write is the later one.
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

/// The time by the store's clock.
async fn time_of(storage: &JobStorage) -> Result<SystemTime, String> {
    touch(storage).await.map_err(|error| error.to_string())?;
    let touched = last_touched(storage).await;
    let touched = touched.map_err(|error| error.to_string())?;
    touched.ok_or_else(|| "the file that this job has just written is missing".to_owned())
}

/// The command that removes an object.
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
