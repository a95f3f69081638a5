//! Tests of the operator from its start, with a small API server that only lists, watches and
//! accepts writes.

mod isolation;
mod starting_pods;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::fake::Fake;
use super::*;
use crate::progress::StreamTarget;
use crate::progress::dial::{Message, Reports};
use crate::queue::JobKey;
use crate::watches::FILL_DEADLINE;

/// A connection that never reaches a coordinator.
struct Nobody;

impl Dial for Nobody {
    fn dial(
        &self,
        _: StreamTarget,
        _: tokio::sync::mpsc::Receiver<Message>,
    ) -> futures::future::BoxFuture<'static, Result<Reports, crate::progress::dial::Error>> {
        Box::pin(async { Err(crate::progress::dial::Error::OpenTimeout) })
    }
}

fn setup() -> Setup {
    Setup {
        installation: Installation::default(),
        namespace: None,
        signing_key: SigningKey::new(&[b'k'; 32]).unwrap(),
        clock: Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()),
        dial: Arc::new(Nobody),
        max_starting_jobs: 100,
        instance: None,
        metrics: Metrics::default(),
        health: Health::default(),
    }
}

fn job(number: usize, phase: Option<&str>) -> Value {
    let spec = crate::children::tests::frozen(json!({})).spec;
    let mut job = json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {"name": format!("job-{number}"), "namespace": "team", "uid": format!("uid-{number}"), "resourceVersion": "7"},
        "spec": spec,
    });
    if let Some(phase) = phase {
        let time = "2026-01-01T00:00:00Z";
        job["status"] = json!({"phase": phase, "generation": 1});
        if phase == "Succeeded" {
            job["status"]["completionTime"] = json!(time);
            job["status"]["conditions"] = json!([{
                "type": "Finished", "status": "True", "reason": "OutputComplete", "message": "",
                "lastTransitionTime": time,
            }]);
        }
    }
    job
}

/// Returns a `ConfigMap` with our labels that somebody created by hand for an existing job.
fn foreign_config_map(number: usize) -> String {
    let labels = json!({
        "zephyr.dev/job": "job-0", "zephyr.dev/job-uid": "uid-0", "zephyr.dev/generation": "1",
    });
    let annotations = json!({"what": "x".repeat(100)});
    json!({"metadata": {
        "name": format!("foreign-{number}"), "namespace": "team", "uid": format!("cm-{number}"),
        "resourceVersion": "7", "labels": labels, "annotations": annotations,
    }})
    .to_string()
}

/// Runs the operator for the given time.
async fn run_for(server: &Arc<Fake>, setup: Setup, time: Duration) {
    let ended = timeout(time, serve(server.client(), setup)).await;
    assert!(ended.is_err(), "it ended by itself: {ended:?}");
}

fn reconciles(metrics: &Metrics) -> usize {
    let text = metrics.encode().unwrap();
    let line = r#"zephyr_operator_reconciles_total{outcome="ok"} "#;
    let count = text.lines().find_map(|one| one.strip_prefix(line));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn five_thousand_labelled_objects_of_others_do_not_delay_the_start() {
    let mut server = Fake::default();
    let foreign = (0..5_000).map(foreign_config_map).collect();
    server.objects.insert("configmaps", foreign);
    server
        .objects
        .insert("zephyrjobs", vec![job(0, Some("Succeeded")).to_string()]);
    let setup = setup();
    let (health, metrics) = (setup.health.clone(), setup.metrics.clone());
    run_for(&Arc::new(server), setup, Duration::from_secs(5)).await;
    assert_eq!(health.readiness(), Ok(()));
    assert!(
        (1..5).contains(&reconciles(&metrics)),
        "{}",
        reconciles(&metrics)
    );
}

#[tokio::test(start_paused = true)]
async fn five_thousand_ended_jobs_are_reconciled_after_a_start_without_a_write() {
    let mut server = Fake::default();
    let jobs = (0..5_000).map(|number| job(number, Some("Succeeded")).to_string());
    server.objects.insert("zephyrjobs", jobs.collect());
    let server = Arc::new(server);
    let setup = setup();
    let metrics = setup.metrics.clone();
    run_for(&server, setup, Duration::from_secs(30)).await;
    assert_eq!(reconciles(&metrics), 5_000);
    assert_eq!(server.writes.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_does_not_fill_ends_the_start_with_its_name_and_the_last_error() {
    for (hangs, refuses, expected) in [
        (
            Some("pods"),
            None,
            "not ready after 180 s: these caches are not filled: Pods",
        ),
        (
            None,
            Some("services"),
            "not ready after 180 s: these caches are not filled: Services (last error: ",
        ),
    ] {
        let server = Arc::new(Fake {
            hangs,
            refuses,
            ..Fake::default()
        });
        let setup = setup();
        let health = setup.health.clone();
        let running = serve(server.client(), setup);
        let ended = timeout(FILL_DEADLINE + Duration::from_secs(1), running).await;
        let sentence = ended.unwrap().unwrap_err().to_string();
        assert!(sentence.starts_with(expected), "{sentence}");
        if refuses.is_some() {
            assert!(sentence.contains("Forbidden, by rote"), "{sentence}");
        }
        let shown = health.readiness().unwrap_err();
        assert!(
            shown.starts_with("not ready: these caches are not filled:"),
            "{shown}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_nested_too_deeply_stops_no_other_job_and_causes_one_event() {
    let mut server = Fake::default();
    let depth = 5_000;
    let nested = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let deep = format!(
        r#"{{"metadata":{{"name":"deep","namespace":"team","uid":"uid-deep","resourceVersion":"7",
        "managedFields":[{{"fieldsV1":{nested}}}]}},"spec":{nested}}}"#
    );
    server
        .objects
        .insert("zephyrjobs", vec![deep, job(1, None).to_string()]);
    let server = Arc::new(server);
    run_for(&server, setup(), Duration::from_mins(10)).await;
    let events = server.written("/events");
    let refused: Vec<_> = events
        .iter()
        .filter(|event| event["reason"] == "SpecInvalid")
        .collect();
    assert_eq!(refused.len(), 1, "{events:?}");
    let note = refused[0]["note"].as_str().unwrap();
    assert!(note.contains("cannot be read as a ZephyrJob"), "{note}");
    assert!(
        server.objects["zephyrjobs"].len() == 2
            && events.iter().all(|event| event["reason"] != "Failed"),
        "{events:?}"
    );
}

/// Starts the operator after `change` was applied to the published schema. Returns how the start
/// ends.
async fn start_with(change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let mut published = super::fake::published();
    change(&mut published);
    let server = Arc::new(Fake {
        published: Some(published),
        ..Fake::default()
    });
    let setup = setup();
    let health = setup.health.clone();
    let running = timeout(Duration::from_mins(1), serve(server.client(), setup));
    match running.await {
        Err(_) => health.readiness(),
        Ok(ended) => ended.map_err(|error| error.to_string()),
    }
}

/// Removes the value at `pointer`.
fn remove(published: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let schema = "/components/schemas/dev.zephyr.v1alpha1.ZephyrJob";
    let parent = published.pointer_mut(&format!("{schema}{parent}")).unwrap();
    assert!(parent.as_object_mut().unwrap().remove(name).is_some());
}

#[tokio::test(start_paused = true)]
async fn fault_f17_a_crd_that_lacks_what_is_written_or_read_ends_the_start() {
    assert_eq!(start_with(|_| {}).await, Ok(()));
    for (pointer, lacks) in [
        (
            "/properties/status/properties/backoffUntil",
            "status.backoffUntil",
        ),
        (
            "/properties/spec/properties/storage/properties/retain",
            "spec.storage.retain",
        ),
    ] {
        let ended = start_with(|published| remove(published, pointer)).await;
        let expected = format!(
            "CRD zephyrjobs.zephyr.dev: is older than this operator, release 0.1.0 (it lacks {lacks}); apply the CRD of that \
             release: helm upgrade with installCRDs=true, or kubectl apply -f crds/zephyrjobs.yaml"
        );
        assert_eq!(ended, Err(expected));
    }
    let without_status = start_with(|published| {
        let paths = published["paths"].as_object_mut().unwrap();
        paths.retain(|path, _| !path.ends_with("/status"));
    });
    let ended = without_status.await.unwrap_err();
    assert!(
        ended.contains("(it lacks the subresource status)"),
        "{ended}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_delays_the_start_for_minutes_and_then_ends_it() {
    for (answers_with_an_error, is_up) in [(100, true), (1_000, false)] {
        let server = Arc::new(Fake {
            overloaded: answers_with_an_error.into(),
            ..Fake::default()
        });
        let setup = setup();
        let health = setup.health.clone();
        let ends = definition::check(&server.client(), None, &health).await;
        match ends {
            Ok(()) => assert!(is_up, "{answers_with_an_error}"),
            Err(error) => {
                assert!(!is_up, "{error}");
                let words = "list ZephyrJobs: ";
                assert!(error.to_string().starts_with(words), "{error}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f17_an_unpublished_schema_delays_the_start_but_does_not_end_it() {
    let started = start_with(|published| *published = json!({"paths": {}}));
    assert_eq!(started.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn fault_f17_a_crd_of_a_newer_release_lets_an_older_operator_start() {
    let started = start_with(|published| {
        let schema = "/components/schemas/dev.zephyr.v1alpha1.ZephyrJob/properties/spec/properties";
        published.pointer_mut(schema).unwrap()["priority"] = json!({"type": "boolean"});
    });
    assert_eq!(started.await, Ok(()));
}

fn context(server: &Arc<Fake>, jobs: Vec<Value>) -> Arc<Context> {
    let caches = Caches::default();
    for job in jobs {
        caches.jobs.put(serde_json::from_value(job).unwrap());
    }
    let (client, caches) = (server.client(), Arc::new(caches));
    Arc::new(super::context(client, caches, Arc::default(), setup()))
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_operator_is_in_the_status_of_its_job_once() {
    use crate::driver::Look;
    use crate::queue::Outcome;

    let server = Arc::new(Fake::default());
    let context = context(&server, vec![job(0, Some("Running"))]);
    let key = JobKey {
        namespace: "team".to_owned(),
        name: "job-0".to_owned(),
    };
    let mut waits = Vec::new();
    for _ in 0..2 {
        let look = Arc::clone(&context).set_aside(key.clone(), "index out of range".to_owned());
        let Outcome::BackOff(wait) = look.await else {
            panic!("a job that is set aside rests");
        };
        waits.push(wait.as_secs());
    }
    assert!(waits[0] >= 60 && waits[1] >= 120, "{waits:?}");
    let statuses = server.written("/zephyrjobs/job-0/status");
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    let condition = &statuses[0]["status"]["conditions"][0];
    assert_eq!(condition["reason"], "OperatorFault");
    assert_eq!(statuses[0]["status"]["phase"], "Running", "the rest stays");
}
