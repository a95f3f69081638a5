//! The chart's description is right: it has this version, the kind that is served, and an example
//! that the API server accepts. What the chart renders is tested in `tests/tests/chart.rs`.

#[cfg(test)]
mod description {
    use std::fs;

    use serde_json::{Value, json};
    use zephyr_crds::crd;
    use zephyr_crds::job::ZephyrJob;
    use zephyr_crds::structural;
    use zephyr_crds::validate::{Place, validate};

    fn chart() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/zephyr-operator/Chart.yaml"
        );
        serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// A list that Artifact Hub reads out of a text.
    fn annotation(name: &str) -> Vec<Value> {
        let chart = chart();
        let text = chart["annotations"][name].as_str().unwrap();
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn the_chart_has_the_version_of_the_workspace() {
        assert_eq!(chart()["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart()["appVersion"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn artifact_hub_shows_the_kind_that_is_served() {
        let definition = json!(crd::definition());
        let shown = &annotation("artifacthub.io/crds")[0];
        assert_eq!(shown["name"], definition["metadata"]["name"]);
        assert_eq!(shown["kind"], definition["spec"]["names"]["kind"]);
        assert_eq!(shown["version"], definition["spec"]["versions"][0]["name"]);
    }

    #[test]
    fn the_example_on_artifact_hub_is_taken_by_the_api_server() {
        for example in annotation("artifacthub.io/crdsExamples") {
            let admitted = structural::admit(&example);
            assert!(admitted.errors.is_empty(), "{:?}", admitted.errors);
            let job: ZephyrJob = serde_json::from_value(admitted.object).unwrap();
            let name = job.metadata.name.unwrap();
            let errors = validate(&job.spec, &name, Place::Cluster);
            assert!(errors.is_empty(), "{errors:?}");
        }
    }
}
