//! Determines which job, generation, component and owner an object has. Each function reads only
//! one object.

use serde_json::Value;
use zephyr_crds::names::{LABEL_COMPONENT, LABEL_GENERATION, LABEL_JOB, LABEL_JOB_UID};

use super::api::metadata::text;

/// A generation of a job: the job's uid and the number.
pub(crate) type Generation = (String, u32);

/// Returns the generation that an object belongs to.
pub(crate) fn generation_of(object: &Value) -> Option<Generation> {
    let uid = text(&object["metadata"]["labels"][LABEL_JOB_UID]);
    Some((uid.to_owned(), number_of(object)?))
}

/// Returns the number of the generation that an object belongs to.
pub(crate) fn number_of(object: &Value) -> Option<u32> {
    let labels = &object["metadata"]["labels"];
    text(&labels[LABEL_GENERATION]).parse().ok()
}

/// Returns which component of its generation an object is: one of the `COMPONENT_` constants.
pub(crate) fn component_of(object: &Value) -> &str {
    text(&object["metadata"]["labels"][LABEL_COMPONENT])
}

/// Returns whether an object belongs to a job of this name.
pub(crate) fn is_of_job(object: &Value, name: &str) -> bool {
    object["metadata"]["labels"][LABEL_JOB] == name
}

/// Returns whether one of the owners of an object has this uid.
pub(crate) fn is_owned_by(object: &Value, uid: &Value) -> bool {
    let mut owners = object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten();
    owners.any(|owner| owner["uid"] == *uid)
}
