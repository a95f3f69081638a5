//! Makes the plan of a job that is restarted. While no task is complete, the job is planned as if
//! it were new. After that, only a pipeline that was edited in the update that restarted the job
//! gives another plan, and only changes are accepted that leave the work of complete tasks as it
//! was. Stores nothing.

use std::collections::{BTreeMap, BTreeSet};

use zephyr_crds::pipeline::PipelineSpec;
use zephyr_engine::id::StageId;
use zephyr_engine::plan::{check_edit, plan};
use zephyr_store::finalize::has_claimed;
use zephyr_store::ledger::PlanFile;

use super::{
    NoPlan, check_on_a_thread, expression_sentence, fresh_plan, no_output, pipeline_json, places,
};
use crate::convert;
use crate::job::RunJob;

const DIFFERS: &str = "differs from the pipeline with which the job began";

const ADVICE: &str = "change it back, or create a new job";

/// Returns the plan that replaces `kept` because of the latest restart, or `None` if `kept` stays.
/// `committed` are the stages with complete tasks.
pub(super) async fn plan_of_edit(
    job: &RunJob,
    kept: &PlanFile,
    committed: &BTreeSet<StageId>,
) -> Result<Option<PlanFile>, NoPlan> {
    let pipeline = pipeline_json(job)?;
    let restart = job
        .frozen
        .restart
        .as_ref()
        .map(|restart| restart.generation);
    let is_edited = pipeline != kept.pipeline;
    if restart <= kept.edited_in || !is_edited && !committed.is_empty() {
        return Ok(None);
    }
    let began: PipelineSpec = serde_json::from_value(kept.pipeline.clone())
        .map_err(|error| failed(&format!("plan.json: its pipeline cannot be read: {error}")))?;
    let has_claimed = has_claimed(&job.output()).await;
    if has_claimed.map_err(|error| no_output(&error))? || !committed.is_empty() {
        check_paths(&began, &job.frozen.spec.pipeline).map_err(|error| failed(&error))?;
    }
    let planned = if committed.is_empty() {
        fresh_plan(job).await?
    } else {
        continued(job, kept, &began, committed).await?
    };
    tracing::info!(is_edited, "the restarted job has got another plan");
    Ok(Some(PlanFile {
        edited_in: restart,
        ..planned
    }))
}

fn failed(error: &dyn std::fmt::Display) -> NoPlan {
    NoPlan::Failed(error.to_string())
}

/// The plan with the inputs and the cuts of `kept`.
async fn continued(
    job: &RunJob,
    kept: &PlanFile,
    began: &PipelineSpec,
    committed: &BTreeSet<StageId>,
) -> Result<PlanFile, NoPlan> {
    let spec = &job.frozen.spec.pipeline;
    check_input(began, spec).map_err(|error| failed(&error))?;
    let old = convert::pipeline::pipeline(began).map_err(|error| failed(&error))?;
    let old = plan(&old, kept.source());
    if old.digest() != kept.digest || old.graph() != kept.graph {
        return Err(NoPlan::Failed(
            "plan.json was made by another release; set spec.image to its worker image, or change the pipeline back"
                .to_owned(),
        ));
    }
    let edited = plan(&job.pipeline, kept.source());
    check_edit(&old, &edited, committed).map_err(|error| failed(&error))?;
    let skips = !old.on_errors.is_empty();
    check_limits(began, spec, skips).map_err(|error| failed(&error))?;
    let errors = check_on_a_thread(job.pipeline.clone()).await?;
    if !errors.is_empty() {
        return Err(NoPlan::Failed(expression_sentence(&errors)));
    }
    let read = kept.inputs.iter().chain(kept.tables.values().flatten());
    let uris = read.map(|input| input.uri.clone()).collect();
    let dead_letters = places::dead_letters_of(&edited);
    let shards = edited.output_shards();
    places::check_places(&job.frozen.spec, shards, &dead_letters, uris)
        .await
        .map_err(|error| failed(&error))?;
    Ok(PlanFile {
        digest: edited.digest(),
        pipeline: pipeline_json(job)?,
        graph: edited.graph(),
        ..kept.clone()
    })
}

/// Returns an error if an edit changes limits in a way that would treat further tasks differently
/// from complete ones. Complete tasks that cannot skip records have met none beyond the limits, so
/// greater limits would have changed nothing for them.
fn check_limits(began: &PipelineSpec, edited: &PipelineSpec, skips: bool) -> Result<(), String> {
    if began.limits == edited.limits {
        return Ok(());
    }
    let limits = |pipeline: &PipelineSpec| {
        let limits = convert::pipeline::limits(pipeline).map_err(|error| error.to_string())?;
        let record = limits.record;
        Ok::<_, String>([
            record.bytes as u64,
            record.nesting as u64,
            limits.zstd_window_bytes,
        ])
    };
    let (began, edited) = (limits(began)?, limits(edited)?);
    let is_lowered = began
        .iter()
        .zip(&edited)
        .any(|(began, edited)| edited < began);
    match (skips, is_lowered) {
        (false, false) => Ok(()),
        (true, _) => Err(format!(
            "spec.pipeline.limits: {DIFFERS}, and complete tasks may have skipped records because of them; {ADVICE}"
        )),
        (false, true) => Err(
            "spec.pipeline.limits: a limit is lower than before, and some tasks are complete; only greater limits are allowed".to_owned(),
        ),
    }
}

/// Returns an error if the path of the sink or of dead letters was edited, because the claim of the
/// output's folder names these paths.
fn check_paths(began: &PipelineSpec, edited: &PipelineSpec) -> Result<(), String> {
    let paths = |pipeline: &PipelineSpec| -> BTreeMap<String, String> {
        let paths = pipeline.dead_letters();
        paths.map(|(field, path)| (path.clone(), field)).collect()
    };
    let (old, new) = (paths(began), paths(edited));
    let sink = (began.sink != edited.sink).then(|| "spec.pipeline.sink".to_owned());
    let mut removed = old.iter().filter(|(path, _)| !new.contains_key(*path));
    let mut added = new.iter().filter(|(path, _)| !old.contains_key(*path));
    let letters = removed.next().or_else(|| added.next());
    let field = sink.or_else(|| letters.map(|(_, field)| field.clone()));
    field.map_or(Ok(()), |field| {
        Err(format!(
            "{field}: {DIFFERS}, and the job has claimed the folder of its output; {ADVICE}"
        ))
    })
}

/// Returns an error if the source or a table was edited, because complete tasks have read them.
/// `onError` of the source is compared elsewhere.
fn check_input(began: &PipelineSpec, edited: &PipelineSpec) -> Result<(), String> {
    let source = |pipeline: &PipelineSpec| {
        let mut source = pipeline.source.clone();
        if let Some(files) = &mut source.files {
            files.on_error = None;
        }
        source
    };
    let field = if source(began) != source(edited) {
        "source"
    } else if began.tables != edited.tables {
        "tables"
    } else {
        return Ok(());
    };
    Err(format!(
        "spec.pipeline.{field}: {DIFFERS}, and some tasks are complete; {ADVICE}"
    ))
}
