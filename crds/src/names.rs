//! Names and labels of a job's children. Pure text: creates nothing.

/// API group of the custom resource, and prefix of our labels and annotations.
pub const GROUP: &str = "zephyr.dev";

/// The prefix of labels and annotations that only the operator sets.
pub const RESERVED_PREFIX: &str = "zephyr.dev/";

/// The longest name of a job. The name of a `StatefulSet` may have 52 characters; `-workers-g`
/// takes 10 of them and the generation up to 4.
pub const MAX_JOB_NAME: usize = 38;

/// The highest number of a generation: four digits fit into the children's names.
pub const MAX_GENERATION: u32 = 9999;

/// Label: the job's name.
pub const LABEL_JOB: &str = "zephyr.dev/job";
/// Label: the job's uid.
pub const LABEL_JOB_UID: &str = "zephyr.dev/job-uid";
/// Label: the generation, a decimal number.
pub const LABEL_GENERATION: &str = "zephyr.dev/generation";
/// Label: the application, always [`APPLICATION`].
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Label: the instance, the job's name.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Annotation of the workers' `StatefulSet`: the number of workers that the operator last
/// requested, in decimal.
pub const ANNOTATION_SCALED_TO: &str = "zephyr.dev/scaled-to";
/// Label: one of the `COMPONENT_` constants.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: who manages the object, always [`MANAGER`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: what the object is a part of, always [`APPLICATION`].
pub const LABEL_PART_OF: &str = "app.kubernetes.io/part-of";

/// Value of [`LABEL_NAME`] and [`LABEL_PART_OF`].
pub const APPLICATION: &str = "zephyr";
/// Value of [`LABEL_MANAGED_BY`], and the operator's field manager.
pub const MANAGER: &str = "zephyr-operator";
/// Value of `spec.managedBy` that means this operator.
pub const OPERATOR: &str = "zephyr.dev/operator";
/// Longest value of `spec.managedBy`, as for a Job of Kubernetes.
pub const MAX_MANAGER: usize = 63;
/// Value of [`LABEL_COMPONENT`] on the generation's root.
pub const COMPONENT_ROOT: &str = "generation";
/// Value of [`LABEL_COMPONENT`] on the coordinator's objects.
pub const COMPONENT_COORDINATOR: &str = "coordinator";
/// Value of [`LABEL_COMPONENT`] on the workers' objects.
pub const COMPONENT_WORKER: &str = "worker";

/// Key of the root `ConfigMap` that holds the [frozen job](crate::frozen::FrozenJob).
pub const FROZEN_JOB_KEY: &str = "job.json";
/// Key of the token Secret.
pub const TOKEN_KEY: &str = "token";
/// Port of the coordinator's gRPC server.
pub const COORDINATOR_PORT: u16 = 7070;
/// Port of `/healthz`, `/readyz` and `/metrics` in both roles' pods.
pub const ADMIN_PORT: u16 = 8081;

/// Returns the generation that the value of a label names. Returns `None` if operators never write
/// such a value.
pub fn parse_generation(label: &str) -> Option<u32> {
    let number = label.parse().ok()?;
    (1..=MAX_GENERATION).contains(&number).then_some(number)
}

/// The immutable `ConfigMap` that owns everything else of generation `n`.
pub fn generation_root(job: &str, n: u32) -> String {
    format!("{job}-g{n}")
}

/// The coordinator's Service and Deployment.
pub fn coordinator(job: &str, n: u32) -> String {
    format!("{job}-coordinator-g{n}")
}

/// The workers' `StatefulSet`.
pub fn workers(job: &str, n: u32) -> String {
    format!("{job}-workers-g{n}")
}

/// The label selector that matches a job's worker pods in all generations.
pub fn worker_selector(uid: &str) -> String {
    format!("{LABEL_JOB_UID}={uid},{LABEL_COMPONENT}={COMPONENT_WORKER}")
}

/// The address of the coordinator of generation `n` inside the cluster.
pub fn coordinator_address(job: &str, namespace: &str, n: u32) -> String {
    format!(
        "http://{}.{namespace}.svc:{COORDINATOR_PORT}",
        coordinator(job, n)
    )
}

/// Environment variable of a job's pods. Its value is the name of the Secret that should contain
/// the job's credentials. Error messages name the Secret if it does not contain any.
pub const CREDENTIALS_SECRET_VARIABLE: &str = "ZEPHYR_CREDENTIALS_SECRET";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_seed_4494_children_carry_the_generation_at_the_end_of_their_name() {
        assert_eq!(generation_root("count", 2), "count-g2");
        assert_eq!(coordinator("count", 2), "count-coordinator-g2");
        assert_eq!(workers("count", 2), "count-workers-g2");
        assert_eq!(
            coordinator_address("count", "team", 2),
            "http://count-coordinator-g2.team.svc:7070"
        );
    }

    #[test]
    fn a_generation_is_read_from_its_label_but_not_an_impossible_number() {
        for (label, number) in [("1", 1), ("9999", 9999)] {
            assert_eq!(parse_generation(label), Some(number));
        }
        for label in ["0", "10000", "4294967295", "4294967296", "-1", "x", ""] {
            assert_eq!(parse_generation(label), None, "{label:?}");
        }
    }

    #[test]
    fn the_longest_job_name_leaves_room_for_four_digits_of_generation_in_a_stateful_set() {
        assert_eq!(workers(&"x".repeat(MAX_JOB_NAME), 9999).len(), 52);
    }
}
