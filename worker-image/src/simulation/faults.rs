//! The faults of calls to the store. They are drawn from the run's seed, the kind of call, its
//! object and the number of earlier calls of this kind. So they depend on no other event. Executes
//! nothing.

use std::time::Duration;

use super::rng::Rng;

/// How long a call hangs before the client gives it up: the same as for the real client.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How often each fault happens, per thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The longest delay of a call to the store, and of its answer.
    pub(super) latency_ms_max: u64,
    /// Calls that do not reach the store: 503.
    pub(super) refused: u64,
    /// Calls that are executed and whose answer is lost: 500.
    pub(super) replies_lost: u64,
    /// Conditional puts that are answered with "already exists", whether or not they were executed.
    pub(super) falsely_there: u64,
    /// Calls that hang until the client gives them up; half of them are executed some time later.
    pub(super) hung: u64,
    /// Listings without the newest objects.
    pub(super) stale: u64,
    /// Reads with a flipped bit.
    pub(super) damaged: u64,
    /// Reads that end too early.
    pub(super) short: u64,
    /// The objects whose reads can be damaged.
    pub(super) damages: Damages,
}

/// The kinds of objects whose reads may be damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Damages {
    #[default]
    Nothing,
    Ledger,
    Shuffles,
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    List,
    Write,
    WriteIfAbsent,
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Refused,
    ReplyLost,
    /// The answer is "already exists"; the call may be executed or not.
    FalselyThere {
        lands: bool,
    },
    /// There is no answer; the call is executed after this long, or never.
    Hung {
        lands_after: Option<Duration>,
    },
    /// A listing without this number of the newest objects.
    Stale(usize),
    /// One bit of the read data is flipped; the number determines which.
    Damaged(u64),
    /// The read data end in the middle.
    Short,
}

/// The fault of one call, and its duration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) outcome: Outcome,
}

impl Faults {
    /// The fault of a call of this kind for this object.
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
