//! `kubectl zephyr explain NAME`: what a job is doing, or why it does not run, each cause in one
//! sentence with what to do. The causes come from its status, its pods and its events. Changes
//! nothing in the cluster.

mod advice;
mod pods;

use std::fmt::Write as _;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::json;
use zephyr_crds::conditions::{Condition, ConditionStatus, ConditionType};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::status::FailureStatus;

use self::advice::advice;
use crate::cluster::{Found, Target};
use crate::events;
use crate::output::Data;
use crate::status::{condition, describe_workers, failed_task, reason};
use crate::terminal::{note, print, printable};

/// The largest number of causes that are shown.
const MAX_CAUSES: usize = 12;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The format of the result; default: lines for people.
    #[arg(short, long)]
    output: Option<Data>,
}

/// Why a job does not run, or not as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The cause as one word.
    pub(crate) reason: String,
    /// The cause as one sentence.
    pub(crate) message: String,
    /// The part of the sentence that Kubernetes wrote. A condition may repeat it.
    pub(crate) words: String,
    /// What to do; empty if there is nothing to do.
    pub(crate) action: String,
}

/// Prints the explanation.
pub(crate) async fn explain(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    let pods = found.pods().await;
    let events = events::of_job(&found).await;
    // Some users may read jobs but not pods or events. What status says is shown all the same.
    for error in [pods.as_ref().err(), events.as_ref().err()]
        .into_iter()
        .flatten()
    {
        note(&format!("some causes may be missing: {error:#}"));
    }
    let (pods, events) = (pods.unwrap_or_default(), events.unwrap_or_default());
    let (doing, causes) = (doing(&found.job), causes(&found.job, &pods, &events));
    match options.output {
        Some(format) => {
            let causes = causes.iter().map(|cause| {
                json!({"reason": cause.reason, "message": cause.message, "action": cause.action})
            });
            print(&format.text(&json!({
                "namespace": found.namespace,
                "name": found.real_name(),
                "doing": doing,
                "causes": causes.collect::<Vec<_>>(),
                "failure": failure_of(&found),
            })))?;
        }
        None => print(&format!(
            "{}{}",
            page(&found, &doing, &causes),
            failure_of(&found).map_or(String::new(), last_lines)
        ))?,
    }
    Ok(())
}

/// The attempt that ended the job, if status has one.
fn failure_of(found: &Found) -> Option<&FailureStatus> {
    found.job.status.as_ref()?.failure.as_ref()
}

/// What the attempt that ended the job logged last. Pure.
fn last_lines(failure: &FailureStatus) -> String {
    let task = printable(&failed_task(failure));
    if failure.log.is_empty() {
        return format!("- failed last: {task}; it logged nothing\n");
    }
    let lines = failure.log.lines();
    let lines: Vec<_> = lines
        .map(|line| format!("  | {}\n", printable(line)))
        .collect();
    format!(
        "- failed last: {task}; it logged at its end:\n{}",
        lines.concat()
    )
}

fn page(found: &Found, doing: &str, causes: &[Cause]) -> String {
    let mut page = format!("{}/{} {}\n", found.namespace, found.name, printable(doing));
    for cause in causes {
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "- {}: {}",
            printable(&cause.reason),
            printable(&cause.message)
        );
        if !cause.action.is_empty() {
            let _ = writeln!(page, "  what to do: {}", printable(&cause.action));
        }
    }
    page
}

/// What the job is doing, as the rest of a sentence that begins with its name. Pure.
fn doing(job: &ZephyrJob) -> String {
    let status = job.status.clone().unwrap_or_default();
    let Some(phase) = status.phase else {
        return "was not seen by the operator yet".to_owned();
    };
    let mut parts = vec![format!("is in the phase {}", phase.as_str())];
    if phase.is_final() {
        let outputs = status.outputs.map(|outputs| {
            format!(
                "it wrote {} files with {} records",
                outputs.files, outputs.rows
            )
        });
        parts.extend(outputs);
        return parts.join("; ");
    }
    if let Some(stage) = &status.stage {
        let progress = status
            .progress
            .map(|progress| format!(", {progress} of all tasks are done"));
        parts.push(format!(
            "stage {}: {} tasks are done, {} run{}",
            stage.name,
            stage.summary,
            stage.running,
            progress.unwrap_or_default()
        ));
    }
    let workers = status.workers.as_ref();
    parts.extend(workers.map(|workers| format!("workers: {}", describe_workers(workers))));
    parts.extend(workers.and_then(|workers| workers.why.clone()));
    parts.join("; ")
}

/// Every cause that is known, the most important first. Pure.
fn causes(job: &ZephyrJob, pods: &[Pod], events: &[Event]) -> Vec<Cause> {
    let status = job.status.clone().unwrap_or_default();
    let mut causes = Vec::new();
    if status.phase.is_none() {
        causes.push(unseen());
    }
    let main = reason(&status);
    let others = [
        ConditionType::Accepted,
        ConditionType::Suspended,
        ConditionType::CoordinatorReady,
        ConditionType::WorkersReady,
        ConditionType::Degraded,
    ];
    let others = others
        .into_iter()
        .filter_map(|kind| condition(&status, kind));
    let others = others.filter(|one| is_trouble(one));
    // After the end only the result counts: no pod has to be ready any more.
    let others = others.filter(|one| !status.is_final() || one.r#type == ConditionType::Degraded);
    causes.extend(main.map(|main| of_condition(main, job)));
    for found in others {
        let cause = of_condition(found, job);
        // Pods that are not ready because the job begins are no cause.
        let is_beginning = found.r#type != ConditionType::Degraded && cause.action.is_empty();
        if !is_beginning {
            push(&mut causes, cause);
        }
    }
    if !status.is_final() {
        for cause in pods::causes(pods, events) {
            push(&mut causes, cause);
        }
    }
    causes.truncate(MAX_CAUSES);
    causes
}

fn is_trouble(condition: &Condition) -> bool {
    let is_bad_if_true = matches!(
        condition.r#type,
        ConditionType::Degraded | ConditionType::Suspended
    );
    match condition.status {
        ConditionStatus::True => is_bad_if_true,
        ConditionStatus::False => !is_bad_if_true,
        ConditionStatus::Unknown => true,
    }
}

/// Adds a cause, unless its sentence is there already. The operator repeats the words of events.
fn push(causes: &mut Vec<Cause>, cause: Cause) {
    let is_there = causes
        .iter()
        .any(|other| other.message.contains(&cause.words));
    if !is_there && !cause.words.is_empty() {
        causes.push(cause);
    }
}

fn of_condition(condition: &Condition, job: &ZephyrJob) -> Cause {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    Cause {
        reason: condition.reason.as_str().to_owned(),
        message: condition.message.clone(),
        words: condition.message.clone(),
        action: advice(condition.reason, name, namespace),
    }
}

fn unseen() -> Cause {
    Cause {
        reason: "NotSeen".to_owned(),
        message: "the operator has not written a status of this job".to_owned(),
        words: String::new(),
        action: "if this lasts for more than a minute, check that an operator runs and watches this namespace: kubectl get deployment -A -l app.kubernetes.io/component=operator,app.kubernetes.io/part-of=zephyr".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::fold::tests::event;
    use crate::status::tests::job_with;
    use serde_json::Value;
    use zephyr_crds::conditions::Reason;

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    fn reasons(causes: &[Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.reason.as_str()).collect()
    }

    #[test]
    fn a_job_that_no_operator_saw_says_where_to_look() {
        let job = job_with("a", &json!({}));
        assert_eq!(doing(&job), "was not seen by the operator yet");
        let causes = causes(&job, &[], &[]);
        assert_eq!(reasons(&causes), ["NotSeen"]);
        assert!(causes[0].action.contains("kubectl get deployment"));
    }

    #[test]
    fn a_waiting_job_names_the_cause_once_in_the_words_of_the_operator() {
        let words = "0/3 nodes are available: 3 Insufficient cpu.";
        let said = format!("a-workers-g1-0 and 2 more pods wait for a node: {words}");
        let job = job_with(
            "a",
            &json!({"phase": "WaitingForWorkers", "conditions": [
                condition("Progressing", "False", "WaitingForCapacity", &said),
                condition("WorkersReady", "False", "WaitingForCapacity", &said),
                condition("Degraded", "True", "WaitingForCapacity", &said),
                condition("CoordinatorReady", "False", "Starting", "the coordinator starts"),
            ]}),
        );
        let events = [event("Pod/a-workers-g1-0", "FailedScheduling", words, 3)];
        let causes = causes(&job, &[], &events);
        assert_eq!(reasons(&causes), ["WaitingForCapacity"]);
        assert!(causes[0].action.contains("resources"), "{causes:?}");
    }

    #[test]
    fn a_pod_that_waits_is_not_named_again_after_the_operator_named_it() {
        let waits = json!({"metadata": {"name": "p"}, "status": {"phase": "Pending", "containerStatuses": [{
            "name": "zephyr", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state":
                {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"s\" not found"}},
        }]}});
        let pod: Pod = serde_json::from_value(waits).expect("a pod");
        let said = "coordinator pod p cannot start: secret \"s\" not found; create it in the job's namespace";
        let job = job_with(
            "a",
            &json!({"phase": "Pending", "conditions": [
                condition("Progressing", "False", "ReferenceNotFound", said),
            ]}),
        );
        assert_eq!(
            reasons(&causes(&job, std::slice::from_ref(&pod), &[])),
            ["ReferenceNotFound"]
        );
        let other = job_with("a", &json!({"phase": "Pending"}));
        let found = causes(&other, &[pod], &[]);
        assert_eq!(reasons(&found), ["CreateContainerConfigError"]);
    }

    #[test]
    fn what_only_events_say_is_added_with_the_numbers_of_the_quota() {
        let job = job_with(
            "a",
            &json!({"phase": "Pending", "conditions": [
                condition("Progressing", "True", "Starting", "generation 1 starts"),
            ]}),
        );
        let words = "create Pod a-workers-g1-3 in StatefulSet a-workers-g1 failed error: pods \"a-workers-g1-3\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3";
        let events = [event("StatefulSet/a-workers-g1", "FailedCreate", words, 3)];
        let causes = causes(&job, &[], &events);
        assert_eq!(reasons(&causes), ["Starting", "FailedCreate"]);
        assert!(causes[1].message.contains("used: pods=3, limited: pods=3"));
        assert!(causes[1].action.contains("quota"));
    }

    #[test]
    fn after_the_end_only_the_result_is_explained() {
        let job = job_with(
            "a",
            &json!({"phase": "Failed", "conditions": [
                condition("Failed", "True", "TaskFailed", "stage 1: no JSON"),
                condition("WorkersReady", "False", "TaskFailed", "the job has ended"),
            ]}),
        );
        let events = [event(
            "Pod/a-workers-g1-0",
            "FailedScheduling",
            "no room",
            3,
        )];
        assert_eq!(reasons(&causes(&job, &[], &events)), ["TaskFailed"]);
    }

    #[test]
    fn a_job_that_runs_has_no_advice() {
        for reason in [Reason::Running, Reason::Starting] {
            assert_eq!(advice(reason, "a", "team"), "");
        }
        assert_eq!(
            advice(Reason::Suspended, "a", "team"),
            "`kubectl zephyr resume a -n team` continues it"
        );
    }
}
