//! What to do about each reason of a condition. Pure.

use zephyr_crds::conditions::Reason;

/// What to do about a reason; empty if nothing has to be done.
pub(super) fn advice(reason: Reason, name: &str, namespace: &str) -> String {
    let text = match reason.as_str() {
        "SpecInvalid" => {
            "correct the field; `kubectl zephyr validate -f FILE` shows all errors at once"
        }
        "Queued" => {
            "nothing: its turn comes; the operator's administrator can raise maxStartingJobs"
        }
        "WaitingForWorkers" => {
            "nothing, if this lasts for less than a minute; otherwise look at `kubectl zephyr events NAME -n NAMESPACE`"
        }
        "WaitingForCapacity" => {
            "give the cluster more room, or lower spec.workers.resources, spec.workers.replicas or maxReplicas"
        }
        "Blocked" => {
            "if the sentence names a field, correct it; otherwise ask the administrator of the namespace for a larger quota or for the right, or lower spec.workers.replicas (or maxReplicas) and spec.workers.resources"
        }
        "ReferenceNotFound" => {
            "create the Secret or ConfigMap in the job's namespace, or correct its name in the spec"
        }
        "ImageError" => "correct the name of the image, or give the nodes the right to pull it",
        "StorageUnavailable" => {
            "check the bucket and the Secret that spec.storage names; the job continues by itself when the store answers, and if you change the Secret, delete the job's pods: `kubectl delete pod -l zephyr.dev/job=NAME -n NAMESPACE`"
        }
        "Backoff" => "nothing: the next generation starts by itself",
        "CoordinatorUnavailable"
        | "NoWorkersAlive"
        | "WorkersFailing"
        | "NoProgress"
        | "GenerationsExhausted" => {
            "look at `kubectl zephyr logs NAME -n NAMESPACE` and `kubectl zephyr history NAME -n NAMESPACE`"
        }
        "PlanFailed" => {
            "correct the field and change spec.restart in the same update; `kubectl zephyr plan -f FILE` repeats the check"
        }
        "TaskFailed" => {
            "if the sentence speaks of memory, raise spec.workers.resources, and for bad records add onError; change spec.restart in the same update. Corrected data, or a corrected step of which tasks are complete, need a new job"
        }
        "TaskTimedOut" => "raise spec.retries.taskTimeout, or split the input into more shards",
        "TaskDisrupted" => {
            "raise spec.retries.taskDisruptions, or run the workers on nodes that are taken away less often"
        }
        "OutputLost" | "LedgerDamaged" => {
            "find out who deletes or changes objects in the bucket, and create the job again"
        }
        "TooManySkipped" => {
            "raise onError.maxSkipped and change spec.restart in the same update; or correct the data and create a new job"
        }
        "Cancelled" => "`kubectl zephyr restart NAME -n NAMESPACE` runs it again",
        "StartDeadlineExceeded" => {
            "remove what the sentence names, or raise spec.startDeadlineSeconds, and create the job again"
        }
        "ManagedElsewhere" => "ask the controller that spec.managedBy names",
        "DeadlineExceeded" => "raise spec.activeDeadlineSeconds, or give the job more workers",
        "Suspended" => "`kubectl zephyr resume NAME -n NAMESPACE` continues it",
        "Forbidden" => "give the operator this right; its chart has the roles",
        "Deleting" => "remove the finalizer, if its owner does not",
        "OperatorFault" => {
            "report the message to the developers; the operator tries the job again later"
        }
        // Nothing is wrong, or the sentence itself says what to do.
        _ => "",
    };
    text.replace("NAMESPACE", namespace).replace("NAME", name)
}
