//! Tests properties of the definition as a whole: generated files are current, every field is
//! described and bounded, the size allows a plain `kubectl apply`.

use serde_json::{Value, json};
use zephyr_crds::crd;

/// The largest definition that `kubectl apply` can keep in its annotation.
const MAX_DEFINITION_BYTES: usize = 262_144;

fn definition() -> Value {
    json!(crd::definition())
}

fn schema() -> Value {
    definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Visits every schema below a field with the field's path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&format!("{path}.*"), &schema["additionalProperties"], visit);
    }
}

#[test]
fn the_printed_definition_is_what_the_types_say() {
    let printed = crd::yaml().expect("print the definition");
    assert!(
        printed == include_str!("../zephyrjobs.yaml"),
        "crds/zephyrjobs.yaml is not what the types say; run `make generate`"
    );
    let read: Value = serde_saphyr::from_str(&printed).expect("read the printed definition");
    let numbers_as_written = |value: &Value| {
        serde_json::to_string(value)
            .expect("JSON")
            .replace(".0", "")
    };
    assert_eq!(
        numbers_as_written(&read),
        numbers_as_written(&definition()),
        "printing loses nothing"
    );
}

#[test]
fn the_chart_ships_the_same_definition() {
    assert!(
        include_str!("../zephyrjobs.yaml")
            == include_str!("../../charts/zephyr-operator/crd/zephyrjobs.yaml"),
        "the chart's definition differs from crds/zephyrjobs.yaml; run `make generate`"
    );
}

#[test]
fn plain_kubectl_apply_can_keep_the_definition() {
    let bytes = serde_json::to_string(&definition()).expect("JSON").len();
    assert!(bytes < MAX_DEFINITION_BYTES, "{bytes} bytes");
}

#[test]
fn kubectl_get_shows_phase_reason_stage_tasks_workers_generation_progress_and_age() {
    let version = definition()["spec"]["versions"][0].clone();
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<_> = columns
        .iter()
        .map(|column| column["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        names,
        [
            "Phase", "Reason", "Stage", "Done", "Workers", "Gen", "Progress", "Message", "Age"
        ]
    );
    for column in columns {
        let path = column["jsonPath"]
            .as_str()
            .unwrap_or_default()
            .replace("[?(@.type=='Progressing')]", "/items")
            .replace('.', "/properties/");
        let is_there =
            path.starts_with("/properties/metadata") || schema().pointer(&path).is_some();
        assert!(
            is_there,
            "the column {} shows {}, which is not a field",
            column["name"], column["jsonPath"]
        );
    }
    assert!(
        version["subresources"]["status"].is_object(),
        "status is a subresource"
    );
}

#[test]
fn the_scale_subresource_names_fields_that_exist() {
    let version = definition()["spec"]["versions"][0].clone();
    let scale = version["subresources"]["scale"].as_object().unwrap();
    let expected = [
        ("specReplicasPath", "integer"),
        ("statusReplicasPath", "integer"),
        ("labelSelectorPath", "string"),
    ];
    assert_eq!(scale.len(), expected.len());
    for (name, kind) in expected {
        let path = scale[name].as_str().unwrap().replace('.', "/properties/");
        let field = schema().pointer(&path).cloned().unwrap_or_default();
        assert_eq!(field["type"], kind, "{name}: {}", scale[name]);
    }
}

#[test]
fn every_field_has_a_description() {
    let mut without = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        let is_field =
            !path.is_empty() && !path.ends_with("[]") && !path.ends_with(".*") && path != ".status";
        if is_field && schema["description"].as_str().is_none_or(str::is_empty) {
            without.push(path.to_owned());
        }
    });
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn every_string_list_map_and_number_is_bounded() {
    let mut unbounded = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        let kind = schema["type"].as_str().unwrap_or_default();
        let is_bounded = match kind {
            "string" => {
                !schema["maxLength"].is_null()
                    || !schema["enum"].is_null()
                    || schema["format"] == "date-time"
            }
            "integer" | "number" => {
                !schema["minimum"].is_null()
                    && (!schema["maximum"].is_null() || path.starts_with(".status"))
            }
            "array" => !schema["maxItems"].is_null(),
            "object" => {
                schema["additionalProperties"].is_null() || !schema["maxProperties"].is_null()
            }
            _ => true,
        };
        if !is_bounded {
            unbounded.push(format!("{path}: {kind}"));
        }
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_rule_has_a_message_of_one_line_in_the_house_form() {
    let mut wrong = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let message = rule["message"]
                .as_str()
                .or_else(|| rule["messageExpression"].as_str())
                .unwrap_or_default();
            if message.contains('\n') || !message.contains("; ") {
                wrong.push(format!("{path}: {message}"));
            }
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_field_of_the_spec_says_when_a_change_applies() {
    const CLASSES: [&str; 3] = [
        "A change applies at once.",
        "A change applies to the next generation.",
        "Immutable",
    ];
    let spec = schema()["properties"]["spec"].clone();
    let mut silent = Vec::new();
    for (name, field) in spec["properties"].as_object().into_iter().flatten() {
        let says = |schema: &Value| {
            CLASSES.iter().any(|class| {
                schema["description"].as_str().is_some_and(|text| {
                    let words: Vec<_> = text.split_whitespace().collect();
                    words.join(" ").contains(class)
                })
            })
        };
        let children: Vec<_> = field["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .collect();
        if !says(field)
            && (children.is_empty()
                || !children
                    .iter()
                    .all(|(_, child)| says(child) || child["properties"].is_object()))
        {
            silent.push(name.clone());
        }
    }
    assert_eq!(silent, Vec::<String>::new());
}
