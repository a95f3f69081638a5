//! The store, all processes, and their calls in transit. `process` says how a process reacts to an
//! answer.

use std::collections::{BTreeMap, BTreeSet};

use super::Protocol;
use super::process::{Action, Process, Stage};

/// A record: the epoch that appends it, and its number in that epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Record {
    pub(super) epoch: u8,
    pub(super) number: u8,
}

/// An object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Name {
    /// `epochs/{e}/open`
    Open(u8),
    /// `epochs/{e}/log/{seq}`
    Log(u8, u8),
    /// `epochs/{e}/snapshots/{seq}`, with its merged objects.
    Snapshot(u8, u8),
}

/// An object. Its writer's token distinguishes it from another with the same content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Object {
    pub(super) writer: u8,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Content {
    Open,
    Record(Record),
    Seal,
    /// All records before its position.
    Snapshot(Vec<Record>),
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct World {
    pub(super) store: BTreeMap<Name, Object>,
    pub(super) processes: Vec<Process>,
    /// Puts that outlived their process: each can arrive at any later time.
    pub(super) strays: BTreeSet<(Name, Object)>,
    pub(super) acknowledged: BTreeSet<Record>,
    pub(super) crashes: u8,
    pub(super) conflicts: u8,
}

impl World {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            store: BTreeMap::new(),
            processes: (0..protocol.processes).map(Process::new).collect(),
            strays: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            crashes: protocol.crashes,
            conflicts: protocol.conflicts,
        }
    }

    /// Adds all events that can happen next.
    pub(super) fn actions(&self, protocol: Protocol, actions: &mut Vec<Action>) {
        for (number, process) in (0..).zip(&self.processes) {
            match &process.stage {
                // Before they start, all processes are alike. So only the first process that has
                // not started may start next.
                Stage::NotStarted => {
                    actions.push(Action::Starts(number));
                    break;
                }
                Stage::Listing => {
                    actions.extend(
                        (0..=self.newest_epoch()).map(|epoch| Action::Lists(number, epoch)),
                    );
                }
                Stage::FindingBase { older } => {
                    let found = self.snapshots(*older).map(Some);
                    let before = actions.len();
                    actions.extend(found.map(|seq| Action::LooksForBase(number, seq)));
                    if actions.len() == before {
                        actions.push(Action::LooksForBase(number, None));
                    }
                }
                Stage::Reading { .. } => actions.push(Action::Reads(number)),
                Stage::Putting { name, .. } => {
                    if self.store.contains_key(name) {
                        actions.push(Action::PutIsRefused(number));
                    } else {
                        actions.push(Action::PutIsAnswered(number));
                        actions.push(Action::PutLosesItsReply(number));
                        if self.conflicts > 0 {
                            actions.push(Action::PutMeetsAConflict(number));
                        }
                    }
                }
                Stage::Looking { .. } => actions.push(Action::Looks(number)),
                Stage::Ready => {
                    if process.appended < protocol.records {
                        actions.push(Action::Appends(number));
                    }
                }
                Stage::Fenced | Stage::Refused | Stage::Dead => {}
            }
            let is_alive = !matches!(
                process.stage,
                Stage::Fenced | Stage::Refused | Stage::Dead | Stage::NotStarted
            );
            if is_alive && self.crashes > 0 {
                actions.push(Action::Dies(number));
            }
        }
        actions.extend((0..self.strays.len()).map(Action::StrayArrives));
    }

    /// The coordinators that could dispatch, including those that have ended since.
    pub(super) fn dispatching(&self) -> impl Iterator<Item = &Process> {
        self.processes
            .iter()
            .filter(|process| process.has_dispatched)
    }

    /// The newest epoch that was opened.
    fn newest_epoch(&self) -> u8 {
        let opened = self.store.keys().filter_map(|name| match name {
            Name::Open(epoch) => Some(*epoch),
            Name::Log(..) | Name::Snapshot(..) => None,
        });
        opened.max().unwrap_or(0)
    }

    fn snapshots(&self, of: u8) -> impl Iterator<Item = u8> {
        self.store
            .range(Name::Snapshot(of, 0)..=Name::Snapshot(of, u8::MAX))
            .filter_map(|(name, _)| match name {
                Name::Snapshot(_, seq) => Some(*seq),
                Name::Open(_) | Name::Log(..) => None,
            })
    }

    fn log(&self, epoch: u8) -> impl Iterator<Item = &Object> {
        (0..).map_while(move |seq| self.store.get(&Name::Log(epoch, seq)))
    }

    pub(super) fn is_sealed(&self, epoch: u8) -> bool {
        self.log(epoch)
            .any(|object| object.content == Content::Seal)
    }

    /// Whether a record is in its log, and before the seal if there is one.
    pub(super) fn stands(&self, record: Record) -> bool {
        self.log(record.epoch)
            .take_while(|object| object.content != Content::Seal)
            .any(|object| object.content == Content::Record(record))
    }

    /// Puts an object if there is none.
    pub(super) fn arrives(&mut self, name: Name, object: Object) {
        self.store.entry(name).or_insert(object);
    }
}
