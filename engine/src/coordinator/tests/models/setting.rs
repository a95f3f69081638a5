//! The settings of a model: the numbers of tasks and workers, the faults, and the mistake that must
//! be found. Executes nothing.

use stateright::{Model, Property};

use super::counterexample;
use super::world::{Action, World};
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::record::{FinalPlace, OutputFile, TaskOutput};
use crate::coordinator::tests::cluster;
use crate::id::{Attempt, Epoch, TaskAttempt, TaskId};
use crate::plan::Plan;

/// The initial state of a model, and its possible events.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) tasks: u32,
    pub(super) workers: usize,
    pub(super) faults: Faults,
    /// Whether calls of a coordinator that has ended can still reach the object store.
    pub(super) has_strays: bool,
    /// A mistake of the real code.
    pub(super) defect: Option<Defect>,
    /// A mistake of the surrounding model.
    pub(super) mistake: Option<Mistake>,
    pub(super) properties: fn() -> Vec<Property<Setting>>,
}

/// How often each fault can happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    /// The coordinator dies.
    pub(super) crashes: u8,
    /// Another coordinator takes over from a live one.
    pub(super) rivals: u8,
    /// A stream breaks.
    pub(super) breaks: u8,
    /// Messages of a live worker do not arrive for too long.
    pub(super) silences: u8,
    /// A worker's process is killed.
    pub(super) deaths: u8,
    /// A worker is asked to terminate.
    pub(super) drains: u8,
    /// A straggler gets a second attempt.
    pub(super) speculations: u8,
    /// The object store executes a call, and the answer is lost.
    pub(super) lost_replies: u8,
}

/// A wrong implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// The worker completes its upload itself.
    WorkerCompletes,
    /// "No such upload" counts as success.
    GoneIsDone,
    /// "No such upload" counts as a lost file, without a check.
    GoneIsLost,
    /// A loser's output is deleted by the name of the file.
    DiscardByName,
}

/// The rules that a step from one state to the next can violate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// See `invariants`.
    StateContradictsItself,
    ReplayIsRefused,
    /// A file is completed or deleted for an attempt that did not write it.
    AnothersFile,
    ManifestBeforeFiles,
    /// A worker is told that it may forget a result, although the result is neither in the ledger
    /// nor superseded.
    AckedTooEarly,
    /// A worker that announced that it terminates is given a task.
    GivenToOneThatGoes,
    /// A task runs twice without speculation.
    RunsTwice,
    /// A failure is recorded, although no task has failed.
    Charged,
}

impl Setting {
    /// A plan of one stage. Its tasks write final files.
    pub(super) fn plan(&self) -> Plan {
        cluster::plan(&[self.tasks])
    }

    /// Runs the real code, with the mistake that is turned on, if there is one.
    pub(super) fn wrongly<T>(&self, run: impl FnOnce() -> T) -> T {
        match self.defect {
            Some(defect) => defect::with(defect, run),
            None => run(),
        }
    }

    pub(super) fn all_tasks(&self) -> impl Iterator<Item = TaskId> {
        (0..self.tasks).map(|shard| cluster::task(0, shard))
    }
}

impl Model for Setting {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // Events after the end of a job, or after a violation, do not matter.
        if world.broken.is_some() {
            return;
        }
        actions.extend(world.progress());
        if world.result().is_none() {
            actions.extend(world.faults(self));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.take(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        (self.properties)()
    }
}

/// The output of an attempt: bytes that differ from those of any other attempt.
pub(super) fn output(task: TaskAttempt) -> TaskOutput {
    let Attempt { epoch, number } = task.attempt;
    let file = OutputFile {
        rows: 1,
        bytes: epoch.0,
        crc32c: number,
        place: FinalPlace::Multipart {
            uri: String::new(),
            upload: task.attempt.to_string(),
            parts: Vec::new(),
        }
        .into(),
    };
    TaskOutput {
        file,
        records_in: 1,
        bytes_in: 1,
        more: None,
    }
}

/// The attempt that wrote this file.
pub(super) fn written_by(task: TaskId, file: &OutputFile) -> TaskAttempt {
    let attempt = Attempt {
        epoch: Epoch(file.bytes),
        number: file.crc32c,
    };
    TaskAttempt { task, attempt }
}

/// Checks that a deliberate mistake violates one of these properties.
pub(super) fn is_found_out(name: &str, wrong: Setting, properties: &[&str]) {
    let (property, world) = counterexample(name, wrong);
    if let Some(rule) = world.broken {
        println!("{name}: {rule:?}");
    }
    assert!(
        properties.contains(&property),
        "{name} contradicts another property: {property:?}"
    );
}
