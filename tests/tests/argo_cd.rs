//! Runs the health script in `docs/argocd.md` as Argo CD runs it, on jobs from a real cluster. It
//! needs no cluster itself.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns the script in the page for users.
fn script() -> Result<String> {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/argocd.md"))?;
    let after = page.split_once("```lua\n").context("no Lua in the page")?.1;
    let script = after.split_once("```").context("the Lua has no end")?.0;
    Ok(script.to_owned())
}

/// Returns a stored job of a real cluster. `name` is the name of its file, such as
/// `returns.running`.
fn job(name: &str) -> Result<Value> {
    let path = Path::new(ROOT).join(format!("tests/releases/0.1.0/jobs/{name}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Returns what Argo CD shows about `object`: status and message.
fn shown(script: &Path, object: &Value) -> Result<(String, String)> {
    let mut program = Command::new("health")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("health is not on PATH: run `make test`, or `make cluster` and eval \"$(make -s cluster-env)\"")?;
    let mut input = program.stdin.take().context("no input")?;
    input.write_all(object.to_string().as_bytes())?;
    drop(input);
    let output = program.wait_with_output()?;
    ensure!(output.status.success(), "health failed on {object}");
    let health: Value = serde_json::from_slice(&output.stdout)?;
    let text = |field: &str| health[field].as_str().map(str::to_owned);
    Ok((
        text("status").context("no status")?,
        text("message").context("no message")?,
    ))
}

fn condition<'a>(job: &'a Value, name: &str) -> &'a Value {
    let all = job["status"]["conditions"].as_array();
    all.into_iter()
        .flatten()
        .find(|one| one["type"] == name)
        .unwrap_or(&Value::Null)
}

/// Returns the same job after an edit that the operator has not seen.
fn edited(mut job: Value) -> Value {
    let version = job["metadata"]["generation"].as_i64().unwrap_or(0);
    job["metadata"]["generation"] = json!(version + 1);
    job
}

/// Returns a job whose tasks are all done, and whose output is not complete yet.
fn succeeding() -> Result<Value> {
    let mut job = job("returns.running")?;
    job["status"]["phase"] = json!("Succeeding");
    let all = job["status"]["conditions"].as_array_mut();
    for one in all.context("no conditions")? {
        if one["type"] == "Progressing" {
            one["message"] = json!("completing the output");
        }
    }
    Ok(job)
}

/// Returns a job that is suspended, and of which no pod exists.
fn suspended() -> Result<Value> {
    let mut job = job("returns.running")?;
    job["status"]["phase"] = json!("Suspended");
    let all = job["status"]["conditions"].as_array_mut();
    all.context("no conditions")?.push(json!({
        "type": "Suspended", "status": "True", "reason": "Suspended", "message": "the job is suspended by spec.suspend",
    }));
    Ok(job)
}

/// Returns a job that ended because its spec was refused. Release 0.1.0 left such a job in the
/// phase `Pending`.
fn refused() -> Result<Value> {
    let mut job = job("invalid.refused")?;
    job["status"]["phase"] = json!("Failed");
    let all = job["status"]["conditions"].as_array_mut();
    for one in all.context("no conditions")? {
        if one["type"] == "Failed" {
            one["status"] = json!("True");
        }
    }
    Ok(job)
}

#[test]
fn fault_f33_argo_cd_shows_a_job_in_each_phase_as_its_page_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("health.lua");
    std::fs::write(&path, script()?)?;
    // Each row has the job, its phase, what is shown, and the condition whose message is shown.
    let rows = [
        (job("returns.created")?, "", "Progressing", ""),
        (
            job("returns.pending")?,
            "Pending",
            "Progressing",
            "Progressing",
        ),
        (
            job("returns.waiting")?,
            "WaitingForWorkers",
            "Progressing",
            "Progressing",
        ),
        (
            job("nowhere.waiting")?,
            "WaitingForWorkers",
            "Progressing",
            "Progressing",
        ),
        (
            job("sales.running")?,
            "Running",
            "Progressing",
            "Progressing",
        ),
        (
            job("returns.restarting")?,
            "Restarting",
            "Progressing",
            "Progressing",
        ),
        (
            job("returns.running-again")?,
            "Running",
            "Progressing",
            "Progressing",
        ),
        (succeeding()?, "Succeeding", "Progressing", "Progressing"),
        (suspended()?, "Suspended", "Suspended", "Suspended"),
        (job("sales.succeeded")?, "Succeeded", "Healthy", "Complete"),
        (
            edited(job("sales.succeeded")?),
            "Succeeded",
            "Healthy",
            "Complete",
        ),
        (job("broken.failed")?, "Failed", "Degraded", "Failed"),
        (
            edited(job("broken.failed")?),
            "Failed",
            "Degraded",
            "Failed",
        ),
        (job("invalid.refused")?, "Pending", "Degraded", "Accepted"),
        (
            edited(job("invalid.refused")?),
            "Pending",
            "Progressing",
            "",
        ),
        (refused()?, "Failed", "Degraded", "Failed"),
        (edited(refused()?), "Failed", "Progressing", ""),
        (edited(job("sales.running")?), "Running", "Progressing", ""),
    ];
    for (job, phase, expected, source) in rows {
        let found = job["status"]["phase"].as_str().unwrap_or("");
        ensure!(found == phase, "the job is in {found} and not in {phase}");
        let (status, message) = shown(&path, &job)?;
        ensure!(
            status == expected,
            "{phase}: {status} instead of {expected}"
        );
        if source.is_empty() {
            let waits = message.starts_with("the operator has not looked at the ");
            ensure!(waits, "{phase}: {message:?}");
        } else {
            let from = &condition(&job, source)["message"];
            ensure!(
                from == &json!(message),
                "{phase}: {message:?} instead of {from}"
            );
        }
        ensure!(!message.is_empty(), "{phase}: no message");
    }
    Ok(())
}
