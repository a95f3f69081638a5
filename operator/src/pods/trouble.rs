//! Finds the reason why a pod does not run, or repeatedly ends.
//!
//! Pure. `controller/diagnose.rs` makes the sentence for people.

use super::end::EXIT_CODE_SIGTERM;
use super::{ContainerEnd, ContainerRun, PodFacts};

/// The reason why a pod does not run, or repeatedly ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodTrouble {
    /// The scheduler finds no node for the pod.
    Unschedulable {
        /// Name of the pod.
        pod: String,
        /// The message of the scheduler.
        message: String,
    },
    /// The kubelet cannot pull the image.
    ImageError {
        /// Name of the pod.
        pod: String,
        /// The image.
        image: String,
        /// The message of the kubelet.
        message: String,
    },
    /// A Secret or `ConfigMap` that the pod names is missing.
    ReferenceNotFound {
        /// Name of the pod.
        pod: String,
        /// The message of the kubelet.
        message: String,
    },
    /// An init container that is not ours does not finish.
    InitContainer {
        /// Name of the pod.
        pod: String,
        /// Name of the init container.
        container: String,
        /// The kubelet's reason.
        reason: String,
        /// The message of the kubelet.
        message: String,
    },
    /// The main container repeatedly ends.
    Crashing {
        /// Name of the pod.
        pod: String,
        /// Exit code of its last process.
        exit_code: i32,
        /// The kubelet's reason.
        reason: String,
        /// How often it was restarted.
        restarts: i32,
    },
}

impl PodFacts {
    /// Returns the reason why the pod does not run, if people should know it.
    pub fn trouble(&self) -> Option<PodTrouble> {
        if self.deletion.is_some() {
            return None;
        }
        let pod = self.name.clone();
        if let Some(message) = &self.unschedulable {
            return Some(PodTrouble::Unschedulable {
                pod,
                message: message.clone(),
            });
        }
        match &self.container.state {
            ContainerRun::Waiting(explanation)
                if explanation.reason == "CreateContainerConfigError" =>
            {
                Some(PodTrouble::ReferenceNotFound {
                    pod,
                    message: explanation.message.clone(),
                })
            }
            ContainerRun::Waiting(explanation) if explanation.reason == "CrashLoopBackOff" => {
                Some(self.crashing())
            }
            ContainerRun::Waiting(explanation) if is_failure_to_start(&explanation.reason) => {
                Some(PodTrouble::ImageError {
                    pod,
                    image: self.image.clone(),
                    message: format!("{}: {}", explanation.reason, explanation.message),
                })
            }
            ContainerRun::Ended(end) if cannot_start(end) => Some(PodTrouble::ImageError {
                pod,
                image: self.image.clone(),
                message: format!(
                    "the container cannot be started ({}, exit code {})",
                    end.reason, end.exit_code
                ),
            }),
            ContainerRun::Ended(end)
                if end.exit_code != 0 && end.exit_code != EXIT_CODE_SIGTERM =>
            {
                Some(self.crashing())
            }
            ContainerRun::Waiting(_) | ContainerRun::Unknown => {
                let (container, explanation) = self.init_trouble.clone()?;
                Some(PodTrouble::InitContainer {
                    pod,
                    container,
                    reason: explanation.reason,
                    message: explanation.message,
                })
            }
            ContainerRun::Ended(_) | ContainerRun::Running { .. } => None,
        }
    }

    fn crashing(&self) -> PodTrouble {
        let end = match &self.container.state {
            ContainerRun::Ended(end) => Some(end),
            ContainerRun::Unknown | ContainerRun::Waiting(_) | ContainerRun::Running { .. } => {
                self.container.last_end.as_ref()
            }
        };
        if let Some(end) = end.filter(|end| cannot_start(end)) {
            return PodTrouble::ImageError {
                pod: self.name.clone(),
                image: self.image.clone(),
                message: format!(
                    "the container cannot be started ({}, exit code {})",
                    end.reason, end.exit_code
                ),
            };
        }
        PodTrouble::Crashing {
            pod: self.name.clone(),
            exit_code: end.map_or(0, |end| end.exit_code),
            reason: end.map_or_else(String::new, |end| end.reason.clone()),
            restarts: self.container.restarts,
        }
    }
}

/// Returns whether this reason of a waiting container is an error that does not disappear after a
/// moment.
pub(super) fn is_failure_to_start(reason: &str) -> bool {
    matches!(
        reason,
        "CrashLoopBackOff"
            | "ImagePullBackOff"
            | "ErrImagePull"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
    )
}

/// Returns whether the container's program is missing or made for another architecture. containerd
/// reports this as an end of the container, not as a reason for waiting.
fn cannot_start(end: &ContainerEnd) -> bool {
    end.reason == "StartError" || end.reason == "ContainerCannotRun"
}
