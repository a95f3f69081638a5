//! Lists everything that is retried without a charge, in any part of the system. Each entry says
//! for how long it is free, what follows after that, and what shows it in the meantime.
//! `docs/failures.md` contains the list as a table, word by word. Decides nothing: the numbers are
//! the constants of the modules that decide.

use crate::coordinator::config::{
    FEW_WORKERS_FREE_TRIES, LOST_INPUTS_FREE_TRIES, LOST_OFTENER, LOST_WITHIN_MS,
    LOST_WORKERS_FREE, LOST_WORKERS_REPORTED, MAX_LOST_OUTPUTS, MIN_LOST_AT_PODS,
    MIN_WORKERS_TRIED, SAME_CAUSE_FREE_TRIES,
};
use crate::coordinator::setback::Setback;

/// A kind of retry that costs no budget at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Uncharged {
    /// A worker vanished, was preempted, or was replaced by another process of its pod.
    WorkerLost,
    /// A worker that was asked to terminate hands its tasks back.
    HandedBack,
    /// A session broke before the worker had taken a task.
    NeverTaken,
    /// A task's attempt was given back.
    GivenBack(Setback),
    /// A committed output is lost, of a stage or of a final file.
    OutputLost,
    /// A call of a task to the store.
    TaskCall,
    /// A call of the coordinator to the store: ledger, lists of outputs, final files,
    /// `_SUCCESS.json`.
    CoordinatorCall,
    /// Planning and take-over.
    Planning,
    /// The coordinator's own disk is full, in a run on one machine.
    CoordinatorDisk,
    /// A worker that finds no coordinator, or is refused by it.
    Session,
    /// A worker whose reports name files of other attempts.
    ForeignReport,
    /// Deleting data that is not needed any more.
    CleanUp,
    /// Writing down the attempts that have ended.
    AttemptHistory,
}

/// The description of a kind: one row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnchargedRow {
    /// What happens.
    pub what: &'static str,
    /// How long, or how often, it is free.
    pub bound: String,
    /// What follows then.
    pub then: &'static str,
    /// What shows it in the meantime.
    pub sign: String,
}

impl Uncharged {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        let first = [Self::WorkerLost, Self::HandedBack, Self::NeverTaken];
        let last = [
            Self::OutputLost,
            Self::TaskCall,
            Self::CoordinatorCall,
            Self::Planning,
            Self::CoordinatorDisk,
            Self::Session,
            Self::ForeignReport,
            Self::CleanUp,
            Self::AttemptHistory,
        ];
        let given_back = Setback::ALL.into_iter().map(Self::GivenBack);
        first.into_iter().chain(given_back).chain(last)
    }

    /// Its description.
    pub fn row(self) -> UnchargedRow {
        UnchargedRow {
            what: self.what(),
            bound: self.bound(),
            then: self.then(),
            sign: self.sign(),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::WorkerLost => {
                "a worker is lost while it runs a task: preempted, silent for 30 s, or replaced by another process of its pod"
            }
            Self::HandedBack => "a worker that must terminate hands its tasks back",
            Self::NeverTaken => "a session breaks before the worker has taken a task",
            Self::GivenBack(Setback::DiskFull) => {
                "a local disk is full, for spilling or for the output"
            }
            Self::GivenBack(Setback::ObjectUnavailable) => {
                "one object cannot be read or written, and its store answers the same kind of call for a neighbouring object"
            }
            Self::GivenBack(Setback::StoreAway) => {
                "the store does not answer the task's worker: no call at all, no write, or no call for that folder"
            }
            Self::GivenBack(Setback::WorkerUnhealthy) => {
                "a worker cannot start a process, or its scratch folder cannot be used"
            }
            Self::GivenBack(Setback::InputLost) => {
                "a task finds inputs lost or damaged, which are made again each time"
            }
            Self::GivenBack(Setback::InputReplaced) => {
                "a task finds inputs lost that another task found before"
            }
            Self::OutputLost => {
                "the committed output of a task is lost or damaged, or its final file cannot be completed any more"
            }
            Self::TaskCall => {
                "a call of a task to the store gets no answer, or a temporary error (429, 5xx, a reset)"
            }
            Self::CoordinatorCall => {
                "a call of the coordinator fails: ledger, lists of outputs, final files, `_SUCCESS.json`"
            }
            Self::Planning => {
                "the ledger cannot be taken over or the inputs cannot be listed, for a cause that may be temporary"
            }
            Self::CoordinatorDisk => {
                "a run on one machine finds no room for its ledger, its lists or `_SUCCESS.json`, or its store refuses such a call permanently (access denied, no such bucket)"
            }
            Self::Session => "a worker finds no coordinator, or is refused by it",
            Self::ForeignReport => "a worker reports files that are not its own",
            Self::CleanUp => "data that is no longer needed cannot be deleted",
            Self::AttemptHistory => "attempts that have ended cannot be written down",
        }
    }

    fn bound(self) -> String {
        let words = match self {
            Self::WorkerLost => {
                return format!(
                    "no limit if Kubernetes says that the pod was preempted, evicted, deleted or lost with its node, unless `taskDisruptions` sets one. A task counts as the cause if all of this holds: {} workers in a row were lost while they ran it; Kubernetes gave no reason; they were in {MIN_LOST_AT_PODS} pods or more; on average they ran it for at most {} min; and workers that ran it were lost {LOST_OFTENER} times as often as other workers, and as the same workers without it",
                    LOST_WORKERS_FREE + 1,
                    LOST_WITHIN_MS / 60_000
                );
            }
            Self::GivenBack(Setback::ObjectUnavailable) => return few_times(),
            Self::GivenBack(Setback::DiskFull | Setback::WorkerUnhealthy) => {
                return format!(
                    "{}. A try does not count if the worker also runs a task that makes progress, because that task may be the cause; at most {FEW_WORKERS_FREE_TRIES} attempts of other tasks count as the cause",
                    few_times()
                );
            }
            Self::GivenBack(Setback::InputLost | Setback::InputReplaced) => {
                return format!("{LOST_INPUTS_FREE_TRIES} times in a row");
            }
            Self::OutputLost => return format!("{MAX_LOST_OUTPUTS} times for a task"),
            Self::GivenBack(Setback::StoreAway) => {
                "no limit: every task that makes such a call waits"
            }
            Self::HandedBack => "no limit: each time costs the cluster a worker",
            Self::NeverTaken => "no limit: it can happen again only after the worker reconnects",
            Self::TaskCall => "2 min from its first failure",
            Self::CoordinatorCall => "no limit: somebody may repair the bucket or the credentials",
            Self::Planning => "no limit",
            Self::CoordinatorDisk => "8 tries, some 40 s",
            Self::Session => "no limit; at most 5 s between two tries",
            Self::ForeignReport => "3 times for a process",
            Self::CleanUp => "5 tries for an attempt's file, 1 min for the intermediate data",
            Self::AttemptHistory => "every 10 s until the job's end; 20000 attempts wait at most",
        };
        words.to_owned()
    }

    fn then(self) -> &'static str {
        match self {
            Self::WorkerLost => "each further one of these is charged to `taskFailures`",
            Self::GivenBack(
                Setback::DiskFull
                | Setback::ObjectUnavailable
                | Setback::WorkerUnhealthy
                | Setback::InputLost
                | Setback::InputReplaced,
            ) => "each further time is charged to `taskFailures`",
            Self::OutputLost => "the job fails, reason `OutputLost`",
            Self::TaskCall => "the task is given back, see the rows on objects and stores",
            Self::CoordinatorDisk => {
                "the run ends, and names call, file and cause; if a disk is full also its mount, its size and what is free"
            }
            Self::Session => "`noWorkersTimeout` or `coordinatorTimeout` ends the generation",
            Self::ForeignReport => "it is not accepted again, and counts as lost",
            Self::CleanUp => "the data stays; the result does not change",
            Self::AttemptHistory => "the history lacks the others; the job does not wait for it",
            Self::GivenBack(Setback::StoreAway)
            | Self::HandedBack
            | Self::NeverTaken
            | Self::CoordinatorCall
            | Self::Planning => "",
        }
    }

    fn sign(self) -> String {
        let words = match self {
            Self::WorkerLost => {
                return format!(
                    "`status.workers.disruptions`; from {LOST_WORKERS_REPORTED} in a row on the sentence \"its worker was lost N times in a row\""
                );
            }
            Self::GivenBack(_) => {
                "`Progressing`: \"given back N times for a cause outside the task\", with the cause"
            }
            Self::HandedBack => "`status.workers.disruptions`, the pods' events",
            Self::NeverTaken => "`status.workers` (reconnecting)",
            Self::OutputLost => "the task runs again; `Revoked` in the ledger",
            Self::TaskCall => "the worker's log",
            Self::CoordinatorCall => {
                "`Progressing=False` and `Degraded=True`, reason `StorageUnavailable`, with call and object"
            }
            Self::Planning => {
                "`Progressing=False` and `Degraded=True`, reason `StorageUnavailable`, with field and object"
            }
            Self::CoordinatorDisk => "the line of progress",
            Self::Session => {
                "`CoordinatorReady=False`; phase `WaitingForWorkers`; the pod is not ready, and its readiness says why"
            }
            Self::ForeignReport => {
                "the coordinator's log, `zephyr_coordinator_reports_refused_total`"
            }
            Self::CleanUp => "the coordinator's log; \"cleaning up after the end\"",
            Self::AttemptHistory => "the coordinator's log; `kubectl zephyr history --ledger`",
        };
        words.to_owned()
    }
}

fn few_times() -> String {
    format!(
        "{SAME_CAUSE_FREE_TRIES} times in a row, or {FEW_WORKERS_FREE_TRIES} times if there are other workers and fewer than {MIN_WORKERS_TRIED} have tried it. A try that reads twice as much as any before resets the count"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documentation_has_exactly_one_row_for_each_kind() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failures.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, table) = page
            .split_once("| what is retried | how long without a charge | after that | where it is shown |\n| --- | --- | --- | --- |\n")
            .unwrap();
        let documented: Vec<&str> = table
            .lines()
            .take_while(|line| line.starts_with('|'))
            .collect();
        let wanted: Vec<String> = Uncharged::all()
            .map(|kind| {
                let UnchargedRow {
                    what,
                    bound,
                    then,
                    sign,
                } = kind.row();
                format!("| {what} | {bound} | {then} | {sign} |")
            })
            .collect();
        assert_eq!(documented, wanted, "{}", wanted.join("\n"));
    }
}
