//! Tests of all states of a pod, and of all its ends, as tables.

use super::PodEndCause::{Disruption, Exit, OutOfMemory};
use super::*;
use crate::run_report::PodUids;

/// Returns a worker pod of generation 1 in its initial state.
pub(crate) fn worker(name: &str) -> PodFacts {
    PodFacts {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        role: Role::Worker,
        job_uid: "job-uid".to_owned(),
        generation: 1,
        created: None,
        deletion: None,
        taken_at: None,
        disruption: None,
        verdict: None,
        over: false,
        ready: false,
        ready_changed: None,
        node: None,
        is_on_lost_node: false,
        scheduled_since: None,
        unschedulable: None,
        container: ContainerFacts::default(),
        init_trouble: None,
        memory_limit_bytes: 1 << 30,
        image: "registry.example/zephyr-worker:1".to_owned(),
    }
}

/// Returns the time that is `second` seconds after the Unix epoch.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn explanation(reason: &str, message: &str) -> Explanation {
    Explanation {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn ended(exit_code: i32, reason: &str) -> ContainerRun {
    ContainerRun::Ended(ContainerEnd {
        exit_code,
        reason: reason.to_owned(),
        finished: None,
    })
}

fn with(change: impl FnOnce(&mut PodFacts)) -> PodFacts {
    let mut pod = worker("w-0");
    change(&mut pod);
    pod
}

/// Returns a running worker whose container started at 100 and whose readiness changed at
/// `changed`.
fn running(ready: bool, changed: i64) -> PodFacts {
    with(|pod| {
        pod.container.state = ContainerRun::Running {
            since: Some(at(100)),
        };
        pod.ready = ready;
        pod.ready_changed = Some(at(changed));
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one long table")]
fn conditions_and_container_statuses_determine_the_worker_state() {
    let sessions = SessionView {
        busy: PodUids::new(["uid-busy".to_owned()].into()),
        coordinator_since: Some(at(50)),
        reported: None,
    };
    let disrupted = |reason: &str| with(|pod| pod.disruption = Some(explanation(reason, "")));
    let waiting = |reason: &str| {
        with(|pod| pod.container.state = ContainerRun::Waiting(explanation(reason, "")))
    };
    let cases = [
        ("no container status yet", worker("w-0"), WorkerState::Init),
        (
            "pending, being created",
            waiting("ContainerCreating"),
            WorkerState::Init,
        ),
        (
            "running, not ready for the first time",
            running(false, 90),
            WorkerState::Init,
        ),
        (
            "restarted, not ready since before",
            running(false, 99),
            WorkerState::Init,
        ),
        ("ready, no task", running(true, 110), WorkerState::Ready),
        (
            "ready, a task",
            {
                let mut pod = running(true, 110);
                pod.uid = "uid-busy".to_owned();
                pod
            },
            WorkerState::Busy,
        ),
        (
            "was ready, is not, 60 s of silence",
            running(false, 940),
            WorkerState::Reconnecting,
        ),
        (
            "was ready, is not, more silence",
            running(false, 939),
            WorkerState::Dead,
        ),
        (
            "exited non-zero",
            with(|pod| pod.container.state = ended(1, "Error")),
            WorkerState::Failed,
        ),
        (
            "out of memory",
            with(|pod| pod.container.state = ended(137, "OOMKilled")),
            WorkerState::Failed,
        ),
        (
            "crash loop",
            waiting("CrashLoopBackOff"),
            WorkerState::Failed,
        ),
        (
            "image pull",
            waiting("ImagePullBackOff"),
            WorkerState::Failed,
        ),
        (
            "image pull, first try",
            waiting("ErrImagePull"),
            WorkerState::Failed,
        ),
        (
            "image name",
            waiting("InvalidImageName"),
            WorkerState::Failed,
        ),
        (
            "missing Secret",
            waiting("CreateContainerConfigError"),
            WorkerState::Failed,
        ),
        (
            "asked to stop",
            with(|pod| pod.container.state = ended(143, "Error")),
            WorkerState::Dead,
        ),
        (
            "preempted",
            disrupted("PreemptionByScheduler"),
            WorkerState::Dead,
        ),
        (
            "being deleted",
            with(|pod| pod.deletion = Some(at(1))),
            WorkerState::Dead,
        ),
        (
            "evicted",
            with(|pod| {
                pod.verdict = Some(explanation(
                    "Evicted",
                    "The node was low on resource: memory.",
                ));
            }),
            WorkerState::Dead,
        ),
        (
            "node shut down",
            with(|pod| {
                pod.verdict = Some(explanation(
                    "Terminated",
                    "Pod was terminated in response to imminent node shutdown.",
                ));
            }),
            WorkerState::Dead,
        ),
        (
            "beyond its own disk limit",
            with(|pod| {
                pod.verdict = Some(explanation(
                    "Evicted",
                    "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
                ));
            }),
            WorkerState::Failed,
        ),
        (
            "over, without a verdict",
            with(|pod| pod.over = true),
            WorkerState::Failed,
        ),
        (
            "ready, but being deleted",
            {
                let mut pod = running(true, 110);
                pod.deletion = Some(at(1));
                pod
            },
            WorkerState::Dead,
        ),
    ];
    for (name, pod, expected) in cases {
        assert_eq!(pod.worker_state(&sessions, at(1000)), expected, "{name}");
    }
}

#[test]
fn no_worker_is_silent_while_the_coordinator_is_absent_or_just_came_back() {
    let pod = running(false, 200);
    let state = |since: Option<i64>| {
        let sessions = SessionView {
            coordinator_since: since.map(at),
            ..SessionView::default()
        };
        pod.worker_state(&sessions, at(1000))
    };
    assert_eq!(state(None), WorkerState::Reconnecting);
    assert_eq!(state(Some(990)), WorkerState::Reconnecting);
    assert_eq!(state(Some(300)), WorkerState::Dead);
}

/// F25: if a node is lost, its pod stays ready for up to a minute.
#[test]
fn a_worker_is_alive_as_long_as_it_has_a_session() {
    let state = |pod: &PodFacts, reported_since: i64, connected: &[&str], reconnecting: &[&str]| {
        let uids = |all: &[&str]| all.iter().map(|uid| (*uid).to_owned()).collect();
        let sessions = SessionView {
            coordinator_since: Some(at(50)),
            reported: Some(Sessions {
                connected: PodUids::new(uids(connected)),
                reconnecting: PodUids::new(uids(reconnecting)),
                since: at(reported_since),
            }),
            ..SessionView::default()
        };
        pod.worker_state(&sessions, at(1000))
    };
    let ready = running(true, 110);
    let unready = running(false, 990);
    let never = running(false, 90);
    let all = ["uid-w-0"];
    assert_eq!(state(&ready, 60, &all, &[]), WorkerState::Ready);
    assert_eq!(
        state(&unready, 60, &all, &[]),
        WorkerState::Ready,
        "a late probe does not mean that the worker is dead"
    );
    assert_eq!(state(&ready, 60, &[], &all), WorkerState::Reconnecting);
    assert_eq!(state(&ready, 60, &[], &[]), WorkerState::Dead);
    assert_eq!(
        state(&unready, 60, &[], &[]),
        WorkerState::Dead,
        "a late report of the kubelet does not make the worker alive again"
    );
    assert_eq!(state(&never, 60, &[], &[]), WorkerState::Init);
    // The coordinator sent its first report a moment ago, and the worker is new.
    assert_eq!(state(&ready, 990, &[], &[]), WorkerState::Ready);
    assert_eq!(state(&unready, 990, &[], &[]), WorkerState::Reconnecting);
    assert_eq!(state(&running(true, 985), 60, &[], &[]), WorkerState::Ready);
}

/// Checks the sixteen ways in which a pod can end, and who is responsible for each.
#[test]
#[expect(clippy::too_many_lines, reason = "it is one long table")]
fn fault_7121_8282_preemption_eviction_and_lost_nodes_are_disruptions() {
    let disrupted = |reason: &str| {
        with(|pod| {
            pod.disruption = Some(explanation(reason, ""));
            pod.deletion = Some(at(1));
            pod.container.state = ended(137, "Error");
        })
    };
    let verdict = |reason: &str, message: &str| {
        with(|pod| {
            pod.verdict = Some(explanation(reason, message));
            pod.over = true;
        })
    };
    let ended =
        |exit_code, reason: &str| with(|pod| pod.container.state = ended(exit_code, reason));
    let cases = [
        (
            "preempted by the scheduler",
            disrupted("PreemptionByScheduler"),
            Disruption,
            "PreemptionByScheduler",
        ),
        (
            "taint manager: the node is lost",
            disrupted("DeletionByTaintManager"),
            Disruption,
            "DeletionByTaintManager",
        ),
        (
            "drained",
            disrupted("EvictionByEvictionAPI"),
            Disruption,
            "EvictionByEvictionAPI",
        ),
        (
            "node deleted",
            disrupted("DeletionByPodGC"),
            Disruption,
            "DeletionByPodGC",
        ),
        (
            "kubelet, for the node's sake",
            disrupted("TerminationByKubelet"),
            Disruption,
            "TerminationByKubelet",
        ),
        (
            "evicted for the node's memory",
            verdict("Evicted", "The node was low on resource: memory."),
            Disruption,
            "Evicted",
        ),
        (
            "node shutdown",
            verdict(
                "Terminated",
                "Pod was terminated in response to imminent node shutdown.",
            ),
            Disruption,
            "Terminated",
        ),
        (
            "node shutdown, as older kubelets say it",
            verdict("Shutdown", ""),
            Disruption,
            "Shutdown",
        ),
        (
            "deleted by somebody",
            with(|pod| pod.deletion = Some(at(1))),
            Disruption,
            "Deleted",
        ),
        (
            "asked to stop, nothing more is known",
            ended(143, "Error"),
            Disruption,
            "Error",
        ),
        ("exit 1", ended(1, "Error"), Exit, "Error"),
        (
            "exit 137, and nothing says why",
            ended(137, "Error"),
            Exit,
            "Error",
        ),
        (
            "exit 137, out of memory",
            ended(137, "OOMKilled"),
            OutOfMemory,
            "OOMKilled",
        ),
        (
            "out of memory, and the pod is deleted a moment later",
            {
                let mut pod = ended(137, "OOMKilled");
                pod.deletion = Some(at(1));
                pod
            },
            OutOfMemory,
            "OOMKilled",
        ),
        (
            "beyond its own ephemeral-storage limit",
            verdict(
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
            ),
            Exit,
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
        ),
        (
            "beyond the limit of its scratch volume",
            verdict(
                "Evicted",
                "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\".",
            ),
            Exit,
            "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\".",
        ),
    ];
    assert_eq!(cases.len(), 16);
    for (name, pod, cause, reason) in cases {
        let end = pod.end().unwrap_or_else(|| panic!("{name}: an end"));
        assert_eq!((end.cause, end.reason.as_str()), (cause, reason), "{name}");
    }
}

/// Checks every word that the kubelet, the scheduler and the controllers write for ends that the
/// job did not cause.
#[test]
fn every_end_caused_by_a_node_or_a_controller_is_a_disruption() {
    let refused_by_its_node = [
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "OutOfephemeral-storage",
        "OutOfnvidia.com/gpu",
        "UnexpectedAdmissionError",
        "UnexpectedPredicateFailureType",
        "UnknownReason",
        "NodeAffinity",
        "NodeName",
        "NodePorts",
        "TaintToleration",
        "InvalidNodeInfo",
        "TopologyAffinityError",
        "SMTAlignmentError",
        "VolumeAttachmentLimitExceeded",
        "AppArmor",
        "SysctlForbidden",
        "NodeShutdown",
    ];
    let ended_by_somebody = [
        "Evicted",
        "Terminated",
        "Shutdown",
        "Preempting",
        "NodeLost",
        "DeadlineExceeded",
    ];
    for reason in refused_by_its_node.into_iter().chain(ended_by_somebody) {
        let pod = with(|pod| {
            pod.verdict = Some(explanation(reason, "Node didn't have enough resource: cpu"));
            pod.over = true;
        });
        let end = pod.end().unwrap();
        assert_eq!((end.cause, end.reason.as_str()), (Disruption, reason));
        assert_eq!(
            pod.worker_state(&SessionView::default(), at(1000)),
            WorkerState::Dead,
            "{reason}"
        );
    }
    for reason in ["DeletionByDeviceTaintManager", "SomeReasonOfTomorrow"] {
        let pod = with(|pod| pod.disruption = Some(explanation(reason, "")));
        assert_eq!(pod.end().map(|end| end.cause), Some(Disruption));
    }
}

#[test]
fn for_an_unknown_word_the_end_of_the_container_decides() {
    let of = |run: Option<ContainerRun>| {
        with(|pod| {
            pod.verdict = Some(explanation("SomeReasonOfTomorrow", ""));
            pod.over = true;
            pod.container.state = run.unwrap_or_default();
        })
        .end()
        .map(|end| end.cause)
    };
    assert_eq!(of(None), Some(Disruption), "nothing of the job ran");
    assert_eq!(of(Some(ended(1, "Error"))), Some(Exit));
    assert_eq!(of(Some(ended(137, "OOMKilled"))), Some(OutOfMemory));
    assert_eq!(
        of(Some(ended(137, "ContainerStatusUnknown"))),
        Some(Disruption)
    );
}

#[test]
fn a_pod_beyond_its_limit_is_charged_even_if_its_node_is_drained_later() {
    let message = "Container zephyr exceeded its local ephemeral storage limit \"1Gi\". ";
    let pod = with(|pod| {
        pod.verdict = Some(explanation("Evicted", message));
        pod.disruption = Some(explanation("EvictionByEvictionAPI", ""));
        pod.deletion = Some(at(1));
        pod.over = true;
    });
    assert_eq!(pod.end().map(|end| end.cause), Some(Exit));
}

#[test]
fn a_container_that_is_killed_after_being_unready_for_long_was_killed_by_its_probe() {
    let killed = |unready_since: i64, exit_code: i32, reason: &str| {
        let mut pod = running(false, unready_since);
        pod.container.state = ContainerRun::Ended(ContainerEnd {
            exit_code,
            reason: reason.to_owned(),
            finished: Some(at(500)),
        });
        pod.end().unwrap()
    };
    let end = killed(450, 137, "Error");
    assert_eq!(
        (end.cause, end.reason.as_str()),
        (Disruption, "killed by its liveness probe")
    );
    assert_eq!(killed(470, 137, "Error").cause, Disruption);
    assert_eq!(
        killed(471, 137, "Error").cause,
        Exit,
        "it was ready a moment ago"
    );
    assert_eq!(killed(501, 137, "Error").cause, Exit);
    assert_eq!(killed(450, 1, "Error").cause, Exit);
    assert_eq!(killed(450, 137, "OOMKilled").cause, OutOfMemory);
}

#[test]
fn a_pod_that_runs_has_no_end_and_one_that_restarted_has_the_end_of_the_run_before() {
    assert_eq!(running(true, 110).end(), None);
    let mut pod = running(false, 90);
    pod.container.restarts = 2;
    pod.container.last_end = Some(ContainerEnd {
        exit_code: 137,
        reason: "OOMKilled".to_owned(),
        finished: None,
    });
    let end = pod.end().unwrap();
    assert_eq!(
        (end.cause, end.container_restarts, end.memory_limit_bytes),
        (PodEndCause::OutOfMemory, 1, 1 << 30)
    );

    for state in [
        ended(137, "OOMKilled"),
        ContainerRun::Waiting(explanation("CrashLoopBackOff", "")),
    ] {
        pod.container.restarts = 1;
        pod.container.state = state;
        assert_eq!(pod.end().unwrap(), end, "the same run, before its restart");
    }

    // The current run is preempted. The end of the earlier run does not explain this.
    let mut preempted = running(false, 90);
    (preempted.container.restarts, preempted.container.last_end) =
        (pod.container.restarts, pod.container.last_end);
    preempted.disruption = Some(explanation("PreemptionByScheduler", ""));
    let end = preempted.end().unwrap();
    assert_eq!(
        (end.cause, end.container_restarts),
        (PodEndCause::Disruption, 0)
    );
}

#[test]
fn the_reason_why_a_pod_does_not_run_names_the_pod_and_the_image() {
    let waiting = |reason: &str, message: &str| {
        let state = ContainerRun::Waiting(explanation(reason, message));
        with(|pod| pod.container.state = state).trouble()
    };
    let pod = "w-0".to_owned();
    let image = "registry.example/zephyr-worker:1".to_owned();
    assert_eq!(
        waiting("ImagePullBackOff", "Back-off pulling image"),
        Some(PodTrouble::ImageError {
            pod: pod.clone(),
            image: image.clone(),
            message: "ImagePullBackOff: Back-off pulling image".to_owned()
        })
    );
    assert_eq!(
        waiting("CreateContainerConfigError", "secret \"x\" not found"),
        Some(PodTrouble::ReferenceNotFound {
            pod: pod.clone(),
            message: "secret \"x\" not found".to_owned()
        })
    );
    assert_eq!(waiting("ContainerCreating", ""), None);
    let unschedulable = with(|pod| pod.unschedulable = Some("0/3 nodes are available".to_owned()));
    assert_eq!(
        unschedulable.trouble(),
        Some(PodTrouble::Unschedulable {
            pod: pod.clone(),
            message: "0/3 nodes are available".to_owned()
        })
    );
    let missing_program = with(|pod| {
        pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
        pod.container.last_end = Some(ContainerEnd {
            exit_code: 128,
            reason: "StartError".to_owned(),
            finished: None,
        });
    });
    assert!(matches!(
        missing_program.trouble(),
        Some(PodTrouble::ImageError { .. })
    ));
    let crashing = with(|pod| {
        pod.container.state = ContainerRun::Waiting(explanation("CrashLoopBackOff", ""));
        pod.container.last_end = Some(ContainerEnd {
            exit_code: 101,
            reason: "Error".to_owned(),
            finished: None,
        });
        pod.container.restarts = 4;
    });
    assert_eq!(
        crashing.trouble(),
        Some(PodTrouble::Crashing {
            pod,
            exit_code: 101,
            reason: "Error".to_owned(),
            restarts: 4
        })
    );
}

#[test]
fn a_pod_is_stuck_half_a_minute_after_its_grace_period() {
    let pod = with(|pod| pod.deletion = Some(at(100)));
    assert!(!pod.is_stuck(at(129)));
    assert!(pod.is_stuck(at(130)));
    assert!(!worker("w-0").is_stuck(at(1_000_000)));
}

#[test]
fn workers_without_a_pod_count_as_init_and_alive_ones_are_summed_up() {
    let mut dead = worker("w-2");
    dead.deletion = Some(at(1));
    let pods = [running(true, 110), running(false, 990), dead];
    let sessions = SessionView {
        coordinator_since: Some(at(50)),
        ..SessionView::default()
    };
    let counts = count_workers(&pods, 5, &sessions, at(1000));
    assert_eq!(
        (
            counts.desired,
            counts.init,
            counts.ready,
            counts.reconnecting,
            counts.dead
        ),
        (5, 2, 1, 1, 1)
    );
    assert_eq!(counts.summary, "2/5");
}

#[test]
fn a_released_worker_is_not_counted_while_its_pod_ends() {
    let mut released = worker("w-2");
    released.deletion = Some(at(1));
    let mut disrupted = worker("w-1");
    disrupted.deletion = Some(at(1));
    let pods = [running(true, 110), disrupted, released];
    let counts = count_workers(&pods, 2, &SessionView::default(), at(1000));
    assert_eq!((counts.desired, counts.dead, counts.init), (2, 1, 0));
}

#[test]
fn a_pod_of_the_api_server_is_read_whole() {
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": "count-workers-g2-0", "namespace": "team", "uid": "pod-uid",
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 15,
            "labels": crate::children::tests::labels("worker"),
        },
        "spec": {"nodeName": "node-1", "containers": [
            {"name": "sidecar", "image": "other"},
            {"name": "zephyr", "image": "registry.example/zephyr-worker:1", "resources": {"limits": {"memory": "2Gi"}}},
        ]},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"},
                {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "why"},
            ],
            "containerStatuses": [{
                "name": "zephyr", "image": "i", "imageID": "", "ready": true, "restartCount": 3,
                "state": {"running": {"startedAt": "2026-01-01T00:00:03Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:02Z"}},
            }],
        },
    }))
    .unwrap();
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(
        PodFacts::read(&pod),
        Some(PodFacts {
            name: "count-workers-g2-0".to_owned(),
            uid: "pod-uid".to_owned(),
            role: Role::Worker,
            job_uid: "0a1b2c3d-0000-4000-8000-000000000001".to_owned(),
            generation: 2,
            created: Some(time("2026-01-01T00:00:00Z")),
            deletion: Some(time("2026-01-01T00:01:00Z")),
            taken_at: Some(time("2026-01-01T00:00:45Z")),
            disruption: Some(explanation("PreemptionByScheduler", "why")),
            verdict: None,
            over: false,
            ready: true,
            ready_changed: Some(time("2026-01-01T00:00:05Z")),
            node: Some("node-1".to_owned()),
            is_on_lost_node: false,
            scheduled_since: Some(time("2026-01-01T00:00:01Z")),
            unschedulable: None,
            container: ContainerFacts {
                restarts: 3,
                state: ContainerRun::Running {
                    since: Some(time("2026-01-01T00:00:03Z"))
                },
                last_end: Some(ContainerEnd {
                    exit_code: 137,
                    reason: "OOMKilled".to_owned(),
                    finished: Some(time("2026-01-01T00:00:02Z")),
                }),
            },
            init_trouble: None,
            memory_limit_bytes: 2 << 30,
            image: "registry.example/zephyr-worker:1".to_owned(),
        })
    );
}

#[test]
fn a_lost_node_is_recognized_by_what_only_the_clusters_controllers_set() {
    let ready = |status: &str, reason: Option<&str>| serde_json::json!({"type": "Ready", "status": status, "reason": reason});
    let containers =
        |status: &str| serde_json::json!({"type": "ContainersReady", "status": status});
    let disrupted = |reason: &str| serde_json::json!({"type": "DisruptionTarget", "status": "True", "reason": reason});
    let cases = [
        (
            "set by the node's controller",
            vec![ready("False", None), containers("True")],
            true,
        ),
        (
            "set by the kubelet",
            vec![
                ready("False", Some("ContainersNotReady")),
                containers("False"),
            ],
            false,
        ),
        (
            "a readiness gate",
            vec![
                ready("False", Some("ReadinessGatesNotReady")),
                containers("True"),
            ],
            false,
        ),
        (
            "a taint, and not ready",
            vec![
                ready("False", Some("ContainersNotReady")),
                disrupted("DeletionByTaintManager"),
            ],
            true,
        ),
        (
            "a taint, and ready",
            vec![ready("True", None), disrupted("DeletionByTaintManager")],
            false,
        ),
        (
            "evicted, and not ready",
            vec![
                ready("False", Some("ContainersNotReady")),
                disrupted("EvictionByEvictionAPI"),
            ],
            false,
        ),
        ("nothing known", Vec::new(), false),
    ];
    for (name, conditions, expected) in cases {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "w-0", "uid": "u", "labels": crate::children::tests::labels("worker")},
            "spec": {"containers": []},
            "status": {"conditions": conditions},
        }))
        .unwrap();
        assert_eq!(
            PodFacts::read(&pod).unwrap().is_on_lost_node,
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_set_with_too_many_replicas_does_not_lead_to_an_invalid_status() {
    let counts = count_workers([], 12_000, &SessionView::default(), at(0));
    assert_eq!((counts.desired, counts.init), (10_000, 10_000));
}
