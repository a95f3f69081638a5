//! Tests what a starting coordinator does if the job has failed and is restarted.

use zephyr_crds::frozen::FrozenRestart;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{FilePlace, Restart, TaskOutput, restart_of};
use zephyr_store::ledger::inspect;
use zephyr_store::reclaim::{Marker, mark};
use zephyr_store::storage::read_versioned;

use super::*;

fn failure() -> JobResult {
    JobResult::Failed {
        reason: FailureReason::TaskFailed,
        message: "m".to_owned(),
    }
}

/// The job in a generation that began because of a restart.
fn restarted(job: &Arc<RunJob>, stores: &Stores, token: &str, generation: u32) -> Arc<RunJob> {
    let mut again = RunJob::clone(job);
    again.frozen.generation = generation;
    again.frozen.restart = Some(FrozenRestart {
        token: token.to_owned(),
        generation,
    });
    again.stores = stores.clone();
    let uid = job.identity.job.clone();
    again.storage = JobStorage::new(stores.clone(), "s3://b/jobs", uid).unwrap();
    Arc::new(again)
}

/// Ends a job as its coordinator does: with the result, the released folder and the marker.
async fn end(job: &RunJob, ledger: &mut Ledger) {
    ledger
        .append(&[LogRecord::Result(failure())])
        .await
        .unwrap();
    give_up(&job.output()).await.unwrap();
    let name = "ns/name".to_owned();
    let marker = Marker::new(&job.storage, name, "TaskFailed".to_owned(), None);
    mark(&job.storage, &marker).await.unwrap();
}

/// A failed job with two committed tasks.
async fn failed() -> Arc<RunJob> {
    let job = job(Stores::in_memory());
    let Runnable { mut ledger, .. } = *runs(&job).await;
    ledger.append(&[fact(0), fact(1)]).await.unwrap();
    end(&job, &mut ledger).await;
    job
}

async fn is_claimed(stores: &Stores) -> bool {
    let location = Location::parse("s3://o/out/_STARTED.json").unwrap();
    let found = read_versioned(stores, &location, 1 << 20).await.unwrap();
    let text = String::from_utf8(found.unwrap().bytes.to_vec()).unwrap();
    text.contains("\"state\": \"running\"")
}

async fn restarts(job: &RunJob) -> Vec<Restart> {
    let (_, records) = inspect(&job.storage).await.unwrap();
    let restart = |record| {
        let LogRecord::Restarted(restart) = record else {
            return None;
        };
        Some(restart)
    };
    records.into_iter().filter_map(restart).collect()
}

#[tokio::test]
async fn a_failed_job_runs_again_only_if_it_is_restarted() {
    let job = failed().await;
    assert_eq!(fails(&job).await.1, FailureReason::TaskFailed);
    assert!(!is_claimed(&job.stores).await);

    let again = restarted(&job, &job.stores, "a", 2);
    let Runnable { records, .. } = *runs(&again).await;
    let tasks = records
        .iter()
        .filter(|record| **record == fact(0) || **record == fact(1));
    assert_eq!(tasks.count(), 2);
    assert_eq!(read_marker(&job.storage).await.unwrap(), None);
    assert!(is_claimed(&job.stores).await);

    // The next coordinator of the same generation records nothing, and the generation before is
    // over.
    assert!(is_over(&job).await);
    let Runnable { mut ledger, .. } = *runs(&again).await;
    assert_eq!(restarts(&job).await.len(), 1);
    end(&job, &mut ledger).await;
    assert_eq!(fails(&again).await.1, FailureReason::TaskFailed);
    assert_eq!(restarts(&job).await.len(), 1);

    // The same word means another restart if it comes after another one.
    for (generation, token) in [(3, "b"), (4, "a")] {
        let Runnable { mut ledger, .. } =
            *runs(&restarted(&job, &job.stores, token, generation)).await;
        end(&job, &mut ledger).await;
    }
    assert_eq!(restarts(&job).await.len(), 3);
    assert!(is_over(&restarted(&job, &job.stores, "b", 3)).await);
}

/// Whether a coordinator of this generation ends because a later one has begun. It records nothing.
async fn is_over(job: &Arc<RunJob>) -> bool {
    let before = inspect(&job.storage).await.unwrap().1;
    let (status, _shown) = watch::channel(Status::default());
    let planned = prepare(job, &status).await;
    assert_eq!(inspect(&job.storage).await.unwrap().1, before);
    matches!(planned, Err(PlanningError::Over { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_ends_after_any_write_of_a_restart_leaves_it_to_the_next_one() {
    let mut cuts = 0;
    for writes in 0.. {
        let inner = Arc::new(InMemory::new());
        let stores = plain(&inner);
        let job = job(stores.clone());
        let Runnable { mut ledger, .. } = *runs(&job).await;
        ledger.append(&[fact(0)]).await.unwrap();
        end(&job, &mut ledger).await;
        let cut = restarted(&job, &both(&inner, until(writes)), "a", 2);
        let (status, _shown) = watch::channel(Status::default());
        let limit = Duration::from_secs(30);
        let first = tokio::time::timeout(limit, prepare(&cut, &status)).await;
        let is_whole = matches!(&first, Ok(Ok(Planned::Runnable(_))));

        let again = restarted(&job, &stores, "a", 2);
        let Runnable { records, .. } = *runs(&again).await;
        assert!(records.contains(&fact(0)), "after {writes} writes");
        assert_eq!(
            restart_of(&records).map(|restart| restart.generation),
            Some(2)
        );
        assert_eq!(restarts(&job).await.len(), 1, "after {writes} writes");
        assert_eq!(read_marker(&job.storage).await.unwrap(), None);
        assert!(is_claimed(&stores).await);
        if is_whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 5, "{cuts}");
}

#[tokio::test]
async fn a_job_whose_data_is_gone_or_that_has_succeeded_is_not_restarted() {
    let job = failed().await;
    let mut never = RunJob::clone(&restarted(&job, &job.stores, "a", 2));
    never.frozen.spec.storage.retain = Retain::Never;
    assert_eq!(fails(&Arc::new(never)).await.1, FailureReason::TaskFailed);

    let job = super::job(Stores::in_memory());
    let Runnable { mut ledger, .. } = *runs(&job).await;
    let success = JobResult::Succeeded {
        files: 0,
        rows: 0,
        bytes: 0,
        manifest: String::new(),
    };
    ledger
        .append(&[LogRecord::Result(success.clone())])
        .await
        .unwrap();
    match begin(&restarted(&job, &job.stores, "a", 2)).await {
        Planned::Ended { result, .. } => assert_eq!(result, success),
        Planned::Refused { .. } | Planned::Runnable(_) => panic!("it has not ended"),
    }
}

#[tokio::test]
async fn a_job_that_could_not_be_planned_is_planned_when_it_is_restarted() {
    let stores = Stores::in_memory();
    let source = json!({"files": {"paths": ["s3://in/d/*.jsonl"]}});
    let job = job_reading(stores.clone(), &source);
    assert_eq!(fails(&job).await.1, FailureReason::PlanFailed);
    put(&stores, "s3://in/d/a.jsonl", "1\n").await;
    assert_eq!(fails(&job).await.1, FailureReason::PlanFailed);
    let Runnable { plan, .. } = *runs(&restarted(&job, &stores, "a", 2)).await;
    assert_eq!(plan.stages.len(), 1);
}

#[tokio::test]
async fn a_job_whose_folder_another_job_has_taken_since_does_not_write_there_again() {
    let job = failed().await;
    runs(&job_of(&job.stores, "other", "other", SinkMode::Refuse)).await;
    let (_, reason, message) = fails(&restarted(&job, &job.stores, "a", 2)).await;
    assert_eq!(reason, FailureReason::PlanFailed);
    assert!(
        message.contains("another job has taken s3://o/out"),
        "{message}"
    );
}

/// A change of a pipeline's JSON.
type PipelineChange = Box<dyn Fn(&mut serde_json::Value)>;

/// A job that counts the values of a field: two stages, of two tasks and one task.
fn counting(stores: &Stores) -> Arc<RunJob> {
    let source = json!({"items": {"values": [{"a": 1}, {"a": 2}]}});
    edited(&job_reading(stores.clone(), &source), &|pipeline| {
        pipeline["steps"] = json!([
            {"filter": ".a > 0"},
            {"groupBy": {"key": ".a", "aggregate": {"n": {"count": {}}}, "shards": 1}},
            {"map": ".n"},
        ]);
    })
}

/// The job with another pipeline.
fn edited(job: &RunJob, change: &dyn Fn(&mut serde_json::Value)) -> Arc<RunJob> {
    let mut frozen = json!(job.frozen);
    change(&mut frozen["spec"]["pipeline"]);
    let frozen = FrozenJob::from_json(&frozen.to_string()).unwrap();
    Arc::new(RunJob {
        stores: job.stores.clone(),
        storage: job.storage.clone(),
        ..RunJob::new(frozen).unwrap()
    })
}

/// A record of a complete task of this stage.
fn done(stage: u32, shard: u32) -> LogRecord {
    let LogRecord::Failed { mut task, .. } = fact(shard) else {
        panic!("a failure");
    };
    task.task.stage = StageId(stage);
    let output = TaskOutput {
        file: OutputFile {
            place: FilePlace::Shuffle,
            ..final_file(shard)
        },
        records_in: 1,
        bytes_in: 1,
        more: None,
    };
    LogRecord::Done { task, output }
}

/// Begins the job, records these facts, and ends it as failed.
async fn failed_after(job: &Arc<RunJob>, facts: &[LogRecord]) {
    let Runnable { mut ledger, .. } = *runs(job).await;
    ledger.append(facts).await.unwrap();
    end(job, &mut ledger).await;
}

#[tokio::test]
async fn the_pipeline_of_stages_without_complete_tasks_can_be_edited_at_a_restart() {
    let job = counting(&Stores::in_memory());
    // The failure is of a task that the edited plan does not have.
    let LogRecord::Failed {
        mut task,
        class,
        error,
    } = fact(0)
    else {
        panic!("a failure");
    };
    task.task.stage = StageId(1);
    failed_after(
        &job,
        &[done(0, 0), LogRecord::Failed { task, class, error }],
    )
    .await;
    let again = edited(&job, &|pipeline| {
        pipeline["steps"][2] = json!({"map": ".key"});
        pipeline["limits"] = json!({"lineBytes": "128Mi"});
    });
    let refused = fails(&again).await;
    assert_eq!(refused.1, FailureReason::TaskFailed, "not restarted");
    let again = restarted(&again, &job.stores, "a", 2);
    let Runnable { plan, records, .. } = *runs(&again).await;
    assert!(plan.to_string().contains("steps[2].map: .key"), "{plan}");
    assert!(records.contains(&done(0, 0)));
    // The next coordinator of the generation continues. One of an earlier generation, which may
    // have another pipeline, ends and records nothing.
    assert_eq!(runs(&again).await.plan, plan);
    assert!(is_over(&job).await);
    assert_eq!(runs(&again).await.plan, plan);
}

#[tokio::test]
async fn a_job_without_a_complete_task_gets_a_new_plan_and_forgets_failures_of_the_old_one() {
    let job = counting(&Stores::in_memory());
    failed_after(&job, &[fact(1)]).await;
    let shorter = |pipeline: &mut serde_json::Value| {
        pipeline["source"] = json!({"items": {"values": [7]}});
        pipeline["steps"] = json!([]);
    };
    let again = restarted(&edited(&job, &shorter), &job.stores, "a", 2);
    let Runnable { plan, records, .. } = *runs(&again).await;
    assert_eq!((plan.stages.len(), plan.output_shards()), (1, 1));
    assert!(!records.contains(&fact(1)));
}

#[tokio::test]
async fn the_sink_can_be_edited_until_the_job_has_claimed_the_folder_of_its_output() {
    let stores = Stores::in_memory();
    let sink = |path: &'static str| {
        move |pipeline: &mut serde_json::Value| pipeline["sink"]["files"]["path"] = json!(path)
    };
    put(&stores, "s3://o/out/part-0.jsonl", "of another job").await;
    let job = counting(&stores);
    let (_, _, message) = fails(&job).await;
    assert!(message.contains("s3://o/out/part-0.jsonl"), "{message}");
    let elsewhere = edited(&job, &sink("s3://o/other/part-{shard}.jsonl"));
    let again = restarted(&elsewhere, &stores, "a", 2);
    let Runnable { mut ledger, .. } = *runs(&again).await;
    end(&again, &mut ledger).await;

    let third = edited(&job, &sink("s3://o/third/part-{shard}.jsonl"));
    let (_, _, message) = fails(&restarted(&third, &stores, "b", 3)).await;
    assert!(
        message.starts_with("spec.pipeline.sink: differs"),
        "{message}"
    );
    runs(&restarted(&elsewhere, &stores, "c", 4)).await;
}

#[tokio::test]
async fn an_edit_that_complete_tasks_do_not_follow_is_refused_with_its_field() {
    let step = |index: usize, step: serde_json::Value| {
        move |pipeline: &mut serde_json::Value| pipeline["steps"][index] = step.clone()
    };
    let skip = json!({"filter": ".a > 0", "onError": {"action": "Skip", "maxSkipped": 1}});
    let lenient = json!({"filter": ".a > 0", "onError": {"action": "Skip", "maxSkipped": 9}});
    let cases: [(PipelineChange, Option<&str>); 7] = [
        (Box::new(step(0, lenient)), None),
        (
            Box::new(step(0, json!({"filter": ".a > 0"}))),
            Some("spec.pipeline.steps[0].onError: was removed"),
        ),
        (
            Box::new(step(
                0,
                json!({"filter": ".a > 1", "onError": {"action": "Skip"}}),
            )),
            Some("spec.pipeline.steps[0].filter: differs"),
        ),
        (
            Box::new(step(2, json!({"map": ".n +"}))),
            Some("spec.pipeline.steps[2].map: "),
        ),
        (
            Box::new(|pipeline| pipeline["limits"] = json!({"lineBytes": "1Mi"})),
            Some("spec.pipeline.limits: differs"),
        ),
        (
            Box::new(|pipeline| pipeline["source"]["items"]["values"] = json!([1])),
            Some("spec.pipeline.source: differs"),
        ),
        (
            Box::new(|pipeline| {
                pipeline["sink"]["files"]["path"] = json!("s3://o/x/{shard}.jsonl");
            }),
            Some("spec.pipeline.sink: differs"),
        ),
    ];
    for (change, refused) in cases {
        let job = edited(&counting(&Stores::in_memory()), &step(0, skip.clone()));
        failed_after(&job, &[done(0, 0), fact(1)]).await;
        let again = restarted(&edited(&job, &change), &job.stores, "a", 2);
        if let Some(expected) = refused {
            let (_, reason, message) = fails(&again).await;
            assert_eq!(reason, FailureReason::PlanFailed);
            assert!(message.starts_with(expected), "{message}");
        } else {
            runs(&again).await;
        }
        // What was refused can be changed back.
        if refused.is_some() {
            runs(&restarted(&job, &job.stores, "b", 3)).await;
        }
    }
}

#[tokio::test]
async fn a_job_whose_data_was_removed_says_so_before_a_task_runs() {
    let job = counting(&Stores::in_memory());
    let list = "data/0/outputs-e1-0";
    let finished = LogRecord::StageFinished {
        stage: StageId(0),
        outputs: list.to_owned(),
    };
    failed_after(&job, &[done(0, 0), done(0, 1), finished]).await;
    let uri = format!("{FOLDER}/{list}");
    put(&job.stores, &uri, "a list").await;
    let again = restarted(&job, &job.stores, "a", 2);
    let Runnable { mut ledger, .. } = *runs(&again).await;
    end(&again, &mut ledger).await;
    delete(&job.stores, &uri).await;
    let (_, reason, message) = fails(&restarted(&job, &job.stores, "b", 3)).await;
    assert_eq!(reason, FailureReason::OutputLost);
    assert!(message.contains(&format!("there is no {uri}")), "{message}");
    assert!(message.contains(&format!("remove {FOLDER} ")), "{message}");
}

#[tokio::test]
async fn a_limit_is_not_lowered_while_tasks_are_complete_although_records_are_skipped_from_now_on()
{
    let job = counting(&Stores::in_memory());
    failed_after(&job, &[done(0, 0)]).await;
    let lower = edited(&job, &|pipeline| {
        pipeline["limits"] = json!({"lineBytes": "1Mi"});
        pipeline["steps"][0] = json!({"filter": ".a > 0", "onError": {"action": "Skip"}});
    });
    let (_, _, message) = fails(&restarted(&lower, &job.stores, "a", 2)).await;
    let words = "spec.pipeline.limits: a limit is lower than before";
    assert!(message.starts_with(words), "{message}");
}

#[tokio::test]
async fn a_job_without_a_complete_task_reads_its_input_as_it_is_at_the_restart() {
    let stores = Stores::in_memory();
    let source = json!({"files": {"paths": ["s3://in/d/*.jsonl"]}});
    put(&stores, "s3://in/d/a.jsonl", "1\n{\n").await;
    let job = job_reading(stores.clone(), &source);
    let Runnable { mut ledger, .. } = *runs(&job).await;
    ledger.append(&[fact(0)]).await.unwrap();
    end(&job, &mut ledger).await;
    put(&stores, "s3://in/d/a.jsonl", "1\n2\n3\n").await;
    put(&stores, "s3://in/d/b.jsonl", "4\n").await;
    for _ in 0..2 {
        let runnable = runs(&restarted(&job, &stores, "a", 2)).await;
        let SourceShards::Files { files, .. } = &runnable.source else {
            panic!("files");
        };
        let sizes: Vec<u64> = files.iter().map(|file| file.size).collect();
        assert_eq!(sizes, [6, 2]);
        // The next coordinator of the generation keeps that list.
        put(&stores, "s3://in/d/c.jsonl", "5\n").await;
    }
}
