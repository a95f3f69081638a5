//! Makes all writes of a reconcile: one exhaustive match over [`Action`]. The actions are written
//! in the plan's order, and the status last.
//!
//! This module makes no decisions: a refused write is an error that names the object. An existing
//! object is accepted if it belongs to this generation, so every create can be repeated safely.

use axum::http;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Request, request};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zephyr_crds::conditions::Reason;
use zephyr_crds::frozen::FrozenJobError;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;
use zephyr_crds::status::ZephyrJobStatus;

use super::Context;
use super::action::Action;
use super::status::WriteProblem;
use crate::calls::{CallError, Refusal, bounded};
use crate::children::{
    coordinator_deployment, root_config_map, service, token_secret, worker_stateful_set,
};
use crate::defect::{self, Defect};
use crate::identity::JobIdentity;
use crate::progress::RunStreams;
use crate::progress::token::SigningKey;
use crate::watches::decode::{Metadata, Seen};
use crate::watches::facts::SeenJob;

/// The HTTP code with which an API server asks the client to wait.
const TOO_MANY_REQUESTS: u16 = 429;

/// The write that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not create an object.
    #[error("create {kind} {namespace}/{name}: {source}")]
    Create {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// An object of this name exists and does not belong to this generation.
    #[error(
        "create {kind} {namespace}/{name}: an object with this name exists and does not belong to this job; delete or rename it"
    )]
    Collide {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object of this generation exists, but its labels or its owner were changed.
    #[error(
        "create {kind} {namespace}/{name}: it exists, but its labels or its owner were changed, so the operator does not recognize \
         it; delete it, and the operator creates it again"
    )]
    Unmarked {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object of this name is being deleted.
    #[error("create {kind} {namespace}/{name}: an object with this name is still being deleted")]
    StillThere {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The job cannot be written as JSON.
    #[error("freeze job {name}: {source}")]
    Freeze {
        /// Name of the job.
        name: String,
        /// The cause.
        source: FrozenJobError,
    },
    /// The API server did not change the metadata of a root.
    #[error(
        "restore the labels and the owner of ConfigMap {namespace}/{name}, which somebody removed: {source}"
    )]
    MarkRoot {
        /// Namespace of the root.
        namespace: String,
        /// Name of the root.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not change a Service.
    #[error("restore Service {namespace}/{name}, which somebody edited: {source}")]
    MendService {
        /// Namespace of the Service.
        namespace: String,
        /// Name of the Service.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not change the replicas.
    #[error("scale {kind} {namespace}/{name}: {source}")]
    Scale {
        /// `StatefulSet` or `Deployment`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not delete a pod.
    #[error("force-delete Pod {namespace}/{name}: {source}")]
    ForceDelete {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not delete a root.
    #[error("delete ConfigMap {namespace}/{name}: {source}")]
    DeleteRoot {
        /// Namespace of the root.
        namespace: String,
        /// Name of the root.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not delete the job.
    #[error("delete ZephyrJob {namespace}/{name}: {source}")]
    DeleteJob {
        /// Namespace of the job.
        namespace: String,
        /// Name of the job.
        name: String,
        /// The cause.
        source: CallError,
    },
    /// The API server did not accept the status.
    #[error("write status of ZephyrJob {namespace}/{name}: {source}")]
    WriteStatus {
        /// Namespace of the job.
        namespace: String,
        /// Name of the job.
        name: String,
        /// The cause.
        source: CallError,
    },
}

impl Error {
    /// Returns the name of the variant, for metrics.
    pub fn variant(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Collide { .. } => "collide",
            Self::Unmarked { .. } => "unmarked",
            Self::StillThere { .. } => "still_there",
            Self::Freeze { .. } => "freeze",
            Self::MarkRoot { .. } => "mark_root",
            Self::MendService { .. } => "mend_service",
            Self::Scale { .. } => "scale",
            Self::ForceDelete { .. } => "force_delete",
            Self::DeleteRoot { .. } => "delete_root",
            Self::DeleteJob { .. } => "delete_job",
            Self::WriteStatus { .. } => "write_status",
        }
    }

    /// Returns the API server's answer that caused the error, if there was one.
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::Create { source, .. }
            | Self::MarkRoot { source, .. }
            | Self::MendService { source, .. }
            | Self::Scale { source, .. }
            | Self::ForceDelete { source, .. }
            | Self::DeleteRoot { source, .. }
            | Self::DeleteJob { source, .. }
            | Self::WriteStatus { source, .. } => Some(source),
            Self::Collide { .. }
            | Self::Unmarked { .. }
            | Self::StillThere { .. }
            | Self::Freeze { .. } => None,
        }
    }

    /// Returns the problem to show to the job's user. Returns `None` if an immediate retry will
    /// probably succeed.
    pub fn problem(&self) -> Option<WriteProblem> {
        let reason = match (self, self.call().map(CallError::refusal)) {
            (Self::Collide { .. } | Self::Unmarked { .. } | Self::Freeze { .. }, _)
            | (_, Some(Refusal::Invalid)) => Reason::Blocked,
            (_, Some(Refusal::Forbidden)) => {
                // Both have code 403. A message about missing rights contains "cannot <verb>
                // resource"; a message of quota or admission names what was refused.
                let is_rights = self.call().is_some_and(|call| {
                    call.message().contains("cannot ") && call.message().contains(" resource ")
                });
                if is_rights {
                    Reason::Forbidden
                } else {
                    Reason::Blocked
                }
            }
            // If status cannot be written, nobody can read a problem in it.
            (Self::WriteStatus { .. }, _) => return None,
            // An admission webhook that does not answer causes 500, and a lack of free Service
            // addresses causes 504, until somebody repairs this.
            (_, Some(Refusal::Transient)) if !self.is_throttled() => Reason::Blocked,
            (
                _,
                Some(
                    Refusal::NotFound
                    | Refusal::AlreadyExists
                    | Refusal::Conflict
                    | Refusal::NamespaceEnding
                    | Refusal::Transient,
                )
                | None,
            ) => return None,
        };
        Some(WriteProblem {
            reason,
            message: self.to_string(),
        })
    }

    /// Returns whether the API server asks the client to wait (429). Then the operator tries again
    /// later, and a status write would only add load.
    fn is_throttled(&self) -> bool {
        self.call()
            .is_some_and(|call| call.code() == Some(TOO_MANY_REQUESTS))
    }
}

/// The dependencies of a write, besides the plan.
pub struct Writer<'a> {
    /// The client that writes.
    pub client: &'a Client,
    /// The streams to the coordinators.
    pub streams: &'a RunStreams,
    /// The key that tokens are derived from.
    pub signing_key: &'a SigningKey,
    /// The job for which it writes.
    pub job: &'a JobIdentity,
}

impl<'a> Writer<'a> {
    /// Returns a writer for one job.
    pub fn new(context: &'a Context, job: &'a JobIdentity) -> Self {
        Self {
            client: &context.client,
            streams: &context.streams,
            signing_key: &context.signing_key,
            job,
        }
    }
}

impl Writer<'_> {
    /// Lets the coordinator end the job.
    fn end_run(&self, action: &Action) {
        if let Action::EndRun {
            generation,
            reason,
            message,
            removes_output,
        } = action
        {
            let why = (reason.as_str(), message.as_str());
            let streams = &self.streams;
            streams.end_run(&self.job.uid, *generation, why, *removes_output);
        }
    }

    /// Executes one action.
    pub async fn apply(&self, action: &Action) -> Result<(), Error> {
        match action {
            Action::CreateRoot { frozen } => {
                let document = frozen.to_json().map_err(|source| Error::Freeze {
                    name: frozen.name.clone(),
                    source,
                })?;
                let root = root_config_map::build(frozen, document);
                self.create::<ConfigMap>("ConfigMap", root, &self.job.uid)
                    .await
            }
            Action::MarkRoot { generation, uid } => self.mark_root(*generation, uid).await,
            Action::CreateTokenSecret { frozen, root_uid } => {
                let token = self.signing_key.token(&frozen.uid, frozen.generation);
                self.create_secret(token_secret::build(frozen, root_uid, token.expose()))
                    .await
            }
            Action::CreateService { frozen, root_uid } => {
                self.create::<Service>("Service", service::build(frozen, root_uid), root_uid)
                    .await
            }
            Action::CreateCoordinator {
                frozen,
                root_uid,
                spot_provider,
            } => {
                let deployment = coordinator_deployment::build(frozen, root_uid, *spot_provider);
                self.create::<Deployment>("Deployment", deployment, root_uid)
                    .await
            }
            Action::CreateWorkers {
                frozen,
                root_uid,
                replicas,
            } => {
                let set = worker_stateful_set::build(frozen, root_uid, *replicas);
                self.create::<StatefulSet>("StatefulSet", set, root_uid)
                    .await
            }
            Action::MendService { name, uid, patch } => self.mend_service(name, uid, patch).await,
            Action::ScaleCoordinator { name, uid, .. } => {
                let patch = serde_json::json!({"metadata": {"uid": uid}, "spec": {"replicas": 1}});
                let patched = self.patch::<Deployment>(name, patch).await;
                patched.map_err(|source| self.not_scaled("Deployment", name, source))
            }
            Action::ScaleWorkers {
                generation,
                name,
                uid,
                to,
                ..
            } => {
                self.streams.keep_workers(&self.job.uid, *generation, *to);
                self.scale(name, uid, *to).await
            }
            Action::ForceDeletePod { name, uid } => self.force_delete(name, uid).await,
            Action::ReportPodEnds { generation, ends } => {
                self.streams
                    .report_pod_ends(&self.job.uid, *generation, ends);
                Ok(())
            }
            Action::AcknowledgeResult { generation, epoch } => {
                self.streams
                    .acknowledge_result(&self.job.uid, *generation, *epoch);
                Ok(())
            }
            Action::EndRun { .. } => {
                self.end_run(action);
                Ok(())
            }
            Action::DeleteRoot { name, uid } => {
                let parameters = DeleteParams::background().preconditions(only(uid, None));
                let deleted = self.delete::<ConfigMap>(name, &parameters).await;
                deleted.map_err(|source| Error::DeleteRoot {
                    namespace: self.namespace(),
                    name: name.clone(),
                    source,
                })
            }
            Action::DeleteJob {
                name,
                uid,
                resource_version,
            } => {
                let parameters =
                    DeleteParams::background().preconditions(only(uid, Some(resource_version)));
                let deleted = self.delete::<ZephyrJob>(name, &parameters).await;
                deleted.map_err(|source| Error::DeleteJob {
                    namespace: self.namespace(),
                    name: name.clone(),
                    source,
                })
            }
        }
    }

    /// Restores the labels and the owner by which the watches recognize a root.
    async fn mark_root(&self, generation: u32, uid: &str) -> Result<(), Error> {
        let name = names::generation_root(&self.job.name, generation);
        let mark = root_config_map::mark(&self.job.name, &self.job.uid, generation);
        let patch = serde_json::json!({"metadata": {
            "uid": uid, "labels": mark.labels, "ownerReferences": mark.owner_references,
        }});
        let patched = self.patch::<ConfigMap>(&name, patch).await;
        patched.map_err(|source| Error::MarkRoot {
            namespace: self.namespace(),
            name,
            source,
        })
    }

    /// Makes an edited Service select the coordinator again.
    async fn mend_service(
        &self,
        name: &str,
        uid: &str,
        spec: &serde_json::Value,
    ) -> Result<(), Error> {
        let patch = serde_json::json!({"metadata": {"uid": uid}, "spec": spec});
        let patched = self.patch::<Service>(name, patch).await;
        patched.map_err(|source| Error::MendService {
            namespace: self.namespace(),
            name: name.to_owned(),
            source,
        })
    }

    /// Deletes by force a pod that its node cannot end.
    async fn force_delete(&self, name: &str, uid: &str) -> Result<(), Error> {
        let parameters = DeleteParams::default()
            .grace_period(0)
            .preconditions(only(uid, None));
        match self.delete::<Pod>(name, &parameters).await {
            // Another pod has this name, so the pod was replaced.
            Err(source) if source.refusal() == Refusal::Conflict => Ok(()),
            deleted => deleted.map_err(|source| Error::ForceDelete {
                namespace: self.namespace(),
                name: name.to_owned(),
                source,
            }),
        }
    }

    /// Writes `status` over the version of the job from which it was computed, and returns the job
    /// as it is after the write, if it can be read.
    pub async fn write_status(
        &self,
        mut job: ZephyrJob,
        status: ZephyrJobStatus,
    ) -> Result<Option<ZephyrJob>, Error> {
        job.status = Some(status);
        job.metadata.managed_fields = None;
        let failed = |source| Error::WriteStatus {
            namespace: self.namespace(),
            name: self.job.name.clone(),
            source,
        };
        let body = serde_json::to_vec(&job).map_err(|error| failed(not_sent(error)))?;
        let parameters = post_parameters();
        let request = self.requests::<ZephyrJob>().replace_subresource(
            "status",
            &self.job.name,
            &parameters,
            body,
        );
        let written: Seen<SeenJob> = self.send(request).await.map_err(failed)?;
        // If it cannot be read, the watch delivers it again, with an event.
        Ok(written.facts.and_then(|seen| seen.document().ok()))
    }

    /// Creates an object whose owner has `owner_uid`. An existing object must have the same owner.
    async fn create<K>(&self, kind: &'static str, object: K, owner_uid: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize,
    {
        let name = object.name_any();
        let namespace = self.namespace();
        let failed = |source| Error::Create {
            kind,
            namespace: self.namespace(),
            name: object.name_any(),
            source,
        };
        let source = match self.post(&object).await {
            Ok(()) => return Ok(()),
            Err(source) if source.refusal() == Refusal::AlreadyExists => source,
            Err(source) => return Err(failed(source)),
        };
        // The API server also gives this answer if an earlier create succeeded and its answer was
        // lost.
        let request = self.requests::<K>().get(&name, &GetParams::default());
        let existing = match self.send::<Existing>(request).await {
            Ok(existing) => existing.metadata,
            // The object was deleted in between; the next reconcile creates it.
            Err(error) if error.refusal() == Refusal::NotFound => return Err(failed(source)),
            Err(error) => return Err(failed(error)),
        };
        let is_ours = existing
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.uid == owner_uid);
        if existing.deletion_timestamp.is_some() {
            return Err(Error::StillThere {
                kind,
                namespace,
                name,
            });
        }
        if !is_ours {
            return Err(Error::Collide {
                kind,
                namespace,
                name,
            });
        }
        if !existing.is_marked_as(object.meta()) {
            return Err(Error::Unmarked {
                kind,
                namespace,
                name,
            });
        }
        Ok(())
    }

    /// Creates the token's Secret. The name contains the job's uid and generation, so an existing
    /// Secret of this name belongs to them.
    async fn create_secret(&self, secret: Secret) -> Result<(), Error> {
        match self.post(&secret).await {
            Ok(()) => Ok(()),
            Err(source) if source.refusal() == Refusal::AlreadyExists => Ok(()),
            Err(source) => Err(Error::Create {
                kind: "Secret",
                namespace: self.namespace(),
                name: secret.name_any(),
                source,
            }),
        }
    }

    async fn scale(&self, name: &str, uid: &str, to: u32) -> Result<(), Error> {
        let annotations = worker_stateful_set::scaled_to(to);
        let patch = serde_json::json!({
            "metadata": {"uid": uid, "annotations": annotations}, "spec": {"replicas": to},
        });
        let patched = self.patch::<StatefulSet>(name, patch).await;
        patched.map_err(|source| self.not_scaled("StatefulSet", name, source))
    }

    fn not_scaled(&self, kind: &'static str, name: &str, source: CallError) -> Error {
        Error::Scale {
            kind,
            namespace: self.namespace(),
            name: name.to_owned(),
            source,
        }
    }

    /// Patches an object. The uid in `patch` is a precondition: if another object has this name,
    /// the API server refuses the patch with 422.
    async fn patch<K>(&self, name: &str, patch: serde_json::Value) -> Result<(), CallError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let parameters = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let request = self
            .requests::<K>()
            .patch(name, &parameters, &Patch::Merge(&patch));
        self.send::<Unread>(request).await.map(drop)
    }

    /// Deletes an object; a missing object counts as deleted. If the API server answers with a
    /// conflict, the job is reconciled again, because the object may have been replaced or changed.
    /// The API server gives the same answer if it had no time to delete the object.
    async fn delete<K>(&self, name: &str, parameters: &DeleteParams) -> Result<(), CallError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let request = self.requests::<K>().delete(name, parameters);
        match self.send::<Unread>(request).await {
            Ok(_) => Ok(()),
            Err(error) if error.refusal() == Refusal::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn post<K>(&self, object: &K) -> Result<(), CallError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize,
    {
        let body = serde_json::to_vec(object).map_err(not_sent)?;
        let request = self.requests::<K>().create(&post_parameters(), body);
        self.send::<Unread>(request).await.map(drop)
    }

    fn requests<K>(&self) -> Request
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Request::new(K::url_path(&(), Some(&self.job.namespace)))
    }

    /// Sends a request, and reads from the answer only the fields of `T`, so the nesting of the
    /// other fields does not matter.
    async fn send<T: DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, request::Error>,
    ) -> Result<T, CallError> {
        bounded(self.client.request(request.map_err(not_built)?)).await
    }

    fn namespace(&self) -> String {
        self.job.namespace.clone()
    }
}

/// An answer whose content is not read; it may be any JSON.
type Unread = Box<RawValue>;

/// An existing object that has the name of the object to create.
#[derive(Deserialize)]
struct Existing {
    metadata: Metadata,
}

/// Returns the error of an object that cannot be written as JSON.
fn not_sent(error: serde_json::Error) -> CallError {
    not_built(request::Error::SerializeBody(error))
}

/// Returns the error of a request that cannot be built.
fn not_built(error: request::Error) -> CallError {
    CallError::Answer(Box::new(kube::Error::BuildRequest(error)))
}

fn only(uid: &str, resource_version: Option<&str>) -> Preconditions {
    let names_uid = !defect::is(Defect::DeleteWithoutUid);
    let resource_version = resource_version.filter(|_| !defect::is(Defect::StaleDelete));
    Preconditions {
        uid: names_uid.then(|| uid.to_owned()),
        resource_version: resource_version.map(str::to_owned),
    }
}

fn post_parameters() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(names::MANAGER.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::tests::answer;

    fn refused(code: u16, reason: &str, message: &str) -> Option<WriteProblem> {
        let (namespace, name) = ("team".to_owned(), "count-coordinator-g1".to_owned());
        Error::Create {
            kind: "Service",
            namespace,
            name,
            source: answer(code, reason, message),
        }
        .problem()
    }

    #[test]
    fn missing_rights_and_quota_are_distinguished_and_name_the_object() {
        let rights = "services is forbidden: User \"o\" cannot create resource \"services\" in API group \"\"";
        assert_eq!(
            refused(403, "Forbidden", rights),
            Some(WriteProblem {
                reason: Reason::Forbidden,
                message: format!("create Service team/count-coordinator-g1: {rights}"),
            })
        );
        let quota = refused(
            403,
            "Forbidden",
            "exceeded quota: none, requested: services=1",
        );
        assert_eq!(quota.map(|problem| problem.reason), Some(Reason::Blocked));
        let invalid = refused(422, "Invalid", "spec.ports: Required value");
        assert_eq!(invalid.map(|problem| problem.reason), Some(Reason::Blocked));
    }

    #[test]
    fn an_error_that_a_retry_removes_is_not_shown_to_users() {
        for (code, reason) in [
            (429, "TooManyRequests"),
            (409, "Conflict"),
            (404, "NotFound"),
        ] {
            assert_eq!(refused(code, reason, ""), None, "{code}");
        }
        let (namespace, name) = ("team".to_owned(), "count".to_owned());
        let source = answer(500, "InternalError", "etcd is away");
        let of_status = Error::WriteStatus {
            namespace,
            name,
            source,
        };
        assert_eq!(of_status.problem(), None);
    }

    #[test]
    fn a_server_that_fails_or_does_not_answer_is_shown_with_its_sentence() {
        let webhook = "Internal error occurred: failed calling webhook \"w\": connection refused";
        let range = "Internal error occurred: failed to allocate a serviceIP: range is full";
        for (code, reason, message) in [
            (500, "InternalError", webhook),
            (500, "InternalError", range),
            (503, "ServiceUnavailable", "the server is shutting down"),
            (504, "Timeout", "request did not complete within 10s"),
        ] {
            let expected = WriteProblem {
                reason: Reason::Blocked,
                message: format!("create Service team/count-coordinator-g1: {message}"),
            };
            assert_eq!(refused(code, reason, message), Some(expected), "{code}");
        }
        let scale = Error::Scale {
            kind: "StatefulSet",
            namespace: "team".to_owned(),
            name: "count-workers-g1".to_owned(),
            source: CallError::Timeout,
        };
        assert_eq!(
            scale.problem().map(|problem| problem.message).as_deref(),
            Some("scale StatefulSet team/count-workers-g1: no answer within 10 s")
        );
    }

    #[test]
    fn a_child_that_the_watches_do_not_recognize_does_not_count_as_created() {
        let frozen = crate::children::tests::frozen(serde_json::json!({}));
        let wanted = service::build(&frozen, "root-uid").metadata;
        let made: Metadata = serde_json::from_value(serde_json::json!(wanted)).unwrap();
        let mut defaulted = made.clone();
        defaulted.uid = Some("uid".to_owned());
        let labels = defaulted.labels.get_or_insert_default();
        labels.insert("team".to_owned(), "x".to_owned());
        assert!(defaulted.is_marked_as(&wanted));
        let changes: [fn(&mut Metadata); 3] = [
            |metadata| drop(metadata.labels.take()),
            |metadata| {
                let labels = metadata.labels.get_or_insert_default();
                labels.insert(names::LABEL_GENERATION.to_owned(), "7".to_owned());
            },
            |metadata| metadata.owner_references.get_or_insert_default()[0].controller = None,
        ];
        for change in changes {
            let mut other = made.clone();
            change(&mut other);
            assert!(!other.is_marked_as(&wanted), "{other:?}");
        }
        let (namespace, name) = ("team".to_owned(), "count-coordinator-g1".to_owned());
        let error = Error::Unmarked {
            kind: "Service",
            namespace,
            name,
        };
        assert_eq!(
            error.problem().map(|problem| problem.reason),
            Some(Reason::Blocked)
        );
    }

    #[test]
    fn a_foreign_object_in_the_way_is_named() {
        let (namespace, name) = ("team".to_owned(), "count-workers-g1".to_owned());
        let problem = Error::Collide {
            kind: "StatefulSet",
            namespace,
            name,
        }
        .problem()
        .unwrap();
        assert_eq!(problem.reason, Reason::Blocked);
        assert!(problem.message.starts_with(
            "create StatefulSet team/count-workers-g1: an object with this name exists"
        ));
    }
}
