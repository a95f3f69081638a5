//! Checks whether a job may go on with an edited pipeline after some of its tasks are complete.
//! Their output is kept, so the stages that made it must do the same work as before. Changes no
//! plan.

use std::collections::BTreeSet;

use super::{Merge, Plan, RecordOperation, Stage, StageOutput};
use crate::id::StageId;
use crate::pipeline::{OnError, Origin};

/// Why the edited plan cannot replace the plan with which the job began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A stage with complete tasks, or a stage that such a stage reads, does other work.
    #[error(
        "{path}: differs from the pipeline with which the job began, and complete tasks belong to stage {stage} or have read its output; change it back, or create a new job"
    )]
    Stage {
        /// The path in the manifest of the first difference.
        path: String,
        /// The stage.
        stage: StageId,
    },
    /// A named value differs. Each expression may use it.
    #[error(
        "spec.pipeline.values: differs from the pipeline with which the job began, and some tasks are complete; change it back, or create a new job"
    )]
    Values,
    /// `onError` of a place differs in a way that would change the work of complete tasks.
    #[error("{origin}.onError: {problem}, and some tasks are complete; {allowed}")]
    OnError {
        /// The place.
        origin: Origin,
        /// What differs.
        problem: &'static str,
        /// What may be changed.
        allowed: &'static str,
    },
}

/// Checks whether a job with complete tasks in the stages `committed` may go on with the plan `new`
/// instead of `old`. Both plans read the same source.
///
/// # Errors The first difference that would change the work of complete tasks.
pub fn check_edit(old: &Plan, new: &Plan, committed: &BTreeSet<StageId>) -> Result<(), EditError> {
    let kept = with_sources(old, committed);
    if kept.is_empty() {
        return Ok(());
    }
    if old.values != new.values {
        return Err(EditError::Values);
    }
    for stage in &kept {
        let Some(began) = old.stages.get(stage.0 as usize) else {
            continue;
        };
        let now = new.stages.get(stage.0 as usize);
        if now.map(without_places).as_ref() != Some(&without_places(began)) {
            return Err(EditError::Stage {
                path: first_difference(began, now),
                stage: *stage,
            });
        }
        let origins: BTreeSet<Origin> = [old, new]
            .into_iter()
            .filter_map(|plan| {
                plan.stages
                    .get(stage.0 as usize)
                    .map(|stage| plan.origins(stage))
            })
            .flatten()
            .collect();
        for origin in origins {
            let (old, new) = (old.on_errors.get(&origin), new.on_errors.get(&origin));
            if old.is_none() && !finds_each_bad_record(began, origin) {
                return Err(EditError::OnError {
                    origin,
                    problem: "was added to a step whose complete tasks may have met bad records without failing",
                    allowed: "it can be added to the source, and to map, filter, select, drop, rename and deduplicate",
                });
            }
            check_place(origin, old, new)?;
        }
    }
    Ok(())
}

/// These stages, and all stages whose output they use.
fn with_sources(plan: &Plan, committed: &BTreeSet<StageId>) -> BTreeSet<StageId> {
    let mut kept = committed.clone();
    // A stage reads only stages before it.
    for stage in plan.stages.iter().rev() {
        if kept.contains(&stage.id) {
            kept.extend(stage.reads());
        }
    }
    kept
}

/// The stage as if no place in it skipped bad records. Places are compared one by one.
fn without_places(stage: &Stage) -> Stage {
    let mut stage = stage.clone();
    for step in &mut stage.steps {
        step.on_error = None;
    }
    if let StageOutput::Shuffle { on_error, .. } = &mut stage.output {
        *on_error = None;
    }
    stage
}

/// The path in the manifest of the first step that differs.
fn first_difference(began: &Stage, now: Option<&Stage>) -> String {
    let steps = |stage: &Stage| {
        let stage = without_places(stage);
        let input = stage.merge().map(|(path, _)| path.to_owned());
        let input = (input.unwrap_or_default(), format!("{:?}", stage.inputs));
        let steps = stage.steps.iter();
        let steps = steps.map(|step| (step.path.clone(), format!("{:?}", step.operation)));
        let output = match &stage.output {
            StageOutput::Shuffle { path, .. } => path.clone(),
            StageOutput::Sink { .. } => "spec.pipeline.sink".to_owned(),
        };
        let output = (output, format!("{:?}", stage.output));
        [input]
            .into_iter()
            .chain(steps)
            .chain([output])
            .collect::<Vec<_>>()
    };
    let now = now.map(steps).unwrap_or_default();
    let mut pairs = steps(began).into_iter().enumerate();
    let different = pairs.find(|(position, began)| now.get(*position) != Some(began));
    different.map_or_else(|| "spec.pipeline.steps".to_owned(), |(_, (path, _))| path)
}

/// Whether a task without `onError` fails at each record that a task with it skips. A `flatMap`
/// writes the first results of a record before a later one fails, so a later step can end the task
/// before the failure. An aggregate looks at a value only if it needs it.
fn finds_each_bad_record(stage: &Stage, origin: Origin) -> bool {
    let Origin::Step(index) = origin else {
        return true;
    };
    let is_here = |path: &str| path.starts_with(&format!("spec.pipeline.steps[{index}]."));
    let mut steps = stage.steps.iter().filter(|step| is_here(&step.path));
    let is_flat_map = steps.any(|step| matches!(step.operation, RecordOperation::FlatMap(_)));
    let is_group = match &stage.output {
        StageOutput::Shuffle { path, merge, .. } => {
            is_here(path) && matches!(merge, Merge::GroupBy(_) | Merge::Aggregate(_))
        }
        StageOutput::Sink { .. } => false,
    };
    !is_flat_map && !is_group
}

/// Returns an error if the edit of this `onError` contradicts what complete tasks have already
/// counted, skipped or written.
fn check_place(
    origin: Origin,
    old: Option<&OnError>,
    new: Option<&OnError>,
) -> Result<(), EditError> {
    let refused = |problem, allowed| {
        Err(EditError::OnError {
            origin,
            problem,
            allowed,
        })
    };
    match (old, new) {
        (Some(_), None) => refused(
            "was removed",
            "a place that has skipped bad records cannot become strict",
        ),
        (None, Some(new)) if new.dead_letter.is_some() => {
            refused("dead letters were added", "the action Skip can be added")
        }
        (None, Some(new)) if new.max_skipped_per_million.is_some() => refused(
            "a percentage was added",
            "complete tasks have not counted their records, so set maxSkipped",
        ),
        (Some(old), Some(new)) if old.dead_letter != new.dead_letter => refused(
            "the action or the path of dead letters differs",
            "only maxSkipped, maxSkippedPercent and messages can be changed",
        ),
        (Some(old), Some(new))
            if new.max_skipped_per_million.is_some() && old.max_skipped_per_million.is_none() =>
        {
            refused(
                "a percentage was added",
                "complete tasks may not have counted their records, so set maxSkipped",
            )
        }
        (Some(old), Some(new))
            if new.max_skipped_per_million < old.max_skipped_per_million
                && new.max_skipped_per_million.is_some() =>
        {
            refused(
                "the percentage is lower than before",
                "a complete stage is not judged again, so the percentage can only be raised or removed",
            )
        }
        (None, None | Some(_)) | (Some(_), Some(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pipeline::{Format, GroupBy, Pipeline, Sink, Source, Step};
    use crate::plan::plan;

    fn pipeline() -> Pipeline {
        Pipeline {
            source: Source::Files { empty_ok: false },
            steps: vec![
                Step::Filter(".a".to_owned()),
                Step::GroupBy(GroupBy {
                    key: ".k".to_owned(),
                    aggregates: Vec::new(),
                    shards: Some(4),
                    order: None,
                }),
                Step::Map(".key".to_owned()),
                Step::Deduplicate {
                    key: ".".to_owned(),
                    shards: Some(3),
                },
            ],
            sink: Sink {
                format: Format::Jsonl,
            },
            values: BTreeMap::from([("v".to_owned(), "1".to_owned())]),
            tables: BTreeMap::new(),
            on_errors: BTreeMap::new(),
        }
    }

    /// What `check_edit` says about a change, if tasks of these stages are complete.
    fn check(change: impl FnOnce(&mut Pipeline), committed: &[u32]) -> Result<(), String> {
        check_from(&pipeline(), change, committed)
    }

    fn check_from(
        began: &Pipeline,
        change: impl FnOnce(&mut Pipeline),
        committed: &[u32],
    ) -> Result<(), String> {
        let mut edited = began.clone();
        change(&mut edited);
        let committed = committed.iter().copied().map(StageId).collect();
        check_edit(&plan(began, 5), &plan(&edited, 5), &committed)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn stages_without_complete_tasks_may_do_other_work() {
        let last = |pipeline: &mut Pipeline| pipeline.steps[2] = Step::Map(".x".to_owned());
        assert_eq!(check(last, &[]), Ok(()));
        assert_eq!(check(last, &[0]), Ok(()));
        let longer = |pipeline: &mut Pipeline| pipeline.steps.push(Step::Count);
        assert_eq!(check(longer, &[0, 1]), Ok(()));
        let shorter = |pipeline: &mut Pipeline| pipeline.steps.truncate(3);
        assert_eq!(check(shorter, &[0]), Ok(()));
        let more = |pipeline: &mut Pipeline| {
            pipeline.steps[3] = Step::Deduplicate {
                key: ".".to_owned(),
                shards: Some(9),
            };
        };
        assert_eq!(check(more, &[0]), Ok(()));
    }

    #[test]
    fn stages_with_complete_tasks_and_those_that_they_read_do_the_same_work() {
        let refused = |path: &str, stage: u32| {
            Err(format!(
                "{path}: differs from the pipeline with which the job began, and complete tasks belong to stage {stage} or have read its output; change it back, or create a new job"
            ))
        };
        let first = |pipeline: &mut Pipeline| pipeline.steps[0] = Step::Filter(".b".to_owned());
        for committed in [&[0][..], &[1], &[2]] {
            let path = "spec.pipeline.steps[0].filter";
            assert_eq!(check(first, committed), refused(path, 1), "{committed:?}");
        }
        let key = |pipeline: &mut Pipeline| {
            pipeline.steps[1] = Step::GroupBy(GroupBy {
                key: ".q".to_owned(),
                aggregates: Vec::new(),
                shards: Some(4),
                order: None,
            });
        };
        let path = "spec.pipeline.steps[1].groupBy";
        assert_eq!(check(key, &[0]), refused(path, 1));
        let second = |pipeline: &mut Pipeline| pipeline.steps[2] = Step::Map(".x".to_owned());
        assert_eq!(
            check(second, &[1]),
            refused("spec.pipeline.steps[2].map", 2)
        );
        let shorter = |pipeline: &mut Pipeline| pipeline.steps.truncate(3);
        let path = "spec.pipeline.steps[3].deduplicate";
        assert_eq!(check(shorter, &[1]), refused(path, 2));
        let earlier = |pipeline: &mut Pipeline| drop(pipeline.steps.remove(0));
        let path = "spec.pipeline.steps[0].filter";
        assert_eq!(check(earlier, &[0]), refused(path, 1));
        let values = |pipeline: &mut Pipeline| pipeline.values.clear();
        assert_eq!(check(values, &[]), Ok(()));
        let error = check(values, &[0]).unwrap_err();
        assert!(
            error.starts_with("spec.pipeline.values: differs"),
            "{error}"
        );
    }

    fn skip(max_skipped: Option<u64>) -> OnError {
        OnError {
            dead_letter: None,
            max_skipped,
            max_skipped_per_million: None,
            shows_messages: true,
        }
    }

    #[test]
    fn a_place_may_become_lenient_and_its_limit_may_change() {
        let place = Origin::Step(0);
        let with = |on_error: OnError| {
            move |pipeline: &mut Pipeline| drop(pipeline.on_errors.insert(place, on_error))
        };
        let mut skips = pipeline();
        skips.on_errors.insert(place, skip(Some(3)));
        assert_eq!(check(with(skip(None)), &[0]), Ok(()));
        assert_eq!(check_from(&skips, with(skip(Some(9))), &[0]), Ok(()));

        let refused = |result: Result<(), String>, words: &str| {
            let error = result.unwrap_err();
            assert!(
                error.starts_with("spec.pipeline.steps[0].onError: "),
                "{error}"
            );
            assert!(error.contains(words), "{error}");
        };
        let letters = OnError {
            dead_letter: Some("file:///d/{shard}".to_owned()),
            ..skip(None)
        };
        let share = OnError {
            max_skipped_per_million: Some(1),
            ..skip(None)
        };
        refused(
            check(with(letters.clone()), &[0]),
            "dead letters were added",
        );
        refused(check(with(share.clone()), &[0]), "a percentage was added");
        refused(
            check_from(&skips, with(share.clone()), &[0]),
            "a percentage was added",
        );
        refused(
            check_from(&skips, with(letters), &[0]),
            "dead letters differs",
        );
        let group = |pipeline: &mut Pipeline| {
            pipeline.on_errors.insert(Origin::Step(1), skip(None));
        };
        let error = check(group, &[0]).unwrap_err();
        assert!(
            error.starts_with("spec.pipeline.steps[1].onError: was added"),
            "{error}"
        );
        let mut flat = pipeline();
        flat.steps[0] = Step::FlatMap(".a[]".to_owned());
        refused(
            check_from(&flat, with(skip(None)), &[0]),
            "was added to a step",
        );
        assert_eq!(check_from(&flat, with(skip(None)), &[]), Ok(()));
        let strict = |pipeline: &mut Pipeline| pipeline.on_errors.clear();
        refused(check_from(&skips, strict, &[0]), "was removed");
        assert_eq!(check_from(&skips, strict, &[]), Ok(()));
        let mut shares = pipeline();
        shares.on_errors.insert(place, share);
        assert_eq!(check_from(&shares, with(skip(None)), &[0]), Ok(()));
        let lower = OnError {
            max_skipped_per_million: Some(0),
            ..skip(None)
        };
        refused(check_from(&shares, with(lower), &[0]), "lower than before");
    }
}
