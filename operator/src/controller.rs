//! The table of contents of a reconcile: observe → validate → plan → apply → status. Nothing is decided here.

pub mod action;
pub mod apply;
pub mod diagnose;
pub mod forced;
pub mod memory;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource, ResourceExt};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use zephyr_crds::job::ZephyrJob;

use self::action::Action;
use self::apply::Writer;
use self::memory::Memory;
use self::observe::refusal::{log_failure, newest_refusal};
use self::observed::{Freshness, Observed, RootFault};
use self::plan::{Installation, Plan};
use self::status::announce::{Announcement, announcements};
use self::status::due::{Due, due};
use self::validate::{JobIdentity, ValidatedJob};
use crate::calls::{Refusal, bounded};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::progress::token::SigningKey;
use crate::progress::{Lost, RunStreams, StreamTarget};
use crate::watches::{GuardedJob, Stores};

/// How long a reconcile waits after a failure, at first and at most; doubled each time. At most ten tries a minute even at
/// the start.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// The wait after another writer was first: the watch brings its version in a moment.
const CONFLICT_RETRY: Duration = Duration::from_millis(500);
/// How long after its start the operator takes silence of a coordinator for its own fault.
const WARM_UP: Duration = Duration::from_secs(30);

/// Everything a reconcile works with.
pub struct Context {
    pub client: Client,
    pub stores: Stores,
    pub streams: RunStreams,
    pub installation: Installation,
    pub signing_key: SigningKey,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub memory: Memory,
    pub clock: Clock,
    pub started: Instant,
}

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read job: {message}")]
    Decode { message: String },
    #[error(transparent)]
    Validate(validate::Error),
    #[error(transparent)]
    Observe(observe::Error),
    #[error(transparent)]
    Apply(apply::Error),
}

/// Brings one job a step further, from whatever state it is in.
pub async fn reconcile(job: Arc<GuardedJob>, context: Arc<Context>) -> Result<Next, Error> {
    let started = Instant::now();
    let outcome = Box::pin(reconcile_job(&job, &context)).await;
    context.metrics.observe_reconcile(
        started.elapsed(),
        outcome.as_ref().err().map(Error::variant),
    );
    if let (Ok(_), Some(uid)) = (&outcome, job.uid()) {
        context.memory.forgive(&uid);
    }
    outcome
}

/// What to do about a failed step: by its cause.
#[expect(clippy::needless_pass_by_value, reason = "the runner hands them over")]
pub fn error_policy(job: Arc<GuardedJob>, error: &Error, context: Arc<Context>) -> Next {
    let failures = job.uid().map_or(1, |uid| context.memory.blame(&uid));
    let backoff = FIRST_RETRY
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST_RETRY);
    match error {
        // Nothing gets better before somebody changes the object.
        Error::Decode { .. } | Error::Validate(_) => {
            warn!(%error, "job cannot be read");
            Next::await_change()
        }
        Error::Observe(cause) => {
            warn!(error = %cause, retry_ms = backoff.as_millis(), "reading failed");
            Next::requeue(backoff)
        }
        Error::Apply(cause) => {
            let is_race = cause
                .call()
                .is_some_and(|call| call.refusal() == Refusal::Conflict);
            if is_race {
                debug!(error = %cause, "another writer was first");
                return Next::requeue(CONFLICT_RETRY.max(backoff / 2));
            }
            if cause
                .call()
                .is_some_and(|call| call.refusal() == Refusal::NamespaceEnding)
            {
                debug!(error = %cause, "the namespace is being deleted, and the job with it");
                return Next::requeue(LONGEST_RETRY);
            }
            warn!(error = %cause, retry_ms = backoff.as_millis(), "writing failed");
            Next::requeue(backoff)
        }
    }
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

/// The steps.
async fn reconcile_job(job: &GuardedJob, context: &Context) -> Result<Next, Error> {
    let cached = match &job.0 {
        Ok(cached) => cached,
        Err(invalid) => return Err(refuse_unreadable(job, &invalid.error, context).await),
    };
    let mut job = context.memory.newest(cached);
    let mut valid = validate::validate(&job).map_err(Error::Validate)?;
    let identity = valid.identity.clone();
    let now = context.clock.now();

    let mut observed = observe::from_caches(&context.stores, &identity);
    observe_run(context, &valid, &mut observed, now).await?;
    observe_stuck(context, &identity, &mut observed, now).await;
    let mut plan = plan::plan(&valid, &observed, &context.installation, now);
    if plan.look_live {
        match observe::live_job(&context.client, &identity)
            .await
            .map_err(Error::Observe)?
        {
            Some(live) if live.uid().as_ref() == Some(&identity.uid) => job = live,
            // Deleted, and perhaps created again: the watch tells.
            Some(_) | None => return Ok(Next::await_change()),
        }
        valid = validate::validate(&job).map_err(Error::Validate)?;
        observed = observe::live(&context.client, &identity)
            .await
            .map_err(Error::Observe)?;
        observe_run(context, &valid, &mut observed, now).await?;
        observe_stuck(context, &identity, &mut observed, now).await;
        plan = plan::plan(&valid, &observed, &context.installation, now);
    }
    keep_stream(context, &valid, &observed);
    if plan.is_idle() {
        debug!(plan = %plan, "planned");
    } else {
        info!(plan = %plan, "planned");
    }

    let writer = Writer {
        client: &context.client,
        streams: &context.streams,
        signing_key: &context.signing_key,
        job: &identity,
    };
    let applied = apply_all(&writer, &plan, context).await;
    if valid.deleted
        || plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::DeleteJob { .. }))
    {
        applied.map_err(Error::Apply)?;
        return Ok(Next::await_change());
    }
    observed.forced = context.memory.forced(&identity.uid, &observed.pods, now);
    let problem = applied.as_ref().err().and_then(apply::Error::problem);
    let status = status::project(&valid, &observed, &plan, problem.as_ref(), now);
    context.metrics.set_phase(&identity.uid, status.phase);
    context
        .memory
        .note_health(&identity.uid, &plan.diagnosis, now);
    let status_due = due(
        &valid.status,
        &status,
        context.memory.written_at(&identity.uid),
        now,
    );
    let mut wait = plan.requeue_after;
    match status_due {
        Due::Now => write_status(&writer, context, job, valid.status, status, now).await?,
        Due::At(at) => {
            let until = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            wait = Some(wait.map_or(until, |wait| wait.min(until)));
        }
        Due::Never => {}
    }
    applied.map_err(Error::Apply)?;
    Ok(wait.map_or_else(Next::await_change, Next::requeue))
}

/// Adds what the run's coordinator says, and why worker pods are refused, if they are.
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
    observed.unheard = context.streams.unheard(&identity.uid, generation);
    observed.scaled_at = context.memory.scaled_at(&identity.uid);
    observed.last_well = context.memory.last_well(&identity.uid);
    observed.warming_up = context.started.elapsed() < WARM_UP;
    observed.untold_ends =
        context
            .streams
            .untold_ends(&identity.uid, generation, observed.workers(generation));
    let objects = observed.generation(generation);
    let is_whole = objects
        .and_then(|objects| objects.root.as_ref())
        .is_some_and(|root| !root.object.terminating);
    let Some(workers) = objects.and_then(|objects| objects.workers.clone()) else {
        return Ok(());
    };
    // Two lists of different ages would make pods come and go that did neither. Without its root the generation is collected.
    if observed.freshness == Freshness::Cached && is_whole {
        observed.lost = context.streams.lost(
            &identity.uid,
            generation,
            lost_before(&job.status),
            observed.workers(generation),
            workers.replicas,
        );
    }
    let is_short = workers.pods < workers.replicas;
    if context
        .memory
        .must_ask_for_refusal(&identity.uid, is_short, now)
    {
        let (namespace, uid) = (&identity.namespace, &workers.object.uid);
        match newest_refusal(&context.client, namespace, uid).await {
            Ok(refusal) => context.memory.set_refusal(&identity.uid, refusal),
            // What was found before goes on until it is too old.
            Err(error) => log_failure(&identity.name, &error),
        }
    }
    observed.workers_refused = if is_short {
        context.memory.refusal(&identity.uid, now)
    } else {
        None
    };
    Ok(())
}

/// Adds what is known of pods that stay Terminating, and of their nodes.
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

/// What status says of the current generation's losses.
fn lost_before(status: &zephyr_crds::ZephyrJobStatus) -> Lost {
    status
        .generations
        .last()
        .map_or_else(Lost::default, |record| Lost {
            workers: record.disruptions,
            pods: record.lost_pods,
            pods_until: record.last_lost_pod.as_ref().map(|time| time.0),
        })
}

/// One stream to the coordinator of the current generation, as soon as it has a Deployment, until the job has ended and the
/// generation is gone.
fn keep_stream(context: &Context, job: &ValidatedJob, observed: &Observed) {
    let identity = &job.identity;
    let is_over = job.deleted
        || job
            .status
            .phase
            .is_some_and(zephyr_crds::status::Phase::is_final);
    let Some(generation) = job.status.generation.filter(|_| !is_over) else {
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
        Some(Ok(frozen)) => &frozen.coordinator_address,
        Some(Err(RootFault::OtherRelease {
            coordinator_address,
            ..
        })) => coordinator_address,
        Some(Err(RootFault::Damaged(_))) | None => return,
    };
    context.streams.ensure(StreamTarget {
        job: identity.clone(),
        generation,
        address: address.clone(),
        token: context.signing_key.token(&identity.uid, generation),
    });
}

/// Keeps the try in mind. A refusal is shown until the pod is gone; nothing rests on it, so everything else goes on.
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

/// Carries the plan out, up to the first failure: a later action may rest on an earlier one. Only a pod that cannot be deleted by
/// force is left where it is.
async fn apply_all(
    writer: &Writer<'_>,
    plan: &Plan,
    context: &Context,
) -> Result<(), apply::Error> {
    for action in &plan.actions {
        let outcome = writer.apply(action).await;
        context.metrics.count_action(action.verb(), outcome.is_ok());
        if let Action::ForceDeletePod { name, uid } = action {
            note_force_delete(context, &writer.job.uid, (name, uid), outcome.err());
            continue;
        }
        if matches!(action, Action::ScaleWorkers { .. }) {
            let now = context.clock.now();
            context.memory.note_scale(&writer.job.uid, now);
        }
        outcome?;
    }
    Ok(())
}

/// Writes the status, remembers it until the watch has caught up, and tells people what is new in it.
async fn write_status(
    writer: &Writer<'_>,
    context: &Context,
    job: ZephyrJob,
    before: zephyr_crds::ZephyrJobStatus,
    status: zephyr_crds::ZephyrJobStatus,
    now: Timestamp,
) -> Result<(), Error> {
    let reference = job.object_ref(&());
    let news = announcements(&before, &status);
    let written = match writer.write_status(job, status).await {
        Ok(written) => written,
        // Deleted in between: there is nobody left to tell.
        Err(error)
            if error
                .call()
                .is_some_and(|call| call.refusal() == Refusal::NotFound) =>
        {
            return Ok(());
        }
        Err(error) => return Err(Error::Apply(error)),
    };
    context.memory.remember(written, now);
    context.metrics.count_status_write();
    for announcement in news {
        announce(context, &reference, &announcement).await;
    }
    Ok(())
}

/// Publishes an event, unless one of its reason was published a moment ago. Events are for people; one that is lost changes
/// nothing.
async fn announce(
    context: &Context,
    reference: &k8s_openapi::api::core::v1::ObjectReference,
    announcement: &Announcement,
) {
    /// What the API server accepts in a note, in bytes.
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

/// An object that is no `ZephyrJob` although it lies where they lie: told once for each of its versions.
async fn refuse_unreadable(job: &GuardedJob, message: &str, context: &Context) -> Error {
    let reference = job.object_ref(&());
    let note = format!("the object cannot be read as a ZephyrJob of this release: {message}");
    let announcement = Announcement {
        is_warning: true,
        reason: "SpecInvalid".to_owned(),
        note,
    };
    announce(context, &reference, &announcement).await;
    Error::Decode {
        message: message.to_owned(),
    }
}
