//! Prints the custom resource definition as text. Does not install it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::job::ZephyrJob;

/// Why the definition could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// The definition cannot be written as YAML.
    #[error("serialize the custom resource definition: {0}")]
    Serialize(#[source] serde_saphyr::SerializeError),
    /// The output cannot be written.
    #[error("write the custom resource definition: {0}")]
    Write(#[source] std::io::Error),
}

/// The definition that this release installs.
pub fn definition() -> CustomResourceDefinition {
    ZephyrJob::crd()
}

/// The definition as YAML.
pub fn yaml() -> Result<String, PrintError> {
    serde_saphyr::to_string(&definition()).map_err(PrintError::Serialize)
}
