//! Tests that this release reads the jobs and roots that release 0.1.0 left in a cluster, and
//! continues the jobs. Release 0.1.0 wrote the objects that the test reads, so their files must
//! never be generated again.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::*;
use crate::controller::action::Action;
use crate::controller::plan::{Installation, Lifecycle, plan};
use crate::controller::validate::{ValidatedJob, Verdict, validate};

/// Returns a file of that release, as text.
fn stored(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/releases/0.1.0");
    fs::read_to_string(format!("{folder}/{name}.json")).expect("the file is there")
}

/// Reads a job as the watch delivers it, and validates it.
fn seen_job(name: &str) -> (ValidatedJob, Verdict) {
    let text = stored(&format!("jobs/{name}"));
    let seen: Seen<SeenJob> = serde_json::from_str(&text).expect("an object");
    let job = seen.facts.expect("a job").document().expect("readable");
    let (valid, errors) = validate(&job).expect("its metadata");
    let verdict = Verdict::of(&valid, errors, &Observed::default());
    (valid, verdict)
}

/// Returns a root as the watch delivers it, the frozen job that is read from it, and the text of
/// the frozen job.
fn seen_root(name: &str) -> (Arc<SeenRoot>, Box<FrozenJob>, String) {
    let text = stored(&format!("roots/{name}"));
    let seen: Seen<SeenRoot> = serde_json::from_str(&text).expect("an object");
    let root = seen.facts.expect("a root of this operator");
    let map: ConfigMap = serde_json::from_str(&text).expect("a ConfigMap");
    let identity = JobIdentity {
        namespace: map.metadata.namespace.clone().expect("a namespace"),
        name: root.mark.job_name.clone(),
        uid: root.mark.job_uid.clone(),
    };
    let frozen = read_frozen(&map, &identity).expect("a frozen job");
    let text = map.data.expect("data")[names::FROZEN_JOB_KEY].clone();
    (Arc::new(root), frozen, text)
}

#[test]
fn a_root_of_release_0_1_0_is_read_whole_and_would_be_written_the_same() {
    for (name, generation) in [
        ("returns-g1", 1),
        ("returns-g2", 2),
        ("broken-g1", 1),
        ("nowhere-g1", 1),
        ("items-g1", 1),
        ("sales-g1", 1),
    ] {
        let (root, frozen, text) = seen_root(name);
        let numbers = (root.mark.generation, frozen.generation);
        assert_eq!(numbers, (generation, generation), "{name}");
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let written = serde_json::to_value(&frozen).expect("JSON");
        assert_eq!(written, read, "{name}");
    }
}

#[test]
fn a_job_that_release_0_1_0_began_continues_with_its_generation() {
    for (job, root, generation) in [
        ("returns.running", "returns-g1", 1),
        ("returns.restarting", "returns-g2", 2),
        ("nowhere.waiting", "nowhere-g1", 1),
        ("sales.running", "sales-g1", 1),
    ] {
        let (job, verdict) = seen_job(job);
        assert_eq!(verdict, Verdict::Accepted, "{root}");
        let (seen, frozen, _) = seen_root(root);
        let objects = Objects {
            roots: vec![seen],
            ..Objects::default()
        };
        let mut observed = objects.read(&job.identity, Freshness::Live);
        observed.warming_up = true;
        let frozen = Arc::from(frozen);
        let objects = observed.generations.get_mut(&generation).expect("it");
        let facts = objects.root.as_mut().expect("the root");
        facts.frozen = Frozen::Read(Arc::clone(&frozen));
        // This is after the end of the wait before the second generation.
        let now = "2026-11-27T15:30:00Z".parse().expect("a time");
        let planned = plan(&job, &verdict, &observed, &Installation::default(), now);
        assert_eq!(planned.lifecycle, Lifecycle::Stay, "{root}: {planned}");
        let service = Action::CreateService {
            frozen,
            root_uid: observed.generations[&generation]
                .root
                .as_ref()
                .map(|root| root.object.uid.clone())
                .expect("the root"),
        };
        assert!(planned.actions.contains(&service), "{root}: {planned}");
    }
}

#[test]
fn the_status_of_every_job_of_release_0_1_0_is_understood() {
    let refused: BTreeMap<&str, bool> = [
        ("returns.created", false),
        ("returns.succeeded", false),
        ("broken.failed", false),
        ("items.succeeded", false),
        ("invalid.refused", true),
    ]
    .into();
    for (name, is_refused) in refused {
        let (job, verdict) = seen_job(name);
        assert_eq!(verdict.is_refusal(), is_refused, "{name}");
        let has_ended = name.ends_with("succeeded") || name.ends_with("failed");
        assert_eq!(job.status.is_final(), has_ended, "{name}");
    }
}
