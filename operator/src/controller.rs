//! Calls the steps of a reconcile in order: observe → validate → plan → apply → status. This file
//! makes no decisions about the job.

pub mod action;
pub mod apply;
pub mod diagnose;
mod elastic;
pub mod failure;
pub mod forced;
pub mod kept;
pub mod life;
pub mod memory;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod status;
pub mod turns;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use zephyr_crds::field_error::FieldError;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::status::ZephyrJobStatus;

use self::action::Action;
use self::apply::Writer;
use self::memory::Memory;
use self::observe::events::log_failure;
use self::observe::made::{Made, Part};
use self::observe::refusal::newest_refusal;
use self::observe::starting;
use self::observe::unmarked;
use self::observed::{Depth, Freshness, Frozen, Observed, RootFault};
use self::plan::{Installation, Lifecycle, Plan};
use self::status::announce::{Announcement, announcements};
use self::status::due::{Due, due};
use self::turns::StartProgress;
use self::validate::{ValidatedJob, Verdict};
use crate::calls::{Refusal, bounded, counted};
use crate::clock::Clock;
use crate::driver::{Jobs, Look};
use crate::identity::JobIdentity;
use crate::metrics::Metrics;
use crate::progress::token::SigningKey;
use crate::progress::{Lost, RunStreams, StreamTarget};
use crate::queue::{JobKey, Outcome};
use crate::turns::Turns;
use crate::watches::cache::Caches;
use crate::watches::facts::SeenJob;

/// For how long after its start the operator assumes that a coordinator's stream is missing because
/// the operator itself restarted.
const WARM_UP: Duration = Duration::from_secs(30);

/// The dependencies of a reconcile.
pub struct Context {
    /// The client with which everything is read and written.
    pub client: Client,
    /// The facts from the watches.
    pub caches: Arc<Caches>,
    /// The queue, which decides which job is reconciled next.
    pub jobs: Arc<Jobs>,
    /// The jobs that have their turn to start.
    pub turns: Arc<Turns>,
    /// The coordinators' streams.
    pub streams: RunStreams,
    /// The settings of the installation.
    pub installation: Installation,
    /// The key that tokens of generations are derived from.
    pub signing_key: SigningKey,
    /// Writes events.
    pub recorder: Recorder,
    /// Counters for `/metrics`.
    pub metrics: Metrics,
    /// What is remembered between two reconciles of a job.
    pub memory: Memory,
    /// The only source of the time of day.
    pub clock: Clock,
    /// When this process started, on the clock of timers.
    pub started: Instant,
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job in the cluster cannot be read as a `ZephyrJob` of this release.
    #[error("read job: {message}")]
    Decode {
        /// The field and what is wrong with it.
        message: String,
    },
    /// See [`validate::Error`].
    #[error(transparent)]
    Validate(validate::Error),
    /// See [`observe::Error`].
    #[error(transparent)]
    Observe(observe::Error),
    /// See [`apply::Error`].
    #[error(transparent)]
    Apply(apply::Error),
}

impl Look for Context {
    fn look(self: Arc<Self>, key: JobKey) -> BoxFuture<'static, Outcome> {
        async move { Box::pin(reconcile(&key, &self)).await }.boxed()
    }

    fn set_aside(self: Arc<Self>, key: JobKey, panic: String) -> BoxFuture<'static, Outcome> {
        async move { Box::pin(set_aside(&key, &panic, &self)).await }.boxed()
    }

    fn show_depth(&self, depth: (usize, usize)) {
        self.metrics.set_depth(depth);
    }
}

/// Advances one job by one step, from any state, and returns when to reconcile it again.
pub async fn reconcile(key: &JobKey, context: &Context) -> Outcome {
    let Some(seen) = context.caches.jobs.get(&key.namespace, &key.name) else {
        return Outcome::Gone;
    };
    let started = Instant::now();
    let (outcome, calls) = counted(Box::pin(reconcile_job(&seen, context))).await;
    context.metrics.observe_reconcile(
        started.elapsed(),
        outcome.as_ref().err().map(Error::variant),
    );
    match outcome {
        Ok(outcome) => {
            context.memory.clear_failures(&seen.uid);
            outcome
        }
        Err(error) => {
            let failures = context.memory.blame(&seen.uid);
            context
                .memory
                .set_behind(&seen.uid, failure::is_conflict(&error));
            Box::pin(report_failure(&seen, &error, failures, context)).await;
            let next = failure::after_failure(&error, &seen.uid, failures, calls);
            warn!(job = %key, step = error.variant(), %error, ?next, "reconcile ended early");
            next
        }
    }
}

/// Reports a failure that may leave the job's status wrong: in status if the job's objects cannot
/// be read, or in an event if status cannot be written. A failure that may be temporary is reported
/// only if it lasts.
async fn report_failure(seen: &SeenJob, error: &Error, failures: u32, context: &Context) {
    let Some(sentence) = failure::sentence(error, failures) else {
        return;
    };
    if let Error::Apply(_) = error {
        let announcement = Announcement {
            is_warning: true,
            reason: "StatusNotWritten".to_owned(),
            note: sentence.message,
        };
        return announce(context, &seen.reference(), &announcement).await;
    }
    let Ok(cached) = seen.document() else { return };
    let job = context.memory.newest(cached);
    let before = job.status.clone().unwrap_or_default();
    if before.is_final() {
        return;
    }
    let (version, now) = (job.metadata.generation, context.clock.now());
    let status = status::set_aside::not_seen(before.clone(), version, &sentence, now);
    // If a status write is not due yet, the report is left to the next failure.
    let written = context.memory.written_at(&seen.uid);
    if due(&before, &status, written, now) != Due::Now {
        return;
    }
    let identity = seen.identity();
    let writer = Writer::new(context, &identity);
    if let Err(error) = Box::pin(write_status(&writer, context, job, before, status)).await {
        warn!(job = %seen.name, %error, "status of a job that cannot be read: not written");
    }
}

/// Records in status that an internal error of the operator stopped the processing of this job, and
/// pauses the job for a while.
async fn set_aside(key: &JobKey, panic: &str, context: &Context) -> Outcome {
    context.metrics.count_set_aside();
    error!(job = %key, panic, "the operator failed on this job and pauses its work on it");
    let Some(seen) = context.caches.jobs.get(&key.namespace, &key.name) else {
        return Outcome::Gone;
    };
    let next = failure::after_panic(&seen.uid, context.memory.blame(&seen.uid));
    let Ok(cached) = seen.document() else {
        return next;
    };
    let job = context.memory.newest(cached);
    let now = context.clock.now();
    let before = job.status.clone().unwrap_or_default();
    let status = status::set_aside::set_aside(before.clone(), job.metadata.generation, panic, now);
    if status != before {
        let identity = seen.identity();
        let writer = Writer::new(context, &identity);
        if let Err(error) = Box::pin(write_status(&writer, context, job, before, status)).await {
            warn!(job = %key, %error, "status of a job that is set aside: not written");
        }
    }
    next
}

impl Error {
    fn variant(&self) -> &'static str {
        match self {
            Self::Decode { .. } => "decode",
            Self::Validate(_) => "validate",
            Self::Observe(_) => "observe",
            Self::Apply(error) => error.variant(),
        }
    }
}

/// What one reconcile has read and planned.
struct Considered {
    job: ZephyrJob,
    valid: ValidatedJob,
    verdict: Verdict,
    observed: Observed,
    plan: Plan,
    now: Timestamp,
}

/// Executes the steps of one reconcile.
async fn reconcile_job(seen: &SeenJob, context: &Context) -> Result<Outcome, Error> {
    let cached = match seen.document() {
        Ok(cached) => cached,
        Err(message) => return Err(refuse_unreadable(seen, &message, context).await),
    };
    let mut job = if context.memory.is_behind(&seen.uid) {
        let identity = seen.identity();
        let live = observe::live_job(&context.client, &identity).await;
        let live = live.map_err(Error::Observe)?;
        let Some(live) = live.filter(|live| live.uid == seen.uid) else {
            return Ok(Outcome::Settled);
        };
        live.document().unwrap_or(cached)
    } else {
        context.memory.newest(cached)
    };
    if let Some(manager) = job.spec.other_manager().map(str::to_owned) {
        return Box::pin(leave_alone(job, &manager, context)).await;
    }
    let emptied = restore_end(&mut job, seen);
    let Some(considered) = Box::pin(consider(job, context)).await? else {
        // The job was deleted, and perhaps created again; the watch reports that.
        return Ok(Outcome::Settled);
    };
    let Considered {
        job,
        valid,
        verdict,
        mut observed,
        plan,
        now,
    } = considered;
    let identity = valid.identity.clone();
    keep_stream(context, &valid, &observed, &plan.lifecycle);
    if plan.is_idle() {
        debug!(job = %identity.name, namespace = %identity.namespace, plan = %plan, "planned");
    } else {
        info!(job = %identity.name, namespace = %identity.namespace, plan = %plan, "planned");
    }

    let writer = Writer::new(context, &identity);
    let applied = apply_all(&writer, &plan, context).await;
    let deletes_job = |action: &Action| matches!(action, Action::DeleteJob { .. });
    if plan.actions.iter().any(deletes_job) {
        applied.map_err(Error::Apply)?;
        return Ok(Outcome::Settled);
    }
    observed.forced = context.memory.forced(&identity.uid, &observed.pods, now);
    let problem = applied.as_ref().err().and_then(apply::Error::problem);
    let status = status::project(&valid, &verdict, &observed, &plan, problem.as_ref(), now);
    context.metrics.set_phase(&identity.uid, status.phase);
    context
        .memory
        .note_health(&identity.uid, &plan.diagnosis, now);
    // If somebody removed a part of the end, that part is written again without an event.
    let phase = valid.status.phase;
    let before = match emptied.clone() {
        Some(found) => ZephyrJobStatus { phase, ..found },
        None => valid.status,
    };
    let status_due = due(
        emptied.as_ref().unwrap_or(&before),
        &status,
        context.memory.written_at(&identity.uid),
        now,
    );
    let mut wait = plan.requeue_after;
    match status_due {
        Due::Now => Box::pin(write_status(&writer, context, job, before, status)).await?,
        Due::At(at) => {
            let until = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            wait = Some(wait.map_or(until, |wait| wait.min(until)));
        }
        Due::Never => {}
    }
    applied.map_err(Error::Apply)?;
    Ok(wait.map_or(Outcome::Settled, Outcome::LookAgain))
}

/// Does nothing for a job that another controller runs. If the job has no status yet, writes one
/// that says so.
async fn leave_alone(job: ZephyrJob, manager: &str, context: &Context) -> Result<Outcome, Error> {
    let before = job.status.clone().unwrap_or_default();
    let (version, now) = (job.metadata.generation, context.clock.now());
    if let Some(status) = status::left_alone::left_alone(&before, version, manager, now) {
        let identity = validate::extract(&job).map_err(Error::Validate)?.identity;
        let writer = Writer::new(context, &identity);
        Box::pin(write_status(&writer, context, job, before, status)).await?;
    }
    Ok(Outcome::Settled)
}

/// Restores the end of a job if somebody removed it from the job's status, so that the job does not
/// start a second time. Returns the status from before it was restored.
fn restore_end(job: &mut ZephyrJob, seen: &SeenJob) -> Option<ZephyrJobStatus> {
    let ended = seen.lost_end()?;
    let is_there = job
        .status
        .as_ref()
        .is_some_and(ZephyrJobStatus::is_whole_end);
    (!is_there).then(|| job.status.replace(ended).unwrap_or_default())
}

/// Observes the job and plans: first from the caches, and again from live lists if the plan asks
/// for them. Returns `None` if the job no longer exists.
async fn consider(job: ZephyrJob, context: &Context) -> Result<Option<Considered>, Error> {
    let now = context.clock.now();
    let validated = read_job(&job, context)?;
    let observed = observe::from_caches(&context.caches, &validated.0.identity);
    let planned = plan_on(job, validated, observed, now, context);
    let mut considered = Box::pin(planned).await?;
    while let Some(depth) = considered.plan.look_live {
        let identity = considered.valid.identity;
        let live = observe::live_job(&context.client, &identity)
            .await
            .map_err(Error::Observe)?;
        let Some(Ok(job)) = live
            .filter(|live| live.uid == identity.uid)
            .map(|live| live.document())
        else {
            return Ok(None);
        };
        let validated = read_job(&job, context)?;
        let observed = observe::live(&context.client, &context.caches, &identity, depth)
            .await
            .map_err(Error::Observe)?;
        let is_last = depth == Depth::Pods;
        considered = Box::pin(plan_on(job, validated, observed, now, context)).await?;
        debug_assert!(!is_last || considered.plan.look_live.is_none());
        if is_last {
            break;
        }
    }
    Ok(Some(considered))
}

fn read_job(job: &ZephyrJob, context: &Context) -> Result<(ValidatedJob, Vec<FieldError>), Error> {
    let valid = validate::extract(job).map_err(Error::Validate)?;
    Ok((valid, context.memory.errors(job)))
}

async fn plan_on(
    job: ZephyrJob,
    (valid, errors): (ValidatedJob, Vec<FieldError>),
    mut observed: Observed,
    now: Timestamp,
    context: &Context,
) -> Result<Considered, Error> {
    observe_unmarked(context, &valid, &mut observed, now).await?;
    let (uid, start_progress) = (&valid.identity.uid, StartProgress::of(&job));
    observed.turn = context.turns.of(&context.caches, uid, start_progress, now);
    observe_unseen(context, &valid, &mut observed);
    observe_frozen(context, &valid, &mut observed).await?;
    observe_run(context, &valid, &mut observed, now).await?;
    observe_starting(context, &valid, &mut observed, now).await;
    observe_stuck(context, &valid.identity, &mut observed, now).await;
    let verdict = Verdict::of(&valid, errors, &observed);
    let plan = plan::plan(&valid, &verdict, &observed, &context.installation, now);
    Ok(Considered {
        job,
        valid,
        verdict,
        observed,
        plan,
        now,
    })
}

/// Adds the roots that exist although no watch shows them. Adds nothing if the job was deleted,
/// because then Kubernetes collects its objects.
async fn observe_unmarked(
    context: &Context,
    job: &ValidatedJob,
    observed: &mut Observed,
    now: Timestamp,
) -> Result<(), Error> {
    let (identity, memory) = (&job.identity, &context.memory);
    if job.deleted {
        return Ok(());
    }
    let unseen = memory.with_roots(&identity.uid, |roots| roots.add_to(job, observed, now));
    for generation in unseen {
        let objects = observed.generation(generation);
        let root_uid = objects.and_then(|objects| objects.root_uid.clone());
        let found = unmarked::root(&context.client, identity, generation, root_uid.as_deref())
            .await
            .map_err(Error::Observe)?;
        memory.with_roots(&identity.uid, |roots| {
            roots.note(generation, found.as_ref(), now);
        });
        if let Some(root) = found {
            observed.generations.entry(generation).or_default().root = Some(root);
        }
    }
    Ok(())
}

/// Adds the objects that this operator made and no watch has shown yet. Nothing is added if
/// `observed` comes from a live list.
fn observe_unseen(context: &Context, job: &ValidatedJob, observed: &mut Observed) {
    let Some(generation) = job.status.generation else {
        return;
    };
    if observed.freshness != Freshness::Cached {
        return;
    }
    let caches = &context.caches;
    let heard = |part| match part {
        Part::Root => caches.roots.heard(),
        Part::Service => caches.services.heard(),
        Part::Coordinator => caches.coordinators.heard(),
        Part::Workers => caches.workers.heard(),
    };
    observed.unseen = context.memory.with_made(&job.identity.uid, |made| {
        made.unseen(generation, heard, Instant::now())
    });
}

/// Adds the frozen job of the running generation. It is read once, and reused as long as its root
/// is the same.
async fn observe_frozen(
    context: &Context,
    job: &ValidatedJob,
    observed: &mut Observed,
) -> Result<(), Error> {
    let identity = &job.identity;
    let Some(generation) = job.status.generation.filter(|_| !is_over(job)) else {
        context.memory.drop_frozen(&identity.uid);
        return Ok(());
    };
    let root = observed
        .generations
        .get_mut(&generation)
        .and_then(|objects| objects.root.as_mut());
    let Some(root) = root else { return Ok(()) };
    let root_uid = &root.object.uid;
    if let Some(frozen) = context.memory.frozen(&identity.uid, root_uid) {
        root.frozen = frozen;
        return Ok(());
    }
    if root.object.terminating {
        // A root that is being deleted may disappear at any moment, and its generation has ended in
        // any case.
        return Ok(());
    }
    let frozen = observe::frozen(&context.client, identity, generation, root_uid)
        .await
        .map_err(Error::Observe)?;
    context
        .memory
        .keep_frozen(&identity.uid, root_uid, frozen.clone());
    root.frozen = frozen;
    Ok(())
}

/// Returns whether no further generation of the job will run.
fn is_over(job: &ValidatedJob) -> bool {
    job.deleted || job.has_ended()
}

/// Adds the coordinator's latest report, and, if worker pods are refused, the reason.
async fn observe_run(
    context: &Context,
    job: &ValidatedJob,
    observed: &mut Observed,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(generation) = job.status.generation else {
        return Ok(());
    };
    let identity = &job.identity;
    observed.report = context.streams.report(&identity.uid, generation);
    observed.no_stream = context.streams.no_stream(&identity.uid, generation);
    observed.end_requested_at = context.streams.end_requested_at(&identity.uid, generation);
    observed.scaled_at = context.memory.scaled_at(&identity.uid);
    observed.mended_at = context.memory.mended_at(&identity.uid);
    observed.old_roots_held = context.memory.old_roots_held(&identity.uid);
    observed.last_well = context.memory.last_well(&identity.uid);
    observed.warming_up = context.started.elapsed() < WARM_UP;
    let left_alone = context.caches.pods.disowned(&identity.uid);
    observed.unreported_ends = context.streams.unreported_ends(
        &identity.uid,
        generation,
        observed.workers(generation),
        &left_alone,
    );
    let objects = observed.generation(generation);
    let is_whole = objects
        .and_then(|objects| objects.root.as_ref())
        .is_some_and(|root| !root.object.terminating);
    let Some(workers) = objects.and_then(|objects| objects.workers.clone()) else {
        return Ok(());
    };
    // Losses are counted only from the caches: comparing two lists of different ages would show
    // changes that did not happen. A generation without its root is being collected, so nothing is
    // counted. Nothing is counted while the set is being deleted either. If it is deleted without
    // its pods, the pods stay, but no watch shows them.
    if observed.freshness == Freshness::Cached && is_whole && !workers.object.terminating {
        let scaled_to = context.memory.scaled_to(&identity.uid, &workers.object.uid);
        let replicas = scaled_to.map_or(workers.replicas, |to| to.min(workers.replicas));
        observed.lost = context.streams.lost(
            &identity.uid,
            generation,
            lost_before(&job.status, now),
            observed.workers(generation),
            &left_alone,
            (&workers.object.uid, replicas),
        );
    }
    let memory = &context.memory;
    let is_short = workers.is_short();
    if memory.with_events(&identity.uid, |events| {
        events.must_ask_for_refusal(is_short, now)
    }) {
        let (namespace, uid) = (&identity.namespace, &workers.object.uid);
        match newest_refusal(&context.client, namespace, uid).await {
            Ok(refusal) => {
                memory.with_events(&identity.uid, |events| events.set_refusal(refusal));
            }
            // An earlier answer is used until it is too old.
            Err(error) => log_failure(&identity.name, &error),
        }
    }
    if is_short {
        observed.workers_refused = memory.with_events(&identity.uid, |events| events.refusal(now));
    }
    Ok(())
}

/// Adds the reasons why pods that have a node do not start.
async fn observe_starting(
    context: &Context,
    job: &ValidatedJob,
    observed: &mut Observed,
    now: Timestamp,
) {
    let Some(generation) = job.status.generation.filter(|_| !is_over(job)) else {
        return;
    };
    let (identity, memory) = (&job.identity, &context.memory);
    let pods = memory.with_events(&identity.uid, |events| {
        events.pods_to_ask(&observed.pods, generation, now)
    });
    for pod in pods {
        let since = pod.starting_since().unwrap_or(now);
        let namespace = &identity.namespace;
        match starting::newest(&context.client, namespace, &pod.uid, since, now).await {
            Ok(event) => {
                memory.with_events(&identity.uid, |events| {
                    events.set_start_event(&pod.uid, event);
                });
            }
            // An earlier answer is still used.
            Err(error) => log_failure(&identity.name, &error),
        }
    }
    observed.start_events = memory.with_events(&identity.uid, |events| events.start_events());
}

/// Adds what is known about pods that stay Terminating, and about their nodes.
async fn observe_stuck(
    context: &Context,
    job: &JobIdentity,
    observed: &mut Observed,
    now: Timestamp,
) {
    observed.forced = context.memory.forced(&job.uid, &observed.pods, now);
    if !context.installation.force_delete_pods {
        return;
    }
    let nodes = observed.forced.nodes_to_ask(&observed.pods, now);
    for node in &nodes {
        let view = observe::node(&context.client, node).await;
        context
            .memory
            .change_forced(&job.uid, |forced| forced.note_node(node, view, now));
    }
    if !nodes.is_empty() {
        observed.forced = context.memory.forced(&job.uid, &observed.pods, now);
    }
}

/// Returns the losses of the current generation that status shows.
fn lost_before(status: &zephyr_crds::ZephyrJobStatus, now: Timestamp) -> Lost {
    status
        .generations
        .last()
        .map_or_else(Lost::default, |record| Lost {
            workers: record.disruptions,
            pods: record.lost_pods,
            // A wrong clock may have written a time in the future. Such a time would hide every
            // loss until then.
            pods_until: record.last_lost_pod.as_ref().map(|time| time.0.min(now)),
        })
}

/// Keeps one stream to the coordinator of the current generation, from the time at which the
/// coordinator has a Deployment until the job has ended and the generation no longer exists.
fn keep_stream(context: &Context, job: &ValidatedJob, observed: &Observed, lifecycle: &Lifecycle) {
    let identity = &job.identity;
    let Some(generation) = job.status.generation.filter(|_| !is_over(job)) else {
        let is_gone = observed.generations.values().all(|objects| {
            objects
                .root
                .as_ref()
                .is_none_or(|root| root.object.terminating)
        });
        if job.deleted || is_gone {
            context.streams.close(&identity.uid);
        }
        return;
    };
    let Some(objects) = observed
        .generation(generation)
        .filter(|objects| objects.coordinator.is_some())
    else {
        return;
    };
    let address = match objects.root.as_ref().map(|root| &root.frozen) {
        Some(Frozen::Read(frozen)) => &frozen.coordinator_address,
        Some(Frozen::Unreadable(RootFault::OtherRelease {
            coordinator_address,
            ..
        })) => coordinator_address,
        Some(Frozen::Unread | Frozen::Unreadable(RootFault::Damaged(_))) | None => return,
    };
    context.streams.ensure(StreamTarget {
        job: identity.clone(),
        generation,
        address: address.clone(),
        token: context.signing_key.token(&identity.uid, generation),
    });
    if let Some(workers) = &objects.workers {
        let streams = &context.streams;
        streams.note_replicas(&identity.uid, generation, workers.replicas);
    }
    if let Some(drains) = lifecycle.drains() {
        context.streams.drain(&identity.uid, generation, drains);
    }
}

/// Records a try to delete a pod by force. If the API server refused it, the refusal is shown until
/// the pod no longer exists. No decision depends on the refusal, so a refusal does not stop the
/// reconcile.
fn note_force_delete(
    context: &Context,
    job_uid: &str,
    (name, uid): (&str, &str),
    failed: Option<apply::Error>,
) {
    if let Some(error) = &failed {
        warn!(%error, "pod not deleted by force");
    }
    let refused = failed.and_then(|error| error.problem());
    let now = context.clock.now();
    context
        .memory
        .change_forced(job_uid, |forced| forced.note_try(name, uid, refused, now));
}

/// Pauses deletions of earlier generations' roots for a while if one of them failed.
fn note_old_root(context: &Context, job_uid: &str, failed: Option<apply::Error>) {
    let Some(error) = failed else {
        return context.memory.release_old_roots(job_uid);
    };
    warn!(%error, "root of an earlier generation not deleted");
    let wait = |failures| failure::after_old_root(&error, job_uid, failures);
    let now = context.clock.now();
    context.memory.hold_old_roots(job_uid, wait, now);
}

/// Executes the plan's actions until one fails, because a later action may depend on an earlier
/// one. Two failures do not stop the execution: if a pod cannot be deleted by force, and if an
/// earlier generation cannot be deleted.
async fn apply_all(
    writer: &Writer<'_>,
    plan: &Plan,
    context: &Context,
) -> Result<(), apply::Error> {
    for action in &plan.actions {
        let outcome = writer.apply(action).await;
        context.metrics.count_action(action.verb(), outcome.is_ok());
        if outcome.is_ok() {
            let note = |made: &mut Made| made.note(action, Instant::now());
            context.memory.with_made(&writer.job.uid, note);
        }
        if let Action::ForceDeletePod { name, uid } = action {
            note_force_delete(context, &writer.job.uid, (name, uid), outcome.err());
            continue;
        }
        let is_beside = plan.lifecycle == Lifecycle::Stay;
        if matches!(action, Action::DeleteRoot { .. }) && is_beside {
            note_old_root(context, &writer.job.uid, outcome.err());
            continue;
        }
        if let Action::ScaleCoordinator { name, from, .. } = action
            && outcome.is_ok()
        {
            announce_scaled_back(context, writer.job, name, *from).await;
        }
        if matches!(
            action,
            Action::MendService { .. } | Action::ScaleCoordinator { .. }
        ) {
            let now = context.clock.now();
            context.memory.note_mend(&writer.job.uid, now);
        }
        // Only a successful change is recorded, because the record delays the next change. After a
        // failed change, the back-off delays the next try.
        if let Action::ScaleWorkers { uid, to, .. } = action
            && outcome.is_ok()
        {
            let now = context.clock.now();
            context.memory.note_scale(&writer.job.uid, uid, *to, now);
        }
        outcome?;
    }
    Ok(())
}

/// Publishes an event that explains to the user why a scaled coordinator was scaled back.
async fn announce_scaled_back(context: &Context, job: &JobIdentity, name: &str, from: u32) {
    let Some(seen) = context.caches.jobs.get(&job.namespace, &job.name) else {
        return;
    };
    let announcement = Announcement {
        is_warning: true,
        reason: "CoordinatorScaled".to_owned(),
        note: format!(
            "somebody scaled Deployment {name} to {from}; the operator scaled it back to 1, because a job has one coordinator"
        ),
    };
    announce(context, &seen.reference(), &announcement).await;
}

/// Writes the status, and publishes events for the changes. The written job is remembered until the
/// watch delivers it.
async fn write_status(
    writer: &Writer<'_>,
    context: &Context,
    job: ZephyrJob,
    before: zephyr_crds::ZephyrJobStatus,
    status: zephyr_crds::ZephyrJobStatus,
) -> Result<(), Error> {
    let reference = job.object_ref(&());
    let uid = reference.uid.clone().unwrap_or_default();
    let announced = announcements(&before, &status);
    let written = match writer.write_status(job, status).await {
        Ok(written) => written,
        // The job was deleted in between, so nobody needs the events.
        Err(error)
            if error
                .call()
                .is_some_and(|call| call.refusal() == Refusal::NotFound) =>
        {
            return Ok(());
        }
        Err(error) => return Err(Error::Apply(error)),
    };
    // The least interval starts at the write and not at the start of the reconcile, because the
    // reconcile may have waited for other calls before the write.
    let now = context.clock.now();
    context.memory.remember(&uid, written, now);
    context.metrics.count_status_write();
    for announcement in announced {
        announce(context, &reference, &announcement).await;
    }
    Ok(())
}

/// Publishes an event, unless one with the same reason was published a moment ago. Only people read
/// events, so a lost event changes nothing.
async fn announce(
    context: &Context,
    reference: &k8s_openapi::api::core::v1::ObjectReference,
    announcement: &Announcement,
) {
    /// The longest note that the API server accepts, in bytes.
    const MAX_NOTE: usize = 1000;
    let uid = reference.uid.as_deref().unwrap_or_default();
    let now = context.clock.now();
    if !context.memory.may_announce(uid, &announcement.reason, now) {
        return;
    }
    let mut note = announcement.note.clone();
    while note.len() > MAX_NOTE {
        note.pop();
    }
    let event = Event {
        type_: if announcement.is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: announcement.reason.clone(),
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = bounded(context.recorder.publish(&event, reference)).await
        && error.refusal() != Refusal::NamespaceEnding
    {
        warn!(%error, reason = announcement.reason, "event not published");
    }
}

/// Handles an object of kind `ZephyrJob` that cannot be read as one: publishes one event for each
/// version of the object.
async fn refuse_unreadable(seen: &SeenJob, message: &str, context: &Context) -> Error {
    if context
        .memory
        .must_report_unreadable(&seen.uid, &seen.version)
    {
        let note = format!("the object cannot be read as a ZephyrJob of this release: {message}");
        let announcement = Announcement {
            is_warning: true,
            reason: "SpecInvalid".to_owned(),
            note,
        };
        announce(context, &seen.reference(), &announcement).await;
    }
    Error::Decode {
        message: message.to_owned(),
    }
}
