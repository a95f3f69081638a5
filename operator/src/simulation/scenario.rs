//! Parses scenarios. A scenario describes what happens to a job, as text with one step per line.
//! `world.rs` executes the steps.

use std::time::Duration;

use serde_json::Value;

/// The texts of all scenarios, by name. If a scenario needs a feature that the operator does not
/// have, its text says so and uses the closest alternative.
pub(super) const SCENARIOS: [(&str, &str); 34] = [
    ("create", include_str!("scenarios/create.txt")),
    ("scale", include_str!("scenarios/scale.txt")),
    ("fail", include_str!("scenarios/fail.txt")),
    (
        "fail-early-end",
        include_str!("scenarios/fail-early-end.txt"),
    ),
    (
        "managed-elsewhere",
        include_str!("scenarios/managed-elsewhere.txt"),
    ),
    (
        "next-generation",
        include_str!("scenarios/next-generation.txt"),
    ),
    (
        "coordinator-lost",
        include_str!("scenarios/coordinator-lost.txt"),
    ),
    (
        "all-workers-lost",
        include_str!("scenarios/all-workers-lost.txt"),
    ),
    ("edit", include_str!("scenarios/edit.txt")),
    ("suspend", include_str!("scenarios/suspend.txt")),
    ("resume", include_str!("scenarios/resume.txt")),
    ("cancel", include_str!("scenarios/cancel.txt")),
    (
        "cancel-suspended",
        include_str!("scenarios/cancel-suspended.txt"),
    ),
    ("restart", include_str!("scenarios/restart.txt")),
    (
        "restart-after-cancel",
        include_str!("scenarios/restart-after-cancel.txt"),
    ),
    ("restart-twice", include_str!("scenarios/restart-twice.txt")),
    ("deadline", include_str!("scenarios/deadline.txt")),
    ("drain-undone", include_str!("scenarios/drain-undone.txt")),
    ("suspend-early", include_str!("scenarios/suspend-early.txt")),
    ("finish", include_str!("scenarios/finish.txt")),
    ("ttl", include_str!("scenarios/ttl.txt")),
    ("delete", include_str!("scenarios/delete.txt")),
    ("create-again", include_str!("scenarios/create-again.txt")),
    ("refused", include_str!("scenarios/refused.txt")),
    ("worker-lost", include_str!("scenarios/worker-lost.txt")),
    ("progress", include_str!("scenarios/progress.txt")),
    ("tail", include_str!("scenarios/tail.txt")),
    ("elastic", include_str!("scenarios/elastic.txt")),
    ("ttl-changed", include_str!("scenarios/ttl-changed.txt")),
    (
        "unlabelled-root",
        include_str!("scenarios/unlabelled-root.txt"),
    ),
    ("slow-start", include_str!("scenarios/slow-start.txt")),
    (
        "start-deadline",
        include_str!("scenarios/start-deadline.txt"),
    ),
    ("queue", include_str!("scenarios/queue.txt")),
    ("give-way", include_str!("scenarios/give-way.txt")),
];

/// One scenario.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Whether the number of the generation at the end may vary, because it depends on which
    /// objects of an earlier job still exist.
    pub(super) has_any_number: bool,
    /// Whether the sweep tries only crashes and lost answers of writes in this scenario. Random
    /// runs also add errors.
    pub(super) has_cuts_only: bool,
    /// How many jobs may start at the same time.
    pub(super) max_starting_jobs: usize,
    pub(super) steps: Vec<(&'static str, Step)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The user creates the job. The value contains the changes to the usual job.
    Apply(Value),
    /// The user edits the job.
    Edit(Value),
    /// The user deletes the job.
    DeleteJob,
    /// Somebody deletes the root of the newest generation.
    DeleteRoot,
    /// Somebody removes the labels from the root of the newest generation.
    UnlabelRoot,
    /// The coordinator has made its plan.
    Plan {
        shards: u32,
        tasks: u64,
    },
    /// The coordinator reports that this number of tasks is committed.
    Done(u64),
    /// The coordinator reports that this number of tasks runs.
    Running(u32),
    /// The coordinator reports that this number of workers is still useful.
    Useful(u32),
    Succeed,
    Fail(String),
    /// Whether the store does not answer.
    StorageAway(bool),
    /// A pod disappears at once.
    Kill(Pod),
    /// A pod's node stops answering.
    LoseNode(Pod),
    /// Whether coordinators find no node.
    Full(bool),
    /// Whether no worker finds a node.
    NoWorkerFits(bool),
    /// Whether nodes fail to start containers.
    NodesSlow(bool),
    /// Whether workers fail to become ready.
    WorkersFail(bool),
    /// The step concerns the other job.
    Other(Box<Step>),
    Wait(Duration),
    Until(Condition),
}

/// A pod of the newest generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pod {
    Coordinator,
    Worker(u32),
}

/// The condition for which a step waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The text at a path of the job.
    Job { path: String, value: String },
    /// The reason of condition `Progressing`.
    Reason(String),
    /// `replicas` of the newest workers' `StatefulSet`.
    Replicas(u64),
    /// The job no longer exists.
    Gone,
    /// No object of any generation exists.
    NoChildren,
}

impl Scenario {
    /// Reads all scenarios.
    pub(super) fn all() -> Vec<Self> {
        SCENARIOS
            .iter()
            .map(|(name, text)| {
                Self::read(name, text).unwrap_or_else(|line| panic!("{name}: {line}"))
            })
            .collect()
    }

    fn read(name: &'static str, text: &'static str) -> Result<Self, String> {
        let mut scenario = Self {
            name,
            has_any_number: false,
            has_cuts_only: false,
            max_starting_jobs: 32,
            steps: Vec::new(),
        };
        for line in text.lines().map(str::trim) {
            if line == "any number" {
                scenario.has_any_number = true;
            } else if line == "cuts only" {
                scenario.has_cuts_only = true;
            } else if let Some(number) = at_once(line) {
                scenario.max_starting_jobs = number;
            } else if !line.is_empty() && !line.starts_with('#') {
                let step = Step::read(line).ok_or_else(|| format!("{line}: no such step"))?;
                scenario.steps.push((line, step));
            }
        }
        Ok(scenario)
    }
}

/// Returns the number in `N start at once`.
fn at_once(line: &str) -> Option<usize> {
    line.strip_suffix(" start at once")?.parse().ok()
}

impl Step {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let json = |verb: &str| serde_json::from_str(line.strip_prefix(verb)?.trim()).ok();
        Some(match words.as_slice() {
            ["other", ..] => Self::Other(Box::new(Self::read(line.strip_prefix("other")?.trim())?)),
            ["apply"] => Self::Apply(serde_json::json!({})),
            ["apply", ..] => Self::Apply(json("apply")?),
            ["edit", ..] => Self::Edit(json("edit")?),
            ["delete", "job"] => Self::DeleteJob,
            ["delete", "root"] => Self::DeleteRoot,
            ["unlabel", "root"] => Self::UnlabelRoot,
            ["plan", shards, "shards", tasks, "tasks"] => Self::Plan {
                shards: shards.parse().ok()?,
                tasks: tasks.parse().ok()?,
            },
            ["done", tasks] => Self::Done(tasks.parse().ok()?),
            ["running", tasks] => Self::Running(tasks.parse().ok()?),
            ["useful", workers] => Self::Useful(workers.parse().ok()?),
            ["succeed"] => Self::Succeed,
            ["fail", reason] => Self::Fail((*reason).to_owned()),
            ["storage", "away"] => Self::StorageAway(true),
            ["storage", "back"] => Self::StorageAway(false),
            ["kill", rest @ ..] => Self::Kill(Pod::read(rest)?),
            ["lose", "node", "of", rest @ ..] => Self::LoseNode(Pod::read(rest)?),
            ["full"] => Self::Full(true),
            ["room"] => Self::Full(false),
            ["no", "worker", "fits"] => Self::NoWorkerFits(true),
            ["workers", "fit"] => Self::NoWorkerFits(false),
            ["nodes", "slow"] => Self::NodesSlow(true),
            ["nodes", "quick"] => Self::NodesSlow(false),
            ["workers", "fail"] => Self::WorkersFail(true),
            ["workers", "work"] => Self::WorkersFail(false),
            ["wait", seconds, "s"] => Self::Wait(Duration::from_secs(seconds.parse().ok()?)),
            ["until", rest @ ..] => Self::Until(Condition::read(rest)?),
            _ => return None,
        })
    }
}

impl Pod {
    fn read(words: &[&str]) -> Option<Self> {
        match words {
            ["coordinator"] => Some(Self::Coordinator),
            ["worker", ordinal] => Some(Self::Worker(ordinal.parse().ok()?)),
            _ => None,
        }
    }
}

impl Condition {
    fn read(words: &[&str]) -> Option<Self> {
        let job = |path: &str, value: &str| Self::Job {
            path: path.to_owned(),
            value: value.to_owned(),
        };
        Some(match words {
            ["phase", phase] => job("/status/phase", phase),
            ["generation", number] => job("/status/generation", number),
            ["ready", number] => job("/status/workers/ready", number),
            ["reason", reason] => Self::Reason((*reason).to_owned()),
            ["progress", share] => job("/status/progress", share),
            ["replicas", number] => Self::Replicas(number.parse().ok()?),
            ["gone"] => Self::Gone,
            ["no", "children"] => Self::NoChildren,
            _ => return None,
        })
    }
}
