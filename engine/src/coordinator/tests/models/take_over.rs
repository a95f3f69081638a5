//! Model of the take-over of an epoch, with the seal: two and three coordinators. Each of them can
//! end between any two calls to the store, pause there for any time, and receive the result of a
//! call late or never.
//!
//! The real code does not run here: it is asynchronous, and is in `zephyr-store`. Each step of the
//! model is one call to the store, and models these lines of `store/src/ledger`:
//!
//! | step | code |
//! | --- | --- |
//! | `Lists` | `take_over.rs`, `newest_listed`: a listing may leave out any object |
//! | put of `Open` | `take_over.rs`, `open_epoch`: `Mine` is the epoch, `Theirs` means the next number |
//! | `LooksForBase` | `take_over.rs`, `find_base`: any snapshot of the newest older epoch that has one, or the beginning |
//! | `Reads` | `take_over.rs`, `replay_and_seal`: `look` at the next log object, `is_sealed` takes its records |
//! | put of `Seal` | `take_over.rs`, `replay_and_seal`: `Mine` ends it, `Theirs` is read and the next is tried |
//! | put of `Snapshot` 0 | `take_over.rs`, `OpenedEpoch::take_over`: `put_part`, then `put_snapshot` |
//! | put of `Records` | `append.rs`, `Ledger::append`: `Mine` is acknowledged, a seal means `Fenced` |
//! | put of a later `Snapshot` | `append.rs`, `merge_if_due`: before `append` gives its answer |
//! | a put itself | `storage/exclusive.rs`, `put_if_absent`: after "already exists", the object shows who wrote it |
//!
//! The model simplifies two things. A merged object and the snapshot that refers to it are one
//! object: nobody reads the merged object before the snapshot refers to it, and neither object
//! changes. Log objects are read one after the other here, but sixteen at a time in the code. The
//! code uses them in order up to the first gap, and there only the put of the seal decides.

mod process;
mod world;

use stateright::{Model, Property};

use super::{counterexample, holds};
use process::{Action, Process, Stage};
use world::{Name, World};

/// The settings of a run.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    /// Number of processes. Each of them may start at any moment.
    processes: u8,
    /// Number of records that each process appends, one after the other.
    records: u8,
    /// Whether the log is merged after each record.
    merges: bool,
    /// How many of them may die.
    crashes: u8,
    /// How often the store answers "already exists" although nothing exists.
    conflicts: u8,
    mistake: Option<Mistake>,
}

/// A wrong implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// Older logs are read but not sealed.
    NoSeal,
    /// A record is acknowledged before it is put.
    AckBeforePut,
    /// If another object exists where a seal should be put, that object is not read.
    LostSealNotRead,
    /// The answer "already exists" is taken to mean the process's own object, without a check.
    ExistsIsMine,
    /// The answer "already exists" is taken to mean an object of another process, without a check.
    ExistsIsTheirs,
    /// The epoch is taken from the listing, without a put.
    ListingIsBelieved,
    /// Only the newest older log is sealed and read.
    OnlyTheLastLog,
}

const RULES: [&str; 6] = [
    "every record that is ever acknowledged is in the replay of every later epoch that dispatches",
    "a record that is acknowledged stands before the seal of its log",
    "no replay has a record twice",
    "the replay of an epoch begins with that of every earlier epoch that dispatched",
    "nobody is fenced without a seal, and no ledger is mistaken for a foreign one",
    "nobody waits forever",
];

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(*self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(*self, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.take(*self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let [acknowledged, sealed, twice, prefix, fenced, waiting] = RULES;
        vec![
            Property::always(acknowledged, |_, world: &World| {
                world.dispatching().all(|later| {
                    let mut earlier = world.acknowledged.iter();
                    earlier
                        .all(|record| record.epoch >= later.epoch || later.replay.contains(record))
                })
            }),
            Property::always(sealed, |_, world: &World| {
                world
                    .acknowledged
                    .iter()
                    .all(|record| world.stands(*record))
            }),
            Property::always(twice, |_, world: &World| {
                world.dispatching().all(|process| {
                    let mut records = process.replay.clone();
                    records.sort_unstable();
                    records.windows(2).all(|pair| pair[0] != pair[1])
                })
            }),
            Property::always(prefix, |_, world: &World| {
                world.dispatching().all(|later| {
                    let mut earlier = world
                        .dispatching()
                        .filter(|known| known.epoch < later.epoch);
                    earlier.all(|known| later.replay.starts_with(&known.replay))
                })
            }),
            Property::always(fenced, |_, world: &World| {
                world.processes.iter().all(|process| {
                    process.stage != Stage::Refused
                        && (process.stage != Stage::Fenced || world.is_sealed(process.epoch))
                })
            }),
            Property::always(waiting, |model, world: &World| {
                let mut actions = Vec::new();
                world.actions(*model, &mut actions);
                !actions.is_empty() || world.processes.iter().all(Process::is_at_rest)
            }),
            Property::sometimes(
                "a successor finds what was acknowledged",
                |_, world: &World| {
                    world.dispatching().any(|later| {
                        later
                            .replay
                            .iter()
                            .any(|record| world.acknowledged.contains(record))
                    })
                },
            ),
            Property::sometimes(
                "a successor finds records that were never acknowledged",
                |_, world: &World| {
                    world.dispatching().any(|later| {
                        later
                            .replay
                            .iter()
                            .any(|record| !world.acknowledged.contains(record))
                    })
                },
            ),
            Property::sometimes(
                "one that was replaced alive learns of it",
                |_, world: &World| {
                    world
                        .processes
                        .iter()
                        .any(|process| process.stage == Stage::Fenced)
                },
            ),
            Property::sometimes(
                "one is acknowledged after it was replaced",
                |_, world: &World| {
                    world.acknowledged.iter().any(|record| {
                        world.is_sealed(record.epoch)
                            && world.processes.iter().any(|process| {
                                process.epoch == record.epoch && process.stage == Stage::Ready
                            })
                    })
                },
            ),
            Property::sometimes(
                "an epoch without a snapshot is passed over",
                |_, world: &World| {
                    world.dispatching().any(|later| {
                        (1..later.epoch)
                            .any(|epoch| !world.store.contains_key(&Name::Snapshot(epoch, 0)))
                    })
                },
            ),
        ]
    }
}

/// Two coordinators, with all possible faults of a store.
const TWO: Protocol = Protocol {
    processes: 2,
    records: 2,
    merges: true,
    crashes: 2,
    conflicts: 1,
    mistake: None,
};

/// Three coordinators.
const THREE: Protocol = Protocol {
    processes: 3,
    records: 2,
    merges: false,
    crashes: 3,
    conflicts: 0,
    mistake: None,
};

#[test]
fn two_coordinators_never_lose_double_or_hide_an_acknowledged_record() {
    holds("take-over of two", &TWO);
}

#[test]
fn three_coordinators_never_lose_double_or_hide_an_acknowledged_record() {
    holds("take-over of three", &THREE);
}

#[test]
fn a_wrong_implementation_of_the_take_over_is_found() {
    let [acknowledged, sealed, twice, _, fenced, _] = RULES;
    for (mistake, protocol, rules) in [
        (Mistake::NoSeal, TWO, &[acknowledged][..]),
        (Mistake::AckBeforePut, TWO, &[sealed]),
        (Mistake::LostSealNotRead, TWO, &[acknowledged]),
        (Mistake::ExistsIsMine, TWO, &[fenced]),
        (Mistake::ExistsIsTheirs, TWO, &[fenced]),
        (Mistake::ListingIsBelieved, TWO, &[fenced, twice]),
        (Mistake::OnlyTheLastLog, THREE, &[acknowledged]),
    ] {
        let wrong = Protocol {
            mistake: Some(mistake),
            ..protocol
        };
        let (broken, _) = counterexample(&format!("{mistake:?}"), wrong);
        assert!(
            rules.contains(&broken),
            "{mistake:?} breaks another rule: {broken}"
        );
    }
}
