//! Makes the list of runs: every fault at every request that a scenario makes, and random
//! combinations. A run has a name, `SCENARIO:REQUEST:FAULT+REQUEST:FAULT…`, with which it can be
//! repeated. Requests are numbered as in the run without faults.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::api::request::Verb;
use super::chance::Chance;
use super::faults::{Exchange, Fault, Rule, Span};

/// The errors that are tried at every request.
const ERRORS: [Fault; 8] = [
    Fault::Status(409),
    Fault::Status(422),
    Fault::TooMany(5),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(504),
    Fault::Hang,
    Fault::Reset,
];
/// The faults that are also tried at every write.
const CUTS: [Fault; 3] = [Fault::CrashBefore, Fault::CrashAfter, Fault::ReplyLost];
/// The faults that are also tried at every watch.
const OF_WATCHES: [Fault; 5] = [
    Fault::Drop(1),
    Fault::Cut,
    Fault::Hold(120),
    Fault::Deaf(5),
    Fault::Expire,
];
/// A list that shows the state from this number of versions ago.
const STALE: Fault = Fault::Stale(8);
/// Faults of a write that last for a long time.
const STORMS: [Fault; 2] = [Fault::Status(503), Fault::TooMany(30)];
/// How long such faults last, in seconds.
const STORM_SECONDS: u32 = 600;

/// One run: the index of a scenario, and the faults at its requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) scenario: usize,
    pub(super) faults: Vec<(usize, Fault, Span)>,
}

/// The requests of a scenario's run without faults.
pub(super) struct Learned {
    pub(super) name: &'static str,
    pub(super) requests: Vec<Exchange>,
    /// Whether the sweep tries only crashes and lost answers of writes, because the scenario has
    /// two jobs and makes twice as many requests.
    pub(super) has_cuts_only: bool,
}

impl Run {
    /// Returns runs with every fault at every request of every scenario. Scenarios begin with the
    /// same requests. Errors at these requests are tried in only one scenario; crashes and lost
    /// answers of writes are tried in all scenarios.
    pub(super) fn singles(all: &[Learned]) -> Vec<Self> {
        let mut known = BTreeSet::new();
        let mut runs = Vec::new();
        for (scenario, learned) in all.iter().enumerate() {
            let mut way = DefaultHasher::new();
            for (number, exchange) in learned.requests.iter().enumerate() {
                (exchange.at, exchange.signature.to_string()).hash(&mut way);
                let is_new = known.insert(way.finish()) && !learned.has_cuts_only;
                let is_write = exchange.signature.verb.is_write();
                let is_first = is_new && is_write && exchange.nth == 1;
                let once = possible(exchange)
                    .into_iter()
                    .filter(|fault| is_new || CUTS.contains(fault))
                    .map(|fault| (number, fault, Span::Once));
                let storms = STORMS
                    .into_iter()
                    .filter(|_| is_first)
                    .map(|fault| (number, fault, Span::Seconds(STORM_SECONDS)));
                runs.extend(once.chain(storms).map(|fault| Self {
                    scenario,
                    faults: vec![fault],
                }));
            }
        }
        runs
    }

    /// Returns a run with `count` random faults in a random scenario.
    pub(super) fn by_chance(seed: u64, count: usize, all: &[Learned]) -> Self {
        let mut chance = Chance::new(seed);
        let scenario = chance.below(all.len());
        let requests = &all[scenario].requests;
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                let number = chance.below(requests.len());
                let possible = possible(&requests[number]);
                (number, possible[chance.below(possible.len())], Span::Once)
            })
            .collect();
        faults.sort();
        faults.dedup_by_key(|(number, _, _)| *number);
        Self { scenario, faults }
    }

    /// Returns the rules of this run.
    pub(super) fn rules(&self, all: &[Learned]) -> Vec<Rule> {
        self.faults
            .iter()
            .filter_map(|(number, fault, span)| {
                let exchange = all[self.scenario].requests.get(*number)?;
                Some(Rule {
                    signature: exchange.signature.clone(),
                    nth: exchange.nth,
                    span: *span,
                    fault: *fault,
                })
            })
            .collect()
    }

    /// Returns the run with this name.
    pub(super) fn read(name: &str, all: &[Learned]) -> Option<Self> {
        let (scenario, faults) = name.split_once(':').unwrap_or((name, ""));
        let scenario = all.iter().position(|learned| learned.name == scenario)?;
        let faults = faults
            .split('+')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (number, fault) = part.split_once(':')?;
                let (fault, span) = match fault.split_once('*') {
                    Some((fault, seconds)) => (fault, Span::Seconds(seconds.parse().ok()?)),
                    None => (fault, Span::Once),
                };
                Some((number.parse().ok()?, Fault::read(fault)?, span))
            })
            .collect::<Option<_>>()?;
        Some(Self { scenario, faults })
    }

    pub(super) fn name(&self, all: &[Learned]) -> String {
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(number, fault, span)| match span {
                Span::Once => format!("{number}:{fault}"),
                Span::Seconds(seconds) => format!("{number}:{fault}*{seconds}"),
            })
            .collect();
        format!("{}:{}", all[self.scenario].name, faults.join("+"))
    }
}

fn possible(exchange: &Exchange) -> Vec<Fault> {
    let mut all = ERRORS.to_vec();
    match exchange.signature.verb {
        Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => all.extend(CUTS),
        Verb::Watch => all.extend(OF_WATCHES),
        Verb::List => all.push(STALE),
        Verb::Get => {}
    }
    all
}

impl Fault {
    /// Returns the fault that has this text in a run's name.
    fn read(text: &str) -> Option<Self> {
        let number = |prefix: &str| text.strip_prefix(prefix)?.parse::<u32>().ok();
        let plain = [
            Self::CrashBefore,
            Self::CrashAfter,
            Self::ReplyLost,
            Self::Reset,
            Self::Hang,
            Self::Cut,
            Self::Expire,
        ];
        plain
            .into_iter()
            .find(|fault| fault.to_string() == text)
            .or_else(|| number("429-").map(Self::TooMany))
            .or_else(|| number("stale-").map(|versions| Self::Stale(versions.into())))
            .or_else(|| number("drop-").map(Self::Drop))
            .or_else(|| number("hold-").map(Self::Hold))
            .or_else(|| number("deaf-").map(Self::Deaf))
            .or_else(|| text.parse().ok().map(Self::Status))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(formatter, "{code}"),
            Self::TooMany(seconds) => write!(formatter, "429-{seconds}"),
            Self::Stale(versions) => write!(formatter, "stale-{versions}"),
            Self::Drop(lines) => write!(formatter, "drop-{lines}"),
            Self::Deaf(lines) => write!(formatter, "deaf-{lines}"),
            Self::Hold(seconds) => write!(formatter, "hold-{seconds}"),
            Self::CrashBefore => formatter.write_str("crash-before"),
            Self::CrashAfter => formatter.write_str("crash-after"),
            Self::ReplyLost => formatter.write_str("reply-lost"),
            Self::Reset => formatter.write_str("reset"),
            Self::Hang => formatter.write_str("hang"),
            Self::Cut => formatter.write_str("cut"),
            Self::Expire => formatter.write_str("expire"),
        }
    }
}
