//! Tests of the plan: tables of single decisions, and a small simulated cluster in which plans are
//! executed, also with a crash after every write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;
use zephyr_crds::conditions::{Condition, ConditionStatus, ConditionType};
use zephyr_crds::field_error::FieldError;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::life::{CancelMode, CancelSpec, SuspendMode};
use zephyr_crds::status::{CoordinatorStatus, Phase, ZephyrJobStatus};

use super::*;
use crate::controller::forced::{ForcedDeletes, NodeView};
use crate::controller::life::transitions;
use crate::controller::observe::starting::{StartEvent, StartEventKind};
use crate::controller::observed::{
    CoordinatorFacts, Frozen, GenerationObjects, LastWell, ObjectFacts, RootFacts, RootFault,
    ServiceFacts, WorkersFacts,
};
use crate::controller::status::due::{Due, due};
use crate::controller::status::project;
use crate::controller::turns::Waiting;
use crate::controller::validate::validate;
use crate::pods::tests::{at, explanation, worker};
use crate::pods::{ContainerEnd, ContainerRun, PodEnd, PodEndCause, PodFacts, Role};
use crate::progress::Lost;
use crate::run_report::{NoStream, Planned, RunPhase, RunReport, StageReport};

mod elastic;
mod kept;
mod life;
mod restart;
mod slow;
mod turns;

#[derive(Clone, Copy, PartialEq)]
enum OnEndRequest {
    Ends,
    GoesOn,
}

/// A cluster with one job: the existing objects, and how plans change them.
#[derive(Clone)]
struct World {
    job: ValidatedJob,
    /// What is wrong with its spec.
    errors: Vec<FieldError>,
    generations: BTreeMap<u32, GenerationObjects>,
    /// Generation numbers that are taken by objects of another job of the same name.
    foreign: BTreeSet<u32>,
    pods: Vec<Arc<PodFacts>>,
    report: Option<RunReport>,
    no_stream: Option<NoStream>,
    unreported_ends: Vec<PodEnd>,
    end_requested_at: Option<Timestamp>,
    /// How the coordinator reacts to the request to end the job.
    on_end_request: OnEndRequest,
    /// Whether the operator started a moment ago.
    warming_up: bool,
    now: Timestamp,
    written: Option<Timestamp>,
    /// Number of status writes.
    status_writes: u32,
    last_well: LastWell,
    forced: ForcedDeletes,
    turn: Turn,
    start_events: BTreeMap<String, Option<StartEvent>>,
    scaled_at: Option<Timestamp>,
    mended_at: Option<Timestamp>,
    force_delete_pods: bool,
    /// Pods that a finalizer keeps after every deletion.
    kept: Vec<&'static str>,
    next_uid: u32,
    /// Every write, in order.
    log: Vec<String>,
    /// After how many further writes the operator is killed.
    fuse: Option<usize>,
    deleted: bool,
    /// The ways from one state to another that the job took.
    transitions: BTreeSet<(String, String)>,
}

impl World {
    fn new(spec: serde_json::Value) -> Self {
        let job = serde_json::from_value(json!({
            "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
            "metadata": {"name": "count", "namespace": "team", "uid": "uid", "resourceVersion": "1", "generation": 1},
            "spec": crate::children::tests::frozen(spec).spec,
        }))
        .unwrap();
        let (job, errors) = validate(&job).unwrap();
        Self {
            job,
            errors,
            generations: BTreeMap::new(),
            foreign: BTreeSet::new(),
            pods: Vec::new(),
            report: None,
            no_stream: None,
            unreported_ends: Vec::new(),
            end_requested_at: None,
            on_end_request: OnEndRequest::Ends,
            warming_up: false,
            now: at(1_000),
            written: None,
            status_writes: 0,
            last_well: LastWell::default(),
            forced: ForcedDeletes::default(),
            turn: Turn::Free,
            start_events: BTreeMap::new(),
            scaled_at: None,
            mended_at: None,
            force_delete_pods: true,
            kept: Vec::new(),
            next_uid: 1,
            log: Vec::new(),
            fuse: None,
            deleted: false,
            transitions: BTreeSet::new(),
        }
    }

    fn observed(&self, freshness: Freshness) -> Observed {
        Observed {
            unseen: BTreeSet::new(),
            freshness,
            generations: self.generations.clone(),
            taken_numbers: self.foreign.clone(),
            pods: self.pods.clone(),
            report: self.report.clone(),
            no_stream: self.no_stream.clone(),
            warming_up: self.warming_up,
            workers_refused: None,
            start_events: self.start_events.clone(),
            lost: self.report.as_ref().map(|report| Lost {
                workers: i64::try_from(report.disruptions).unwrap(),
                ..Lost::default()
            }),
            unreported_ends: self.unreported_ends.clone(),
            end_requested_at: self.end_requested_at,
            last_well: self.last_well,
            forced: self.forced.clone(),
            scaled_at: self.scaled_at,
            mended_at: self.mended_at,
            old_roots_held: None,
            turn: self.turn,
        }
    }

    fn verdict(&self, observed: &Observed) -> Verdict {
        Verdict::of(&self.job, self.errors.clone(), observed)
    }

    fn plan(&self) -> Plan {
        let installation = Installation {
            worker_image: "w:1".to_owned(),
            force_delete_pods: self.force_delete_pods,
            ..Installation::default()
        };
        let plan_on = |observed: &Observed| {
            plan(
                &self.job,
                &self.verdict(observed),
                observed,
                &installation,
                self.now,
            )
        };
        let cached = plan_on(&self.observed(Freshness::Cached));
        assert!(
            !matches!(cached.lifecycle, Lifecycle::Start(_)),
            "no generation is decided from a cache"
        );
        if let Some(depth) = cached.look_live {
            let freshness = match depth {
                Depth::Objects => Freshness::Live,
                Depth::Pods => Freshness::LivePods,
            };
            let live = plan_on(&self.observed(freshness));
            assert_eq!(live.look_live, None, "a live look is enough");
            return live;
        }
        cached
    }

    /// Runs one reconcile. Returns false if the operator was killed in it.
    fn reconcile(&mut self) -> bool {
        if self.deleted {
            return true;
        }
        self.forced.retain(&self.pods, self.now);
        for node in self.forced.nodes_to_ask(&self.pods, self.now) {
            let view = if node == "lost" {
                NodeView::Lost
            } else {
                NodeView::Ready
            };
            self.forced.note_node(&node, view, self.now);
        }
        let plan = self.plan();
        for action in &plan.actions {
            self.apply(action);
            if self.burn() {
                return false;
            }
        }
        self.last_well.note(&plan.diagnosis, self.now);
        let observed = self.observed(Freshness::Live);
        let verdict = self.verdict(&observed);
        let status = project(&self.job, &verdict, &observed, &plan, None, self.now);
        if due(&self.job.status, &status, self.written, self.now) == Due::Now {
            if self.job.status.generation != status.generation {
                self.log
                    .push(format!("mint {}", status.generation.unwrap()));
            }
            let before = LifeState::of(&self.job);
            self.job.status = status;
            let after = LifeState::of(&self.job);
            if before != after {
                let way = (format!("{before:?}"), format!("{after:?}"));
                self.transitions.insert(way);
            }
            self.written = Some(self.now);
            self.status_writes += 1;
            if self.burn() {
                return false;
            }
        }
        true
    }

    /// Reconciles until nothing changes. Writes of status are not delayed here.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.written = None;
            self.scaled_at = None;
            let before = (self.log.len(), self.job.status.clone());
            if self.reconcile() && (self.log.len(), self.job.status.clone()) == before {
                // Kubernetes collects objects without their root sooner or later.
                self.generations.retain(|_, objects| objects.root.is_some());
                return;
            }
        }
        panic!("it never settles: {:?}", self.log);
    }

    fn burn(&mut self) -> bool {
        match &mut self.fuse {
            Some(left) if *left > 0 => {
                *left -= 1;
                *left == 0
            }
            Some(_) | None => false,
        }
    }

    fn uid(&mut self) -> String {
        self.next_uid += 1;
        format!("uid-{}", self.next_uid)
    }

    fn apply(&mut self, action: &Action) {
        let uid = self.uid();
        let object = ObjectFacts {
            uid,
            terminating: false,
        };
        match action {
            Action::CreateRoot { frozen } => {
                assert_eq!(
                    self.job.status.generation,
                    Some(frozen.generation),
                    "status names it before it exists"
                );
                let root = RootFacts {
                    object,
                    needs_mark: false,
                    frozen: Frozen::Read(Arc::clone(frozen)),
                };
                let objects = self.generations.entry(frozen.generation).or_default();
                assert!(objects.root.replace(root).is_none(), "created once");
            }
            Action::MarkRoot { .. } => {
                self.current().root.as_mut().unwrap().needs_mark = false;
            }
            Action::CreateTokenSecret { .. } => {}
            Action::CreateService { frozen, root_uid } => {
                assert!(
                    self.owned(frozen, root_uid)
                        .service
                        .replace(ServiceFacts { object, mend: None })
                        .is_none(),
                    "created once"
                );
            }
            Action::CreateCoordinator {
                frozen, root_uid, ..
            } => {
                let facts = CoordinatorFacts {
                    object,
                    ..CoordinatorFacts::default()
                };
                assert!(
                    self.owned(frozen, root_uid)
                        .coordinator
                        .replace(facts)
                        .is_none(),
                    "created once"
                );
            }
            Action::MendService { uid, .. } => {
                let service = self.current().service.as_mut().unwrap();
                assert_eq!(service.object.uid, *uid);
                service.mend = None;
                self.mended_at = Some(self.now);
            }
            Action::CreateWorkers {
                frozen,
                root_uid,
                replicas,
            } => {
                let facts = WorkersFacts {
                    object,
                    replicas: *replicas,
                    scaled_to: Some(*replicas),
                    pods: *replicas,
                };
                assert!(
                    self.owned(frozen, root_uid)
                        .workers
                        .replace(facts)
                        .is_none(),
                    "created once"
                );
            }
            Action::ScaleCoordinator { uid, from, .. } => self.scale_back(uid, *from),
            Action::ScaleWorkers { uid, from, to, .. } => {
                let workers = self.workers();
                assert_eq!((&workers.object.uid, workers.replicas), (uid, *from));
                workers.replicas = *to;
                workers.scaled_to = Some(*to);
                workers.pods = *to;
                self.scaled_at = Some(self.now);
            }
            Action::ForceDeletePod { name, uid } => {
                self.forced.note_try(name, uid, None, self.now);
                let kept = &self.kept;
                self.pods
                    .retain(|pod| pod.uid != *uid || kept.contains(&pod.name.as_str()));
            }
            Action::ReportPodEnds { .. } => self.unreported_ends.clear(),
            Action::AcknowledgeResult { .. } => self.report = None,
            Action::EndRun {
                reason, message, ..
            } => self.end_run(reason.as_str(), message),
            Action::DeleteRoot { uid, .. } => self.delete_root(uid),
            Action::DeleteJob { .. } => self.deleted = true,
        }
        self.log.push(action.to_string());
    }

    fn scale_back(&mut self, uid: &str, from: u32) {
        let coordinator = self.current().coordinator.as_mut().unwrap();
        assert_eq!(coordinator.object.uid, uid);
        assert_eq!(coordinator.scaled_to.take(), Some(from));
        self.mended_at = Some(self.now);
    }

    fn end_run(&mut self, reason: &str, message: &str) {
        self.end_requested_at = Some(self.now);
        if self.on_end_request == OnEndRequest::Ends {
            self.ends(false, reason);
            let result = self
                .report
                .as_mut()
                .and_then(|report| report.result.as_mut());
            message.clone_into(&mut result.unwrap().message);
        }
    }

    fn delete_root(&mut self, uid: &str) {
        let gone: Vec<u32> = self
            .generations
            .iter()
            .filter(|(_, objects)| {
                objects
                    .root
                    .as_ref()
                    .is_some_and(|root| root.object.uid == uid)
            })
            .map(|(generation, _)| *generation)
            .collect();
        for generation in gone {
            let ended = self.job.deleted || self.job.status.is_final();
            assert!(
                ended || Some(generation) < self.job.status.generation,
                "never the current generation"
            );
            self.generations.remove(&generation);
            self.pods.retain(|pod| pod.generation != generation);
        }
    }

    fn owned(&mut self, frozen: &FrozenJob, root_uid: &str) -> &mut GenerationObjects {
        let objects = self
            .generations
            .get_mut(&frozen.generation)
            .expect("the generation has a root");
        assert_eq!(
            objects.root.as_ref().unwrap().object.uid,
            root_uid,
            "owned by the existing root"
        );
        objects
    }

    fn generation(&self) -> u32 {
        self.job.status.generation.unwrap()
    }

    fn current(&mut self) -> &mut GenerationObjects {
        let generation = self.generation();
        self.generations.get_mut(&generation).unwrap()
    }

    fn workers(&mut self) -> &mut WorkersFacts {
        self.current().workers.as_mut().unwrap()
    }

    fn coordinator_is(&mut self, available: bool) {
        let since = available.then_some(self.now);
        self.current().coordinator.as_mut().unwrap().available_since = since;
    }

    fn coordinator_pod(&mut self, change: impl FnOnce(&mut PodFacts)) {
        let generation = self.generation();
        self.pods.retain(|pod| pod.role == Role::Worker);
        let mut pod = PodFacts {
            role: Role::Coordinator,
            generation,
            ..worker("c")
        };
        change(&mut pod);
        self.pods.push(Arc::new(pod));
    }

    fn worker_pod(&mut self, name: &str, change: impl FnOnce(&mut PodFacts)) {
        let generation = self.generation();
        self.pods.retain(|pod| pod.name != name);
        let mut pod = PodFacts {
            generation,
            ..worker(name)
        };
        change(&mut pod);
        self.pods.push(Arc::new(pod));
    }

    fn says(&mut self, phase: RunPhase, max_shards: u32) {
        let generation = self.generation();
        let planned = (phase != RunPhase::Planning).then_some(Planned {
            stages: 1,
            max_shards,
        });
        self.report = Some(RunReport {
            generation,
            epoch: Some(1),
            connected: true,
            phase,
            planned,
            ..RunReport::default()
        });
    }

    fn ends(&mut self, succeeded: bool, reason: &str) {
        self.says(RunPhase::Ended, 4);
        let result = RunResult {
            succeeded,
            reason: reason.to_owned().into(),
            message: "so it is".to_owned(),
            files: 1,
            ..RunResult::default()
        };
        self.report.as_mut().unwrap().result = Some(result);
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self
            .now
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap();
        let generation = self.job.status.generation;
        self.report = self
            .report
            .take()
            .filter(|report| Some(report.generation) == generation);
    }

    fn advance(&mut self, milliseconds: i64) {
        let step = jiff::SignedDuration::from_millis(milliseconds);
        self.now = self.now.checked_add(step).unwrap();
    }

    /// Returns a first generation whose coordinator runs and whose four workers are requested.
    fn running(spec: serde_json::Value) -> Self {
        let mut world = Self::new(spec);
        world.settle();
        world.coordinator_is(true);
        world.says(RunPhase::Running, 8);
        world.settle();
        world
    }

    fn phase(&self) -> Phase {
        self.job.status.phase.unwrap()
    }

    fn condition(&self, kind: ConditionType) -> &Condition {
        let mut conditions = self.job.status.conditions.iter();
        conditions.find(|c| c.r#type == kind).unwrap()
    }

    fn message(&self) -> String {
        let kind = if self.phase().is_final() {
            ConditionType::Finished
        } else {
            ConditionType::Progressing
        };
        self.condition(kind).message.clone()
    }

    fn finished_reason(&self) -> &str {
        self.condition(ConditionType::Finished).reason.as_str()
    }
}

/// Returns the state that must be the same whether the operator was killed or not: everything
/// except times and uids.
fn fingerprint(world: &World) -> (Vec<u32>, Option<u32>, Option<Phase>, Vec<String>, bool) {
    let mut log = world.log.clone();
    // The operator repeats the creation of the Secret until the Deployment exists, and an
    // acknowledgement may be lost.
    log.retain(|line| !line.starts_with("create token") && !line.starts_with("acknowledge"));
    (
        world.generations.keys().copied().collect(),
        world.job.status.generation,
        world.job.status.phase,
        log,
        world.deleted,
    )
}

#[test]
fn fault_3203_a_job_starts_with_its_number_then_its_root_then_the_rest_and_no_worker_before_the_plan()
 {
    let mut world = World::new(json!({}));
    world.settle();
    assert_eq!(
        world.log,
        [
            "mint 1",
            "create root of generation 1",
            "create token of generation 1",
            "create service of generation 1",
            "create coordinator of generation 1",
            "create workers of generation 1",
        ]
    );
    world.coordinator_is(true);
    world.says(RunPhase::Planning, 0);
    world.settle();
    assert_eq!(world.log.len(), 6);
    world.says(RunPhase::Running, 3);
    world.settle();
    assert_eq!(
        world.log[6..],
        ["scale count-workers-g1 from 0 to 3"],
        "three shards, four replicas asked for"
    );
}

#[test]
fn the_spec_is_frozen_with_the_image_and_storage_of_the_installation() {
    let mut world = World::new(json!({"image": ""}));
    world.settle();
    let Frozen::Read(frozen) = world.current().root.clone().unwrap().frozen else {
        panic!("a root that was just made is read");
    };
    assert_eq!(frozen.spec.image, "w:1");
    assert_eq!(
        frozen.coordinator_address,
        "http://count-coordinator-g1.team.svc:7070"
    );
    assert_eq!((frozen.uid.as_str(), frozen.generation), ("uid", 1));
}

#[test]
fn the_coordinator_avoids_the_spot_nodes_that_the_installation_names() {
    let installation = Installation {
        spot_provider: SpotProvider::Gke,
        ..Installation::default()
    };
    let terms = |spec: serde_json::Value| {
        let mut world = World::new(spec);
        world.job.status.generation = Some(1);
        let observed = world.observed(Freshness::Cached);
        let plan = plan(
            &world.job,
            &world.verdict(&observed),
            &observed,
            &installation,
            world.now,
        );
        let Some(Action::CreateRoot { frozen }) = plan.actions.first() else {
            panic!("no root: {plan}");
        };
        assert_eq!(
            frozen.spec, world.job.spec,
            "the frozen job has only the user's own terms"
        );
        let provider = installation.spot_provider;
        let built = crate::children::coordinator_deployment::build(frozen, "uid", provider);
        let built = serde_json::to_value(built).unwrap();
        built["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
            ["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            .clone()
    };
    let gke = json!({"key": "cloud.google.com/gke-spot", "operator": "NotIn", "values": ["true"]});
    let pool = json!({"key": "pool", "operator": "NotIn", "values": ["cheap"]});
    let zone = json!({"key": "zone", "operator": "Exists"});
    let preemptible = |preemptible: serde_json::Value| json!({"workers": {"replicas": 1, "preemptible": preemptible}});
    assert_eq!(terms(json!({})), json!([{"matchExpressions": [gke]}]));
    assert_eq!(
        terms(preemptible(json!({"provider": "gke"}))),
        json!([{"matchExpressions": [gke]}]),
        "once"
    );
    let custom = json!({"provider": "custom", "nodeSelector": {"pool": "cheap"}});
    assert_eq!(
        terms(preemptible(custom)),
        json!([{"matchExpressions": [gke, pool]}])
    );
    let own = json!({"coordinator": {"template": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]},
    }}}}});
    assert_eq!(terms(own), json!([{"matchExpressions": [zone, gke]}]));
}

#[test]
fn children_are_made_from_the_frozen_job_and_not_from_a_later_edit() {
    let mut world = World::new(json!({}));
    world.fuse = Some(2);
    world.reconcile();
    world.reconcile();
    world.job.spec.image = "edited:2".to_owned();
    world.fuse = None;
    let plan = world.plan();
    let frozen = plan.actions.iter().find_map(|action| {
        if let Action::CreateCoordinator { frozen, .. } = action {
            Some(frozen)
        } else {
            None
        }
    });
    assert_eq!(
        frozen.unwrap().spec.image,
        "registry.example/zephyr-worker:1"
    );
}

#[test]
fn fault_seed_a_number_that_any_object_of_the_name_carries_is_not_used_again() {
    let mut world = World::new(json!({}));
    world.foreign = [7].into();
    world.settle();
    assert_eq!(world.generation(), 8);
}

#[test]
fn fault_4079_replicas_follow_the_spec_in_place_and_never_exceed_the_shards() {
    let mut world = World::running(json!({}));
    world.job.spec.workers.replicas = Some(2);
    world.settle();
    world.job.spec.workers.replicas = Some(100);
    world.settle();
    assert_eq!(
        world.log[6..],
        [
            "scale count-workers-g1 from 0 to 4",
            "scale count-workers-g1 from 4 to 2",
            "scale count-workers-g1 from 2 to 8",
        ]
    );
    world.report = None;
    world.settle();
    assert_eq!(
        world.log.len(),
        9,
        "an operator that has heard nothing yet scales nothing"
    );
}

#[test]
fn fault_2978_workers_that_are_no_longer_useful_are_released_a_quarter_at_a_time() {
    let mut world = World::running(json!({}));
    world.job.spec.workers.replicas = Some(100);
    for (useful, scaled) in [
        (None, Some("scale count-workers-g1 from 4 to 8")),
        (Some(200), None),
        (Some(7), None),
        (Some(6), Some("scale count-workers-g1 from 8 to 6")),
        (Some(5), None),
        (Some(2), Some("scale count-workers-g1 from 6 to 2")),
        // A task runs again, because its output was lost.
        (Some(3), Some("scale count-workers-g1 from 2 to 3")),
        (None, Some("scale count-workers-g1 from 3 to 8")),
    ] {
        world.report.as_mut().unwrap().useful_workers = useful;
        let before = world.log.len();
        world.settle();
        let said: Vec<_> = world.log[before..].iter().map(String::as_str).collect();
        assert_eq!(said, Vec::from_iter(scaled), "{useful:?}");
    }
}

#[test]
fn fault_4199_an_absent_coordinator_is_replaced_by_a_generation_after_the_backoff() {
    let mut world = World::running(json!({}));
    world.coordinator_is(false);
    world.settle();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(15)));
    world.pass(119);
    world.settle();
    assert_eq!(world.generation(), 1);
    let logged = world.log.len();
    world.pass(1);
    world.settle();
    assert_eq!(
        world.log[logged..],
        ["mint 2", "delete root count-g1"],
        "the number is written before the old root is deleted"
    );
    assert_eq!(world.phase(), Phase::Restarting);
    assert!(
        world
            .message()
            .contains("the coordinator was not available for 2m"),
        "{}",
        world.message()
    );
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(5)));
    world.pass(5);
    world.settle();
    assert_eq!(world.log[logged + 2], "create root of generation 2");
}

#[test]
fn a_ready_coordinator_that_never_reports_is_named_and_replaced() {
    let mut world = World::new(json!({}));
    world.settle();
    world.coordinator_is(true);
    world.no_stream = Some(NoStream {
        since: world.now,
        why: "dial: no route to host".to_owned(),
    });
    world.pass(29);
    world.settle();
    assert!(!world.message().contains("no route"), "{}", world.message());
    world.pass(1);
    world.settle();
    assert!(
        world
            .message()
            .contains("the operator cannot reach it (dial: no route to host)"),
        "{}",
        world.message()
    );
    let ready = world.condition(ConditionType::CoordinatorReady);
    assert_eq!(ready.status, ConditionStatus::False);
    world.pass(89);
    world.settle();
    assert_eq!(world.generation(), 1);
    world.pass(1);
    world.settle();
    assert_eq!(world.generation(), 2);
    assert!(world.message().contains("2m"), "{}", world.message());
}

#[test]
fn a_coordinator_without_a_stream_that_has_workers_gets_the_workers_timeout() {
    let mut world = World::running(json!({}));
    world.worker_pod("w-0", |pod| {
        pod.ready = true;
        pod.container.state = ContainerRun::Running { since: None };
    });
    world.settle();
    world.report.as_mut().unwrap().connected = false;
    world.no_stream = Some(NoStream {
        since: world.now,
        why: "dial: no route to host".to_owned(),
    });
    world.pass(30 * 60 - 1);
    world.settle();
    assert_eq!(world.generation(), 1);
    world.pass(1);
    world.settle();
    assert_eq!(world.generation(), 2);
    assert!(world.message().contains("30m"), "{}", world.message());
}

#[test]
fn fault_3034_a_coordinator_that_is_back_in_time_starts_no_new_timer() {
    let mut world = World::running(json!({}));
    for _ in 0..5 {
        world.coordinator_is(false);
        world.settle();
        world.pass(100);
        world.settle();
        world.coordinator_is(true);
        world.settle();
    }
    assert_eq!(world.generation(), 1);
    assert_eq!(
        world
            .job
            .status
            .coordinator
            .as_ref()
            .unwrap()
            .unavailable_since,
        None
    );
}

#[test]
fn a_first_coordinator_without_a_node_waits_visibly_and_uses_up_no_generation() {
    let mut world = World::new(json!({}));
    world.settle();
    world.coordinator_pod(|pod| pod.unschedulable = Some("0/3 nodes are available".to_owned()));
    world.pass(100_000);
    world.settle();
    assert_eq!((world.generation(), world.phase()), (1, Phase::Pending));
    assert!(
        world
            .message()
            .contains("coordinator pod c has no node: 0/3 nodes are available"),
        "{}",
        world.message()
    );
    // The pod gets a node. The time before that is not counted.
    let now = world.now;
    world.coordinator_pod(|pod| pod.scheduled_since = Some(now));
    world.settle();
    assert_eq!(world.generation(), 1);
}

#[test]
fn a_worker_whose_labels_no_node_has_names_the_field_that_asks_for_them() {
    let no_such_node = |pod: &mut PodFacts| {
        let message =
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector";
        pod.unschedulable = Some(message.to_owned());
    };
    let of_provider = |provider: &str| {
        let workers = json!({"replicas": 1, "preemptible": {"provider": provider}});
        let mut world = World::running(json!({"workers": workers}));
        world.worker_pod("w-0", no_such_node);
        world.settle();
        world.message()
    };
    let hint = "; spec.workers.preemptible.provider lets workers run only on nodes with the label cloud.google.com/gke-spot=true";
    let sentence = of_provider("gke");
    assert!(sentence.contains(hint), "{sentence}");
    let sentence = of_provider("none");
    assert!(!sentence.contains("preemptible"), "{sentence}");
}

#[test]
fn if_the_spec_of_a_waiting_job_is_repaired_status_says_when_the_change_applies() {
    let mut world = World::new(json!({}));
    world.settle();
    world.coordinator_pod(|pod| pod.unschedulable = Some("Insufficient cpu.".to_owned()));
    world.settle();
    assert!(!world.message().contains("applies"), "{}", world.message());
    world.job.spec.coordinator.template.priority_class_name = Some("high".to_owned());
    world.settle();
    let expected = "; the change of spec.coordinator.template applies to the next generation, which begins when generation 1 \
                    ends; to begin it now: kubectl delete configmap -n team count-g1";
    assert!(world.message().ends_with(expected), "{}", world.message());
    let accepted = world.condition(ConditionType::Accepted);
    assert_eq!(accepted.message, format!("the spec is accepted{expected}"));
    world.current().root = None;
    world.settle();
    let accepted = world.condition(ConditionType::Accepted);
    assert_eq!(accepted.message, "the spec is accepted");
}

#[test]
fn a_coordinator_that_was_up_and_finds_no_node_again_is_lost() {
    let mut world = World::running(json!({}));
    world.coordinator_is(false);
    world.coordinator_pod(|pod| pod.unschedulable = Some("0/3 nodes are available".to_owned()));
    world.settle();
    world.pass(120);
    world.settle();
    assert_eq!(world.generation(), 2);
}

#[test]
fn a_missing_secret_is_visible_and_uses_up_no_generation() {
    let mut world = World::new(json!({}));
    world.settle();
    let waiting = ContainerRun::Waiting(explanation(
        "CreateContainerConfigError",
        "secret \"s3-credentials\" not found",
    ));
    world.coordinator_pod(|pod| {
        pod.scheduled_since = Some(at(1_000));
        pod.container.state = waiting;
    });
    world.pass(100_000);
    world.settle();
    assert_eq!(world.generation(), 1);
    assert!(
        world
            .message()
            .contains("secret \"s3-credentials\" not found"),
        "{}",
        world.message()
    );
}

#[test]
fn fault_6264_an_image_that_cannot_be_pulled_ends_the_job_after_three_generations_with_its_name() {
    let mut world = World::new(json!({}));
    for _ in 0..3 {
        world.settle();
        world.pass(300);
        world.settle();
        world.coordinator_pod(|pod| {
            pod.scheduled_since = Some(at(1_000));
            pod.container.state =
                ContainerRun::Waiting(explanation("ImagePullBackOff", "not found"));
        });
        world.settle();
        world.pass(120);
        world.settle();
    }
    assert_eq!((world.generation(), world.phase()), (3, Phase::Failed));
    assert!(
        world
            .message()
            .contains("cannot start image registry.example/zephyr-worker:1"),
        "{}",
        world.message()
    );
    assert!(
        world.message().contains("3 generations in a row"),
        "{}",
        world.message()
    );
    assert!(world.generations.is_empty());
}

#[test]
fn fault_6673_a_job_with_progress_between_two_losses_is_not_ended_early() {
    let mut world = World::running(json!({}));
    for generation in 2..=6 {
        world.report.as_mut().unwrap().progressed = true;
        world.coordinator_is(false);
        world.settle();
        world.pass(120);
        world.settle();
        world.pass(300);
        world.settle();
        assert_eq!(world.generation(), generation);
        world.coordinator_is(true);
        world.says(RunPhase::Running, 8);
        world.settle();
    }
}

#[test]
fn progress_during_an_absence_of_the_operator_counts_for_its_generation() {
    let mut world = World::running(json!({}));
    for generation in 2..=6 {
        // This operator has just started, and the first report that it receives shows what was done
        // before.
        let report = world.report.as_mut().unwrap();
        (report.tasks_done, report.progressed) = (generation.into(), false);
        world.coordinator_is(false);
        world.settle();
        world.pass(120);
        world.settle();
        assert_eq!(world.job.status.generations_without_progress, None);
        world.pass(300);
        world.settle();
        assert_eq!(world.generation(), generation);
        world.coordinator_is(true);
        world.says(RunPhase::Running, 8);
        world.settle();
    }
}

#[test]
fn after_an_absence_of_the_operator_the_coordinator_reports_before_timers_act() {
    let mut world = World::running(json!({"retries": {"maxGenerations": 1}}));
    let back_after_an_hour = |world: &World| {
        let mut world = world.clone();
        world.pass(3_600);
        world.warming_up = true;
        world.report = None;
        world.no_stream = Some(NoStream {
            since: world.now,
            why: "it has not answered yet".to_owned(),
        });
        world
    };
    // Its coordinator was absent when the operator stopped.
    world.coordinator_is(false);
    world.settle();
    let mut later = back_after_an_hour(&world);
    later.settle();
    assert!(!later.phase().is_final());
    let soonest = later.plan().requeue_after.unwrap();
    assert!(
        soonest >= Duration::from_secs(1),
        "the operator must not reconcile without a pause"
    );
    // In the meantime the coordinator came back, finished the job and released its workers.
    world.coordinator_is(true);
    world.worker_pod("w-0", |pod| {
        pod.scheduled_since = Some(at(1_000));
        pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
    });
    world.job.status.all_workers_dead_since = Some(Time(at(1_000)));
    let mut later = back_after_an_hour(&world);
    later.settle();
    assert!(!later.phase().is_final());
    // Even after the first half minute the coordinator's timer decides, and not the workers' timer.
    later.warming_up = false;
    later.settle();
    assert_eq!(later.generation(), 1);
    assert!(!later.phase().is_final());
    later.ends(true, "Succeeded");
    later.no_stream = None;
    later.settle();
    assert_eq!(later.phase(), Phase::Succeeded);
}

#[test]
fn a_coordinators_pod_that_was_made_a_moment_ago_has_its_whole_time() {
    let mut world = World::running(json!({"retries": {"maxGenerations": 1}}));
    world.coordinator_is(false);
    world.settle();
    world.pass(3_600);
    world.coordinator_pod(|pod| pod.created = Some(at(4_590)));
    world.settle();
    assert!(!world.phase().is_final());
}

#[test]
fn if_no_number_is_left_for_the_next_generation_that_is_reported() {
    let mut world = World::new(json!({}));
    world.foreign = (1..=9_999).collect();
    world.settle();
    assert_eq!(world.job.status.generation, None);
    assert_eq!(world.phase(), Phase::Pending);
    let degraded = world.condition(ConditionType::Degraded);
    assert_eq!(degraded.status, ConditionStatus::True);
    assert!(
        degraded.message.contains("zephyr.dev/generation=9999"),
        "{}",
        degraded.message
    );
    world.foreign = [9_998].into();
    world.settle();
    assert_eq!(world.generation(), 9_999);
    world.coordinator_is(true);
    world.says(RunPhase::Running, 8);
    world.settle();
    world.coordinator_is(false);
    world.settle();
    world.pass(120);
    world.settle();
    assert_eq!(world.phase(), Phase::Failed);
    assert!(
        world.message().contains("no generation number is left"),
        "{}",
        world.message()
    );
}

#[test]
fn an_object_of_somebody_else_with_the_last_number_does_not_end_the_job() {
    let mut world = World::running(json!({}));
    world.foreign = [2, 9_999].into();
    world.current().root = None;
    world.settle();
    assert_eq!(world.generation(), 3);
    assert!(!world.phase().is_final());
}

#[test]
fn numbers_in_a_status_that_somebody_edited_do_not_overflow() {
    let mut world = World::running(json!({}));
    world.job.status.generations[0].generation = 0;
    world.job.status.generation = Some(u32::MAX);
    world.job.status.generations_without_progress = Some(u32::MAX);
    world.job.status.generations[0].disruptions = i64::MAX;
    world.settle();
    assert_eq!(world.phase(), Phase::Failed);
}

#[test]
fn an_end_time_in_the_future_counts_as_now() {
    let mut world = World::running(json!({"ttlSecondsAfterFinished": 60}));
    world.ends(true, "Succeeded");
    world.settle();
    world.job.status.completion_time = Some(Time(at(1_000_000_000)));
    world.written = None;
    world.settle();
    assert!(!world.deleted);
    assert_eq!(world.job.status.completion_time, Some(Time(world.now)));
    world.pass(61);
    world.settle();
    assert!(world.deleted);
}

#[test]
fn the_end_of_the_last_allowed_generation_ends_the_job() {
    let mut world = World::running(json!({"retries": {"maxGenerations": 1}}));
    world.coordinator_is(false);
    world.settle();
    world.pass(120);
    world.settle();
    assert_eq!((world.generation(), world.phase()), (1, Phase::Failed));
    assert!(
        world
            .message()
            .starts_with("1 of 1 generations ended without a result"),
        "{}",
        world.message()
    );
}

/// Returns a world whose only generation has had no worker for longer than allowed. Its
/// intermediate data must be removed, however the job ends.
fn without_workers_for_too_long() -> World {
    let mut world = World::running(json!({
        "retries": {"maxGenerations": 1},
        "storage": {"uri": "s3://scratch/zephyr", "retain": "Never"},
    }));
    world.worker_pod("w-0", |pod| {
        pod.scheduled_since = Some(at(1_000));
        pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
    });
    world.settle();
    world.pass(1_800);
    world
}

#[test]
fn fault_f31_if_a_timer_ends_a_job_its_coordinator_removes_the_data() {
    let mut world = without_workers_for_too_long();
    world.settle();
    let ended = world.log.iter().filter(|line| line.contains("end run"));
    assert_eq!(ended.count(), 1, "{:?}", world.log);
    assert_eq!(world.phase(), Phase::Failed);
    assert_eq!(world.finished_reason(), "GenerationsExhausted");
    let message = world.message();
    assert!(
        message.starts_with(
            "1 of 1 generations ended without a result; the last one: no worker was alive"
        ),
        "{message}"
    );
    assert!(!message.contains("gc"), "{message}");
}

#[test]
fn fault_f31_a_coordinator_that_does_not_end_the_job_has_four_minutes() {
    let mut world = without_workers_for_too_long();
    world.on_end_request = OnEndRequest::GoesOn;
    world.settle();
    world.pass(239);
    world.settle();
    assert!(!world.phase().is_final());
    world.pass(1);
    world.settle();
    assert_eq!(world.phase(), Phase::Failed);
    let message = world.message();
    assert!(
        message.ends_with("; no coordinator removed the intermediate data; kubectl zephyr gc does"),
        "{message}"
    );
}

#[test]
fn fault_f31_a_job_that_ends_without_a_coordinator_says_that_its_data_stays() {
    for (retain, stays) in [("Never", true), ("OnFailure", false), ("Always", false)] {
        let mut world = World::running(json!({
            "retries": {"maxGenerations": 1},
            "storage": {"uri": "s3://scratch/zephyr", "retain": retain},
        }));
        world.coordinator_is(false);
        world.settle();
        world.pass(120);
        world.settle();
        assert_eq!(world.phase(), Phase::Failed);
        assert_eq!(
            world.message().contains("kubectl zephyr gc"),
            stays,
            "{retain}"
        );
    }
}

/// Puts a pod into the state of a case.
type Change = fn(&mut PodFacts);

#[test]
fn fault_3598_5041_workers_that_fail_for_too_long_end_the_generation_and_workers_without_a_node_do_not()
 {
    let failing = |pod: &mut PodFacts| {
        pod.scheduled_since = Some(at(1_000));
        pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
        pod.container.last_end = Some(ContainerEnd {
            exit_code: 101,
            reason: "Error".to_owned(),
            finished: None,
        });
    };
    let pending =
        |pod: &mut PodFacts| pod.unschedulable = Some("0/3 nodes are available".to_owned());
    let preempted = |pod: &mut PodFacts| {
        pod.scheduled_since = Some(at(1_000));
        pod.disruption = Some(explanation("PreemptionByScheduler", ""));
    };
    let pulling = |pod: &mut PodFacts| {
        pod.scheduled_since = Some(at(2_700));
        pod.container.state = ContainerRun::Waiting(explanation("ContainerCreating", ""));
    };
    let alive = |pod: &mut PodFacts| {
        pod.container.state = ContainerRun::Running {
            since: Some(at(1_000)),
        };
        pod.ready = true;
    };
    let cases: [(&str, Vec<Change>, u32); 6] = [
        ("failing", vec![failing], 2),
        ("failing beside pending ones", vec![pending, failing], 2),
        ("pending", vec![pending, pending], 1),
        ("preempted again and again", vec![preempted, preempted], 1),
        (
            "placed a moment ago, after a long wait for a node",
            vec![pulling],
            1,
        ),
        ("one alive beside failing ones", vec![failing, alive], 1),
    ];
    for (name, changes, expected) in cases {
        let mut world = World::running(json!({}));
        for (number, change) in changes.into_iter().enumerate() {
            world.worker_pod(&format!("w-{number}"), change);
        }
        world.settle();
        world.pass(1_800);
        world.settle();
        assert_eq!(world.generation(), expected, "{name}");
    }
}

#[test]
fn fault_5041_the_timer_of_dead_workers_starts_again_after_one_was_alive() {
    let mut world = World::running(json!({}));
    let failing = |pod: &mut PodFacts| {
        pod.scheduled_since = Some(at(1_000));
        pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
    };
    world.worker_pod("w-0", failing);
    world.settle();
    assert_eq!(
        world.job.status.all_workers_dead_since,
        Some(Time(at(1_000)))
    );
    world.pass(1_700);
    world.worker_pod("w-0", |pod| {
        pod.container.state = ContainerRun::Running {
            since: Some(at(1_000)),
        };
        pod.ready = true;
    });
    world.settle();
    assert_eq!(world.job.status.all_workers_dead_since, None);
    world.worker_pod("w-0", failing);
    world.settle();
    world.pass(1_700);
    world.settle();
    assert_eq!(world.generation(), 1);
}

/// Sets the only worker to alive, or to crashed.
fn flap(world: &mut World, is_alive: bool) {
    world.worker_pod("w-0", |pod| {
        pod.scheduled_since = Some(at(1_000));
        pod.ready = is_alive;
        pod.container.state = if is_alive {
            ContainerRun::Running {
                since: Some(at(1_000)),
            }
        } else {
            ContainerRun::Waiting(explanation("CrashLoopBackOff", ""))
        };
    });
}

#[test]
fn flapping_workers_cost_at_most_one_status_write_in_two_seconds() {
    let mut world = World::running(json!({}));
    let writes = world.status_writes;
    for tick in 0..6_000 {
        flap(&mut world, tick % 2 == 0);
        world.reconcile();
        world.advance(100);
    }
    let writes = world.status_writes - writes;
    assert!((1..=300).contains(&writes), "{writes} writes");
    let last = world.written.unwrap();
    world.reconcile();
    assert!(world.now.duration_since(last).as_secs() <= 2);
}

#[test]
fn changed_counters_cost_at_most_one_status_write_in_ten_seconds() {
    let mut world = World::running(json!({}));
    flap(&mut world, true);
    world.settle();
    let writes = world.status_writes;
    for tick in 0..6_000 {
        world.report.as_mut().unwrap().disruptions = tick;
        world.reconcile();
        world.advance(100);
    }
    let writes = world.status_writes - writes;
    assert!((59..=60).contains(&writes), "{writes} writes");
}

#[test]
fn a_new_generation_and_an_end_are_written_at_once() {
    let mut world = World::running(json!({}));
    world.written = Some(world.now);
    world.current().root = None;
    world.reconcile();
    assert_eq!(
        world.generation(),
        2,
        "the number of a generation is written without a delay"
    );

    let mut world = World::running(json!({}));
    world.written = Some(world.now);
    world.ends(true, "Succeeded");
    world.reconcile();
    assert_eq!(world.phase(), Phase::Succeeded);
}

#[test]
fn a_worker_alive_between_two_status_writes_restarts_the_timer() {
    let mut world = World::running(json!({}));
    flap(&mut world, false);
    world.settle();
    world.pass(1_700);
    world.written = Some(world.now);
    flap(&mut world, true);
    world.reconcile();
    assert!(
        world.job.status.all_workers_dead_since.is_some(),
        "the write waits"
    );
    flap(&mut world, false);
    world.advance(100);
    world.reconcile();
    world.settle();
    world.pass(1_700);
    world.settle();
    assert_eq!(world.generation(), 1, "30 minutes are not over");
    world.pass(100);
    world.settle();
    assert_eq!(world.generation(), 2);
}

/// Adds a worker pod that has been Terminating since second 1,000, on this node.
fn terminating(world: &mut World, name: &str, node: &str) {
    world.worker_pod(name, |pod| {
        pod.deletion = Some(at(1_000));
        pod.node = Some(node.to_owned());
    });
}

#[test]
fn pods_that_a_lost_node_keeps_are_force_deleted_half_a_minute_after_their_grace_period() {
    let mut world = World::running(json!({}));
    terminating(&mut world, "w-0", "lost");
    let logged = world.log.len();
    world.settle();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(15)));
    world.pass(29);
    world.settle();
    assert_eq!(world.log.len(), logged);
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(1)));
    world.pass(1);
    world.settle();
    assert_eq!(world.log[logged..], ["force-delete pod w-0"]);
}

#[test]
fn pods_of_coordinators_and_of_old_generations_on_a_lost_node_are_deleted_too() {
    let mut world = World::running(json!({}));
    world.coordinator_pod(|pod| {
        pod.deletion = Some(at(1_000));
        pod.node = Some("lost".to_owned());
    });
    world.worker_pod("old-0", |pod| {
        pod.deletion = Some(at(1_000));
        pod.node = Some("lost".to_owned());
        pod.generation = 99;
    });
    let mut ended = world.clone();
    let logged = world.log.len();
    world.pass(30);
    world.settle();
    assert_eq!(
        world.log[logged..],
        ["force-delete pod c", "force-delete pod old-0"]
    );
    // No new pod is created after the job's end.
    ended.ends(true, "Succeeded");
    ended.settle();
    ended.coordinator_pod(|pod| {
        pod.deletion = Some(at(1_000));
        pod.node = Some("lost".to_owned());
    });
    assert!(ended.plan().requeue_after.is_some());
    let logged = ended.log.len();
    ended.pass(30);
    ended.settle();
    assert_eq!(
        ended.log[logged..],
        ["force-delete pod c", "force-delete pod old-0"]
    );
}

#[test]
fn a_pod_is_not_force_deleted_on_a_ready_node_or_if_force_deletion_is_off() {
    let mut world = World::running(json!({}));
    terminating(&mut world, "w-0", "slow");
    let logged = world.log.len();
    for _ in 0..20 {
        world.pass(60);
        world.settle();
    }
    world.force_delete_pods = false;
    terminating(&mut world, "w-1", "lost");
    world.pass(60);
    world.settle();
    assert_eq!(world.log[logged..], Vec::<String>::new());
}

#[test]
fn workers_whose_deleted_pods_do_not_end_are_named_and_end_the_generation() {
    let mut world = World::running(json!({}));
    let names = ["w-0", "w-1", "w-2", "w-3"];
    for name in names {
        terminating(&mut world, name, "slow");
    }
    world.settle();
    assert_eq!(world.generation(), 1);
    for _ in 0..5 {
        world.pass(60);
        world.settle();
    }
    assert_eq!(
        world.generation(),
        1,
        "a pod that ends slowly does not count as held"
    );
    for _ in 0..26 {
        world.pass(60);
        world.settle();
    }
    assert_eq!(world.generation(), 2);
    let ended = &world.job.status.generations[0];
    let words = format!("worker pod {} was deleted and does not end", names[0]);
    assert!(ended.message.contains(&words), "{}", ended.message);
}

#[test]
fn numbers_of_other_objects_use_up_no_generation() {
    let mut world = World::running(json!({"maxGenerations": 3}));
    world.foreign = [50].into();
    world.coordinator_is(false);
    world.settle();
    world.pass(120);
    world.settle();
    assert_eq!(world.generation(), 51);
    assert_eq!(world.job.status.skipped_numbers, 49);
    assert!(!world.phase().is_final(), "{}", world.message());
}

#[test]
fn a_pod_that_a_finalizer_keeps_costs_four_deletes_a_minute_and_delays_no_other() {
    let mut world = World::running(json!({}));
    world.kept = vec!["w-0"];
    for name in ["w-0", "w-1", "w-2"] {
        terminating(&mut world, name, "lost");
    }
    let logged = world.log.len();
    world.pass(30);
    let mut times = Vec::new();
    for _ in 0..6_000 {
        let before = world.log.len();
        world.reconcile();
        let of_kept = world.log[before..]
            .iter()
            .filter(|line| *line == "force-delete pod w-0");
        times.extend(of_kept.map(|_| world.now));
        world.advance(100);
    }
    assert_eq!(
        world.log[logged..logged + 3],
        ["w-0", "w-1", "w-2"].map(|name| format!("force-delete pod {name}"))
    );
    for from in &times {
        let until = from
            .checked_add(jiff::SignedDuration::from_mins(1))
            .unwrap();
        let in_minute = times.iter().filter(|time| (from..&until).contains(time));
        assert!(in_minute.count() <= 4);
    }
    assert!(times.len() > 3, "it is tried again");
    let degraded = world.condition(ConditionType::Degraded);
    assert_eq!(degraded.status, ConditionStatus::True);
    assert!(
        degraded.message.starts_with("pod w-0 still exists"),
        "{}",
        degraded.message
    );
    let plan = world.plan();
    assert!(plan.requeue_after >= Some(Duration::from_secs(1)), "{plan}");
    world.kept.clear();
    world.pods.retain(|pod| pod.name != "w-0");
    world.settle();
    let degraded = world.condition(ConditionType::Degraded);
    assert_eq!(degraded.status, ConditionStatus::False);
}

#[test]
fn ended_pods_are_reported_to_a_connected_coordinator() {
    let mut world = World::running(json!({}));
    let end = PodEnd {
        pod_uid: "u".to_owned(),
        pod_name: "w-0".to_owned(),
        cause: PodEndCause::Disruption,
        reason: "pod gone".to_owned(),
        exit_code: 0,
        memory_limit_bytes: 0,
        container_restarts: 0,
    };
    world.unreported_ends = vec![end];
    let logged = world.log.len();
    world.report.as_mut().unwrap().connected = false;
    world.settle();
    assert_eq!(world.log.len(), logged);
    world.report.as_mut().unwrap().connected = true;
    world.settle();
    assert_eq!(world.log[logged..], ["report 1 pod ends to generation 1"]);
}

#[test]
fn a_reason_of_a_newer_release_is_reported_as_a_failed_task() {
    for reason in ["QuotaSpent", "Succeeded", ""] {
        let mut world = World::running(json!({}));
        world.ends(false, reason);
        world.settle();
        assert_eq!(
            (world.phase(), world.finished_reason(), world.message()),
            (Phase::Failed, "TaskFailed", "so it is".to_owned()),
            "{reason:?}"
        );
    }
}

#[test]
fn a_job_that_cannot_be_planned_ends_in_its_first_generation_without_any_worker() {
    let mut world = World::new(json!({}));
    world.settle();
    world.coordinator_is(true);
    world.ends(false, "PlanFailed");
    world.report.as_mut().unwrap().planned = None;
    assert_eq!(world.workers().replicas, 0);
    world.settle();
    assert_eq!(
        (world.phase(), world.finished_reason(), world.message()),
        (Phase::Failed, "PlanFailed", "so it is".to_owned())
    );
    assert_eq!(world.job.status.generation, Some(1));
    assert_eq!(world.job.status.generations.len(), 1);
    let scaled = world.log.iter().find(|line| line.starts_with("scale"));
    assert_eq!(scaled, None, "{:?}", world.log);
}

#[test]
fn fault_4913_4117_5484_a_result_is_in_status_before_it_is_acknowledged_or_anything_is_deleted() {
    for (succeeded, reason, phase) in [
        (true, "Succeeded", Phase::Succeeded),
        (false, "PlanFailed", Phase::Failed),
        (false, "TaskFailed", Phase::Failed),
        (false, "TaskTimedOut", Phase::Failed),
        (false, "TaskDisrupted", Phase::Failed),
        (false, "OutputLost", Phase::Failed),
        (false, "LedgerDamaged", Phase::Failed),
    ] {
        let mut world = World::running(json!({"failedPodsTTL": "0s"}));
        world.ends(succeeded, reason);
        let logged = world.log.len();
        assert!(world.plan().actions.is_empty(), "first the status");
        world.settle();
        assert_eq!(
            world.log[logged..],
            ["acknowledge result of generation 1", "delete root count-g1"]
        );
        assert_eq!(world.phase(), phase);
        assert_eq!(world.message(), "so it is");
        assert_eq!(
            world.finished_reason(),
            if succeeded { "OutputComplete" } else { reason }
        );
        assert_eq!(world.job.status.outputs.is_some(), succeeded);
        let at_rest = world.job.status.clone();
        world.pass(100_000);
        assert!(
            world.plan().is_idle() && world.plan().requeue_after.is_none(),
            "nothing at rest"
        );
        world.settle();
        assert_eq!(world.job.status, at_rest);
    }
}

#[test]
fn a_finished_job_is_deleted_after_its_time() {
    let mut world = World::running(json!({"ttlSecondsAfterFinished": 60}));
    world.ends(true, "Succeeded");
    world.settle();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_mins(1)));
    world.pass(59);
    world.settle();
    assert!(!world.deleted);
    world.pass(1);
    world.settle();
    assert!(world.deleted);
}

#[test]
fn a_deleted_job_that_a_finalizer_keeps_stops_running() {
    let mut world = World::running(json!({}));
    world.job.deleted = true;
    world.coordinator_is(false);
    world.pass(100_000);
    let said = world.plan().to_string();
    assert_eq!(said, "delete; delete root count-g1");
    world.job.orphans = true;
    let nothing = Plan {
        lifecycle: Lifecycle::Delete,
        ..Plan::default()
    };
    assert_eq!(world.plan(), nothing, "its objects are to stay");
    world.job.orphans = false;
    let objects = world.generations.get_mut(&1).unwrap();
    objects.root.as_mut().unwrap().object.terminating = true;
    assert_eq!(world.plan(), nothing, "it is going already");
}

#[test]
fn a_deleted_job_that_a_finalizer_keeps_names_the_finalizer_once_and_runs_nothing() {
    let mut world = World::running(json!({}));
    world.worker_pod("w-0", |pod| pod.ready = true);
    world.settle();
    let before = world.job.status.clone();
    world.job.deleted = true;
    world.job.finalizers = vec!["example.com/backup".to_owned()];
    world.settle();
    let condition = world.condition(ConditionType::Progressing).clone();
    assert_eq!(condition.reason.as_str(), "Deleting");
    assert_eq!(
        condition.message,
        "the job is being deleted, and nothing of it runs; the object stays until its finalizers are removed: \
         example.com/backup"
    );
    assert_eq!(world.phase(), Phase::Pending);
    assert_eq!(world.job.status.coordinator, None);
    let ready = world.condition(ConditionType::WorkersReady);
    assert_eq!(ready.status, ConditionStatus::False);
    let writes = world.status_writes;
    world.pass(3_600);
    world.settle();
    assert_eq!(world.status_writes, writes, "nothing changes any more");
    // Without a finalizer nobody reads the status. If a deletion orphans the objects, they
    // continue.
    assert!(world.generations.is_empty());
    for (finalizers, orphans) in [(Vec::new(), false), (world.job.finalizers.clone(), true)] {
        world.job.status = before.clone();
        (world.job.finalizers, world.job.orphans) = (finalizers, orphans);
        world.settle();
        assert_eq!(world.job.status, before);
    }
}

#[test]
fn a_deleted_job_that_has_ended_keeps_its_end() {
    let mut world = World::running(json!({}));
    world.ends(true, "Succeeded");
    world.settle();
    world.job.deleted = true;
    world.job.finalizers = vec!["example.com/backup".to_owned()];
    world.settle();
    assert_eq!(world.phase(), Phase::Succeeded);
    assert_eq!(world.finished_reason(), "OutputComplete");
    let condition = world.condition(ConditionType::Progressing);
    assert_eq!(condition.reason.as_str(), "Deleting");
}

#[test]
fn times_in_the_future_from_another_clock_delay_nothing() {
    let mut world = World::running(json!({}));
    let day = 86_400;
    let later = Time(after(world.now, Duration::from_secs(day)));
    world.job.status.backoff_until = Some(later.clone());
    world.current().service = None;
    let said = world.plan().to_string();
    assert!(said.contains("create service"), "{said}");
    let observed = world.observed(Freshness::Cached);
    let status = project(
        &world.job,
        &world.verdict(&observed),
        &observed,
        &world.plan(),
        None,
        world.now,
    );
    assert_eq!(status.backoff_until, None);

    world.job.status.coordinator = Some(CoordinatorStatus {
        unavailable_since: Some(later),
        ..CoordinatorStatus::default()
    });
    world.last_well = LastWell::default();
    world.coordinator_is(false);
    let health = world.plan().diagnosis.coordinator;
    assert_eq!(health.unavailable_since, Some(world.now));
}

#[test]
fn a_deleted_root_is_followed_by_the_next_generation_and_never_created_again() {
    let mut world = World::running(json!({}));
    world.current().root = None;
    world.settle();
    assert_eq!(world.generation(), 2);
    assert!(
        world
            .message()
            .contains("the root of generation 1 was deleted"),
        "{}",
        world.message()
    );
}

#[test]
fn a_root_that_lost_its_labels_is_marked_again_and_its_generation_continues() {
    let mut world = World::running(json!({}));
    world.current().root.as_mut().unwrap().needs_mark = true;
    world.log.clear();
    world.settle();
    assert_eq!(world.log, ["mark root of generation 1 again"]);
    assert_eq!(world.generation(), 1);
}

#[test]
fn a_coordinator_that_somebody_keeps_scaling_is_scaled_back_every_fifteen_seconds() {
    for replicas in [0, 2] {
        let mut world = World::running(json!({}));
        world.log.clear();
        for _ in 0..40 {
            world.current().coordinator.as_mut().unwrap().scaled_to = Some(replicas);
            world.reconcile();
            world.advance(1_000);
        }
        let back = format!("scale count-coordinator-g1 from {replicas} back to 1");
        assert_eq!(world.log, [back.as_str(); 3]);
    }
}

#[test]
fn a_service_that_somebody_keeps_editing_is_corrected_every_fifteen_seconds() {
    let mut world = World::running(json!({}));
    world.log.clear();
    for _ in 0..40 {
        world.current().service.as_mut().unwrap().mend = Some(json!({"selector": {}}));
        world.reconcile();
        world.advance(1_000);
    }
    assert_eq!(world.log, ["mend service count-coordinator-g1"; 3]);
    assert_eq!(world.generation(), 1);
}

#[test]
fn workers_that_somebody_scales_before_the_plan_is_known_are_scaled_to_none() {
    let mut world = World::new(json!({}));
    world.settle();
    world.coordinator_is(true);
    world.says(RunPhase::Planning, 8);
    world.settle();
    world.workers().replicas = 3;
    world.settle();
    assert_eq!(world.workers().replicas, 0);
    world.says(RunPhase::Running, 8);
    world.settle();
    assert_eq!(world.workers().replicas, 4);
    // During a take-over the coordinator has no plan for a moment. This must not release any
    // worker.
    world.says(RunPhase::Planning, 8);
    world.settle();
    assert_eq!(world.workers().replicas, 4);
    world.workers().scaled_to = None;
    world.workers().replicas = 2;
    world.settle();
    assert_eq!(world.workers().replicas, 2, "an older release made it");
}

#[test]
fn a_set_of_workers_that_is_made_again_has_as_many_as_the_plan_wants() {
    let mut world = World::running(json!({}));
    world.current().workers = None;
    world.log.clear();
    world.settle();
    assert_eq!(world.workers().replicas, 4);
    assert_eq!(world.log, ["create workers of generation 1"]);
}

#[test]
fn a_generation_without_any_object_is_followed_by_the_next_one() {
    let mut world = World::running(json!({}));
    world.generations.remove(&1);
    world.settle();
    assert_eq!(world.generation(), 2);
}

#[test]
fn fault_4494_a_status_that_was_set_back_never_leads_to_an_old_number() {
    let mut world = World::running(json!({}));
    let objects = world.generations.remove(&1).unwrap();
    world.generations.insert(5, objects);
    world.settle();
    assert_eq!(world.generation(), 6);
    world.pass(5);
    world.settle();
    world.job.status = ZephyrJobStatus::default();
    world.settle();
    assert_eq!(world.generation(), 7);
}

#[test]
fn a_refused_spec_starts_nothing_and_its_repair_does() {
    let mut world = World::new(json!({}));
    world.errors = vec![FieldError::new("spec.image", "is wrong", "name:tag")];
    world.settle();
    assert!(world.generations.is_empty() && world.log.is_empty());
    assert_eq!(world.phase(), Phase::Failed);
    world.errors.clear();
    world.settle();
    let still = "another release accepts it, and nobody changed it: it stays ended";
    assert_eq!(world.phase(), Phase::Failed, "{still}");
    world.job.spec_version = Some(2);
    world.settle();
    assert_eq!(world.generation(), 1);
    assert_eq!(world.job.status.completion_time, None);
}

#[test]
fn after_its_generation_a_job_with_a_refused_spec_says_what_it_waits_for() {
    let mut world = World::running(json!({}));
    world.job.spec.image = "x y".to_owned();
    world.job.spec_version = Some(2);
    world.errors = vec![FieldError::new("spec.image", "is wrong", "name:tag")];
    world.settle();
    assert_eq!(world.generation(), 1);
    world.current().root = None;
    world.settle();
    assert_eq!((world.generation(), world.phase()), (1, Phase::Pending));
    let conditions = &world.job.status.conditions;
    for (kind, status) in [
        (ConditionType::Progressing, ConditionStatus::False),
        (ConditionType::Degraded, ConditionStatus::True),
    ] {
        let condition = conditions.iter().find(|one| one.r#type == kind).unwrap();
        assert_eq!(condition.status, status);
        assert_eq!(
            condition.message,
            "generation 1 has ended: the root of generation 1 was deleted; the next one starts when the spec is corrected: spec.image: is wrong; name:tag"
        );
    }
    world.errors.clear();
    world.settle();
    assert_eq!(world.generation(), 2);
}

#[test]
fn a_refused_job_is_deleted_after_its_time_unless_it_was_changed() {
    let mut world = World::new(json!({}));
    world.job.spec.ttl_seconds_after_finished = Some(60);
    world.errors = newer_rule();
    world.settle();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_mins(1)));
    let mut changed = world.clone();
    world.pass(60);
    world.settle();
    assert!(world.deleted);
    changed.job.spec_version = Some(2);
    changed.errors.clear();
    changed.pass(60);
    changed.settle();
    assert!(!changed.deleted);
    assert_eq!(changed.generation(), 1);
}

#[test]
fn a_refused_job_that_is_changed_waits_for_its_turn() {
    let mut world = World::new(json!({}));
    world.errors = newer_rule();
    world.settle();
    world.errors.clear();
    world.job.spec_version = Some(2);
    world.turn = Turn::Wait(Waiting::default());
    world.settle();
    assert_eq!(world.phase(), Phase::Pending);
    assert_eq!(world.job.status.generation, None);
    world.errors = newer_rule();
    world.job.spec_version = Some(3);
    world.settle();
    assert_eq!(world.phase(), Phase::Failed);
    assert_eq!(world.job.status.queued_since, None);
}

fn newer_rule() -> Vec<FieldError> {
    vec![FieldError::new(
        "spec.pipeline.sink",
        "is what a newer rule refuses",
        "another folder",
    )]
}

#[test]
fn a_generation_of_another_release_continues_and_no_other_is_started() {
    let mut world = World::running(json!({}));
    let fault = RootFault::OtherRelease {
        reason: "job.json: spec.pipeline.sorted: this release does not know the field".to_owned(),
        coordinator_address: "http://c:7070".to_owned(),
    };
    world.current().root.as_mut().unwrap().frozen = Frozen::Unreadable(fault);
    let logged = world.log.len();
    world.settle();
    let degraded = world.condition(ConditionType::Degraded);
    assert!(
        degraded.status == ConditionStatus::True
            && degraded.message.contains("spec.pipeline.sorted"),
        "{}",
        degraded.message
    );
    world.current().service = None;
    lose_coordinator(&mut world);
    assert_eq!(world.generation(), 1);
    assert_eq!(world.log[logged..], Vec::<String>::new());
    // The coordinator becomes ready again and ends the job. Its report is enough for that.
    world.coordinator_is(true);
    world.ends(true, "Succeeded");
    world.settle();
    assert_eq!(world.phase(), Phase::Succeeded);
}

#[test]
fn a_root_that_nobody_can_read_is_followed_by_the_next_generation() {
    let mut world = World::running(json!({}));
    let fault = RootFault::Damaged("key job.json is missing".to_owned());
    world.current().root.as_mut().unwrap().frozen = Frozen::Unreadable(fault);
    world.settle();
    assert_eq!(world.generation(), 2);
}

/// Makes the coordinator of a running job disappear, and continues until the next generation's
/// objects exist.
fn lose_coordinator(world: &mut World) {
    world.coordinator_is(false);
    world.settle();
    world.pass(120);
    world.settle();
    world.pass(5);
    world.settle();
}

#[test]
fn a_running_job_that_a_newer_rule_refuses_continues_unchanged_and_says_so() {
    let mut world = World::running(json!({}));
    world.errors = newer_rule();
    lose_coordinator(&mut world);
    assert_eq!(world.generation(), 2);
    let root = world.current().root.clone();
    assert!(root.is_some(), "the next generation runs");
    let accepted = world.condition(ConditionType::Accepted);
    assert_eq!(accepted.status, ConditionStatus::True);
    assert!(
        accepted.message.contains("continues as it began")
            && accepted.message.contains("spec.pipeline.sink"),
        "{}",
        accepted.message
    );
}

#[test]
fn newer_rules_apply_to_a_running_job_while_its_spec_is_changed() {
    let mut world = World::running(json!({}));
    let began = world.job.spec.clone();
    world.errors = newer_rule();
    world.job.spec.image = "edited:2".to_owned();
    world.job.spec_version = Some(2);
    world.settle();
    assert_eq!(
        world.condition(ConditionType::Accepted).status,
        ConditionStatus::False
    );
    lose_coordinator(&mut world);
    assert_eq!(
        world.generation(),
        1,
        "no generation begins while the spec is refused"
    );
    world.job.spec = began;
    world.job.spec_version = Some(3);
    world.settle();
    world.pass(5);
    world.settle();
    assert_eq!(
        world.generation(),
        2,
        "the spec is again the one that is frozen, so the next generation begins"
    );
}

#[test]
fn changing_reports_of_useful_workers_cost_at_most_one_scaling_in_five_seconds() {
    let mut world = World::running(json!({}));
    world.job.spec.workers.replicas = Some(100);
    world.settle();
    let logged = world.log.len();
    for tick in 0..1_200 {
        world.report.as_mut().unwrap().useful_workers = Some(if tick % 2 == 0 { 1 } else { 8 });
        world.reconcile();
        world.advance(500);
    }
    let scaled = world.log.len() - logged;
    assert!((1..=120).contains(&scaled), "{scaled}");
}

#[test]
fn a_plan_is_one_line() {
    let world = World::new(json!({}));
    assert_eq!(world.plan().to_string(), "start generation 1");
    let mut world = World::running(json!({}));
    world.job.spec.workers.replicas = Some(2);
    assert_eq!(
        world.plan().to_string(),
        "stay; scale count-workers-g1 from 4 to 2; look again in 15000 ms"
    );
}

/// One thing that happens to a cluster.
#[derive(Clone, Copy, Debug)]
enum Happening {
    CoordinatorUp,
    CoordinatorAway,
    CoordinatorUnschedulable,
    Planned(u32),
    Progressed,
    WorkerReady,
    WorkerCrashes,
    WorkerDisrupted,
    RootDeleted,
    Scaled(u32),
    Bounded(u32),
    Open(u32),
    Passes(i64),
    Succeeds,
    Fails,
    Drained,
    PodsGone,
    TurnComes(bool),
    Asked(Request),
}

/// A change of the spec.
#[derive(Clone, Copy, Debug)]
enum Request {
    Suspend(SuspendMode),
    Resume,
    Cancel(CancelMode),
    Restart,
}

/// Changes the spec, as far as the API server accepts it.
fn ask(world: &mut World, request: Request) {
    let has_ended = world.job.has_ended();
    let spec = &mut world.job.spec;
    match request {
        Request::Suspend(mode) => {
            spec.suspend = true;
            spec.suspend_policy.mode = mode;
        }
        Request::Resume => spec.suspend = false,
        Request::Cancel(mode) if !has_ended => {
            let reason = "wrong input".to_owned();
            spec.cancel = Some(CancelSpec {
                mode,
                reason,
                ..CancelSpec::default()
            });
        }
        Request::Restart if world.job.status.phase == Some(Phase::Failed) => {
            spec.cancel = None;
            spec.restart = Some(format!("after {:?}", world.job.status.generation));
        }
        Request::Cancel(_) | Request::Restart => {}
    }
}

fn happen(world: &mut World, happening: Happening) {
    let exists = world.job.status.generation.is_some_and(|g| {
        world
            .generations
            .get(&g)
            .is_some_and(|o| o.coordinator.is_some() && o.workers.is_some() && o.root.is_some())
    });
    match happening {
        Happening::Passes(seconds) => world.pass(seconds),
        Happening::Scaled(replicas) => {
            world.job.spec.workers.replicas = Some(replicas);
            world.job.spec.workers.max_replicas = None;
        }
        Happening::Bounded(greatest) => {
            world.job.spec.workers.replicas = None;
            world.job.spec.workers.max_replicas = Some(greatest);
        }
        Happening::PodsGone => world.pods.clear(),
        Happening::TurnComes(true) => world.turn = Turn::Free,
        Happening::TurnComes(false) => {
            world.turn = Turn::Wait(Waiting {
                before: 1,
                ..Waiting::default()
            });
        }
        Happening::Asked(request) => ask(world, request),
        _ if !exists => {}
        Happening::CoordinatorUp => world.coordinator_is(true),
        Happening::CoordinatorAway => world.coordinator_is(false),
        Happening::CoordinatorUnschedulable => {
            world.coordinator_is(false);
            world.coordinator_pod(|pod| pod.unschedulable = Some("no node".to_owned()));
        }
        Happening::Planned(shards) => world.says(RunPhase::Running, shards),
        Happening::Open(tasks) => {
            if let Some(report) = &mut world.report {
                report.tasks_total = tasks.into();
                report.stages = vec![StageReport {
                    total: tasks,
                    ..StageReport::default()
                }];
            }
        }
        Happening::Progressed => {
            if let Some(report) = &mut world.report {
                report.progressed = true;
            }
        }
        Happening::WorkerReady => world.worker_pod("w-0", |pod| {
            pod.container.state = ContainerRun::Running {
                since: Some(at(1_000)),
            };
            pod.ready = true;
        }),
        Happening::WorkerCrashes => world.worker_pod("w-0", |pod| {
            pod.scheduled_since = Some(at(1_000));
            pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
        }),
        Happening::WorkerDisrupted => {
            let now = world.now;
            world.worker_pod("w-0", |pod| pod.deletion = Some(now));
        }
        Happening::RootDeleted => world.current().root = None,
        Happening::Drained => {
            if let Some(report) = &mut world.report {
                report.tasks_to_drain = Some(0);
            }
        }
        Happening::Succeeds => world.ends(true, "Succeeded"),
        Happening::Fails => world.ends(false, "TaskFailed"),
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let suspend = prop_oneof![Just(SuspendMode::Drain), Just(SuspendMode::Immediate)];
    let cancel = prop_oneof![Just(CancelMode::Graceful), Just(CancelMode::Immediate)];
    prop_oneof![
        2 => suspend.prop_map(Request::Suspend),
        2 => Just(Request::Resume),
        1 => cancel.prop_map(Request::Cancel),
        2 => Just(Request::Restart),
    ]
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::CoordinatorUp),
        1 => Just(Happening::CoordinatorAway),
        1 => Just(Happening::CoordinatorUnschedulable),
        2 => (0..9_u32).prop_map(Happening::Planned),
        1 => Just(Happening::Progressed),
        1 => Just(Happening::WorkerReady),
        1 => Just(Happening::WorkerCrashes),
        1 => Just(Happening::WorkerDisrupted),
        1 => Just(Happening::RootDeleted),
        1 => (1..9_u32).prop_map(Happening::Scaled),
        1 => (1..9_u32).prop_map(Happening::Bounded),
        1 => (0..9_u32).prop_map(Happening::Open),
        4 => prop_oneof![Just(1), Just(31), Just(130), Just(2_000)].prop_map(Happening::Passes),
        1 => Just(Happening::Succeeds),
        1 => Just(Happening::Fails),
        1 => Just(Happening::Drained),
        1 => Just(Happening::PodsGone),
        7 => any_request().prop_map(Happening::Asked),
        1 => any::<bool>().prop_map(Happening::TurnComes),
    ]
}

fn play(happenings: &[Happening], fuse: Option<usize>) -> World {
    let mut world =
        World::new(json!({"retries": {"maxGenerations": 4}, "ttlSecondsAfterFinished": 1_000}));
    world.fuse = fuse;
    world.settle();
    for happening in happenings {
        happen(&mut world, *happening);
        world.settle();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Planning again on the state after the actions yields no action, and generation numbers only
    /// grow.
    #[test]
    fn planning_on_the_world_just_applied_yields_no_action(happenings in prop::collection::vec(any_happening(), 0..20)) {
        let mut world = play(&[], None);
        let mut generation = world.generation();
        for happening in happenings {
            happen(&mut world, happening);
            world.settle();
            if world.deleted {
                break;
            }
            let plan = world.plan();
            let waits = world.turn != Turn::Free;
            prop_assert!(waits || plan.is_idle(), "{happening:?}: {plan}");
            prop_assert!(world.generation() >= generation);
            generation = world.generation();
            prop_assert!(world.generations.len() <= 1, "one generation at rest");
        }
        for (from, to) in &world.transitions {
            let is_known = |(before, after, _): &(LifeState, LifeState, &str)| {
                format!("{before:?}") == *from && format!("{after:?}") == *to
            };
            prop_assert!(transitions::all().iter().any(is_known), "{from} to {to}");
        }
    }

    /// If the operator is killed after any write, its successor reaches the same state of the
    /// cluster, and creates nothing twice.
    #[test]
    fn fault_2967_a_kill_of_the_operator_after_any_write_does_not_change_the_result(
        happenings in prop::collection::vec(any_happening(), 0..12),
        fuse in 1..30_usize,
    ) {
        let undisturbed = play(&happenings, None);
        let disturbed = play(&happenings, Some(fuse));
        prop_assert_eq!(fingerprint(&disturbed), fingerprint(&undisturbed));
    }
}
