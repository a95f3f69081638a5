//! Jobs that release 0.1.0 left in a cluster. They are read completely, and writing them again
//! loses and changes nothing. The files are from that release and must never be generated again.

#![expect(clippy::expect_used, reason = "only tests are in here")]

use std::fs;

use serde_json::Value;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::status::Phase;
use zephyr_crds::structural::unknown_in_spec;
use zephyr_crds::validate::{Place, validate};

/// The job of this file, as text and as the API's type.
fn job(name: &str) -> (Value, ZephyrJob) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/releases/0.1.0/jobs");
    let text = fs::read_to_string(format!("{folder}/{name}.json")).expect("the file is there");
    let value = serde_json::from_str(&text).expect("JSON");
    let job = serde_json::from_str(&text).expect("a job");
    (value, job)
}

/// Name and stage, the phase in status, and the number of generations that it lists.
const JOBS: [(&str, Option<Phase>, usize); 13] = [
    ("returns.created", None, 0),
    ("returns.pending", Some(Phase::Pending), 1),
    ("returns.waiting", Some(Phase::WaitingForWorkers), 1),
    ("returns.running", Some(Phase::Running), 1),
    ("returns.restarting", Some(Phase::Restarting), 2),
    ("returns.running-again", Some(Phase::Running), 2),
    ("returns.succeeded", Some(Phase::Succeeded), 2),
    ("broken.failed", Some(Phase::Failed), 1),
    ("invalid.refused", Some(Phase::Pending), 0),
    ("nowhere.waiting", Some(Phase::WaitingForWorkers), 1),
    ("items.succeeded", Some(Phase::Succeeded), 1),
    ("sales.running", Some(Phase::Running), 1),
    ("sales.succeeded", Some(Phase::Succeeded), 1),
];

#[test]
fn every_stage_of_a_job_of_release_0_1_0_is_read_and_written_back_the_same() {
    for (name, phase, generations) in JOBS {
        let (stored, job) = job(name);
        let unknown = unknown_in_spec(&stored["spec"]);
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        let status = job.status.clone().unwrap_or_default();
        let seen = (status.phase, status.generations.len());
        assert_eq!(seen, (phase, generations), "{name}");
        let written = serde_json::to_value(&job).expect("JSON");
        for part in ["spec", "status"] {
            let lost = missing(&stored[part], &written[part], part);
            assert!(lost.is_empty(), "{name}: {lost:?}");
        }
    }
}

#[test]
fn a_spec_that_release_0_1_0_accepted_is_accepted() {
    for (name, ..) in JOBS {
        let (_, job) = job(name);
        let job_name = job.metadata.name.as_deref().expect("a name");
        let errors = validate(&job.spec, job_name, Place::Cluster);
        let is_refused = name == "invalid.refused";
        assert_eq!(!errors.is_empty(), is_refused, "{name}: {errors:?}");
    }
}

/// The fields of `stored` that are missing in `written`, or have another value there.
fn missing(stored: &Value, written: &Value, path: &str) -> Vec<String> {
    match (stored, written) {
        (Value::Object(stored), Value::Object(written)) => stored
            .iter()
            .flat_map(|(key, value)| {
                let written = written.get(key).unwrap_or(&Value::Null);
                missing(value, written, &format!("{path}.{key}"))
            })
            .collect(),
        // A field that is empty may be left out.
        (Value::Object(stored), Value::Null) if stored.is_empty() => Vec::new(),
        (Value::Array(stored), Value::Array(written)) if stored.len() == written.len() => stored
            .iter()
            .zip(written)
            .enumerate()
            .flat_map(|(at, (stored, written))| missing(stored, written, &format!("{path}[{at}]")))
            .collect(),
        _ if stored == written => Vec::new(),
        _ => vec![format!("{path}: {stored} became {written}")],
    }
}
