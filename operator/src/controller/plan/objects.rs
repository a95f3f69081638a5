//! Decides which objects of a generation must be created, scaled or deleted, given status and spec.
//!
//! Pure.

use std::sync::Arc;

use jiff::Timestamp;
use zephyr_crds::frozen::{FROZEN_JOB_VERSION, FrozenJob, FrozenRestart};
use zephyr_crds::names;
use zephyr_crds::workers::WorkersAsked;

use super::Installation;
use crate::controller::action::Action;
use crate::controller::elastic::{Needs, WorkerPods};
use crate::controller::observe::made::Part;
use crate::controller::observed::{Frozen, GenerationObjects, Observed};
use crate::controller::validate::{ValidatedJob, Verdict};
use crate::run_report::{RunPhase, RunReport};

/// Creates the missing objects: first only the root, because the other objects refer to its uid;
/// then all others, from the frozen job in the root. An object that a silent watch may hide does
/// not count as missing.
pub(super) fn create_missing(
    job: &ValidatedJob,
    verdict: &Verdict,
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
        root_uid: _,
    } = objects;
    let is_unseen = |part| observed.unseen.contains(&part);
    let Some(root) = root else {
        if verdict.is_refusal() || is_unseen(Part::Root) {
            return Vec::new();
        }
        return vec![Action::CreateRoot {
            frozen: Arc::new(freeze(job, installation, generation)),
        }];
    };
    let Frozen::Read(frozen) = root.frozen else {
        return Vec::new();
    };
    let root_uid = root.object.uid;
    let mut actions = Vec::new();
    let lacks_coordinator = coordinator.is_none() && !is_unseen(Part::Coordinator);
    if lacks_coordinator {
        // The operator may not read Secrets. The token's Secret is created before the Deployment,
        // so an existing Deployment proves that the Secret exists.
        actions.push(Action::CreateTokenSecret {
            frozen: frozen.clone(),
            root_uid: root_uid.clone(),
        });
    }
    if service.is_none() && !is_unseen(Part::Service) {
        actions.push(Action::CreateService {
            frozen: frozen.clone(),
            root_uid: root_uid.clone(),
        });
    }
    if lacks_coordinator {
        actions.push(Action::CreateCoordinator {
            frozen: frozen.clone(),
            root_uid: root_uid.clone(),
            spot_provider: installation.spot_provider,
        });
    }
    if workers.is_none() && !is_unseen(Part::Workers) {
        actions.push(Action::CreateWorkers {
            frozen,
            root_uid,
            replicas: wanted_workers(job, observed, generation).unwrap_or(0),
        });
    }
    actions
}

/// Returns the number of workers of a new set, or `None` before the plan is known.
fn wanted_workers(job: &ValidatedJob, observed: &Observed, generation: u32) -> Option<u32> {
    let report = observed.report.as_ref();
    let report = report.filter(|report| report.generation == generation)?;
    let shards = report.planned.as_ref()?.max_shards;
    Some(Wanted::of(job, observed, report, shards, 0).useful)
}

/// How many workers a generation with a plan should have.
struct Wanted {
    /// The greatest number: what the spec allows, but not more than there are shards.
    greatest: u32,
    /// As many of them as are useful.
    useful: u32,
}

impl Wanted {
    /// Returns the numbers of a generation that has `present` workers.
    fn of(
        job: &ValidatedJob,
        observed: &Observed,
        report: &RunReport,
        shards: u32,
        present: u32,
    ) -> Self {
        let (greatest, chosen) = match job.spec.workers.asked() {
            WorkersAsked::Fixed(replicas) => (replicas, replicas),
            WorkersAsked::Elastic { greatest, .. } => {
                let needs = Needs::of(&job.spec, observed, report);
                let choose =
                    |needs: Needs| needs.choose(present, &WorkerPods::of(observed, report));
                (greatest, needs.map_or(present, choose))
            }
        };
        let greatest = greatest.min(shards);
        let useful = report.useful_workers.unwrap_or(u32::MAX);
        Self {
            greatest,
            useful: chosen.min(greatest).min(useful),
        }
    }
}

/// Makes the Service of `generation` select the coordinator again, if somebody edited it.
pub(super) fn mend_service(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
) -> Option<Action> {
    let service = observed.generation(generation)?.service.as_ref()?;
    let patch = service
        .mend
        .clone()
        .filter(|_| !service.object.terminating)?;
    Some(Action::MendService {
        name: names::coordinator(&job.identity.name, generation),
        uid: service.object.uid.clone(),
        patch,
    })
}

/// Gives the coordinator's Deployment of `generation` one replica again, if somebody scaled it: two
/// coordinators would repeatedly fence each other.
pub(super) fn scale_coordinator(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
) -> Option<Action> {
    let coordinator = observed.generation(generation)?.coordinator.as_ref()?;
    let from = coordinator
        .scaled_to
        .filter(|_| !coordinator.object.terminating)?;
    Some(Action::ScaleCoordinator {
        name: names::coordinator(&job.identity.name, generation),
        uid: coordinator.object.uid.clone(),
        from,
    })
}

/// Returns the latest restart of the job, if `generation` or an earlier one began because of it.
fn restart(job: &ValidatedJob, generation: u32) -> Option<FrozenRestart> {
    let restart = job.status.restart.as_ref()?;
    let first = restart.generation.filter(|first| *first <= generation)?;
    Some(FrozenRestart {
        token: restart.token.clone(),
        generation: first,
    })
}

/// Returns the job as this generation will run it.
fn freeze(job: &ValidatedJob, installation: &Installation, generation: u32) -> FrozenJob {
    let identity = &job.identity;
    let mut spec = job.spec.clone().without_wishes();
    // A job with an error in these fields is not accepted.
    let _none = spec.pipeline.put_values_in_paths();
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
        restart: restart(job, generation),
    }
}

/// Scales the workers to the requested number, but never to more than there are shards, and to none
/// before the plan is known. Workers that can no longer be useful are released: near the end of the
/// job, and with `maxReplicas` at the end of each stage.
pub(super) fn scale(job: &ValidatedJob, observed: &Observed, generation: u32) -> Option<Action> {
    let report = observed
        .report
        .as_ref()
        .filter(|report| report.generation == generation)?;
    let workers = observed.generation(generation)?.workers.as_ref()?;
    let to = match &report.planned {
        Some(planned) => {
            let present = workers.replicas;
            let Wanted { greatest, useful } =
                Wanted::of(job, observed, report, planned.max_shards, present);
            released(present.min(greatest), useful)
        }
        // The number of useful workers is not known yet. If somebody set another number by hand, it
        // is reset to the number that the operator set.
        None => workers.scaled_to?,
    };
    let is_over = matches!(report.phase, RunPhase::Ended);
    (workers.replicas != to && !is_over && !workers.object.terminating).then(|| {
        Action::ScaleWorkers {
            generation,
            name: names::workers(&job.identity.name, generation),
            uid: workers.object.uid.clone(),
            from: workers.replicas,
            to,
        }
    })
}

/// Returns the new number of workers. It is lowered to the useful ones only if that releases a
/// quarter of the workers, so that the end of a job with 10,000 workers takes 32 writes and not
/// 10,000. The number is raised at once.
fn released(now: u32, useful: u32) -> u32 {
    let lowered_enough = u64::from(useful) * 4 <= u64::from(now) * 3;
    if useful > now || lowered_enough {
        useful
    } else {
        now
    }
}

/// Deletes by force the pods that a lost node keeps Terminating, because the `StatefulSet` does not
/// replace them by itself. Sessions are fenced, so a pod that still runs on such a node can do no
/// harm. This includes pods of both roles and of all generations, because nothing else would remove
/// them before the node itself is removed.
pub(super) fn force_deletes(
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> impl Iterator<Item = Action> {
    let pods = if installation.force_delete_pods {
        observed.forced.due(&observed.pods, now)
    } else {
        Vec::new()
    };
    pods.into_iter().map(|pod| Action::ForceDeletePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    })
}

/// Returns when to check again the pods that are being deleted. Returns `None` if there are none,
/// or if they must not be deleted by force.
pub(super) fn stuck_deadline(
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
) -> Option<Timestamp> {
    installation
        .force_delete_pods
        .then(|| observed.forced.next_look(&observed.pods, now))?
}

/// Marks the root of `generation` again, if somebody removed the labels or the owner by which the
/// operator recognizes it.
pub(super) fn mark_root(observed: &Observed, generation: u32) -> Option<Action> {
    let root = observed.generation(generation)?.root.as_ref()?;
    root.needs_mark.then(|| Action::MarkRoot {
        generation,
        uid: root.object.uid.clone(),
    })
}

/// Deletes the roots of all generations below `below`.
pub(super) fn delete_roots(
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
