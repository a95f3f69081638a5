//! Compares the in-memory API server, on which the operator's simulation is based, with the real
//! one: the same requests must get the same answers. Needs a cluster; leaves nothing on it except
//! namespaces that are being deleted.

mod asks;
mod both;
mod memory;
mod owners;
mod simulation;
mod watches;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use zephyr_tests::cluster::{TEST_TIMEOUT, client, eventually};

use self::both::{Ask, Both};
use self::memory::GROUP;
use self::simulation::api::kinds::NAMESPACES;
use self::simulation::api::store::{Actor, Key};
use self::watches::{Until, Watch};

/// How old a cluster must be so that it has certainly dropped its first versions. Every five
/// minutes the API server makes etcd drop everything that is older than five minutes.
const ETCD_FORGETS: jiff::SignedDuration = jiff::SignedDuration::from_mins(12);
/// The real server's token for the page after the object `one` of a list of its very first version.
const OLD_TOKEN: &str = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJvbmVcdTAwMDAifQ";

#[tokio::test]
async fn the_server_in_memory_answers_as_the_real_server_does() -> Result<()> {
    let client = client().await?;
    let namespace = create_namespace(&client).await?;
    let ending = create_namespace(&client).await?;
    let group = format!("{namespace}.{GROUP}");
    let compared = compare(&client, &namespace, &ending, &group).await;
    remove(&client, &group, [&namespace, &ending]).await?;
    compared
}

async fn compare(client: &Client, namespace: &str, ending: &str, group: &str) -> Result<()> {
    define_jobs(client, namespace, group).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    eventually(
        "the account that pods of the namespace have",
        TEST_TIMEOUT,
        || async { Ok(accounts.get_opt("default").await?) },
    )
    .await?;
    let mut both = Both::new(client.clone(), group, namespace);
    for name in [namespace, ending] {
        set_phase(&both, name, "Active");
    }
    let (real, ours) = {
        let found = Api::<Namespace>::all(client.clone()).get(namespace).await?;
        let key = Key::new(NAMESPACES, "", namespace);
        let ours = both.server.lock().get(&key).cloned();
        (serde_json::to_value(found)?, ours.unwrap_or_default())
    };
    both.learn_both(&real, &ours);
    of_config_maps(&mut both).await?;
    watched(&mut both, asks::jobs::watch(), asks::jobs::all()).await?;
    watched(&mut both, asks::pods::watch(), asks::pods::all()).await?;
    both.ask_all(asks::stateful_sets::all()).await?;
    both.ask_all(asks::events::all()).await?;
    owners::compare(&mut both).await?;
    of_namespaces(&mut both, ending).await?;
    of_old_versions(&mut both).await?;
    both.agree()
}

/// Compares requests for objects without a spec, with every kind of watch at the same time.
async fn of_config_maps(both: &mut Both) -> Result<()> {
    both.ask_all(asks::config_maps::creations()).await?;
    let mut watches = Vec::new();
    for (ask, until) in asks::config_maps::watches(both).await? {
        watches.push(Watch::open(both, ask, until).await?);
    }
    both.ask_all(asks::config_maps::patches()).await?;
    both.ask_all(asks::config_maps::updates()).await?;
    both.ask_all(asks::config_maps::lists()).await?;
    both.ask_all(asks::config_maps::deletions()).await?;
    both.ask_all(asks::config_maps::finalizers()).await?;
    for watch in watches {
        watch.compare(both).await?;
    }
    Ok(())
}

/// Sends `asks` while a watch is open. `watch` contains the list with which the watch begins, the
/// request of the watch, and the last object.
async fn watched(
    both: &mut Both,
    (begin, watch, last): (Ask, Ask, &'static str),
    asks: Vec<Ask>,
) -> Result<()> {
    both.ask_all([begin]).await?;
    let watch = Watch::open(both, watch, Until::Object(last)).await?;
    both.ask_all(asks).await?;
    watch.compare(both).await
}

/// Compares requests in a namespace that is being deleted, and in a missing one.
async fn of_namespaces(both: &mut Both, ending: &str) -> Result<()> {
    both.ask_all([asks::namespaces::held(ending)]).await?;
    Api::<Namespace>::all(both.client.clone())
        .delete(ending, &DeleteParams::default())
        .await?;
    set_phase(both, ending, "Terminating");
    both.ask_all(asks::namespaces::all(ending)).await?;
    both.ask_all([asks::namespaces::released(ending)]).await
}

/// Compares requests for versions that both servers have forgotten.
async fn of_old_versions(both: &mut Both) -> Result<()> {
    both.server.change(|store, _| store.compact());
    let watch = asks::jobs::old_watch();
    Watch::open(both, watch, Until::End)
        .await?
        .compare(both)
        .await?;
    let namespaces: Api<Namespace> = Api::all(both.client.clone());
    let system = namespaces.get("kube-system").await?;
    let born = system.creation_timestamp().map(|time| time.0);
    let age = born.map(|born| jiff::Timestamp::now().duration_since(born));
    if age.is_some_and(|age| age < ETCD_FORGETS) {
        return Ok(());
    }
    both.real.take_token(OLD_TOKEN);
    both.ours
        .take_token(&asks::config_maps::our_old_token(both));
    both.ask_all([asks::config_maps::old_page()]).await
}

/// Releases and deletes everything that was created, even if the test ended before its own requests
/// did that.
async fn remove(client: &Client, group: &str, namespaces: [&str; 2]) -> Result<()> {
    let options = DeleteParams::default();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .delete(&format!("zephyrjobs.{group}"), &options)
        .await?;
    for namespace in namespaces {
        let deleted = Api::<Namespace>::all(client.clone())
            .delete(namespace, &options)
            .await;
        // One of the namespaces is already being deleted, and may no longer exist.
        match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            deleted => drop(deleted?),
        }
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        for map in maps.list_metadata(&ListParams::default()).await? {
            if !map.finalizers().is_empty() {
                maps.patch_metadata(&map.name_any(), &PatchParams::default(), &free)
                    .await?;
            }
        }
    }
    Ok(())
}

async fn create_namespace(client: &Client) -> Result<String> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            generate_name: Some("api-server-".to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let created = Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(created.name_any())
}

/// Makes the real server also serve jobs in the API group `group`, which no operator watches.
async fn define_jobs(client: &Client, namespace: &str, group: &str) -> Result<()> {
    let text = serde_json::to_string(&zephyr_crds::crd::definition())?;
    let mut definition: Value = serde_json::from_str(&text)?;
    definition["metadata"]["name"] = json!(format!("zephyrjobs.{group}"));
    definition["spec"]["group"] = json!(group);
    let definition: CustomResourceDefinition = serde_json::from_value(definition)?;
    Api::all(client.clone())
        .create(&PostParams::default(), &definition)
        .await
        .context("create a definition")?;
    let kind = GroupVersionKind::gvk(group, "v1alpha1", "ZephyrJob");
    let resource = ApiResource::from_gvk_with_plural(&kind, "zephyrjobs");
    let jobs: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    eventually("jobs of the test's own group", TEST_TIMEOUT, || async {
        Ok(jobs.list(&ListParams::default()).await.map(Some)?)
    })
    .await?;
    Ok(())
}

/// Changes a namespace in memory as the namespace controller would.
fn set_phase(both: &Both, name: &str, phase: &str) {
    let key = Key::new(NAMESPACES, "", name);
    let object = json!({"metadata": {"name": name}, "status": {"phase": phase}});
    both.server.change(
        |store, now| match store.get(&key).map(|found| Value::clone(found)) {
            Some(mut found) => {
                found["status"] = object["status"].clone();
                store.replace(&key, found, Actor::Cluster, now)
            }
            None => store.add(key, object, Actor::Cluster, now),
        },
    );
}
