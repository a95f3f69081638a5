//! The Service through which workers and the operator connect to the coordinator.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;

/// The Service in front of the coordinator's only ready pod. It has a cluster IP and is not
/// headless: while no coordinator is ready, a connection is refused at once, and no resolver caches
/// the address of a deleted pod.
pub fn build(frozen: &FrozenJob, root_uid: &str) -> Service {
    let port = i32::from(names::COORDINATOR_PORT);
    Service {
        metadata: super::owned_metadata(
            frozen,
            root_uid,
            names::coordinator(&frozen.name, frozen.generation),
            names::COMPONENT_COORDINATOR,
        ),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(super::selector(frozen, names::COMPONENT_COORDINATOR)),
            ports: Some(vec![ServicePort {
                name: Some("grpc".to_owned()),
                protocol: Some("TCP".to_owned()),
                port,
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}
