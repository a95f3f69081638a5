//! `kubectl zephyr suspend`, `resume`, `cancel` and `restart`: set the fields of a job's spec that
//! pause it, end it early or run it again. The operator does the rest; these commands do not wait
//! for it.

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use zephyr_crds::duration::DurationText;
use zephyr_crds::field_error::FieldError;
use zephyr_crds::job::ZephyrJobSpec;
use zephyr_crds::life::SuspendMode;
use zephyr_crds::status::{Phase, ZephyrJobStatus};
use zephyr_crds::validate;

use crate::cluster::{Found, Target};
use crate::terminal::print;

#[derive(clap::Args)]
pub(crate) struct SuspendOptions {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Stop running tasks at once. They run again after `resume`.
    #[arg(long)]
    now: bool,
    /// The time that tasks get to end before they are stopped, such as 10m; default:
    /// spec.suspendPolicy.drainTimeout, or 2m.
    #[arg(long, conflicts_with = "now", value_parser = drain_timeout, allow_hyphen_values = true)]
    drain_timeout: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct ResumeOptions {
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(clap::Args)]
pub(crate) struct CancelOptions {
    #[command(flatten)]
    pub(crate) target: Target,
    /// End the job without its coordinator. The folder of the output stays claimed.
    #[arg(long)]
    now: bool,
    /// Remove the files of the output that the job has completed, and its dead letters. The job
    /// cannot be restarted after that.
    #[arg(long, conflicts_with = "now")]
    remove_output: bool,
    /// The reason, for people who look at the job later.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(clap::Args)]
pub(crate) struct RestartOptions {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The new value of spec.restart, which must differ from the last one; default: the time in
    /// seconds.
    #[arg(long)]
    token: Option<String>,
}

/// Suspends a job.
pub(crate) async fn suspend(options: SuspendOptions) -> Result<()> {
    let found = options.target.find().await?;
    refuse_ended(&found, "suspended")?;
    let spec = suspension(options.now, options.drain_timeout.as_deref());
    let changed = found.change(&spec).await?;
    let what = after_suspend(&changed.spec, &changed.status.unwrap_or_default());
    say(&found, "is suspended", what)
}

/// Resumes a job.
pub(crate) async fn resume(options: ResumeOptions) -> Result<()> {
    let found = options.target.find().await?;
    refuse_ended(&found, "resumed")?;
    if !found.job.spec.suspend {
        return say(&found, "is not suspended", "nothing has changed");
    }
    let changed = found.change(&json!({"suspend": false})).await?;
    let what = after_resume(&changed.spec, &changed.status.unwrap_or_default());
    say(&found, "is resumed", what)
}

/// Cancels a job.
pub(crate) async fn cancel(options: CancelOptions) -> Result<()> {
    let found = options.target.find().await?;
    refuse_ended(&found, "cancelled")?;
    let mut spec = cancellation(&found.job.spec, options.now, &options.reason);
    if options.remove_output {
        spec["cancel"]["keepOutput"] = json!(false);
    }
    found.change(&spec).await?;
    let status = found.job.status.clone().unwrap_or_default();
    say(&found, "is cancelled", after_cancel(options.now, &status))
}

/// Checks a drain timeout before anything is changed.
fn drain_timeout(text: &str) -> Result<String, FieldError> {
    let fault = validate::drain_timeout("--drain-timeout", &DurationText::new(text));
    fault.map_or_else(|| Ok(text.to_owned()), Err)
}

/// Restarts a failed job.
pub(crate) async fn restart(options: RestartOptions) -> Result<()> {
    let found = options.target.find().await?;
    let (name, namespace) = (&found.name, &found.namespace);
    let status = found.job.status.clone().unwrap_or_default();
    let why = match status.phase {
        Some(Phase::Failed) => None,
        Some(Phase::Succeeded) => Some("has succeeded; create a new job to run its pipeline again"),
        Some(_) | None => Some("has not ended; only a job that has failed can be restarted"),
    };
    if let Some(why) = why {
        bail!("job {namespace}/{name} {why}");
    }
    let token = options.token.unwrap_or_else(seconds_now);
    let last = status.restart.map(|restart| restart.token);
    if last.as_ref() == Some(&token) {
        bail!("--token: is the value of the last restart (got {token}); another text is needed");
    }
    let changed = found.change(&revival(&token)).await?;
    say(&found, "is restarted", after_restart(&changed.spec))
}

/// What a restarted job does next.
fn after_restart(spec: &ZephyrJobSpec) -> &'static str {
    if spec.suspend {
        "it stays suspended until it is resumed, because spec.suspend is true"
    } else {
        "its next generation begins when its turn has come"
    }
}

/// The time as a number of seconds since 1970.
fn seconds_now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since
        .map_or(0, |since: Duration| since.as_secs())
        .to_string()
}

/// The fields of the spec that restart a job. `spec.cancel` is removed, because it would end the
/// job again.
fn revival(token: &str) -> Value {
    json!({"restart": token, "cancel": null})
}

/// The fields of the spec that suspend a job.
fn suspension(now: bool, drain_timeout: Option<&str>) -> Value {
    let mut spec = json!({"suspend": true});
    if now {
        spec["suspendPolicy"] = json!({"mode": "Immediate"});
    } else if let Some(drain_timeout) = drain_timeout {
        spec["suspendPolicy"] = json!({"mode": "Drain", "drainTimeout": drain_timeout});
    }
    spec
}

/// The fields of the spec that cancel a job. If no reason is given now, an earlier reason stays.
fn cancellation(spec: &ZephyrJobSpec, now: bool, reason: &str) -> Value {
    let mode = if now { "Immediate" } else { "Graceful" };
    let before = spec.cancel.as_ref();
    let reason = match before {
        Some(before) if reason.is_empty() => &before.reason,
        Some(_) | None => reason,
    };
    json!({"cancel": {"mode": mode, "reason": reason}})
}

/// What follows from `spec.suspend: true`.
fn after_suspend(spec: &ZephyrJobSpec, status: &ZephyrJobStatus) -> &'static str {
    if spec.cancel.is_some() {
        "it ends nevertheless, because it was cancelled"
    } else if status.suspended_since.is_some() {
        "it was suspended before"
    } else if !has_generation(status) {
        "it makes no pods until it is resumed"
    } else {
        // The mode may be Immediate without `--now`: the manifest may set it, or an earlier `--now`
        // did.
        match spec.suspend_policy.mode {
            SuspendMode::Immediate => {
                "its running tasks are stopped, because spec.suspendPolicy.mode is Immediate"
            }
            SuspendMode::Drain => "its running tasks may end, and no other task starts",
        }
    }
}

/// What follows from `spec.suspend: false`.
fn after_resume(spec: &ZephyrJobSpec, status: &ZephyrJobStatus) -> &'static str {
    if spec.cancel.is_some() {
        "it ends nevertheless, because it was cancelled"
    } else if has_generation(status) {
        "it goes on in the same generation, because it was not suspended yet"
    } else {
        "it continues when its turn has come"
    }
}

/// What follows from `spec.cancel`.
fn after_cancel(now: bool, status: &ZephyrJobStatus) -> &'static str {
    let coordinator = status.coordinator.as_ref();
    let has_reported = coordinator.is_some_and(|coordinator| coordinator.epoch.is_some());
    if now || !has_generation(status) {
        "it ends at once"
    } else if has_reported {
        "its coordinator ends it"
    } else {
        "its coordinator ends it, or the operator if no coordinator can"
    }
}

/// Returns whether a generation of the job runs, or waits after the loss of the one before.
fn has_generation(status: &ZephyrJobStatus) -> bool {
    let waits = status.queued_since.is_some() || status.suspended_since.is_some();
    status.generation.is_some() && !waits
}

fn refuse_ended(found: &Found, done: &str) -> Result<()> {
    let phase = found.job.status.as_ref().and_then(|status| status.phase);
    let Some(phase) = phase.filter(|phase| phase.is_final()) else {
        return Ok(());
    };
    let (how, instead) = if phase == Phase::Succeeded {
        ("has succeeded", "")
    } else {
        ("has failed", "; `kubectl zephyr restart` runs it again")
    };
    let (name, namespace) = (&found.name, &found.namespace);
    bail!("job {namespace}/{name} {how} and cannot be {done}{instead}");
}

fn say(found: &Found, done: &str, what: &str) -> Result<()> {
    let (name, namespace) = (&found.name, &found.namespace);
    print(&format!(
        "job {namespace}/{name} {done}: {what}\nsee `kubectl zephyr status {name} -n {namespace}`"
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use zephyr_crds::life::CancelSpec;

    use super::*;

    #[test]
    fn a_suspension_changes_the_policy_only_on_request() {
        assert_eq!(suspension(false, None), json!({"suspend": true}));
        let policy = |spec: Value| spec["suspendPolicy"].clone();
        assert_eq!(policy(suspension(true, None)), json!({"mode": "Immediate"}));
        assert_eq!(
            policy(suspension(false, Some("10m"))),
            json!({"mode": "Drain", "drainTimeout": "10m"})
        );
    }

    #[test]
    fn a_drain_timeout_is_checked_before_the_job_is_changed() {
        assert_eq!(drain_timeout("10m").unwrap(), "10m");
        for (text, words) in [
            ("-5m", "--drain-timeout: is not a duration"),
            ("5", "--drain-timeout: is not a duration"),
            (
                "25h",
                "--drain-timeout: is out of range (got 25h); must be 1s..24h",
            ),
        ] {
            let refused = drain_timeout(text).unwrap_err().to_string();
            assert!(refused.starts_with(words), "{refused}");
        }
    }

    #[test]
    fn a_restart_removes_the_cancellation() {
        let spec = revival("again");
        assert_eq!(spec, json!({"restart": "again", "cancel": null}));
    }

    fn spec() -> ZephyrJobSpec {
        let job = json!({
            "pipeline": {
                "source": {"items": {"values": [1], "shards": 1}},
                "sink": {"files": {"path": "s3://out/{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch"},
            "workers": {"replicas": 1},
        });
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn each_sentence_says_what_happens_in_this_state_of_the_job() {
        let time = "2026-01-01T00:00:00Z";
        let ends = "it ends nevertheless, because it was cancelled";
        let may_end = "its running tasks may end, and no other task starts";
        let makes_no_pods = "it makes no pods until it is resumed";
        let goes_on = "it goes on in the same generation, because it was not suspended yet";
        let turn = "it continues when its turn has come";
        let at_once = "it ends at once";
        let somebody = "its coordinator ends it, or the operator if no coordinator can";
        let running = json!({"generation": 1, "coordinator": {"restarts": 0, "epoch": 1}});
        let draining = json!({"generation": 1, "drainingSince": time, "coordinator": {"restarts": 0, "epoch": 1}});
        let cases = [
            (json!({}), makes_no_pods, turn, at_once),
            (json!({"queuedSince": time}), makes_no_pods, turn, at_once),
            (
                json!({"generation": 2, "queuedSince": time}),
                makes_no_pods,
                turn,
                at_once,
            ),
            (
                json!({"generation": 2, "suspendedSince": time}),
                "it was suspended before",
                turn,
                at_once,
            ),
            (json!({"generation": 1}), may_end, goes_on, somebody),
            (running, may_end, goes_on, "its coordinator ends it"),
            (draining, may_end, goes_on, "its coordinator ends it"),
        ];
        let mut cancelled = spec();
        cancelled.cancel = Some(CancelSpec::default());
        for (status, suspend, resume, cancel) in cases {
            let job: ZephyrJobStatus = serde_json::from_value(status.clone()).unwrap();
            assert_eq!(after_suspend(&spec(), &job), suspend, "{status}");
            assert_eq!(after_resume(&spec(), &job), resume, "{status}");
            assert_eq!(after_cancel(false, &job), cancel, "{status}");
            assert_eq!(after_cancel(true, &job), at_once, "{status}");
            assert_eq!(after_suspend(&cancelled, &job), ends, "{status}");
            assert_eq!(after_resume(&cancelled, &job), ends, "{status}");
        }
    }

    #[test]
    fn a_second_cancellation_keeps_the_reason_of_the_first() {
        let mut spec = spec();
        assert_eq!(
            cancellation(&spec, false, "wrong"),
            json!({"cancel": {"mode": "Graceful", "reason": "wrong"}})
        );
        spec.cancel = Some(CancelSpec {
            reason: "wrong".to_owned(),
            ..CancelSpec::default()
        });
        let again = cancellation(&spec, true, "");
        assert_eq!(
            again,
            json!({"cancel": {"mode": "Immediate", "reason": "wrong"}})
        );
    }
}
