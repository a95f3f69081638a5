//! Decides whether a job's folder may be deleted, and gives the reason if not. Pure: reads no
//! store, no cluster and no clock.

use std::fmt;
use std::time::{Duration, SystemTime};

use zephyr_store::reclaim::{Proof, Survey};

use super::owners::Owners;

/// The least age at which a folder may be deleted if its job is not known to have ended. It applies
/// even if a smaller age is requested. A coordinator writes into its folder every two minutes. A
/// coordinator that has written nothing for this long is gone.
pub(super) const MIN_UNFINISHED_AGE: Duration = Duration::from_mins(15);

/// The longest age that can be requested, in seconds: a hundred years, so that no sum overflows.
const MAX_AGE_SECONDS: u64 = 100 * 365 * 24 * 3600;

/// A folder with its contents.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) uid: String,
    /// Contents and owner of the folder, or why they are not known.
    pub(super) looked: Result<(Survey, Proof), String>,
    pub(super) state: State,
}

/// Whether the job of a folder has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has ended, with the outcome if that is known.
    Ended(String),
    /// It has not ended.
    Unfinished,
    /// It was not checked, or cannot be determined.
    Unknown,
}

/// The decision about a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is deleted.
    Removable,
    /// A job of the cluster owns it.
    Owned,
    /// It was written too recently.
    Young,
    /// Its job is unfinished, and may be running.
    MayRun,
    /// It contains something that no job writes.
    Foreign(u64, String),
    /// Nothing in it shows that it belongs to a job.
    Unproven,
    /// It could not be examined.
    Unreadable(String),
}

/// The facts by which folders are judged.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) older_than: Duration,
    pub(super) now: SystemTime,
    pub(super) owners: Owners,
}

impl Found {
    pub(super) fn new(uid: String, looked: Result<(Survey, Proof), String>) -> Self {
        let state = match &looked {
            Ok((_, Proof::Ended(ended))) => State::Ended(ended.marker.outcome.clone()),
            Ok((_, Proof::Plan { .. } | Proof::Ledger | Proof::Nothing)) | Err(_) => State::Unknown,
        };
        Self { uid, looked, state }
    }

    /// The job's name, or else the place where it writes.
    pub(super) fn job(&self) -> &str {
        match &self.looked {
            Ok((_, Proof::Ended(ended))) if !ended.marker.job.is_empty() => &ended.marker.job,
            Ok((_, Proof::Plan { sink: Some(sink) })) => sink,
            Ok(_) | Err(_) => "-",
        }
    }
}

impl Rules {
    /// Decides whether a folder is deleted.
    pub(super) fn verdict(&self, found: &Found) -> Verdict {
        if self.owners.owns(&found.uid) {
            return Verdict::Owned;
        }
        let (survey, proof) = match &found.looked {
            Ok(looked) => looked,
            Err(problem) => return Verdict::Unreadable(problem.clone()),
        };
        if let Some((count, path)) = &survey.foreign {
            return Verdict::Foreign(*count, path.clone());
        }
        if *proof == Proof::Nothing {
            return Verdict::Unproven;
        }
        let age = survey
            .newest
            .map_or(Duration::ZERO, |newest| self.age(newest));
        let has_ended = match &found.state {
            State::Ended(_) => true,
            State::Unfinished | State::Unknown => false,
        };
        if age < self.older_than {
            Verdict::Young
        } else if !has_ended && age < MIN_UNFINISHED_AGE {
            Verdict::MayRun
        } else {
            Verdict::Removable
        }
    }

    /// Whether the verdict may change when it is known whether the folder's job has ended.
    pub(super) fn depends_on_state(&self, found: &Found) -> bool {
        match self.verdict(found) {
            Verdict::Removable | Verdict::MayRun => true,
            Verdict::Owned
            | Verdict::Young
            | Verdict::Foreign(..)
            | Verdict::Unproven
            | Verdict::Unreadable(_) => false,
        }
    }

    /// Whether no job needs an upload of intermediate data in a job's folder.
    pub(super) fn may_abort(&self, uid: &str, initiated: SystemTime) -> bool {
        let age = self.age(initiated);
        !self.owners.owns(uid) && age >= self.older_than && age >= MIN_UNFINISHED_AGE
    }

    /// Data that was written after `now` has age zero.
    fn age(&self, written: SystemTime) -> Duration {
        self.now.duration_since(written).unwrap_or(Duration::ZERO)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(outcome) if outcome.is_empty() => f.write_str("ended"),
            Self::Ended(outcome) => write!(f, "ended: {outcome}"),
            Self::Unfinished => f.write_str("unfinished"),
            Self::Unknown => f.write_str("-"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removable => f.write_str("delete"),
            Self::Owned => f.write_str("keep: its job exists"),
            Self::Young => f.write_str("keep: written too recently for --older-than"),
            Self::MayRun => write!(
                f,
                "keep: unfinished, and written within {} minutes: its coordinator may be alive",
                MIN_UNFINISHED_AGE.as_secs() / 60
            ),
            Self::Foreign(count, path) => {
                write!(
                    f,
                    "keep: {count} objects in it do not belong to a job, such as {path}"
                )
            }
            Self::Unproven => f.write_str("keep: nothing in it shows that it belongs to a job"),
            Self::Unreadable(problem) => write!(f, "keep: {problem}"),
        }
    }
}

/// An age as it is typed: `7d`, `1d12h`, `90m`, `0s`.
pub(super) fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "not a duration (got {text}); allowed are whole numbers of d, h, m and s, such as 7d or 36h, at most 100 years"
        )
    };
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = after.chars().next().ok_or_else(wrong)?;
        let length = match unit {
            'd' => 24 * 3600,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        seconds = number
            .checked_mul(length)
            .and_then(|more| seconds.checked_add(more))
            .filter(|seconds| *seconds <= MAX_AGE_SECONDS)
            .ok_or_else(wrong)?;
        rest = &after[1..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

/// How long ago that was, for people, such as `9d ago` or `12m ago`.
pub(super) fn age_text(now: SystemTime, at: SystemTime) -> String {
    let seconds = now.duration_since(at).unwrap_or(Duration::ZERO).as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "m"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}
