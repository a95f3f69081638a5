//! What goes wrong with a call to the store: drawn from the run's seed, the call, its object and
//! how often that was called, so that it depends on nothing else that happens. Carries nothing out.

use std::time::Duration;

use super::rng::Rng;

/// How long a call hangs before its caller's client gives it up: as the real one.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How often what goes wrong, in a thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The longest way of a call to the store, and of its answer back.
    pub(super) latency_ms_max: u64,
    /// Calls that do not reach the store: 503.
    pub(super) refused: u64,
    /// Calls that are carried out and whose answer is lost: 500.
    pub(super) replies_lost: u64,
    /// Conditional puts that are answered as if the object had been there, whether or not they were
    /// carried out.
    pub(super) falsely_there: u64,
    /// Calls that hang until the client gives them up; half of them are carried out some time
    /// later.
    pub(super) hung: u64,
    /// Listings without the newest objects.
    pub(super) stale: u64,
    /// Reads of which a bit is flipped.
    pub(super) damaged: u64,
    /// Reads that end too early.
    pub(super) short: u64,
    /// What can be damaged.
    pub(super) damages: Damages,
}

/// What reads may be damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Damages {
    #[default]
    Nothing,
    Ledger,
    Shuffles,
}

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    List,
    Write,
    WriteIfAbsent,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Refused,
    ReplyLost,
    /// Answered as if the object were there; carried out or not.
    FalselyThere {
        lands: bool,
    },
    /// Not answered; carried out after this long, or never.
    Hung {
        lands_after: Option<Duration>,
    },
    /// A listing without so many of the newest objects.
    Stale(usize),
    /// One bit of what is read is flipped; the number says which.
    Damaged(u64),
    /// What is read ends in the middle.
    Short,
}

/// What happens to one call, and how long it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) outcome: Outcome,
}

impl Faults {
    /// What happens to a call of this kind on this object.
    pub(super) fn fate(&self, rng: &mut Rng, kind: Kind, path: &str) -> Fate {
        let way = |rng: &mut Rng| Duration::from_millis(rng.between(1, self.latency_ms_max.max(1)));
        Fate {
            there: way(rng),
            back: way(rng),
            outcome: self.outcome(rng, kind, path),
        }
    }

    fn outcome(&self, rng: &mut Rng, kind: Kind, path: &str) -> Outcome {
        const MAX_NEWEST: u64 = 5;
        if rng.permille(self.refused) {
            return Outcome::Refused;
        }
        if rng.permille(self.hung) {
            let late = Duration::from_millis(rng.between(1, 120_000));
            let lands_after = rng.percent(50).then_some(late);
            return Outcome::Hung { lands_after };
        }
        match kind {
            Kind::Write | Kind::WriteIfAbsent if rng.permille(self.replies_lost) => {
                Outcome::ReplyLost
            }
            Kind::WriteIfAbsent if rng.permille(self.falsely_there) => Outcome::FalselyThere {
                lands: rng.percent(50),
            },
            Kind::List if rng.permille(self.stale) => {
                Outcome::Stale(usize::try_from(rng.between(1, MAX_NEWEST)).unwrap_or(1))
            }
            Kind::Read if self.damages.has(path) && rng.permille(self.damaged) => {
                Outcome::Damaged(rng.next())
            }
            Kind::Read if rng.permille(self.short) => Outcome::Short,
            Kind::Read | Kind::List | Kind::Write | Kind::WriteIfAbsent => Outcome::Answered,
        }
    }
}

impl Damages {
    fn has(self, path: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Ledger => path.contains("/epochs/"),
            Self::Shuffles => path.ends_with("/shuffle"),
        }
    }
}
