//! Compares the schema that an API server serves with that of this release. Pure: gets the schema
//! as a value, and asks no server.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::SCHEMA;
use super::check::OF_EVERY_OBJECT;

/// The names of upper and lower bounds in a schema.
const UPPER_BOUNDS: [&str; 4] = ["maxLength", "maxItems", "maxProperties", "maximum"];
const LOWER_BOUNDS: [&str; 4] = ["minLength", "minItems", "minProperties", "minimum"];

/// The differences between a served schema and this release's. Each text names its field by the
/// path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Fields and values that this release reads or writes, and that the server drops or refuses.
    pub lacks: Vec<String>,
    /// Fields and values that this release does not know.
    pub adds: Vec<String>,
}

/// The part of the object that a field belongs to: the operator writes status, and users write the
/// rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    User,
    Operator,
}

/// Compares the schema of a whole object, as the API server publishes it, with this release's.
pub fn compare(served: &Value) -> Differences {
    let mut found = Differences::default();
    fields(&SCHEMA, served, "", Writer::User, &mut found);
    found
}

fn schemas(ours: &Value, served: &Value, path: &str, writer: Writer, found: &mut Differences) {
    if ours == served {
        return;
    }
    let kind = |schema: &Value| {
        let is_either = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        let type_ = schema.get("type").and_then(Value::as_str);
        if is_either {
            "integer or string"
        } else {
            type_.unwrap_or("anything")
        }
        .to_owned()
    };
    let (our_type, served_type) = (kind(ours), kind(served));
    if our_type != served_type {
        found.lacks.push(format!(
            "{path} (it is {served_type} there, and {our_type} here)"
        ));
        return;
    }
    values(ours, served, path, found);
    if writer == Writer::Operator {
        bounds(ours, served, path, found);
    }
    fields(ours, served, path, writer, found);
    if let (Some(ours), Some(served)) = (ours.get("items"), served.get("items")) {
        schemas(ours, served, &format!("{path}[]"), writer, found);
    }
    if let (Some(ours), Some(served)) = (
        ours.get("additionalProperties")
            .filter(|one| one.is_object()),
        served
            .get("additionalProperties")
            .filter(|one| one.is_object()),
    ) {
        schemas(ours, served, &format!("{path}[*]"), writer, found);
    }
}

/// The properties of a map.
fn fields(ours: &Value, served: &Value, path: &str, writer: Writer, found: &mut Differences) {
    let join = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    let (our_fields, served_fields) = (properties(ours), properties(served));
    let is_kept = served.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        || served.get("additionalProperties").is_some();
    for (name, ours) in our_fields.into_iter().flatten() {
        let writer = if path.is_empty() && name == "status" {
            Writer::Operator
        } else {
            writer
        };
        match served_fields.and_then(|fields| fields.get(name)) {
            Some(served) => schemas(ours, served, &join(name), writer, found),
            None if is_kept => {}
            None => found.lacks.push(join(name)),
        }
    }
    let is_open = ours.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        || ours.get("additionalProperties").is_some();
    let is_of_every_object = |name: &str| path.is_empty() && OF_EVERY_OBJECT.contains(&name);
    for name in served_fields.into_iter().flat_map(Map::keys) {
        let is_known = our_fields.is_some_and(|fields| fields.contains_key(name));
        if !is_known && !is_open && !is_of_every_object(name) {
            found.adds.push(join(name));
        }
    }
    if writer == Writer::Operator {
        let required = |schema: &Value| texts(schema.get("required"));
        let more = required(served)
            .difference(&required(ours))
            .cloned()
            .collect::<Vec<_>>();
        found.lacks.extend(
            more.iter()
                .map(|name| format!("an object without {}", join(name))),
        );
    }
}

/// The fields that a schema of a map names.
fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The values of an enum.
fn values(ours: &Value, served: &Value, path: &str, found: &mut Differences) {
    let (Some(_), Some(_)) = (ours.get("enum"), served.get("enum")) else {
        if served.get("enum").is_some() {
            found.lacks.push(format!("{path} with any value"));
        }
        return;
    };
    let (ours, served) = (texts(ours.get("enum")), texts(served.get("enum")));
    let of = |value: &String| format!("{path}={value}");
    found.lacks.extend(ours.difference(&served).map(of));
    found.adds.extend(served.difference(&ours).map(of));
}

/// Bounds that are narrower in the served schema than in this release's.
fn bounds(ours: &Value, served: &Value, path: &str, found: &mut Differences) {
    let number = |schema: &Value, bound: &str| schema.get(bound).and_then(Value::as_f64);
    let mut narrower = |bound: &str, is_narrower: fn(f64, f64) -> bool| {
        let Some(there) = number(served, bound) else {
            return;
        };
        let here = number(ours, bound);
        if here.is_none_or(|here| is_narrower(there, here)) {
            found.lacks.push(format!("{path} beyond {bound} {there}"));
        }
    };
    for bound in UPPER_BOUNDS {
        narrower(bound, |there, here| there < here);
    }
    for bound in LOWER_BOUNDS {
        narrower(bound, |there, here| there > here);
    }
}

/// A list of texts, such as the values of an enum. Null becomes a text.
fn texts(list: Option<&Value>) -> BTreeSet<String> {
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(word)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The differences if the server has this release's schema with one change.
    fn changed(pointer: &str, change: impl FnOnce(&mut Value)) -> Differences {
        let mut served = SCHEMA.clone();
        change(served.pointer_mut(pointer).unwrap());
        compare(&served)
    }

    fn without(pointer: &str, name: &str) -> Differences {
        changed(pointer, |schema| {
            assert!(schema.as_object_mut().unwrap().remove(name).is_some());
        })
    }

    #[test]
    fn the_schema_of_this_release_is_recognized_as_a_server_publishes_it() {
        let mut served = SCHEMA.clone();
        let every_object = json!({"type": "string", "description": "of every object"});
        served["properties"]["apiVersion"] = every_object;
        served["properties"]["metadata"] = json!({"allOf": [{"$ref": "#/meta"}], "default": {}});
        served["x-kubernetes-group-version-kind"] = json!([{"kind": "ZephyrJob"}]);
        let replicas = "/properties/spec/properties/workers/properties/replicas/maximum";
        let maximum = served.pointer_mut(replicas).unwrap();
        *maximum = json!(maximum.as_f64().unwrap());
        let cpu = "/properties/spec/properties/workers/properties/resources/properties/limits/properties/cpu";
        served.pointer_mut(cpu).unwrap()["anyOf"] =
            json!([{"type": "integer"}, {"type": "string"}]);
        assert_eq!(compare(&served), Differences::default());
    }

    #[test]
    fn a_field_that_the_server_would_drop_is_named_at_any_depth() {
        for (pointer, name, expected) in [
            (
                "/properties/status/properties",
                "backoffUntil",
                "status.backoffUntil",
            ),
            (
                "/properties/status/properties/generations/items/properties",
                "lostPods",
                "status.generations[].lostPods",
            ),
            (
                "/properties/spec/properties/storage/properties",
                "retain",
                "spec.storage.retain",
            ),
            (
                "/properties/spec/properties/pipeline/properties/steps/items/properties",
                "deduplicate",
                "spec.pipeline.steps[].deduplicate",
            ),
            ("/properties", "status", "status"),
        ] {
            assert_eq!(without(pointer, name).lacks, [expected], "{expected}");
        }
    }

    #[test]
    fn an_enum_value_that_the_server_would_refuse_is_named_with_its_field() {
        let reasons = "/properties/status/properties/conditions/items/properties/reason/enum";
        let found = changed(reasons, |words| {
            words
                .as_array_mut()
                .unwrap()
                .retain(|word| word != "OperatorFault");
        });
        assert_eq!(found.lacks, ["status.conditions[].reason=OperatorFault"]);
        let phases = "/properties/status/properties/phase/enum";
        let found = changed(phases, |words| {
            words.as_array_mut().unwrap().push(json!("Held"));
        });
        assert_eq!(
            (found.lacks, found.adds),
            (vec![], vec!["status.phase=Held".to_owned()])
        );
    }

    #[test]
    fn a_difference_is_named_if_it_affects_status_but_not_if_it_only_limits_users() {
        let message = "/properties/status/properties/conditions/items/properties/message";
        let found = changed(message, |schema| schema["maxLength"] = json!(100));
        assert_eq!(
            found.lacks,
            ["status.conditions[].message beyond maxLength 100"]
        );
        let outputs = "/properties/status/properties/outputs";
        let found = changed(outputs, |schema| {
            schema["required"]
                .as_array_mut()
                .unwrap()
                .push(json!("digest"));
        });
        assert_eq!(found.lacks, ["an object without status.outputs.digest"]);
        let replicas = "/properties/spec/properties/workers/properties/replicas";
        let found = changed(replicas, |schema| schema["maximum"] = json!(100));
        assert_eq!(found, Differences::default());
        let progress = "/properties/status/properties/progress";
        let found = changed(progress, |schema| schema["type"] = json!("integer"));
        assert_eq!(
            found.lacks,
            ["status.progress (it is integer there, and string here)"]
        );
    }

    #[test]
    fn a_field_of_a_newer_release_counts_as_added_and_not_as_missing() {
        let spec = "/properties/spec/properties";
        let found = changed(spec, |fields| {
            fields["priority"] = json!({"type": "boolean"});
        });
        let expected = Differences {
            lacks: vec![],
            adds: vec!["spec.priority".to_owned()],
        };
        assert_eq!(found, expected);
    }
}
