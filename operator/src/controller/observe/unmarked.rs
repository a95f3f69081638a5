//! Finds roots that exist although no watch shows them, because somebody removed their labels or
//! their owner, or because a list was out of date. If a root seems to be deleted, it is requested
//! by its name before the plan uses its absence.
//!
//! This module only reads. `plan.rs` decides what happens to such a root.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta};
use zephyr_crds::names;

use super::Error;
use crate::calls::bounded;
use crate::children::root_config_map;
use crate::controller::observed::{Frozen, ObjectFacts, Observed, RootFacts};
use crate::controller::validate::ValidatedJob;
use crate::identity::JobIdentity;
use crate::watches::decode::Metadata;

/// How long a result is used. A root is requested, and its labels and owner are restored, at most
/// once in this time.
const BELIEVED: SignedDuration = SignedDuration::from_secs(15);

/// The results of requests for roots by their names, by generation.
#[derive(Clone, Debug, Default)]
pub struct RootsByName {
    /// Roots that do not exist. A root is never created a second time, so they stay in this set.
    gone: BTreeSet<u32>,
    found: BTreeMap<u32, (RootFacts, Timestamp)>,
}

impl RootsByName {
    /// Adds what is known to `observed`, and returns the generations whose roots must be read.
    pub fn add_to(
        &mut self,
        job: &ValidatedJob,
        observed: &mut Observed,
        now: Timestamp,
    ) -> Vec<u32> {
        let unseen = unseen(job, observed);
        self.found.retain(|generation, (_, at)| {
            unseen.contains(generation) && now.duration_since(*at).abs() < BELIEVED
        });
        for (generation, (root, _)) in &self.found {
            let objects = observed.generations.entry(*generation).or_default();
            objects.root = Some(root.clone());
        }
        let is_unknown = |generation: &u32| {
            !self.gone.contains(generation) && !self.found.contains_key(generation)
        };
        unseen.into_iter().filter(is_unknown).collect()
    }

    /// Stores the API server's answer to a request for a root.
    pub fn note(&mut self, generation: u32, root: Option<&RootFacts>, now: Timestamp) {
        match root {
            Some(root) => {
                // The labels and the owner of the root are restored once. After that, the watch or
                // the next request shows the restored root.
                let known = RootFacts {
                    needs_mark: false,
                    ..root.clone()
                };
                self.found.insert(generation, (known, now));
            }
            None => drop(self.gone.insert(generation)),
        }
    }
}

/// Returns the generations whose root should exist but is not shown. These are generations with
/// children, and the current generation if it had a coordinator. Until the current generation has a
/// root, the generation before it also counts.
fn unseen(job: &ValidatedJob, observed: &Observed) -> BTreeSet<u32> {
    let has_root = |generation: u32| {
        let objects = observed.generation(generation);
        objects.is_some_and(|objects| objects.root.is_some())
    };
    let with_children = observed.generations.iter();
    let mut all: BTreeSet<u32> = with_children
        .filter(|(_, objects)| objects.has_children())
        .map(|(generation, _)| *generation)
        .collect();
    if let Some(current) = job.status.generation.filter(|current| !has_root(*current)) {
        all.extend(job.had_coordinator().then_some(current));
        let records = job.status.generations.iter().rev();
        all.extend(
            records
                .map(|record| record.generation)
                .find(|one| *one < current),
        );
    }
    all.retain(|generation| !has_root(*generation));
    all
}

/// Reads the root of a generation. Returns `None` if it does not exist, or does not belong to the
/// job according to its owner, a label or its children. `root_uid` is the uid that the children
/// name.
pub async fn root(
    client: &Client,
    job: &JobIdentity,
    generation: u32,
    root_uid: Option<&str>,
) -> Result<Option<RootFacts>, Error> {
    let name = names::generation_root(&job.name, generation);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &job.namespace);
    let found = bounded(api.get_metadata_opt(&name)).await;
    let found = found.map_err(|source| Error::GetRoot { name, source })?;
    Ok(found.and_then(|found| read(found.metadata, job, generation, root_uid)))
}

fn read(
    metadata: ObjectMeta,
    job: &JobIdentity,
    generation: u32,
    root_uid: Option<&str>,
) -> Option<RootFacts> {
    let uid = metadata.uid?;
    let metadata = Metadata {
        labels: metadata.labels,
        owner_references: metadata.owner_references,
        deletion_timestamp: metadata.deletion_timestamp,
        ..Metadata::default()
    };
    let is_owned = metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == job.uid);
    let is_labelled = metadata.label(names::LABEL_JOB_UID) == Some(&job.uid);
    if !is_owned && !is_labelled && root_uid != Some(&uid) {
        return None;
    }
    let mark = root_config_map::mark(&job.name, &job.uid, generation);
    Some(RootFacts {
        needs_mark: !metadata.is_marked_as(&mark),
        object: ObjectFacts {
            uid,
            terminating: metadata.deletion_timestamp.is_some(),
        },
        frozen: Frozen::Unread,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::observed::{GenerationObjects, ServiceFacts};
    use crate::controller::validate::validate;

    fn identity() -> JobIdentity {
        JobIdentity {
            namespace: "team".to_owned(),
            name: "count".to_owned(),
            uid: "uid".to_owned(),
        }
    }

    fn found(change: impl FnOnce(&mut Value)) -> Option<RootFacts> {
        let mut metadata = json!(root_config_map::mark("count", "uid", 1));
        metadata["uid"] = json!("root");
        change(&mut metadata);
        let metadata = serde_json::from_value(metadata).unwrap();
        read(metadata, &identity(), 1, Some("root of the children"))
    }

    #[test]
    fn a_root_is_recognized_only_by_its_owner_a_label_or_its_children() {
        let needs_mark = |change: fn(&mut Value)| found(change).map(|root| root.needs_mark);
        assert_eq!(needs_mark(|_| {}), Some(false));
        assert_eq!(needs_mark(|root| root["labels"] = Value::Null), Some(true));
        let other_job: fn(&mut Value) = |root| root["labels"][names::LABEL_JOB] = json!("another");
        assert_eq!(needs_mark(other_job), Some(true));
        assert_eq!(
            needs_mark(|root| root["ownerReferences"] = json!([])),
            Some(true)
        );
        let bare: fn(&mut Value) = |root| {
            *root = json!({"uid": root["uid"]});
        };
        assert_eq!(needs_mark(bare), None);
        let bare_with_children: fn(&mut Value) =
            |root| *root = json!({"uid": "root of the children"});
        assert_eq!(needs_mark(bare_with_children), Some(true));
        let ends = found(|root| root["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert!(ends.is_some_and(|root| root.object.terminating));
    }

    #[test]
    fn an_existing_root_is_requested_once_in_a_while_and_a_missing_root_only_once() {
        let spec = crate::children::tests::frozen(json!({})).spec;
        let job = serde_json::from_value(json!({
            "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
            "metadata": {"name": "count", "namespace": "team", "uid": "uid", "resourceVersion": "1"},
            "spec": spec, "status": {"generation": 2, "generations": [
                {"generation": 1, "startTime": "2026-01-01T00:00:00Z", "disruptions": 0},
                {"generation": 2, "startTime": "2026-01-01T00:00:00Z", "disruptions": 0},
            ]},
        }))
        .unwrap();
        let (job, _) = validate(&job).unwrap();
        let with_service = GenerationObjects {
            service: Some(ServiceFacts::default()),
            root_uid: Some("root".to_owned()),
            ..GenerationObjects::default()
        };
        let mut roots = RootsByName::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let look = |roots: &mut RootsByName, second| {
            let mut observed = Observed::default();
            observed.generations.insert(2, with_service.clone());
            let asked = roots.add_to(&job, &mut observed, at(second));
            let root = observed.generation(2).unwrap().root.clone();
            (asked, root.map(|root| root.needs_mark))
        };
        // The earlier generation's root is requested too. Otherwise a generation could begin while
        // the earlier one, which no watch shows, still exists.
        assert_eq!(look(&mut roots, 0), (vec![1, 2], None));
        roots.note(1, None, at(0));
        let root = found(|root| root["labels"] = Value::Null);
        roots.note(2, root.as_ref(), at(0));
        assert_eq!(look(&mut roots, 1), (vec![], Some(false)));
        assert_eq!(look(&mut roots, 15), (vec![2], None));
        roots.note(2, None, at(15));
        assert_eq!(look(&mut roots, 99), (vec![], None));
    }
}
