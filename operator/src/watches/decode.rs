//! Converts the bytes of an object into the facts that are kept. A list still works if it contains
//! an object that cannot be read, or does not belong to a job.
//!
//! Each object is first kept as raw text. Of its metadata, only the fields that decisions use are
//! read. The rest of the object is read only if the metadata shows that the object belongs to a
//! job. So other objects, even if they are large or deeply nested, need only the memory of their
//! text, and only while they are read.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use zephyr_crds::names;

/// The facts that are kept about an object of one kind.
pub trait Facts: Clone + Debug + Send + Sync + 'static {
    /// The kind in the API.
    type Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope>;
    /// Whether only metadata is requested from the API server.
    const METADATA_ONLY: bool;
    /// Reads the facts. Returns `None` if the object does not belong to a job.
    fn read(metadata: &Metadata, text: &str) -> Option<Self>;
    /// Keeps facts of `_before`, the previous version of the object, that must not be lost.
    fn follow(&mut self, _before: &Self) {}
    /// Returns the name of the job to which the object belongs.
    fn job_name(&self) -> &str;
    /// Returns the uid of that job.
    fn job_uid(&self) -> &str;
}

/// The part of an object's metadata that decisions use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
    /// Its version, which changes with every write.
    pub resource_version: Option<String>,
    /// The version of its spec.
    pub generation: Option<i64>,
    /// When it was created.
    pub creation_timestamp: Option<Time>,
    /// When its deletion was requested.
    pub deletion_timestamp: Option<Time>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The objects that own it.
    pub owner_references: Option<Vec<OwnerReference>>,
    /// The finalizers that keep it from being removed.
    pub finalizers: Option<Vec<String>>,
}

/// An object as watches and lists deliver it.
#[derive(Clone, Debug)]
pub struct Seen<F> {
    /// Only the name, namespace, uid and version.
    metadata: ObjectMeta,
    /// The generation number in its label. The number is in use, even if somebody else created the
    /// object.
    pub number: Option<u32>,
    /// The facts. Absent if the object does not belong to a job.
    pub facts: Option<F>,
}

impl Metadata {
    fn read(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Document {
            metadata: Metadata,
        }
        serde_json::from_str::<Document>(text).map_or_else(|_| Self::default(), |it| it.metadata)
    }

    /// Returns the value of a label, if the object has the label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the generation in the label, if it is a number that an operator assigns.
    pub fn generation_label(&self) -> Option<u32> {
        names::parse_generation(self.label(names::LABEL_GENERATION)?)
    }

    /// Returns the reference to the controller of this object, which must have this kind.
    pub fn controller(&self, api_version: &str, kind: &str) -> Option<&OwnerReference> {
        self.owner_references.iter().flatten().find(|owner| {
            owner.controller == Some(true) && owner.kind == kind && owner.api_version == api_version
        })
    }

    /// Returns whether the watches recognize this object. It must have the labels and the
    /// controller of `wanted`, which is the metadata with which the operator would create it.
    pub fn is_marked_as(&self, wanted: &ObjectMeta) -> bool {
        let wanted_label = |key: &str| wanted.labels.as_ref()?.get(key).map(String::as_str);
        let controller = |owners: &Option<Vec<OwnerReference>>| {
            let mut owners = owners.iter().flatten();
            let found = owners.find(|owner| owner.controller == Some(true))?;
            Some((
                found.api_version.clone(),
                found.kind.clone(),
                found.uid.clone(),
            ))
        };
        [
            names::LABEL_JOB,
            names::LABEL_JOB_UID,
            names::LABEL_GENERATION,
        ]
        .into_iter()
        .all(|key| self.label(key) == wanted_label(key))
            && controller(&self.owner_references) == controller(&wanted.owner_references)
    }

    /// Converts the metadata into the client's type.
    pub fn to_object_meta(&self) -> ObjectMeta {
        ObjectMeta {
            generation: self.generation,
            creation_timestamp: self.creation_timestamp.clone(),
            deletion_timestamp: self.deletion_timestamp.clone(),
            finalizers: self.finalizers.clone(),
            ..self.to_identity()
        }
    }

    fn to_identity(&self) -> ObjectMeta {
        ObjectMeta {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
            ..ObjectMeta::default()
        }
    }
}

impl<'de, F: Facts> Deserialize<'de> for Seen<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let metadata = Metadata::read(text.get());
        Ok(Self {
            number: metadata.generation_label(),
            facts: F::read(&metadata, text.get()),
            metadata: metadata.to_identity(),
        })
    }
}

impl<F: Facts> Resource for Seen<F> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Cow::Owned(F::Kind::kind(&()).into_owned())
    }

    fn group((): &()) -> Cow<'_, str> {
        Cow::Owned(F::Kind::group(&()).into_owned())
    }

    fn version((): &()) -> Cow<'_, str> {
        Cow::Owned(F::Kind::version(&()).into_owned())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Cow::Owned(F::Kind::plural(&()).into_owned())
    }

    fn metadata_api() -> bool {
        F::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads a complete document of a kind that the operator creates. An unreadable document counts as
/// absent: the next attempt to create the object then reports that it exists.
pub fn document<K: DeserializeOwned>(text: &str) -> Option<K> {
    serde_json::from_str(text).ok()
}
