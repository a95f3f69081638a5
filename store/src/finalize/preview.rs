//! Predicts the result of [`claim`](super::claim()) for a job that has not begun. It makes the same
//! reads and the same decisions. It writes nothing, so that a user can ask before the job exists.

use std::time::SystemTime;

use super::claim::{Facts, Step, decide, look_around};
use super::inputs::Inputs;
use super::intent::{Intent, intent_location, read_intent};
use super::output::Output;
use super::owner::{Owner, read_owner};
use super::silence::glance;
use super::{OutputError, manifest_location};

/// Fails with the error with which the job would fail if it began now. `inputs` are the uris of the
/// files of its source, and `now` is the time of this machine.
///
/// An empty `output.namespace` means that the namespace is not known. Then an earlier job with this
/// name in any namespace counts as an earlier run of this job.
///
/// # Errors
/// The job may not write to the folder; the error says why. [`OutputError::Watched`] means that the
/// job may write there a few minutes later.
pub async fn preview(
    output: &Output,
    inputs: &[String],
    now: SystemTime,
) -> Result<(), OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    let location = intent_location(&manifest);
    let stored = read_intent(&output.stores, &location).await?;
    let mut facts = Facts {
        record: None,
        intent: stored.map(|stored| stored.intent),
        manifest: read_owner(&output.stores, &manifest).await?,
        gone: None,
    };
    let output = &in_its_namespace(output, facts.intent.as_ref(), facts.manifest.as_ref());
    let mut step = decide(output, &manifest, &facts)?;
    if let Step::AskOwner(owner) = &step {
        facts.gone = Some(glance(output, &location, owner, now).await?);
        step = decide(output, &manifest, &facts)?;
    }
    match step {
        Step::Claim(claim) => {
            let inputs = Inputs::named(inputs.iter().cloned().collect());
            let looked = look_around(output, &manifest, &claim, Some(inputs)).await;
            looked.map(drop)
        }
        Step::GoOn
        | Step::KeepRecord
        | Step::SayAgain
        | Step::RunAgain
        | Step::RemoveManifest
        | Step::AskOwner(_) => Ok(()),
    }
}

/// Returns the output. If its namespace is not known, it gets the namespace of an earlier run with
/// this name.
fn in_its_namespace(output: &Output, intent: Option<&Intent>, owner: Option<&Owner>) -> Output {
    let mut output = output.clone();
    if output.namespace.is_empty() {
        let running = intent.filter(|intent| intent.name == output.name);
        let running = running.map(|intent| intent.namespace.clone());
        let finished = owner.and_then(|owner| owner.namespace_of(&output.name));
        output.namespace = running.or(finished).unwrap_or_default();
    }
    output
}
