//! Chooses the faults of calls to the store. A fault depends only on the run's seed, the kind of
//! call, its object and the number of earlier calls of this kind, and on no other event. This
//! module executes nothing.

use std::time::Duration;

use super::rng::Rng;

/// How long a call hangs before the client gives up: the same time as for the real client.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How often each fault happens, as a number per thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The longest delay of a call to the store, and of its answer, in milliseconds.
    pub(super) latency_ms_max: u64,
    /// Calls that do not reach the store. The client gets 503.
    pub(super) refused: u64,
    /// Calls that are executed, but whose answer is lost. The client gets 500.
    pub(super) replies_lost: u64,
    /// Conditional puts that are answered with "already exists", whether or not they were executed.
    pub(super) falsely_there: u64,
    /// Calls that hang until the client gives up. Half of them are executed some time later.
    pub(super) hung: u64,
    /// Listings that lack the newest objects.
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
    /// The answer is "already exists". The call may be executed or not.
    FalselyThere {
        lands: bool,
    },
    /// There is no answer. The call is executed after this time, or never.
    Hung {
        lands_after: Option<Duration>,
    },
    /// The listing lacks this number of the newest objects.
    Stale(usize),
    /// One bit of the read data is flipped. The number determines which one.
    Damaged(u64),
    /// The read data ends in the middle.
    Short,
}

/// The fault of one call, and how long the call takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) outcome: Outcome,
}

impl Faults {
    /// Chooses the fault of a call of this kind for this object.
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
