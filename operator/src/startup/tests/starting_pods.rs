//! Tests of pods that have a node and do not start. Each test begins with the answers of the API
//! server and ends with the status that the operator writes.

use super::*;
use crate::children;
use crate::children::tests::frozen;
use zephyr_crds::preemptible::SpotProvider;

/// Returns an object of generation 2 of job `count`, as the API server returns it.
fn stored(object: impl serde::Serialize, uid: &str) -> Value {
    let mut object = json!(object);
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["resourceVersion"] = json!("7");
    object
}

/// Returns a pod of that generation that got its node a minute before the operator starts.
fn starting_pod(name: &str, component: &str, owner: (&str, &str)) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("uid-{name}"), "resourceVersion": "7",
            "labels": children::labels(&frozen(json!({})), component),
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": owner.0, "name": owner.1, "uid": "uid", "controller": true,
            }],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "zephyr", "image": "w:1"}]},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2027-01-15T07:59:00Z"}],
            "containerStatuses": [{
                "name": "zephyr", "image": "w:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ContainerCreating"}},
            }],
        },
    })
}

/// Returns an API server with a job whose generation 2 has all its objects, and with these pods and
/// events.
pub(super) fn server(pods: &[Value], events: &[Value]) -> Fake {
    let frozen = frozen(json!({}));
    let root = children::root_config_map::build(&frozen, frozen.to_json().unwrap());
    let job = json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {"name": "count", "namespace": "team", "uid": frozen.uid, "resourceVersion": "7", "generation": 1},
        "spec": frozen.spec,
        "status": {"phase": "Pending", "generation": 2, "generations": [
            {"generation": 2, "startTime": "2027-01-15T07:58:00Z"},
        ]},
    });
    let objects = [
        ("zephyrjobs", vec![job]),
        ("configmaps", vec![stored(root, "root-uid")]),
        (
            "services",
            vec![stored(children::service::build(&frozen, "root-uid"), "s")],
        ),
        (
            "deployments",
            vec![stored(
                children::coordinator_deployment::build(&frozen, "root-uid", SpotProvider::None),
                "d",
            )],
        ),
        (
            "statefulsets",
            vec![stored(
                children::worker_stateful_set::build(&frozen, "root-uid", 0),
                "w",
            )],
        ),
        ("pods", pods.to_vec()),
        ("events", events.to_vec()),
    ];
    let texts = |objects: Vec<Value>| objects.iter().map(ToString::to_string).collect();
    Fake {
        objects: objects
            .map(|(plural, objects)| (plural, texts(objects)))
            .into(),
        ..Fake::default()
    }
}

fn coordinator_pod() -> Value {
    let owner = ("ReplicaSet", "count-coordinator-g2-5f6d");
    starting_pod("count-coordinator-g2-5f6d-x2", "coordinator", owner)
}

/// Returns the coordinator's reason and message in the last status that was written.
async fn said(server: Fake, time: Duration) -> (String, String) {
    let server = Arc::new(server);
    run_for(&server, setup(), time).await;
    let statuses = server.written("/zephyrjobs/count/status");
    let conditions = statuses
        .last()
        .map(|status| status["status"]["conditions"].clone());
    let conditions = conditions.unwrap_or_default();
    let ready = conditions
        .as_array()
        .and_then(|all| {
            all.iter()
                .find(|one| one["type"] == "CoordinatorReady")
                .cloned()
        })
        .unwrap_or_default();
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[tokio::test(start_paused = true)]
async fn fault_f21_status_says_why_a_pod_does_not_start_within_a_minute() {
    let mount = json!({
        "metadata": {"name": "a", "namespace": "team"}, "involvedObject": {"uid": "uid-count-coordinator-g2-5f6d-x2"},
        "type": "Warning", "reason": "FailedMount", "lastTimestamp": "2027-01-15T07:59:30Z",
        "message": "MountVolume.SetUp failed for volume \"vault\" : secret \"vault-agent\" not found",
    });
    let found = said(
        server(&[coordinator_pod()], &[mount]),
        Duration::from_mins(1),
    )
    .await;
    let sentence = "coordinator pod count-coordinator-g2-5f6d-x2 does not start: FailedMount: MountVolume.SetUp failed for volume \
                    \"vault\" : secret \"vault-agent\" not found; create it in the job's namespace";
    assert_eq!(found, ("ReferenceNotFound".to_owned(), sentence.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn fault_f21_a_pod_that_no_event_explains_and_events_that_are_denied_leave_a_sentence() {
    let sentence = "coordinator pod count-coordinator-g2-5f6d-x2 has node node-1 but does not start, and no event says why; see \
                    kubectl describe pod count-coordinator-g2-5f6d-x2";
    let expected = ("CoordinatorUnavailable".to_owned(), sentence.to_owned());
    for refuses in [None, Some("events")] {
        let server = Fake {
            refuses,
            ..server(&[coordinator_pod()], &[])
        };
        assert_eq!(
            said(server, Duration::from_mins(1)).await,
            expected,
            "{refuses:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f21_an_init_container_of_somebody_else_that_fails_is_named() {
    let mut pod = coordinator_pod();
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] = json!("PodInitializing");
    pod["status"]["initContainerStatuses"] = json!([{
        "name": "istio-init", "image": "i:1", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
    }]);
    let (reason, message) = said(server(&[pod], &[]), Duration::from_secs(20)).await;
    assert_eq!(reason, "CoordinatorUnavailable");
    assert_eq!(
        message,
        "coordinator pod count-coordinator-g2-5f6d-x2 does not start: its init container istio-init does not succeed \
         (CrashLoopBackOff: back-off 40s); see kubectl logs count-coordinator-g2-5f6d-x2 -c istio-init"
    );
}
