//! The API server in memory, on which the operator's simulation rests, beside the real one: the same requests get the same
//! answers. Needs a cluster; leaves nothing on it but namespaces that are being deleted.

mod asks;
mod both;
mod memory;
mod simulation;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use zephyr_tests::cluster::{PATIENCE, client, eventually};

use self::both::Both;
use self::memory::GROUP;
use self::simulation::api::kinds::NAMESPACES;
use self::simulation::api::store::{Actor, Key};

#[tokio::test]
async fn the_server_in_memory_answers_as_the_real_one_does() -> Result<()> {
    let client = client().await?;
    let namespace = create_namespace(&client).await?;
    let ending = create_namespace(&client).await?;
    let group = format!("{namespace}.{GROUP}");
    let compared = compare(&client, &namespace, &ending, &group).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = format!("zephyrjobs.{group}");
    definitions
        .delete(&definition, &DeleteParams::default())
        .await?;
    let namespaces: Api<Namespace> = Api::all(client);
    for name in [&namespace, &ending] {
        namespaces.delete(name, &DeleteParams::default()).await?;
    }
    compared
}

async fn compare(client: &Client, namespace: &str, ending: &str, group: &str) -> Result<()> {
    define_jobs(client, namespace, group).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    eventually(
        "the account that pods of the namespace have",
        PATIENCE,
        || async { Ok(accounts.get_opt("default").await?) },
    )
    .await?;
    let mut both = Both::new(client.clone(), group, namespace);
    for name in [namespace, ending] {
        set_phase(&both, name, "Active");
    }
    both.ask_all(asks::config_maps::creations()).await?;
    both.ask_all(asks::config_maps::patches()).await?;
    both.ask_all(asks::config_maps::updates()).await?;
    both.ask_all(asks::config_maps::lists()).await?;
    both.ask_all(asks::config_maps::deletions()).await?;
    both.ask_all(asks::config_maps::finalizers()).await?;
    both.ask_all(asks::stateful_sets::all()).await?;
    both.ask_all(asks::jobs::all()).await?;
    both.ask_all(asks::pods::all()).await?;
    both.ask_all(asks::events::all()).await?;
    both.ask_all([asks::namespaces::held(ending)]).await?;
    Api::<Namespace>::all(client.clone())
        .delete(ending, &DeleteParams::default())
        .await?;
    set_phase(&both, ending, "Terminating");
    both.ask_all(asks::namespaces::all(ending)).await?;
    both.ask_all([asks::namespaces::released(ending)]).await?;
    both.agree()
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

/// Has the real server serve jobs in `group` too, where no operator finds them.
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
    eventually("jobs of the test's own group", PATIENCE, || async {
        Ok(jobs.list(&ListParams::default()).await.map(Some)?)
    })
    .await?;
    Ok(())
}

/// What the controller of namespaces does to one in memory.
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
