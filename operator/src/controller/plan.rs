//! Decides the next step for a job, from the wishes of its user and the state of the cluster.
//!
//! Pure: no client, no clock. Every decision about a job's life is made here; `apply.rs` makes
//! none. Decisions that must survive a crash are [`Lifecycle`] steps: each becomes one status
//! write, and the objects follow from status.

mod ended;
mod life;
mod loss;
mod objects;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use zephyr_crds::conditions::Reason;
use zephyr_crds::job::Retain;
use zephyr_crds::names;
use zephyr_crds::preemptible::SpotProvider;
use zephyr_crds::status::{GenerationEnd, OutputsStatus};
use zephyr_proto::reason::EndReason;

use self::ended::plan_ended;
use self::life::{
    Draining, Ending, active_deadline, draining, plan_ended_early, plan_held, plan_restarted,
    plan_to_end, plan_to_restart, plan_to_resume, plan_to_stop, start_deadline,
};
use self::loss::{
    coordinator_deadline, coordinator_lost, generation_lost, workers_deadline, workers_lost,
};
use self::objects::{
    create_missing, delete_roots, force_deletes, mark_root, mend_service, scale, scale_coordinator,
    stuck_deadline,
};
use self::turn::{may_give_way, plan_to_give_way, plan_waiting};
use super::action::Action;
use super::diagnose::{Diagnosis, diagnose};
use super::life::{LifeState, LifeStep, Wish, step};
use super::observed::{Depth, Freshness, Observed};
use super::turns::{Turn, Waiting};
use super::validate::{ValidatedJob, Verdict, after};
use crate::run_report::{FailedTask, RunResult};

/// How many consecutive generations may end in the same way without a committed task between them.
/// The cluster may be the cause of two such ends; the third shows that the job itself is the cause.
pub const MAX_GENERATIONS_WITHOUT_PROGRESS: u32 = 3;

/// After how long to reconcile again while there is a problem, or while something changes. The end
/// of either may cause no event.
const UNSETTLED_REQUEUE: Duration = Duration::from_secs(15);

/// After how long to reconcile a job without problems again, in case an event was lost.
const SETTLED_REQUEUE: Duration = Duration::from_mins(5);

/// How much time passes at least between two changes of a generation's replicas. A coordinator may
/// change the number of useful workers in its report twice a second.
const SCALE_INTERVAL: Duration = Duration::from_secs(5);

/// How much time passes at least between two repairs of a Service or a Deployment that somebody
/// keeps editing.
const MEND_INTERVAL: Duration = Duration::from_secs(15);

/// How long a coordinator may take to end the job: it writes the result into the ledger, releases
/// the output's folder and removes intermediate data. Each of these steps gives up after at most a
/// minute.
const END_TIMEOUT: Duration = Duration::from_mins(4);

/// The shortest wait before pods that stay Terminating are checked again. The check is never
/// urgent.
const STUCK_REQUEUE: Duration = Duration::from_secs(1);

/// The settings that the operator's installation adds to a job when it is frozen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installation {
    /// The worker image of the operator's own release.
    pub worker_image: String,
    /// The settings of the object store, by the names that the store's client gives them.
    pub storage_options: BTreeMap<String, String>,
    /// The provider of the cluster's preemptible nodes, which coordinators avoid.
    pub spot_provider: SpotProvider,
    /// Domain of the cluster's DNS, if service names must be complete.
    pub cluster_domain: Option<String>,
    /// Whether pods that a lost node keeps Terminating are deleted by force.
    pub force_delete_pods: bool,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The cache is not enough for this decision: list the objects, and plan again.
    pub look_live: Option<Depth>,
    /// The actions, in this order.
    pub actions: Vec<Action>,
    /// What happens to the job and its generation.
    pub lifecycle: Lifecycle,
    /// What status reports about coordinator and workers.
    pub diagnosis: Diagnosis,
    /// After how long to reconcile again, if no event comes before.
    pub requeue_after: Option<Duration>,
}

/// What happens to the job. This is written to status before anything is done because of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Lifecycle {
    /// No change.
    #[default]
    Stay,
    /// The spec is refused before anything has run, so the job ends.
    Reject,
    /// Nothing can be started, for this reason: somebody has to change the cluster.
    Block(String),
    /// Other jobs start before this one.
    Wait(Waiting),
    /// The job's turn has come: the generation that status names begins.
    TakeTurn,
    /// A new generation gets its number.
    Start(Start),
    /// The generation starts no further task, because the job is to be suspended.
    Drain,
    /// The job is suspended.
    Hold {
        /// What still exists of its generations, in words.
        remains: Option<String>,
    },
    /// The failed job runs again: its next generation gets its number, and waits for its turn.
    Restart(Restart),
    /// The restarted job waits for pods of an earlier generation, which are named here.
    AwaitPods(String),
    /// The coordinator ends the job.
    EndByCoordinator {
        /// Why, as one word.
        reason: Reason,
        /// Why, as a sentence.
        message: String,
    },
    /// The job ends.
    Finish(Finish),
    /// The job has already ended.
    Ended,
    /// The job is being deleted.
    Delete,
}

impl Lifecycle {
    /// Returns whether the coordinator starts no further task, if this is decided.
    pub fn drains(&self) -> Option<bool> {
        match self {
            Self::Drain => Some(true),
            Self::Stay => Some(false),
            Self::Reject
            | Self::Block(_)
            | Self::Wait(_)
            | Self::TakeTurn
            | Self::Start(_)
            | Self::Hold { .. }
            | Self::Restart(_)
            | Self::AwaitPods(_)
            | Self::EndByCoordinator { .. }
            | Self::Finish(_)
            | Self::Ended
            | Self::Delete => None,
        }
    }
}

/// A new generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Its number.
    pub generation: u32,
    /// The generation before it, and why it ended.
    pub ended: Option<EndedGeneration>,
    /// The time until which its objects are not created.
    pub not_before: Option<Timestamp>,
    /// Number of consecutive generations without a committed task, including the one that ended.
    pub without_progress: u32,
    /// How many committed tasks the operator knows of. Absent if only an older release observed the
    /// job.
    pub tasks_before: Option<u64>,
}

impl Start {
    /// Returns the generation with this number, which does not begin yet. The one before it ends
    /// for a reason that does not count against the job.
    fn later(
        job: &ValidatedJob,
        observed: &Observed,
        generation: u32,
        cause: GenerationEnd,
        message: String,
    ) -> Self {
        Self {
            generation,
            ended: Some(EndedGeneration { cause, message }),
            not_before: None,
            without_progress: job.status.generations_without_progress.unwrap_or(0),
            tasks_before: tasks_done(job, observed),
        }
    }

    /// Returns whether the job gave its place back, so that it waits for its turn before this
    /// generation begins.
    pub fn gives_way(&self) -> bool {
        self.follows(GenerationEnd::GaveWay)
    }

    /// Returns whether the job is suspended, so that this generation begins when it is resumed.
    pub fn is_held(&self) -> bool {
        self.follows(GenerationEnd::Suspended)
    }

    fn follows(&self, cause: GenerationEnd) -> bool {
        self.ended
            .as_ref()
            .is_some_and(|ended| ended.cause == cause)
    }
}

/// A failed job that runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// `spec.restart`.
    pub token: String,
    /// The number of its next generation.
    pub generation: u32,
    /// How many committed tasks the operator knows of.
    pub tasks_before: Option<u64>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedGeneration {
    /// Why it ended, as one word.
    pub cause: GenerationEnd,
    /// Why it ended, as a sentence.
    pub message: String,
}

/// How the job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// How its last generation ended.
    pub cause: GenerationEnd,
    /// The reason of the final conditions.
    pub reason: Reason,
    /// What the final conditions say; empty if the reason is enough.
    pub message: String,
    /// The files that were written, if the job succeeded.
    pub outputs: Option<OutputsStatus>,
    /// The attempt that ended the job, if the coordinator reports one.
    pub failed_task: Option<FailedTask>,
}

/// Plans the next step of `job`.
pub fn plan(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    if job.deleted {
        return plan_deleted(job, observed);
    }
    match (
        step(LifeState::of(job), Wish::of(job)),
        job.status.generation,
    ) {
        (LifeStep::Nothing, _) => plan_ended(job, observed, installation, now),
        (LifeStep::Restart, _) => plan_to_restart(job, observed, installation, now),
        (LifeStep::Hold | LifeStep::AwaitPods, _) if !is_refused_first(job, verdict) => {
            plan_held(job, observed, installation, now)
        }
        (LifeStep::Resume, _) if !is_refused_first(job, verdict) => {
            plan_to_resume(job, verdict, observed, installation, now)
        }
        (LifeStep::End, _) => plan_ended_early(job, Ending::cancelled(job), Diagnosis::default()),
        (_, None) => plan_first(job, verdict, observed),
        (_, Some(generation)) if job.status.queued_since.is_some() => {
            if job.is_first_again(generation) {
                plan_restarted(job, verdict, observed, installation, generation, now)
            } else {
                let what = "the job waits for its turn, which comes";
                plan_waiting(job, verdict, observed, installation, what, now)
            }
        }
        (step, Some(generation)) => plan_running(
            job,
            verdict,
            observed,
            installation,
            (generation, step),
            now,
        ),
    }
}

/// Returns whether the spec is refused before anything has run. This ends the job, whatever else
/// its user wishes.
fn is_refused_first(job: &ValidatedJob, verdict: &Verdict) -> bool {
    verdict.is_refusal() && job.status.generation.is_none()
}

/// Plans for a job without a generation: refuses the spec, or assigns a number that was never used.
fn plan_first(job: &ValidatedJob, verdict: &Verdict, observed: &Observed) -> Plan {
    if verdict.is_refusal() {
        return Plan {
            lifecycle: Lifecycle::Reject,
            ..Plan::default()
        };
    }
    if let Turn::Wait(waiting) = observed.turn {
        return Plan {
            lifecycle: Lifecycle::Wait(waiting),
            requeue_after: Some(waiting.look_again()),
            ..Plan::default()
        };
    }
    if observed.freshness == Freshness::Cached {
        return Plan::look(Depth::Objects);
    }
    let lifecycle = match next_number(job, observed, 0) {
        Ok(generation) => Lifecycle::Start(Start {
            generation,
            ended: None,
            not_before: None,
            without_progress: 0,
            tasks_before: Some(0),
        }),
        Err(message) => Lifecycle::Block(message),
    };
    Plan {
        lifecycle,
        ..Plan::default()
    }
}

/// Returns the number of the next generation, or why there is none. This is the number after all
/// numbers that are taken. But if another job's object carries the last possible number in its
/// label, this is the first free number after the job's own numbers, which include `current`.
fn next_number(job: &ValidatedJob, observed: &Observed, current: u32) -> Result<u32, String> {
    let taken = &observed.taken_numbers;
    let own = current.max(observed.highest_generation());
    let highest = own.max(taken.last().copied().unwrap_or(0));
    if highest < names::MAX_GENERATION {
        return Ok(highest + 1);
    }
    let after_own = own.saturating_add(1)..=names::MAX_GENERATION;
    let free = after_own.into_iter().find(|number| !taken.contains(number));
    free.ok_or_else(|| format!(
        "no generation number is left: an object in namespace {} with the labels {}={} and {}={highest} has the last \
         number, {}; delete that object",
        job.identity.namespace,
        names::LABEL_JOB,
        job.identity.name,
        names::LABEL_GENERATION,
        names::MAX_GENERATION
    ))
}

/// Plans for a job whose deletion was requested. Kubernetes deletes all objects that the job owns
/// once the job no longer exists. If a finalizer keeps the job, it must not run in the meantime.
fn plan_deleted(job: &ValidatedJob, observed: &Observed) -> Plan {
    let roots = delete_roots(job, observed, u32::MAX);
    Plan {
        actions: roots.filter(|_| !job.orphans).collect(),
        lifecycle: Lifecycle::Delete,
        ..Plan::default()
    }
}

/// Plans for a job whose status names a generation: ends the generation, or creates and changes its
/// objects as needed.
fn plan_running(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    installation: &Installation,
    (generation, step): (u32, LifeStep),
    now: Timestamp,
) -> Plan {
    let diagnosis = diagnose(job, observed, generation, now);
    let report = observed
        .report
        .as_ref()
        .filter(|report| report.generation == generation);
    if let Some(result) = report.and_then(|report| report.result.as_ref()) {
        return Plan {
            lifecycle: Lifecycle::Finish(finish_by(job, result)),
            diagnosis,
            ..Plan::default()
        };
    }
    let ending = if step == LifeStep::EndByCoordinator {
        Some(Ending::cancelled(job))
    } else {
        Ending::too_late(job, now)
    };
    if let Some(ending) = Ending::not_started(job, observed, &diagnosis, now)
        && step != LifeStep::EndByCoordinator
    {
        // The caches may be behind, so the coordinator is read once more.
        return if observed.freshness.covers(Depth::Objects) {
            plan_ended_early(job, ending, diagnosis)
        } else {
            Plan::look(Depth::Objects)
        };
    }
    if let Some(ending) = ending {
        return plan_to_end(job, observed, generation, diagnosis, ending, now);
    }
    if step == LifeStep::Drain && observed.other_release(generation).is_none() {
        return match draining(job, observed, generation, &diagnosis, now) {
            Draining::IsOver { why } => plan_to_stop(job, observed, generation, diagnosis, why),
            Draining::GoesOn { deadline } => {
                let plan = keep_up(job, observed, installation, generation, diagnosis, now);
                let wait = plan.requeue_after.unwrap_or(UNSETTLED_REQUEUE);
                Plan {
                    lifecycle: Lifecycle::Drain,
                    requeue_after: Some(wait.min(until(deadline, now))),
                    ..plan
                }
            }
        };
    }
    let backoff_until = job.backoff_until(now);
    // No timer ends a generation just after the operator started, because the operator did not
    // observe the job all the time. The coordinator will soon report what happened in the meantime,
    // perhaps the end of the job.
    let timers =
        || coordinator_lost(job, &diagnosis, now).or_else(|| workers_lost(job, &diagnosis, now));
    let may_end = ends_by(observed).is_none_or(|end| now >= end);
    let ended = generation_lost(job, observed, generation)
        .or_else(|| timers().filter(|_| !observed.warming_up && may_end))
        .filter(|_| backoff_until.is_none());
    if let Some(ended) = ended {
        return plan_next(job, verdict, observed, generation, ended, diagnosis, now);
    }
    if may_give_way(job, observed, generation, &diagnosis, now)
        && let Some(plan) = plan_to_give_way(job, observed, generation, &diagnosis)
    {
        return plan;
    }

    let wanted = scale(job, observed, generation);
    let held = wanted
        .as_ref()
        .and(observed.scaled_at)
        .map(|scaled| after(scaled, SCALE_INTERVAL))
        .filter(|allowed| now < *allowed);
    let mut plan = keep_up(job, observed, installation, generation, diagnosis, now);
    if backoff_until.is_none() {
        let mut first = create_missing(job, verdict, observed, installation, generation);
        first.extend(wanted.filter(|_| held.is_none()));
        plan.actions.splice(0..0, first);
    }
    let wait = plan.requeue_after.unwrap_or(UNSETTLED_REQUEUE);
    let wait = held.map_or(wait, |allowed| wait.min(until(allowed, now)));
    Plan {
        requeue_after: Some(wait),
        ..plan
    }
}

/// Plans what a running generation needs whether or not it may start further tasks: its pods'
/// ends are reported, edited objects are mended, and objects of older generations are deleted.
fn keep_up(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    generation: u32,
    diagnosis: Diagnosis,
    now: Timestamp,
) -> Plan {
    let report = observed.report.as_ref();
    let report = report.filter(|report| report.generation == generation);
    let backoff_until = job.backoff_until(now);
    let mut actions = Vec::new();
    if backoff_until.is_none() {
        actions.extend(force_deletes(observed, installation, now));
        if !observed.unreported_ends.is_empty() && report.is_some_and(|report| report.connected) {
            actions.push(Action::ReportPodEnds {
                generation,
                ends: observed.unreported_ends.clone(),
            });
        }
    }
    // This comes after the other actions, so that they do not wait if the API server refuses this
    // one.
    actions.extend(mark_root(observed, generation));
    let (mends, mend_held) = mends(job, observed, generation, now);
    actions.extend(mends);
    // Old roots are deleted after the objects of the new generation are created. The new generation
    // never waits for the old one. This is safe, because its number is already in status.
    let (mut old_roots, old_roots_held) = old_roots(job, observed, generation, now);
    let stuck = stuck_deadline(observed, installation, now);
    let wait = requeue(job, observed, &diagnosis, stuck, backoff_until, now);
    let held = mend_held.into_iter().chain(old_roots_held);
    // A start that takes too long is not judged while the operator warms up.
    let start_ends = start_deadline(job).filter(|deadline| !observed.warming_up || now < *deadline);
    let held = held.chain(active_deadline(job)).chain(start_ends);
    let wait = held.fold(wait, |wait, allowed| wait.min(until(allowed, now)));
    // A deletion that fails now causes no event, so the next try needs a timer.
    let wait = if old_roots.is_empty() {
        wait
    } else {
        wait.min(UNSETTLED_REQUEUE)
    };
    actions.append(&mut old_roots);
    Plan {
        look_live: None,
        actions,
        lifecycle: Lifecycle::Stay,
        diagnosis,
        requeue_after: Some(wait),
    }
}

/// Returns the repairs of objects that somebody edited. If the last repair was a moment ago,
/// returns no repairs, and the time until which they pause.
fn mends(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> (Vec<Action>, Option<Timestamp>) {
    let coordinator = scale_coordinator(job, observed, generation);
    let service = mend_service(job, observed, generation);
    let mends: Vec<_> = coordinator.into_iter().chain(service).collect();
    let held = observed
        .mended_at
        .map(|mended| after(mended, MEND_INTERVAL))
        .filter(|allowed| !mends.is_empty() && now < *allowed);
    match held {
        Some(_) => (Vec::new(), held),
        None => (mends, None),
    }
}

/// Returns the deletions of earlier generations' roots. If the last deletion failed a moment ago,
/// returns no deletions, and the time until which they pause.
fn old_roots(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> (Vec<Action>, Option<Timestamp>) {
    let roots: Vec<_> = delete_roots(job, observed, generation).collect();
    let held = observed
        .old_roots_held
        .filter(|until| !roots.is_empty() && now < *until);
    match held {
        Some(_) => (Vec::new(), held),
        None => (roots, None),
    }
}

/// Returns what must be read live before a generation ends for this cause. Only one cause depends
/// on worker pods. For the other causes they are not listed, because this would take minutes for a
/// job with 10,000 workers.
fn depth_of(cause: GenerationEnd) -> Depth {
    match cause {
        GenerationEnd::NoWorkers | GenerationEnd::GaveWay => Depth::Pods,
        GenerationEnd::Succeeded
        | GenerationEnd::Failed
        | GenerationEnd::CoordinatorLost
        | GenerationEnd::Suspended => Depth::Objects,
    }
}

/// Returns why no generation may follow the one that ended, or `None` if one may. `used` is the
/// number of generations including the ended one, and `without_progress` is the number of
/// consecutive generations that committed nothing.
fn no_further(
    job: &ValidatedJob,
    ended: &EndedGeneration,
    used: u32,
    without_progress: u32,
) -> Option<(Reason, String)> {
    let last = &ended.message;
    if used >= job.spec.retries.max_generations {
        let message =
            format!("{used} of {used} generations ended without a result; the last one: {last}");
        return Some((Reason::GenerationsExhausted, message));
    }
    let is_stuck = without_progress >= MAX_GENERATIONS_WITHOUT_PROGRESS
        && same_cause(job, ended.cause, without_progress);
    is_stuck.then(|| {
        let message = format!(
            "{without_progress} generations in a row ended in the same way without progress: {last}"
        );
        (Reason::NoProgress, message)
    })
}

/// Returns whether the coordinator can end the job itself: it is ready and reports, and is not
/// about to be garbage-collected. Without a plan it ends the job as soon as it has one.
fn can_end(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    diagnosis: &Diagnosis,
) -> bool {
    let is_heard = observed
        .report
        .as_ref()
        .is_some_and(|report| report.generation == generation && report.connected);
    diagnosis.coordinator.ready && is_heard && generation_lost(job, observed, generation).is_none()
}

/// Returns the time by which the coordinator must have ended the job, or `None` if it was not asked
/// to.
fn ends_by(observed: &Observed) -> Option<Timestamp> {
    observed
        .end_requested_at
        .map(|asked| after(asked, END_TIMEOUT))
}

/// Returns the message for a job that ends without its coordinator. The message says that the
/// intermediate data was not removed.
fn with_what_stays(job: &ValidatedJob, message: String) -> String {
    match job.spec.storage.retain {
        Retain::Never => format!(
            "{message}; no coordinator removed the intermediate data; kubectl zephyr gc does"
        ),
        Retain::Always | Retain::OnFailure => message,
    }
}

/// Plans for a generation that has ended without a result: starts the next one, or ends the job.
fn plan_next(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    generation: u32,
    ended: EndedGeneration,
    diagnosis: Diagnosis,
    now: Timestamp,
) -> Plan {
    if observed.other_release(generation).is_some() {
        // A generation of this release could ignore a part of the frozen job that it does not
        // understand. So this release starts none; the newer release continues from here.
        return Plan {
            lifecycle: Lifecycle::Stay,
            diagnosis,
            requeue_after: Some(UNSETTLED_REQUEUE),
            ..Plan::default()
        };
    }
    let depth = depth_of(ended.cause);
    if !observed.freshness.covers(depth) {
        return Plan::look(depth);
    }
    let used = used_generations(job, generation);
    let record = job.status.generations.last();
    let progressed = observed
        .report
        .as_ref()
        .is_some_and(|report| report.shows_progress(record));
    let before = job.status.generations_without_progress.unwrap_or(0);
    let without_progress = if progressed {
        0
    } else {
        before.saturating_add(1)
    };
    let finish = |reason, message| {
        let finish = Finish {
            cause: ended.cause,
            reason,
            message,
            outputs: None,
            failed_task: None,
        };
        Plan {
            lifecycle: Lifecycle::Finish(finish),
            diagnosis: diagnosis.clone(),
            ..Plan::default()
        }
    };
    if let Some((reason, message)) = no_further(job, &ended, used, without_progress) {
        if observed.end_requested_at.is_none() && can_end(job, observed, generation, &diagnosis) {
            let end = Action::EndRun {
                generation,
                reason,
                message,
                removes_output: false,
            };
            return Plan {
                actions: vec![end],
                diagnosis,
                requeue_after: Some(UNSETTLED_REQUEUE),
                ..Plan::default()
            };
        }
        return finish(reason, with_what_stays(job, message));
    }
    if verdict.is_refusal() {
        // The spec was edited and is not valid now. The edit that repairs it starts the next
        // generation.
        let why = format!(
            "generation {generation} has ended: {}; the next one starts when the spec is corrected: {}",
            ended.message,
            verdict.in_words()
        );
        return Plan {
            lifecycle: Lifecycle::Block(why),
            diagnosis,
            ..Plan::default()
        };
    }
    let number = match next_number(job, observed, generation) {
        Ok(number) => number,
        Err(message) => return finish(Reason::GenerationsExhausted, message),
    };
    let start = Start {
        generation: number,
        ended: Some(ended),
        not_before: Some(after(now, job.timing.backoff(used))),
        without_progress,
        tasks_before: tasks_done(job, observed),
    };
    Plan {
        lifecycle: Lifecycle::Start(start),
        diagnosis,
        ..Plan::default()
    }
}

/// Returns how many generations of the job count towards `maxGenerations`, up to `generation`.
/// Those before the latest restart do not.
fn used_generations(job: &ValidatedJob, generation: u32) -> u32 {
    let status = &job.status;
    let first = status.generations.first();
    let first = first.map_or(generation, |record| record.generation);
    let restart = status.restart.as_ref();
    let again = restart.and_then(|restart| restart.generation);
    generation
        .saturating_sub(first.max(again.unwrap_or(0)))
        .saturating_add(1)
        .saturating_sub(status.places_given_back)
        .saturating_sub(status.suspensions)
        .saturating_sub(status.skipped_numbers)
        .max(1)
}

/// Returns the largest number of committed tasks that was ever known.
fn tasks_done(job: &ValidatedJob, observed: &Observed) -> Option<u64> {
    let report = observed.report.as_ref();
    let reported = report.filter(|report| report.planned.is_some());
    let recorded = job.status.generations.last();
    let recorded = recorded.and_then(|record| record.tasks_before);
    let recorded = recorded.map(|tasks| u64::try_from(tasks).unwrap_or(0));
    let shown = shown_tasks(job);
    recorded
        .max(shown)
        .max(reported.map(|report| report.tasks_done))
}

/// Returns the number of committed tasks in status. The report may have disappeared since the job
/// ended.
fn shown_tasks(job: &ValidatedJob) -> Option<u64> {
    let stages = &job.status.stages;
    let done = stages
        .iter()
        .map(|stage| u64::try_from(stage.done).unwrap_or(0));
    (!stages.is_empty()).then(|| done.fold(0, u64::saturating_add))
}

/// Returns whether the last `count` generations, including the one that ends now, ended by `cause`.
fn same_cause(job: &ValidatedJob, cause: GenerationEnd, count: u32) -> bool {
    let ended: Vec<_> = job
        .status
        .generations
        .iter()
        .filter_map(|record| record.cause)
        .filter(|cause| !matches!(cause, GenerationEnd::GaveWay | GenerationEnd::Suspended))
        .collect();
    let earlier = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    ended.len() >= earlier && ended.iter().rev().take(earlier).all(|one| *one == cause)
}

/// Returns the message of the coordinator's result. If the job was cancelled and does not keep its
/// output, the message says what is known about its files.
fn message_of(job: &ValidatedJob, result: &RunResult) -> String {
    let cancel = job.spec.cancel.as_ref();
    let wants_removal = cancel.is_some_and(|cancel| !cancel.keep_output) && !result.succeeded;
    if !wants_removal || result.removed_output {
        return result.message.clone();
    }
    let files = if result.reason == EndReason::Cancelled {
        "it is not known whether the files of its output were removed, because its coordinator started again at the end, or is of a \
         release without spec.cancel.keepOutput"
    } else {
        "the job had failed before it was cancelled, so the files of its output stay"
    };
    format!("{}; {files}", result.message)
}

/// Returns the end that the coordinator reports.
fn finish_by(job: &ValidatedJob, result: &RunResult) -> Finish {
    let reason = match (result.succeeded, &result.reason) {
        (true, _) => Reason::OutputComplete,
        (false, EndReason::PlanFailed) => Reason::PlanFailed,
        (false, EndReason::TaskTimedOut) => Reason::TaskTimedOut,
        (false, EndReason::TaskDisrupted) => Reason::TaskDisrupted,
        (false, EndReason::OutputLost) => Reason::OutputLost,
        (false, EndReason::LedgerDamaged) => Reason::LedgerDamaged,
        (false, EndReason::TooManySkipped) => Reason::TooManySkipped,
        (false, EndReason::GenerationsExhausted) => Reason::GenerationsExhausted,
        (false, EndReason::NoProgress) => Reason::NoProgress,
        (false, EndReason::Cancelled) => Reason::Cancelled,
        (false, EndReason::DeadlineExceeded) => Reason::DeadlineExceeded,
        // A coordinator of a newer release may report other reasons.
        (false, EndReason::TaskFailed | EndReason::Succeeded | EndReason::Other(_)) => {
            Reason::TaskFailed
        }
    };
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Finish {
        cause: if result.succeeded {
            GenerationEnd::Succeeded
        } else {
            GenerationEnd::Failed
        },
        reason,
        message: message_of(job, result),
        outputs: result.succeeded.then(|| OutputsStatus {
            files: number(result.files),
            bytes: number(result.bytes),
            rows: number(result.rows),
            manifest: result.manifest.clone(),
        }),
        failed_task: result.failed_task.clone(),
    }
}

/// Returns how long it takes until the plan changes although no event comes.
fn requeue(
    job: &ValidatedJob,
    observed: &Observed,
    diagnosis: &Diagnosis,
    stuck: Option<Timestamp>,
    backoff_until: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    let counts = &diagnosis.workers.counts;
    let is_settled = diagnosis.coordinator.ready
        && diagnosis.coordinator.trouble.is_none()
        && diagnosis.workers.trouble.is_none()
        && counts.alive() == counts.desired
        && counts.reconnecting == 0;
    let usual = if is_settled && !observed.warming_up {
        SETTLED_REQUEUE
    } else {
        UNSETTLED_REQUEUE
    };
    let timers = [
        coordinator_deadline(job, diagnosis),
        workers_deadline(job, diagnosis),
    ]
    .into_iter()
    .flatten()
    .filter(|deadline| !observed.warming_up || now < *deadline);
    backoff_until
        .into_iter()
        .chain(timers)
        .map(|deadline| until(deadline, now))
        .chain(stuck.map(|look| until(look, now).max(STUCK_REQUEUE)))
        .fold(usual, Duration::min)
}

/// Returns the time from `now` to `deadline`. It is never zero, so that an expired deadline does
/// not cause a loop.
fn until(deadline: Timestamp, now: Timestamp) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(100);
    Duration::try_from(deadline.duration_since(now))
        .unwrap_or(SHORTEST)
        .max(SHORTEST)
}

impl Plan {
    fn look(depth: Depth) -> Self {
        Self {
            look_live: Some(depth),
            ..Self::default()
        }
    }

    /// Returns whether the plan changes nothing.
    pub fn is_idle(&self) -> bool {
        self.actions.is_empty()
            && matches!(
                self.lifecycle,
                Lifecycle::Stay
                    | Lifecycle::Drain
                    | Lifecycle::Hold { .. }
                    | Lifecycle::AwaitPods(_)
                    | Lifecycle::EndByCoordinator { .. }
                    | Lifecycle::Ended
                    | Lifecycle::Delete
            )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.look_live.is_some() {
            return formatter.write_str("list the objects and plan again");
        }
        write!(formatter, "{}", self.lifecycle)?;
        for action in &self.actions {
            write!(formatter, "; {action}")?;
        }
        match self.requeue_after {
            Some(wait) => write!(formatter, "; look again in {} ms", wait.as_millis()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stay => formatter.write_str("stay"),
            Self::Reject => formatter.write_str("reject the spec"),
            Self::Block(message) => write!(formatter, "start nothing: {message}"),
            Self::Wait(waiting) => write!(formatter, "wait for {} jobs", waiting.before),
            Self::TakeTurn => formatter.write_str("start, its turn has come"),
            Self::Drain => formatter.write_str("start no further task"),
            Self::Hold { remains: None } => formatter.write_str("stay suspended"),
            Self::Hold {
                remains: Some(what),
            } => write!(formatter, "suspend: {what}"),
            Self::EndByCoordinator { message, .. } | Self::AwaitPods(message) => {
                write!(formatter, "wait: {message}")
            }
            Self::Restart(restart) => {
                write!(formatter, "restart with generation {}", restart.generation)
            }
            Self::Start(Start {
                generation,
                ended: None,
                ..
            }) => write!(formatter, "start generation {generation}"),
            Self::Start(Start {
                generation,
                ended: Some(ended),
                ..
            }) => {
                write!(
                    formatter,
                    "start generation {generation}, because {}",
                    ended.message
                )
            }
            Self::Finish(finish) => write!(
                formatter,
                "finish with {}: {}",
                finish.reason.as_str(),
                finish.message
            ),
            Self::Ended => formatter.write_str("ended"),
            Self::Delete => formatter.write_str("delete"),
        }
    }
}

#[cfg(test)]
mod tests;
