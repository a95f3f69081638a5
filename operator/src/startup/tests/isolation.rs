//! Tests that a job does not disturb other jobs if the operator has an internal error on it, or if
//! it has unusual objects. Each test includes all steps from the client to the status.

use super::starting_pods::server;
use super::*;

/// Returns a server with a job in its second generation and a new one.
fn two_jobs() -> Fake {
    let mut server = server(&[], &[]);
    let jobs = server.objects.get_mut("zephyrjobs").unwrap();
    jobs.push(job(1, None).to_string());
    server
}

/// Returns the reason of a condition in the last status of a job, and how often its status was
/// written.
fn reason(server: &Fake, job: &str, kind: &str) -> (String, usize) {
    let statuses = server.written(&format!("/zephyrjobs/{job}/status"));
    let conditions = statuses
        .last()
        .map(|last| last["status"]["conditions"].clone());
    let conditions = conditions.unwrap_or_default();
    let found = conditions
        .as_array()
        .and_then(|all| all.iter().find(|one| one["type"] == kind).cloned());
    let reason = found.unwrap_or_default()["reason"].clone();
    (
        reason.as_str().unwrap_or_default().to_owned(),
        statuses.len(),
    )
}

#[tokio::test(start_paused = true)]
async fn fault_f18_a_panic_in_a_reconcile_delays_only_its_own_job() {
    let server = Arc::new(Fake {
        panics: Some("/configmaps/count-g2"),
        ..two_jobs()
    });
    let setup = setup();
    let (health, metrics) = (setup.health.clone(), setup.metrics.clone());
    run_for(&server, setup, Duration::from_mins(10)).await;
    assert_eq!(
        reason(&server, "count", "Degraded"),
        ("OperatorFault".to_owned(), 1)
    );
    let reads = server.reads.lock().unwrap();
    let looks = reads
        .iter()
        .filter(|path| path.ends_with("/count-g2"))
        .count();
    // The reconcile runs at once, and then after waits of slightly more than 1, 2 and 4 minutes.
    assert_eq!(looks, 4, "{reads:?}");
    let text = metrics.encode().unwrap();
    assert!(text.contains("zephyr_operator_set_aside_total 4"), "{text}");
    assert_eq!((health.readiness(), health.liveness()), (Ok(()), Ok(())));
    let (reason, _) = reason(&server, "job-1", "Accepted");
    assert_eq!(reason, "SpecValid", "the other job has not begun");
}

#[tokio::test(start_paused = true)]
async fn fault_f30_a_write_whose_answer_nests_too_deeply_has_succeeded() {
    let server = Arc::new(Fake {
        nests: true,
        ..two_jobs()
    });
    let setup = setup();
    let metrics = setup.metrics.clone();
    run_for(&server, setup, Duration::from_mins(1)).await;
    let statuses = server.written("/zephyrjobs/job-1/status");
    assert_eq!(statuses.len(), 1, "it is written again and again");
    assert!(statuses[0]["status"]["generation"].is_u64(), "{statuses:?}");
    let text = metrics.encode().unwrap();
    assert!(!text.contains("write_status"), "{text}");
    assert!(!text.contains(r#"outcome="failed""#), "{text}");
}
