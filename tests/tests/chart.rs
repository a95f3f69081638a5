//! Tests the chart without a cluster: values that cannot work are refused with a sentence, and the
//! rendered objects grant only the rights that are used.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/zephyr-operator");
/// The smallest set of values with which the chart can be installed.
const WORKING: [&str; 2] = ["image.tag=1.0", "workerImage.tag=1.0"];

/// Returns Helm's output, or its error if it refuses the values.
fn render(values: &[&str]) -> Result<Result<Vec<Value>, String>> {
    let mut command = Command::new("helm");
    command.args(["template", "release", CHART, "--namespace", "zephyr-system"]);
    for value in values {
        command.args([
            if value.contains("tag=") {
                "--set-string"
            } else {
                "--set"
            },
            value,
        ]);
    }
    let output = command
        .output()
        .context("helm is not on PATH: run `make test`, or eval \"$(make -s cluster-env)\"")?;
    if !output.status.success() {
        return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = String::from_utf8(output.stdout)?;
    let objects = text
        .split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str::<Value>(document).context("parse what helm rendered")
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Ok(objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()))
}

fn rendered(more: &[&str]) -> Result<Vec<Value>> {
    render(&[&WORKING, more].concat())?.map_err(anyhow::Error::msg)
}

fn object(objects: &[Value], kind: &str) -> Result<Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind)
        .cloned()
        .with_context(|| format!("no {kind} is rendered"))
}

#[test]
fn values_that_cannot_work_are_refused_with_a_sentence() -> Result<()> {
    for (row, values, words) in [
        (
            "63",
            vec![],
            "image.tag: is empty; the tag of a release, such as --set image.tag=0.1.0",
        ),
        (
            "63",
            vec!["image.tag=latest", "workerImage.tag=1"],
            "image.tag: must name a release (got latest)",
        ),
        ("63", vec!["image.tag=1"], "workerImage.tag: is empty"),
        (
            "61",
            vec!["image.tag=1", "workerImage.tag=1", "replicas=3"],
            "replicas: must be 1 (got 3); there is no leader election yet",
        ),
        (
            "61",
            vec!["image.tag=1", "workerImage.tag=1", "replicas=0"],
            "replicas: must be 1 (got 0)",
        ),
        (
            "62",
            vec!["image.tag=1", "workerImage.tag=1", "replica=1"],
            "additional properties 'replica' not allowed",
        ),
        (
            "62",
            vec![
                "image.tag=1",
                "workerImage.tag=1",
                "storage.allowHttp=maybe",
            ],
            "at '/storage/allowHttp': got string, want boolean",
        ),
        (
            "62",
            vec![
                "image.tag=1",
                "workerImage.tag=1",
                "storage.endpoint=minio:9000",
            ],
            "at '/storage/endpoint'",
        ),
        (
            "-",
            vec![
                "image.tag=1",
                "workerImage.tag=1",
                "storage.endpoint=http://minio",
            ],
            "storage.endpoint: has no TLS (got http://minio)",
        ),
    ] {
        let refusal = render(&values)?
            .err()
            .with_context(|| format!("row {row}: accepted: {values:?}"))?;
        ensure!(refusal.contains(words), "row {row}: {values:?}: {refusal}");
    }
    Ok(())
}

#[test]
fn the_operator_gets_the_rights_it_uses_and_no_others() -> Result<()> {
    let mut expected = json!([
        {"apiGroups": ["zephyr.dev"], "resources": ["zephyrjobs"], "verbs": ["get", "list", "watch", "delete"]},
        {"apiGroups": ["zephyr.dev"], "resources": ["zephyrjobs/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ]);
    let mut everywhere = expected.clone();
    let nodes = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]});
    everywhere.as_array_mut().context("a list")?.push(nodes);
    ensure!(
        object(&rendered(&[])?, "ClusterRole")?["rules"] == everywhere,
        "the rights differ from this list"
    );
    let in_one_namespace = rendered(&["watchNamespace=team"])?;
    let role = object(&in_one_namespace, "Role")?;
    ensure!(
        role["rules"] == expected && role["metadata"]["namespace"] == "team",
        "the Role has other rights, or is in another namespace"
    );
    ensure!(
        object(&in_one_namespace, "ClusterRole").is_err(),
        "nothing is granted in the whole cluster"
    );
    expected[7]["verbs"] = json!(["list", "watch"]);
    ensure!(
        object(&rendered(&["forceDeletePods=false"])?, "ClusterRole")?["rules"] == expected,
        "without deletions by force, the operator has no right to delete pods"
    );
    Ok(())
}

#[test]
fn the_operator_has_one_pod_without_rights_on_its_node() -> Result<()> {
    let deployment = object(&rendered(&[])?, "Deployment")?["spec"].clone();
    ensure!(
        deployment["replicas"] == 1 && deployment["strategy"]["type"] == "Recreate",
        "two pods of the operator may run at the same time"
    );
    let pod = &deployment["template"]["spec"];
    ensure!(
        pod["securityContext"]["runAsNonRoot"] == true
            && pod["securityContext"]["runAsUser"] == 65532,
        "not root"
    );
    ensure!(
        pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
        "the default seccomp profile"
    );
    let container = &pod["containers"][0]["securityContext"];
    ensure!(
        container["allowPrivilegeEscalation"] == false
            && container["readOnlyRootFilesystem"] == true,
        "a read-only root"
    );
    ensure!(
        container["capabilities"] == json!({"drop": ["ALL"]}),
        "no capabilities"
    );
    Ok(())
}

/// Returns the operator's pod, and the first of the chart's objects of this kind, if there is one.
fn pod_and(kind: &str, values: &[&str]) -> Result<(Value, Option<Value>)> {
    let objects = rendered(values)?;
    let pod = object(&objects, "Deployment")?["spec"]["template"]["spec"].clone();
    Ok((pod, object(&objects, kind).ok()))
}

#[test]
fn the_operator_avoids_only_the_spot_nodes_of_the_named_provider() -> Result<()> {
    use zephyr_crds::preemptible::SpotProvider::{Aks, Eks, Gke, Karpenter};
    for (name, provider) in [
        ("gke", Gke),
        ("eks", Eks),
        ("aks", Aks),
        ("karpenter", Karpenter),
    ] {
        let label = provider.label().context("its label")?;
        let (pod, _) = pod_and("Role", &[&format!("preemptible.provider={name}")])?;
        let expected = json!([{"matchExpressions": [
            {"key": label.key, "operator": "NotIn", "values": [label.value]},
        ]}]);
        let required =
            &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        ensure!(
            required["nodeSelectorTerms"] == expected,
            "{name}: {required}"
        );
        let told = json!({"name": "ZEPHYR_PREEMPTIBLE_PROVIDER", "value": name});
        let environment = pod["containers"][0]["env"].as_array().context("env")?;
        ensure!(environment.contains(&told), "{name}: {environment:?}");
    }
    let (pod, _) = pod_and("Role", &[])?;
    ensure!(pod.get("affinity").is_none(), "none names no label: {pod}");
    let refused = render(&[
        "image.tag=1",
        "workerImage.tag=1",
        "preemptible.provider=azure",
    ])?;
    ensure!(
        refused.is_err_and(|words| words.contains("/preemptible/provider")),
        "an unknown provider"
    );
    Ok(())
}

#[test]
fn the_operator_leaves_a_lost_node_soon_and_does_not_block_a_drain() -> Result<()> {
    let (pod, budget) = pod_and("PodDisruptionBudget", &["priorityClassName=urgent"])?;
    let lost = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10});
    let expected = json!([
        lost("node.kubernetes.io/not-ready"),
        lost("node.kubernetes.io/unreachable")
    ]);
    ensure!(pod["tolerations"] == expected, "{}", pod["tolerations"]);
    ensure!(pod["priorityClassName"] == "urgent", "{pod}");
    ensure!(
        budget.is_none(),
        "a budget exists although the values do not enable it"
    );
    let more = [
        "tolerations[0].key=mine",
        "nodeLostSeconds=60",
        "podDisruptionBudget.enabled=true",
    ];
    let (pod, budget) = pod_and("PodDisruptionBudget", &more)?;
    ensure!(
        pod["tolerations"][0]["tolerationSeconds"] == 60 && pod["tolerations"][2]["key"] == "mine",
        "{}",
        pod["tolerations"]
    );
    let budget = budget.context("a budget")?;
    ensure!(budget["spec"]["maxUnavailable"] == 1, "{budget}");
    ensure!(
        budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "zephyr-operator",
        "{budget}"
    );
    Ok(())
}

#[test]
fn objects_that_must_outlive_a_release_are_kept() -> Result<()> {
    let objects = rendered(&[])?;
    for kind in ["CustomResourceDefinition", "Secret"] {
        let kept =
            object(&objects, kind)?["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        ensure!(
            kept,
            "{kind} is deleted with the release, and the jobs with it"
        );
    }
    ensure!(
        object(
            &rendered(&["installCRDs=false"])?,
            "CustomResourceDefinition"
        )
        .is_err(),
        "installCRDs=false leaves it out"
    );
    ensure!(
        object(&rendered(&["signingKeySecret=mine"])?, "Secret").is_err(),
        "a key that is named is not made"
    );
    Ok(())
}
