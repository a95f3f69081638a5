//! Builds the Secret with the bearer token that a generation's pods and the operator share.
//!
//! The operator creates the Secret but never reads it: when the operator needs the token, it
//! derives the token again.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;

/// How many characters of the job's uid are in the Secret's name.
const UID_CHARACTERS: usize = 8;

/// Returns the Secret's name, which contains a part of the job's uid. The operator may not read
/// Secrets. So if the API server answers "already exists", the name must prove that the Secret
/// belongs to this job. Without the uid, the Secret could belong to an earlier job of the same name
/// that is still being collected.
pub fn name(job: &str, uid: &str, generation: u32) -> String {
    let part: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(UID_CHARACTERS)
        .collect();
    format!("{job}-token-{part}-g{generation}")
}

/// Builds the Secret that contains `token`.
pub fn build(frozen: &FrozenJob, root_uid: &str, token: &str) -> Secret {
    Secret {
        metadata: super::owned_metadata(
            frozen,
            root_uid,
            name(&frozen.name, &frozen.uid, frozen.generation),
            names::COMPONENT_ROOT,
        ),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(
            [(
                names::TOKEN_KEY.to_owned(),
                ByteString(token.as_bytes().to_vec()),
            )]
            .into(),
        ),
        string_data: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::children::tests::{frozen, owned_metadata};

    #[test]
    fn the_secret_is_immutable_and_its_name_distinguishes_jobs_of_one_name() {
        let built = build(&frozen(json!({})), "root-uid", "abc");
        assert_eq!(
            serde_json::to_value(built).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": owned_metadata("count-token-0a1b2c3d-g2", "generation"),
                "type": "Opaque",
                "immutable": true,
                "data": {"token": "YWJj"},
            })
        );
        assert_ne!(
            name("count", "1a1b2c3d-0000", 1),
            name("count", "0a1b2c3d-0000", 1)
        );
    }
}
