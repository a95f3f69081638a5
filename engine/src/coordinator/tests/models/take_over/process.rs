//! Model of one coordinator's process, call by call, as the code in `store/src/ledger` makes them.

use super::world::{Content, Name, Object, Record, World};
use super::{Mistake, Protocol};

/// A process. It starts only once.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Process {
    /// Its writer's token.
    token: u8,
    pub(super) stage: Stage,
    /// The epoch that it opened; 0 before.
    pub(super) epoch: u8,
    /// The records that it has read from earlier epochs.
    pub(super) replay: Vec<Record>,
    /// Log objects that it has put.
    next: u8,
    /// Number of records that it began to append.
    pub(super) appended: u8,
    /// Whether it completed its take-over and could dispatch.
    pub(super) has_dispatched: bool,
}

/// The next step of a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    NotStarted,
    Listing,
    FindingBase {
        older: u8,
    },
    Reading {
        older: u8,
        seq: u8,
    },
    /// It puts this object only if absent, and repeats the call until its result is known.
    Putting {
        name: Name,
        content: Content,
    },
    /// The store answered "already exists", so it checks which object exists.
    Looking {
        name: Name,
        content: Content,
    },
    /// It dispatches, and acknowledges the records that it has appended.
    Ready,
    Fenced,
    /// It found an invalid object in the ledger, and ended.
    Refused,
    Dead,
}

/// One event. The first number is that of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Starts(u8),
    /// The listing shows this epoch as the newest one.
    Lists(u8, u8),
    LooksForBase(u8, Option<u8>),
    Reads(u8),
    PutIsAnswered(u8),
    /// The put is executed, and its answer is lost.
    PutLosesItsReply(u8),
    /// The answer is "already exists", and this is true.
    PutIsRefused(u8),
    /// The answer is "already exists", and this is false.
    PutMeetsAConflict(u8),
    Looks(u8),
    Appends(u8),
    /// Its last call to the store may still arrive.
    Dies(u8),
    StrayArrives(usize),
}

impl Process {
    pub(super) fn new(token: u8) -> Self {
        Self {
            token,
            stage: Stage::NotStarted,
            epoch: 0,
            replay: Vec::new(),
            next: 0,
            appended: 0,
            has_dispatched: false,
        }
    }

    /// Whether it has ended, or has nothing more to do, without a mistake.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(
            self.stage,
            Stage::NotStarted | Stage::Ready | Stage::Fenced | Stage::Dead
        )
    }

    fn put(&mut self, name: Name, content: Content) {
        self.stage = Stage::Putting { name, content };
    }

    fn object(&self, content: Content) -> Object {
        Object {
            writer: self.token,
            content,
        }
    }

    /// Reads the next older log, or continues with the result.
    fn next_log(&mut self, protocol: Protocol, older: u8, seq: u8) {
        if older < self.epoch {
            let skips = protocol.mistake == Some(Mistake::OnlyTheLastLog) && older + 1 < self.epoch;
            if skips {
                self.next_log(protocol, older + 1, 0);
            } else {
                self.stage = Stage::Reading { older, seq };
            }
        } else {
            let snapshot = Content::Snapshot(self.replay.clone());
            self.put(Name::Snapshot(self.epoch, 0), snapshot);
        }
    }

    /// Handles the answer to the read of a log object. If the object does not exist, the log must
    /// be sealed there.
    fn reads(&mut self, protocol: Protocol, older: u8, seq: u8, found: Option<&Content>) {
        match found {
            Some(content) => {
                if self.takes(content) {
                    self.next_log(protocol, older + 1, 0);
                } else {
                    self.next_log(protocol, older, seq + 1);
                }
            }
            None if protocol.mistake == Some(Mistake::NoSeal) => {
                self.next_log(protocol, older + 1, 0);
            }
            None => self.put(Name::Log(older, seq), Content::Seal),
        }
    }

    /// Clears the memory of a dead process. If the process dispatched, the facts that it knew are
    /// kept for the checks.
    fn dies(&mut self) {
        if !self.has_dispatched {
            *self = Self::new(self.token);
        }
        self.stage = Stage::Dead;
    }

    /// Handles a log object; returns whether it was the seal.
    fn takes(&mut self, content: &Content) -> bool {
        match content {
            Content::Record(record) => {
                self.replay.push(*record);
                false
            }
            Content::Seal => true,
            Content::Open | Content::Snapshot(_) => unreachable!("no log object is one of these"),
        }
    }

    fn record(&self) -> Record {
        Record {
            epoch: self.epoch,
            number: self.appended,
        }
    }

    /// Handles the answer that its object is in the store.
    fn on_mine(&mut self, protocol: Protocol, name: Name) -> Option<Record> {
        match name {
            Name::Open(epoch) => {
                self.epoch = epoch;
                self.begins(epoch);
                None
            }
            Name::Log(epoch, _) if epoch < self.epoch => {
                self.next_log(protocol, epoch + 1, 0);
                None
            }
            Name::Log(..) => {
                self.next += 1;
                if protocol.merges {
                    let own = (1..=self.appended).map(|number| Record {
                        epoch: self.epoch,
                        number,
                    });
                    let all = self.replay.iter().copied().chain(own).collect();
                    self.put(
                        Name::Snapshot(self.epoch, self.next),
                        Content::Snapshot(all),
                    );
                    None
                } else {
                    self.stage = Stage::Ready;
                    Some(self.record())
                }
            }
            Name::Snapshot(_, seq) => {
                self.has_dispatched = true;
                self.stage = Stage::Ready;
                (seq > 0).then(|| self.record())
            }
        }
    }

    fn begins(&mut self, epoch: u8) {
        self.stage = Stage::FindingBase { older: epoch - 1 };
    }

    /// Handles the answer that another object existed before.
    fn on_theirs(&mut self, protocol: Protocol, name: Name, found: &Content) {
        match name {
            Name::Open(epoch) => self.put(Name::Open(epoch + 1), Content::Open),
            Name::Log(older, seq) if older < self.epoch => {
                let is_over =
                    protocol.mistake == Some(Mistake::LostSealNotRead) || self.takes(found);
                if is_over {
                    self.next_log(protocol, older + 1, 0);
                } else {
                    self.next_log(protocol, older, seq + 1);
                }
            }
            Name::Log(..) => {
                self.stage = match found {
                    Content::Seal => Stage::Fenced,
                    Content::Open | Content::Record(_) | Content::Snapshot(_) => Stage::Refused,
                };
            }
            Name::Snapshot(..) => self.stage = Stage::Refused,
        }
    }
}

impl World {
    /// Executes one event.
    pub(super) fn take(&mut self, protocol: Protocol, action: Action) {
        let number = match action {
            Action::StrayArrives(position) => {
                let stray = self.strays.iter().nth(position).cloned();
                if let Some((name, object)) = stray {
                    self.strays.remove(&(name, object.clone()));
                    self.arrives(name, object);
                }
                return;
            }
            Action::Starts(number)
            | Action::Lists(number, _)
            | Action::LooksForBase(number, _)
            | Action::Reads(number)
            | Action::PutIsAnswered(number)
            | Action::PutLosesItsReply(number)
            | Action::PutIsRefused(number)
            | Action::PutMeetsAConflict(number)
            | Action::Looks(number)
            | Action::Appends(number)
            | Action::Dies(number) => number,
        };
        let mut process = self.processes[usize::from(number)].clone();
        let acknowledged = self.moves(protocol, &mut process, action);
        self.acknowledged.extend(acknowledged);
        self.processes[usize::from(number)] = process;
    }

    /// Executes an event. Returns the record that is acknowledged in this step, if there is one.
    fn moves(
        &mut self,
        protocol: Protocol,
        process: &mut Process,
        action: Action,
    ) -> Option<Record> {
        let mistake = protocol.mistake;
        match (action, process.stage.clone()) {
            (Action::Starts(_), _) => {
                process.stage = Stage::Listing;
                None
            }
            (Action::Lists(_, newest), _) => {
                if mistake == Some(Mistake::ListingIsBelieved) {
                    process.epoch = newest + 1;
                    let open = process.object(Content::Open);
                    self.store.insert(Name::Open(newest + 1), open);
                    process.begins(newest + 1);
                } else {
                    process.put(Name::Open(newest + 1), Content::Open);
                }
                None
            }
            (Action::LooksForBase(_, found), Stage::FindingBase { older }) => {
                let snapshot = found.and_then(|seq| self.store.get(&Name::Snapshot(older, seq)));
                match (snapshot.map(|object| &object.content), found) {
                    (Some(Content::Snapshot(records)), Some(seq)) => {
                        process.replay.clone_from(records);
                        process.next_log(protocol, older, seq);
                    }
                    _ if older > 1 => process.begins(older),
                    _ => process.next_log(protocol, 1, 0),
                }
                None
            }
            (Action::Reads(_), Stage::Reading { older, seq }) => {
                let found = self.store.get(&Name::Log(older, seq));
                process.reads(protocol, older, seq, found.map(|object| &object.content));
                None
            }
            (Action::PutIsAnswered(_), Stage::Putting { name, content }) => {
                self.arrives(name, process.object(content));
                process.on_mine(protocol, name)
            }
            (Action::PutLosesItsReply(_), Stage::Putting { name, content }) => {
                self.arrives(name, process.object(content));
                None
            }
            (Action::PutIsRefused(_), Stage::Putting { name, content }) => {
                if mistake == Some(Mistake::ExistsIsMine) {
                    return process.on_mine(protocol, name);
                }
                process.stage = Stage::Looking { name, content };
                None
            }
            (Action::PutMeetsAConflict(_), Stage::Putting { name, content }) => {
                self.conflicts -= 1;
                process.stage = Stage::Looking { name, content };
                None
            }
            (Action::Looks(_), Stage::Looking { name, content }) => {
                match self.store.get(&name) {
                    None => process.put(name, content),
                    Some(found) => {
                        let is_mine = *found == process.object(content)
                            && mistake != Some(Mistake::ExistsIsTheirs);
                        if is_mine {
                            return process.on_mine(protocol, name);
                        }
                        process.on_theirs(protocol, name, &found.content);
                    }
                }
                None
            }
            (Action::Appends(_), _) => {
                process.appended += 1;
                let record = process.record();
                process.put(
                    Name::Log(process.epoch, process.next),
                    Content::Record(record),
                );
                (mistake == Some(Mistake::AckBeforePut)).then_some(record)
            }
            (Action::Dies(_), stage) => {
                self.crashes -= 1;
                if let Stage::Putting { name, content } = stage
                    && !self.store.contains_key(&name)
                {
                    self.strays.insert((name, process.object(content)));
                }
                process.dies();
                None
            }
            (action, stage) => unreachable!("{action:?} of a process that is at {stage:?}"),
        }
    }
}
