//! Builds the Service through which workers and the operator connect to the coordinator.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;

/// The type of the Service.
const TYPE: &str = "ClusterIP";

/// Builds the Service in front of the coordinator's only ready pod. The Service has a cluster IP.
/// So, unlike with a headless Service, a connection is refused at once while no coordinator is
/// ready, and no resolver caches the address of a deleted pod.
pub fn build(frozen: &FrozenJob, root_uid: &str) -> Service {
    Service {
        metadata: super::owned_metadata(
            frozen,
            root_uid,
            names::coordinator(&frozen.name, frozen.generation),
            names::COMPONENT_COORDINATOR,
        ),
        spec: Some(spec(super::selector(frozen, names::COMPONENT_COORDINATOR))),
        status: None,
    }
}

fn spec(selector: BTreeMap<String, String>) -> ServiceSpec {
    let port = i32::from(names::COORDINATOR_PORT);
    ServiceSpec {
        type_: Some(TYPE.to_owned()),
        selector: Some(selector),
        ports: Some(vec![ServicePort {
            name: Some("grpc".to_owned()),
            protocol: Some("TCP".to_owned()),
            port,
            target_port: Some(IntOrString::Int(port)),
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    }
}

/// Returns the patch of the spec that makes a Service select the coordinator of this job's
/// generation again. Returns `None` if the Service already selects it.
pub fn mend(existing: &ServiceSpec, job_uid: &str, generation: u32) -> Option<Value> {
    let wanted = spec(super::selector_of(
        job_uid,
        generation,
        names::COMPONENT_COORDINATOR,
    ));
    let has_type = existing.type_.as_deref().unwrap_or(TYPE) == TYPE;
    let ports = |spec: &ServiceSpec| -> Vec<_> {
        let all = spec.ports.iter().flatten();
        all.map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            (protocol, port.port, port.target_port.clone())
        })
        .collect()
    };
    if has_type && existing.selector == wanted.selector && ports(existing) == ports(&wanted) {
        return None;
    }
    let mut patch = json!({"selector": wanted.selector, "ports": wanted.ports});
    // A merge patch keeps every key that it does not contain.
    for key in existing.selector.iter().flatten().map(|(key, _)| key) {
        if patch["selector"][key].is_null() {
            patch["selector"][key] = Value::Null;
        }
    }
    if !has_type {
        patch["type"] = json!(TYPE);
        patch["externalName"] = Value::Null;
    }
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::children::tests::{frozen, owned_metadata, selector};

    #[test]
    fn the_service_selects_the_coordinator_of_this_uid_and_generation_only() {
        let built = build(&frozen(json!({})), "root-uid");
        assert_eq!(
            serde_json::to_value(built).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": owned_metadata("count-coordinator-g2", "coordinator"),
                "spec": {
                    "type": "ClusterIP",
                    "selector": selector("coordinator"),
                    "ports": [{"name": "grpc", "protocol": "TCP", "port": 7070, "targetPort": 7070}],
                },
            })
        );
    }

    #[test]
    fn an_edited_service_is_set_back_to_its_coordinator() {
        let frozen = frozen(json!({}));
        let made = build(&frozen, "root-uid").spec.unwrap();
        let (uid, generation) = (frozen.uid.as_str(), frozen.generation);
        let edited = |change: fn(&mut ServiceSpec)| {
            let mut spec = made.clone();
            change(&mut spec);
            mend(&spec, uid, generation)
        };
        // Default values that the API server adds do not count as an edit.
        let defaulted: fn(&mut ServiceSpec) = |spec| {
            spec.cluster_ip = Some("10.0.0.1".to_owned());
            spec.session_affinity = Some("None".to_owned());
        };
        assert_eq!(edited(defaulted), None);
        let wanted = json!({"selector": selector("coordinator"), "ports": made.ports});
        let mut with_null = wanted.clone();
        with_null["selector"]["app"] = Value::Null;
        let of_another: fn(&mut ServiceSpec) =
            |spec| spec.selector = Some([("app".to_owned(), "x".to_owned())].into());
        assert_eq!(edited(of_another), Some(with_null));
        assert_eq!(edited(|spec| spec.selector = None), Some(wanted.clone()));
        let other_port: fn(&mut ServiceSpec) =
            |spec| spec.ports.get_or_insert_default()[0].target_port = Some(IntOrString::Int(1));
        assert_eq!(edited(other_port), Some(wanted.clone()));
        let mut of_type = wanted;
        of_type["type"] = json!("ClusterIP");
        of_type["externalName"] = Value::Null;
        let elsewhere: fn(&mut ServiceSpec) = |spec| spec.type_ = Some("ExternalName".to_owned());
        assert_eq!(edited(elsewhere), Some(of_type));
    }
}
