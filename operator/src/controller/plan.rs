//! What to do next for a job, given what its user wants and what the cluster shows.
//!
//! Pure: no client, no clock. Every decision about a job's life is made here; `apply.rs` has no choice left. Decisions that
//! must survive a crash are [`Lifecycle`] steps: they become one status write, and objects follow from status.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use zephyr_crds::conditions::Reason;
use zephyr_crds::frozen::{FROZEN_JOB_VERSION, FrozenJob};
use zephyr_crds::names;
use zephyr_crds::status::{GenerationEnd, OutputsStatus};

use super::action::Action;
use super::diagnose::{Diagnosis, TroubleKind, diagnose};
use super::observed::{Freshness, GenerationObjects, Observed, RootFacts};
use super::validate::{ValidatedJob, after};
use crate::run_report::{RunPhase, RunResult};

/// Generations in a row that may end in the same way without one task committed between them. Two can be bad luck of the
/// cluster; the third shows that it is the job.
pub const MAX_GENERATIONS_WITHOUT_PROGRESS: u32 = 3;

/// How soon to look again while something is wrong or on its way and no event may tell of it.
const UNSETTLED_REQUEUE: Duration = Duration::from_secs(15);

/// How soon to look again at a job that runs undisturbed: heals what a lost event would have told.
const SETTLED_REQUEUE: Duration = Duration::from_secs(300);

/// What the operator's installation adds to a job when it is frozen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installation {
    /// The worker image of the operator's own release.
    pub worker_image: String,
    /// Settings of the object store, by the store's own key.
    pub storage_options: BTreeMap<String, String>,
    /// Domain of the cluster's DNS, where service names must be complete.
    pub cluster_domain: Option<String>,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The cache is not enough for this decision: list the objects, and plan again.
    pub look_live: bool,
    /// In this order.
    pub actions: Vec<Action>,
    pub lifecycle: Lifecycle,
    pub diagnosis: Diagnosis,
    /// When to look again, if nothing happens before.
    pub requeue_after: Option<Duration>,
}

/// What becomes of the job: written to status before anything follows from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Lifecycle {
    /// As it is.
    #[default]
    Stay,
    /// The spec is refused, and nothing runs.
    Reject,
    /// A new generation gets its number.
    Start(Start),
    /// The job ends.
    Finish(Finish),
    /// The job has ended before.
    Ended,
}

/// A new generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub generation: u32,
    /// The generation before it, and why it ended.
    pub ended: Option<EndedGeneration>,
    /// Its objects are not created before.
    pub not_before: Option<Timestamp>,
    /// Generations in a row, up to the one that ended, without a committed task.
    pub without_progress: u32,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedGeneration {
    pub cause: GenerationEnd,
    pub message: String,
}

/// How the job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    pub cause: GenerationEnd,
    pub reason: Reason,
    pub message: String,
    pub outputs: Option<OutputsStatus>,
}

/// Plans the next step of `job`.
pub fn plan(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Plan {
    if job.deleted {
        // Owner references take everything along.
        return Plan::default();
    }
    if job
        .status
        .phase
        .is_some_and(zephyr_crds::status::Phase::is_final)
    {
        return plan_ended(job, observed, now);
    }
    match job.status.generation {
        None => plan_first(job, observed),
        Some(generation) => plan_running(job, observed, installation, generation, now),
    }
}

/// No generation yet: refuse the spec, or mint a number that nobody has used.
fn plan_first(job: &ValidatedJob, observed: &Observed) -> Plan {
    if !job.errors.is_empty() {
        return Plan {
            lifecycle: Lifecycle::Reject,
            ..Plan::default()
        };
    }
    if observed.freshness == Freshness::Cached {
        return Plan::look();
    }
    let start = Start {
        generation: observed.highest_generation + 1,
        ended: None,
        not_before: None,
        without_progress: 0,
    };
    Plan {
        lifecycle: Lifecycle::Start(start),
        ..Plan::default()
    }
}

/// The job has ended and status says so: the generation goes, and after its time the job itself.
fn plan_ended(job: &ValidatedJob, observed: &Observed, now: Timestamp) -> Plan {
    let mut actions = Vec::new();
    if let Some(report) = observed
        .report
        .as_ref()
        .filter(|report| report.connected && report.result.is_some())
        && let Some(epoch) = report.epoch
    {
        let root = observed
            .generation(report.generation)
            .and_then(|objects| objects.root.as_ref());
        if root.is_some_and(|root| !root.object.terminating) {
            actions.push(Action::AcknowledgeResult {
                generation: report.generation,
                epoch,
            });
        }
    }
    actions.extend(delete_roots(job, observed, u32::MAX));
    let mut requeue_after = None;
    let expires = job
        .spec
        .ttl_seconds_after_finished
        .and_then(|seconds| u64::try_from(seconds).ok())
        .zip(job.status.completion_time.as_ref())
        .map(|(seconds, ended)| after(ended.0, Duration::from_secs(seconds)));
    if let Some(expires) = expires {
        if now >= expires {
            actions.push(Action::DeleteJob {
                name: job.identity.name.clone(),
                uid: job.identity.uid.clone(),
                resource_version: job.resource_version.clone(),
            });
        } else {
            requeue_after = Some(until(expires, now));
        }
    }
    Plan {
        actions,
        lifecycle: Lifecycle::Ended,
        requeue_after,
        ..Plan::default()
    }
}

/// Status names a generation: end it, or bring its objects to where they should be.
fn plan_running(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    generation: u32,
    now: Timestamp,
) -> Plan {
    let diagnosis = diagnose(job, observed, generation, now);
    let report = observed
        .report
        .as_ref()
        .filter(|report| report.generation == generation);
    if let Some(result) = report.and_then(|report| report.result.as_ref()) {
        return Plan {
            lifecycle: Lifecycle::Finish(finish_by(result)),
            diagnosis,
            ..Plan::default()
        };
    }
    let backoff_until = job
        .status
        .backoff_until
        .as_ref()
        .map(|time| time.0)
        .filter(|until| now < *until);
    let ended = generation_lost(observed, generation)
        .or_else(|| coordinator_lost(job, &diagnosis, now))
        .or_else(|| workers_lost(job, &diagnosis, now))
        .filter(|_| backoff_until.is_none());
    if let Some(ended) = ended {
        return plan_next(job, observed, generation, ended, diagnosis, now);
    }

    let mut actions = Vec::new();
    if backoff_until.is_none() {
        actions.extend(create_missing(job, observed, installation, generation));
        actions.extend(scale(job, observed, generation));
        actions.extend(force_deletes(observed, generation, now));
        if !observed.untold_ends.is_empty() && report.is_some_and(|report| report.connected) {
            actions.push(Action::TellPodEnds {
                generation,
                ends: observed.untold_ends.clone(),
            });
        }
    }
    // Only now: the new generation never waits for the old one, and its number is in status already.
    actions.extend(delete_roots(job, observed, generation));
    let requeue_after = Some(requeue(
        job,
        observed,
        &diagnosis,
        generation,
        backoff_until,
        now,
    ));
    Plan {
        look_live: false,
        actions,
        lifecycle: Lifecycle::Stay,
        diagnosis,
        requeue_after,
    }
}

/// The generation has ended without a result: the next one, or the end of the job.
fn plan_next(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    ended: EndedGeneration,
    diagnosis: Diagnosis,
    now: Timestamp,
) -> Plan {
    if observed.freshness == Freshness::Cached {
        return Plan::look();
    }
    let first = job
        .status
        .generations
        .first()
        .map_or(generation, |record| record.generation);
    let used = generation.saturating_sub(first) + 1;
    let progressed = observed
        .report
        .as_ref()
        .is_some_and(|report| report.progressed);
    let before = job.status.generations_without_progress.unwrap_or(0);
    let without_progress = if progressed { 0 } else { before + 1 };
    let finish = |reason, message| {
        let finish = Finish {
            cause: ended.cause,
            reason,
            message,
            outputs: None,
        };
        Plan {
            lifecycle: Lifecycle::Finish(finish),
            diagnosis: diagnosis.clone(),
            ..Plan::default()
        }
    };
    if used >= job.spec.retries.max_generations {
        let message = format!(
            "{used} of {used} generations ended without a result, the last one: {}",
            ended.message
        );
        return finish(Reason::GenerationsExhausted, message);
    }
    if without_progress >= MAX_GENERATIONS_WITHOUT_PROGRESS
        && same_cause(job, ended.cause, without_progress)
    {
        let message = format!(
            "{without_progress} generations in a row ended in the same way without progress: {}",
            ended.message
        );
        return finish(Reason::NoProgress, message);
    }
    if !job.errors.is_empty() {
        // The spec was edited into something that cannot be frozen: the edit that repairs it starts the next generation.
        return Plan {
            lifecycle: Lifecycle::Stay,
            diagnosis,
            ..Plan::default()
        };
    }
    let start = Start {
        generation: observed.highest_generation.max(generation) + 1,
        ended: Some(ended),
        not_before: Some(after(now, job.timing.backoff(used))),
        without_progress,
    };
    Plan {
        lifecycle: Lifecycle::Start(start),
        diagnosis,
        ..Plan::default()
    }
}

/// Whether the last `count` generations, the one that ends now included, ended by `cause`.
fn same_cause(job: &ValidatedJob, cause: GenerationEnd, count: u32) -> bool {
    let ended: Vec<_> = job
        .status
        .generations
        .iter()
        .filter_map(|record| record.cause)
        .collect();
    let earlier = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    ended.len() >= earlier && ended.iter().rev().take(earlier).all(|one| *one == cause)
}

/// Somebody took the generation's root away, or status was set back: its objects are being collected, or belong to a later
/// one.
fn generation_lost(observed: &Observed, generation: u32) -> Option<EndedGeneration> {
    let lost = |message: String| {
        Some(EndedGeneration {
            cause: GenerationEnd::CoordinatorLost,
            message,
        })
    };
    if let Some(later) = observed
        .generations
        .keys()
        .next_back()
        .filter(|later| **later > generation)
    {
        return lost(format!(
            "status names generation {generation}, but objects of generation {later} exist"
        ));
    }
    let objects = observed.generation(generation)?;
    match &objects.root {
        None if objects.has_children() => {
            lost(format!("the root of generation {generation} was deleted"))
        }
        Some(root) if root.object.terminating => lost(format!(
            "the root of generation {generation} is being deleted"
        )),
        Some(RootFacts {
            frozen: Err(reason),
            ..
        }) => lost(format!(
            "the root of generation {generation} cannot be read: {reason}"
        )),
        None | Some(_) => None,
    }
}

/// The coordinator does not come back in time, and nothing outside the job explains it.
fn coordinator_lost(
    job: &ValidatedJob,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> Option<EndedGeneration> {
    let deadline = coordinator_deadline(job, diagnosis)?;
    let trouble = diagnosis.coordinator.trouble.as_ref();
    (now >= deadline).then(|| EndedGeneration {
        cause: GenerationEnd::CoordinatorLost,
        message: format!(
            "the coordinator was not available for {}: {}",
            job.spec.retries.coordinator_timeout.as_str(),
            trouble.map_or("its pod is not ready", |trouble| &trouble.message)
        ),
    })
}

/// When the generation ends for want of a coordinator; absent while it need not.
fn coordinator_deadline(job: &ValidatedJob, diagnosis: &Diagnosis) -> Option<Timestamp> {
    let health = &diagnosis.coordinator;
    let waits = health
        .trouble
        .as_ref()
        .is_some_and(|trouble| match trouble.kind {
            TroubleKind::Blocked | TroubleKind::ReferenceNotFound => true,
            // A coordinator that was up and finds no place again is lost; one that never had a place would find none in the
            // next generation either.
            TroubleKind::Capacity => !health.was_ready,
            TroubleKind::Image | TroubleKind::Crashing => false,
        });
    health
        .silent_since
        .filter(|_| !waits)
        .map(|since| after(since, job.timing.coordinator_timeout))
}

/// No worker was alive for too long although pods had their nodes.
fn workers_lost(
    job: &ValidatedJob,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> Option<EndedGeneration> {
    let deadline = workers_deadline(job, diagnosis)?;
    let trouble = diagnosis
        .workers
        .trouble
        .as_ref()
        .filter(|trouble| !trouble.kind.is_outside());
    (now >= deadline).then(|| EndedGeneration {
        cause: GenerationEnd::NoWorkers,
        message: format!(
            "no worker was alive for {}: {}",
            job.spec.retries.no_workers_timeout.as_str(),
            trouble.map_or(
                "worker pods have nodes but do not become ready",
                |trouble| &trouble.message
            )
        ),
    })
}

/// When the generation ends for want of workers; absent while the wait is for something outside the job. While the
/// coordinator is away, its own timer is in charge.
fn workers_deadline(job: &ValidatedJob, diagnosis: &Diagnosis) -> Option<Timestamp> {
    let health = &diagnosis.workers;
    let since = health.dead_since?.max(health.failing_since?);
    diagnosis
        .coordinator
        .ready
        .then(|| after(since, job.timing.no_workers_timeout))
}

/// The root first, alone, since the rest names its uid; then whatever is missing, from the frozen job in it.
fn create_missing(
    job: &ValidatedJob,
    observed: &Observed,
    installation: &Installation,
    generation: u32,
) -> Vec<Action> {
    let objects = observed.generation(generation).cloned().unwrap_or_default();
    let GenerationObjects {
        root,
        service,
        coordinator,
        workers,
    } = objects;
    let Some(root) = root else {
        if job.errors.is_empty() {
            return vec![Action::CreateRoot {
                frozen: Box::new(freeze(job, installation, generation)),
            }];
        }
        return Vec::new();
    };
    let Ok(frozen) = root.frozen else {
        return Vec::new();
    };
    let root_uid = root.object.uid;
    let mut actions = Vec::new();
    if coordinator.is_none() {
        // Secrets cannot be seen; this one is created before the Deployment, so the Deployment vouches for it.
        actions.push(Action::CreateTokenSecret {
            frozen: frozen.clone(),
            root_uid: root_uid.clone(),
        });
    }
    if service.is_none() {
        actions.push(Action::CreateService {
            frozen: frozen.clone(),
            root_uid: root_uid.clone(),
        });
    }
    if coordinator.is_none() {
        actions.push(Action::CreateCoordinator {
            frozen: frozen.clone(),
            root_uid: root_uid.clone(),
        });
    }
    if workers.is_none() {
        actions.push(Action::CreateWorkers { frozen, root_uid });
    }
    actions
}

/// The job as this generation will run it.
fn freeze(job: &ValidatedJob, installation: &Installation, generation: u32) -> FrozenJob {
    let identity = &job.identity;
    let mut spec = job.spec.clone();
    if spec.image.is_empty() {
        spec.image.clone_from(&installation.worker_image);
    }
    let coordinator_address = match &installation.cluster_domain {
        None => names::coordinator_address(&identity.name, &identity.namespace, generation),
        Some(domain) => format!(
            "http://{}.{}.svc.{domain}:{}",
            names::coordinator(&identity.name, generation),
            identity.namespace,
            names::COORDINATOR_PORT
        ),
    };
    FrozenJob {
        version: FROZEN_JOB_VERSION,
        namespace: identity.namespace.clone(),
        name: identity.name.clone(),
        uid: identity.uid.clone(),
        generation,
        spec,
        storage_options: installation.storage_options.clone(),
        coordinator_address,
    }
}

/// Workers as many as asked for, and never more than there are shards; none before the plan is known.
fn scale(job: &ValidatedJob, observed: &Observed, generation: u32) -> Option<Action> {
    let report = observed
        .report
        .as_ref()
        .filter(|report| report.generation == generation)?;
    let to = job
        .spec
        .workers
        .replicas
        .min(report.planned.as_ref()?.max_shards);
    let workers = observed.generation(generation)?.workers.as_ref()?;
    let is_over = matches!(report.phase, RunPhase::Ended);
    (workers.replicas != to && !is_over && !workers.object.terminating).then(|| {
        Action::ScaleWorkers {
            name: names::workers(&job.identity.name, generation),
            uid: workers.object.uid.clone(),
            from: workers.replicas,
            to,
        }
    })
}

/// Worker pods that a lost node keeps Terminating: the `StatefulSet` replaces none of them by itself. Sessions are fenced, so
/// a pod that still runs there can do no harm.
fn force_deletes(
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> impl Iterator<Item = Action> {
    observed
        .workers(generation)
        .filter(move |pod| pod.is_stuck(now))
        .map(|pod| Action::ForceDeletePod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        })
}

/// Deletes the roots of all generations below `below`.
fn delete_roots(
    job: &ValidatedJob,
    observed: &Observed,
    below: u32,
) -> impl Iterator<Item = Action> {
    let name = job.identity.name.clone();
    observed
        .generations
        .range(..below)
        .filter_map(move |(generation, objects)| {
            let root = objects
                .root
                .as_ref()
                .filter(|root| !root.object.terminating)?;
            Some(Action::DeleteRoot {
                name: names::generation_root(&name, *generation),
                uid: root.object.uid.clone(),
            })
        })
}

/// The end that the coordinator reports.
fn finish_by(result: &RunResult) -> Finish {
    let reason = match (result.succeeded, result.reason.as_str()) {
        (true, _) => Reason::OutputComplete,
        (false, "PlanFailed") => Reason::PlanFailed,
        (false, "TaskDisrupted") => Reason::TaskDisrupted,
        (false, _) => Reason::TaskFailed,
    };
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Finish {
        cause: if result.succeeded {
            GenerationEnd::Succeeded
        } else {
            GenerationEnd::Failed
        },
        reason,
        message: result.message.clone(),
        outputs: result.succeeded.then(|| OutputsStatus {
            files: number(result.files),
            bytes: number(result.bytes),
            rows: number(result.rows),
            manifest: result.manifest.clone(),
        }),
    }
}

/// The nearest moment at which time alone would change the plan.
fn requeue(
    job: &ValidatedJob,
    observed: &Observed,
    diagnosis: &Diagnosis,
    generation: u32,
    backoff_until: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    let stuck = observed
        .workers(generation)
        .filter_map(crate::pods::PodFacts::stuck_from);
    let counts = &diagnosis.workers.counts;
    let is_settled = diagnosis.coordinator.ready
        && diagnosis.coordinator.trouble.is_none()
        && diagnosis.workers.trouble.is_none()
        && counts.alive() == counts.desired
        && counts.reconnecting == 0;
    let usual = if is_settled {
        SETTLED_REQUEUE
    } else {
        UNSETTLED_REQUEUE
    };
    [
        backoff_until,
        coordinator_deadline(job, diagnosis),
        workers_deadline(job, diagnosis),
    ]
    .into_iter()
    .flatten()
    .chain(stuck)
    .map(|deadline| until(deadline, now))
    .fold(usual, Duration::min)
}

/// From `now` to `deadline`; never none, so that a deadline that just passed is not asked for in a loop.
fn until(deadline: Timestamp, now: Timestamp) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(100);
    Duration::try_from(deadline.duration_since(now))
        .unwrap_or(SHORTEST)
        .max(SHORTEST)
}

impl Plan {
    fn look() -> Self {
        Self {
            look_live: true,
            ..Self::default()
        }
    }

    /// Whether it changes nothing.
    pub fn is_idle(&self) -> bool {
        self.actions.is_empty() && matches!(self.lifecycle, Lifecycle::Stay | Lifecycle::Ended)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.look_live {
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
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
