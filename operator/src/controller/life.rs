//! Decides what a job does next if its user suspends, resumes or cancels it: one table of states
//! and wishes.
//!
//! Pure. `plan.rs` carries the steps out. docs/lifecycle.md shows the table, and a test compares
//! both.

use zephyr_crds::status::Phase;

use super::validate::ValidatedJob;

/// Where a job is in its life, according to status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeState {
    /// No generation has begun.
    New,
    /// A generation has a number and waits for its turn.
    Queued,
    /// A generation runs, or waits for the end of a back-off.
    Active,
    /// A generation runs and starts no further task, because the job is to be suspended.
    Draining,
    /// No generation runs, and pods of the last one may still exist.
    Suspending,
    /// No generation runs, and no pod exists.
    Suspended,
    /// The job has succeeded.
    Succeeded,
    /// The job has failed.
    Failed,
}

/// What the spec asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Neither `spec.suspend` nor `spec.cancel` is set.
    Run,
    /// `spec.suspend` is true.
    Suspend,
    /// `spec.cancel` is set. It has priority over `spec.suspend`.
    Cancel,
    /// `spec.restart` was changed after the job had failed.
    Restart,
}

/// What follows from a state and a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeStep {
    /// The job goes on as if nobody had suspended or cancelled it.
    Proceed,
    /// The job is suspended at once, because none of its pods exists.
    Hold,
    /// The generation starts no further task. When its running tasks have ended, or after
    /// `drainTimeout`, its objects are deleted.
    Drain,
    /// The job waits until its last pod is gone.
    AwaitPods,
    /// The job waits for its turn, and then continues in the next generation.
    Resume,
    /// The coordinator ends the job.
    EndByCoordinator,
    /// The operator ends the job.
    End,
    /// The job gets its next generation, which waits for its turn and for the pods of the last one.
    Restart,
    /// Nothing changes any more.
    Nothing,
}

impl LifeState {
    /// All states, in the order in which the documentation shows them.
    pub const ALL: [Self; 8] = [
        Self::New,
        Self::Queued,
        Self::Active,
        Self::Draining,
        Self::Suspending,
        Self::Suspended,
        Self::Succeeded,
        Self::Failed,
    ];

    /// Returns the state of `job`.
    pub fn of(job: &ValidatedJob) -> Self {
        let status = &job.status;
        if job.has_ended() {
            return if status.phase == Some(Phase::Failed) {
                Self::Failed
            } else {
                Self::Succeeded
            };
        }
        match status.generation {
            _ if job.is_suspended() => Self::Suspended,
            _ if status.suspended_since.is_some() => Self::Suspending,
            None => Self::New,
            Some(_) if status.queued_since.is_some() => Self::Queued,
            Some(_) if status.draining_since.is_some() => Self::Draining,
            Some(_) => Self::Active,
        }
    }
}

impl Wish {
    /// All wishes, in the order in which the documentation shows them.
    pub const ALL: [Self; 4] = [Self::Run, Self::Suspend, Self::Cancel, Self::Restart];

    /// Returns the wish in the spec of `job`.
    pub fn of(job: &ValidatedJob) -> Self {
        if job.spec.cancel.is_some() {
            Self::Cancel
        } else if job.is_to_restart() {
            Self::Restart
        } else if job.spec.suspend {
            Self::Suspend
        } else {
            Self::Run
        }
    }
}

/// Returns what a job in `state` does because of `wish`. A result that the coordinator has already
/// reported ends the job before this table is read.
pub fn step(state: LifeState, wish: Wish) -> LifeStep {
    match (state, wish) {
        (LifeState::Succeeded, Wish::Run | Wish::Suspend | Wish::Cancel | Wish::Restart) => {
            LifeStep::Nothing
        }
        (LifeState::Failed, Wish::Restart) => LifeStep::Restart,
        (LifeState::Failed, Wish::Run | Wish::Suspend | Wish::Cancel) => LifeStep::Nothing,
        // Before a job has failed, the API server refuses a change of `spec.restart`.
        (
            LifeState::New | LifeState::Queued | LifeState::Active | LifeState::Draining,
            Wish::Run | Wish::Restart,
        ) => LifeStep::Proceed,
        (LifeState::Suspending | LifeState::Suspended, Wish::Run | Wish::Restart) => {
            LifeStep::Resume
        }
        (LifeState::New | LifeState::Queued, Wish::Suspend) => LifeStep::Hold,
        (LifeState::Active | LifeState::Draining, Wish::Suspend) => LifeStep::Drain,
        (LifeState::Suspending | LifeState::Suspended, Wish::Suspend) => LifeStep::AwaitPods,
        (LifeState::Active | LifeState::Draining, Wish::Cancel) => LifeStep::EndByCoordinator,
        (
            LifeState::New | LifeState::Queued | LifeState::Suspending | LifeState::Suspended,
            Wish::Cancel,
        ) => LifeStep::End,
    }
}

/// Where each step leads, and what else takes a job from one state to another. Tests compare this
/// with what jobs do, and with the diagram in the documentation.
#[cfg(test)]
pub(super) mod transitions {
    use super::*;

    /// What takes a job to another state, if nobody wants a change.
    const BY_ITSELF: [(LifeState, LifeState, &str); 19] = {
        use LifeState::{Active, Draining, Failed, New, Queued, Succeeded, Suspended, Suspending};
        [
            (New, Queued, "other jobs start first"),
            (New, Active, "its turn"),
            (New, Failed, "the spec is refused"),
            (Queued, Active, "its turn"),
            (Queued, Suspending, "suspend while a pod exists"),
            (Queued, Failed, "the spec is refused"),
            (Active, Queued, "no coordinator starts"),
            (Active, Suspending, "suspend while no task runs"),
            (Active, Succeeded, "all tasks are complete"),
            (Active, Failed, "a limit is reached"),
            (Draining, Active, "to run"),
            (Draining, Suspending, "no task runs"),
            (Draining, Succeeded, "all tasks are complete"),
            (Draining, Failed, "a limit is reached"),
            (Suspending, Active, "to run at once"),
            (Suspending, Suspended, "its last pod is gone"),
            (Suspending, Failed, "a limit is reached"),
            (Suspended, Active, "to run at once"),
            (Suspended, Failed, "a limit is reached"),
        ]
    };

    /// The state to which a step leads.
    fn next(state: LifeState, step: LifeStep) -> LifeState {
        match step {
            LifeStep::Proceed | LifeStep::AwaitPods | LifeStep::Nothing => state,
            LifeStep::Hold => LifeState::Suspended,
            LifeStep::Drain => LifeState::Draining,
            LifeStep::Resume | LifeStep::Restart => LifeState::Queued,
            LifeStep::EndByCoordinator | LifeStep::End => LifeState::Failed,
        }
    }

    /// All ways from one state to another, with what causes them.
    pub(in crate::controller) fn all() -> Vec<(LifeState, LifeState, &'static str)> {
        let wishes = [
            (Wish::Run, "to run"),
            (Wish::Suspend, "suspend"),
            (Wish::Cancel, "cancel"),
            (Wish::Restart, "restart"),
        ];
        let mut all = BY_ITSELF.to_vec();
        for from in LifeState::ALL {
            for (wish, word) in wishes {
                let to = next(from, step(from, wish));
                let is_refused = wish == Wish::Restart && from != LifeState::Failed;
                if to != from && !is_refused {
                    all.push((from, to, word));
                }
            }
        }
        all.sort_by_key(|(from, to, _)| {
            let place = |state| LifeState::ALL.iter().position(|other| *other == state);
            (place(*from), place(*to))
        });
        all
    }

    #[test]
    fn the_documentation_shows_this_diagram() {
        let mut lines: Vec<String> = Vec::new();
        for (from, to, cause) in all() {
            let way = format!("    {from:?} --> {to:?} : ");
            match lines.last_mut().filter(|line| line.starts_with(&way)) {
                Some(line) => line.extend([", or ", cause]),
                None => lines.push(format!("{way}{cause}")),
            }
        }
        let diagram = format!(
            "```mermaid\nstateDiagram-v2\n    [*] --> New\n{}\n```\n",
            lines.join("\n")
        );
        let page = include_str!("../../../docs/lifecycle.md");
        assert!(
            page.contains(&diagram),
            "docs/lifecycle.md lacks\n{diagram}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the words of docs/lifecycle.md for a step.
    fn sentence(step: LifeStep) -> &'static str {
        match step {
            LifeStep::Proceed => "goes on",
            LifeStep::Hold => "is suspended",
            LifeStep::Drain => "drains, then its pods are deleted",
            LifeStep::AwaitPods => "waits until its last pod is gone",
            LifeStep::Resume => "waits for its turn, then the next generation begins",
            LifeStep::EndByCoordinator => "its coordinator ends it",
            LifeStep::End => "ends",
            LifeStep::Restart => "waits for its turn, then runs again",
            LifeStep::Nothing => "no change",
        }
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let head = "| state | to run | `suspend: true` | `cancel` | a new `restart` |\n| --- | --- | --- | --- | --- |\n";
        let row = |state| {
            let is_refused = |wish| wish == Wish::Restart && state != LifeState::Failed;
            let cells = Wish::ALL.map(|wish| {
                if is_refused(wish) {
                    "is refused"
                } else {
                    sentence(step(state, wish))
                }
            });
            format!("| {state:?} | {} |\n", cells.join(" | "))
        };
        let rows: String = LifeState::ALL.into_iter().map(row).collect();
        let table = format!("{head}{rows}");
        let page = include_str!("../../../docs/lifecycle.md");
        assert!(page.contains(&table), "docs/lifecycle.md lacks\n{table}");
    }

    #[test]
    fn only_a_failed_job_leaves_its_end_and_every_other_job_ends_when_it_is_cancelled() {
        for state in LifeState::ALL {
            let has_ended = matches!(state, LifeState::Succeeded | LifeState::Failed);
            for wish in Wish::ALL {
                let stays = step(state, wish) == LifeStep::Nothing;
                let is_restarted = (state, wish) == (LifeState::Failed, Wish::Restart);
                assert_eq!(stays, has_ended && !is_restarted, "{state:?} {wish:?}");
            }
            let ends = matches!(
                step(state, Wish::Cancel),
                LifeStep::End | LifeStep::EndByCoordinator | LifeStep::Nothing
            );
            assert!(ends, "{state:?}");
        }
    }
}
