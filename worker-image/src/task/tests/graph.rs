//! Tests tasks of stages that read several other stages. The result of two sources must be the same
//! as that of one source with the files of both.

use zephyr_engine::id::SourceId;
use zephyr_engine::plan::StageInput;

use super::*;

const FILES: [(&str, &[u8]); 4] = [
    (
        "a.jsonl",
        b"{\"k\":1,\"v\":\"a1\"}\n{\"k\":2,\"v\":\"a2\"}\n",
    ),
    ("b.jsonl", b"{\"k\":1,\"v\":\"b1\"}\n"),
    ("c.jsonl", b""),
    (
        "d.jsonl",
        b"{\"k\":3,\"v\":\"d3\"}\n{\"k\":1,\"v\":\"d1\"}\n{\"k\":2,\"v\":\"d2\"}\n",
    ),
];

fn group_by(shards: u32) -> Step {
    let aggregates = [
        ("n".to_owned(), Aggregate::Count),
        ("all".to_owned(), Aggregate::Collect(".v".to_owned())),
    ];
    Step::GroupBy(GroupBy {
        key: ".k".to_owned(),
        aggregates: aggregates.into(),
        shards: Some(shards),
        order: None,
    })
}

fn deduplicate(shards: u32) -> Step {
    Step::Deduplicate {
        key: ".k".to_owned(),
        shards: Some(shards),
    }
}

fn job(steps: &[Step]) -> Job {
    let path = "s3://out/{shard}-of-{total}.jsonl";
    Job::new(steps.to_vec(), &FILES, path)
}

/// Changes a plan of two stages: two first stages read one half of the files each, and the last
/// stage reads both of them.
fn two_sources(plan: &Plan) -> Plan {
    let [first, last] = plan.stages.as_slice() else {
        panic!("{plan:?}")
    };
    let part = |id, shards| Stage {
        id: StageId(id),
        shards,
        inputs: vec![StageInput::Source(SourceId(id))],
        ..first.clone()
    };
    let StageInput::Shuffle { path, merge, .. } = &last.inputs[0] else {
        panic!("{plan:?}")
    };
    let shuffle = |from| StageInput::Shuffle {
        from: StageId(from),
        path: path.clone(),
        merge: merge.clone(),
    };
    let both = Stage {
        id: StageId(2),
        inputs: vec![shuffle(0), shuffle(1)],
        ..last.clone()
    };
    let plan = Plan {
        stages: vec![part(0, 2), part(1, 2), both],
        ..plan.clone()
    };
    assert_eq!(plan.check(), Ok(()));
    plan
}

#[test]
fn a_stage_that_reads_two_shuffles_merges_them_as_one() {
    for step in [group_by(1), group_by(3), deduplicate(2), Step::Count] {
        let steps = [Step::Filter(".v != \"a2\"".to_owned()), step.clone()];
        let one = job(&steps);
        let mut two = job(&steps);
        two.other_plan = Some(two_sources(&two.plan()));
        let files = two.files();
        assert_eq!(files, one.files(), "{step:?}");
        assert!(files.iter().any(|(_, text)| !text.is_empty()));
    }
}

#[test]
fn the_order_of_the_inputs_is_the_order_of_what_they_add() {
    let mut job = job(&[deduplicate(1)]);
    let mut plan = two_sources(&job.plan());
    plan.stages[2].inputs.reverse();
    job.other_plan = Some(plan);
    assert!(job.files()[0].1.starts_with("{\"k\":1,\"v\":\"d1\"}\n"));
}

#[test]
fn a_stage_that_two_others_read_gives_its_records_to_both() {
    let mut job = job(&[group_by(2), Step::Map(".n".to_owned()), Step::Count]);
    let mut plan = job.plan();
    // The plan gets a second copy of the first stage, and the last stage counts the records of
    // both.
    let copy = Stage {
        id: StageId(2),
        ..plan.stages[1].clone()
    };
    let mut last = plan.stages[2].clone();
    last.id = StageId(3);
    let StageInput::Shuffle { path, merge, .. } = last.inputs[0].clone() else {
        panic!("{last:?}")
    };
    let from = StageId(2);
    last.inputs.push(StageInput::Shuffle { from, path, merge });
    plan.stages.truncate(2);
    plan.stages.extend([copy, last]);
    assert_eq!(plan.check(), Ok(()));
    job.other_plan = Some(plan);
    assert_eq!(job.files()[0].1, "6\n", "three keys, twice");
}

/// Adds a gathering stage between the two stages of a plan.
fn gathered(plan: &Plan, files: u32) -> Plan {
    let [first, last] = plan.stages.as_slice() else {
        panic!("{plan:?}")
    };
    let StageInput::Shuffle { path, merge, .. } = &last.inputs[0] else {
        panic!("{plan:?}")
    };
    let gather = Stage {
        id: StageId(1),
        name: "gather".to_owned(),
        shards: first.shards.div_ceil(files),
        inputs: vec![StageInput::Gather {
            from: StageId(0),
            files,
            path: path.clone(),
            merge: merge.clone(),
        }],
        steps: Vec::new(),
        output: first.output.clone(),
    };
    let last = Stage {
        id: StageId(2),
        inputs: vec![StageInput::Shuffle {
            from: StageId(1),
            path: path.clone(),
            merge: merge.clone(),
        }],
        ..last.clone()
    };
    let plan = Plan {
        stages: vec![first.clone(), gather, last],
        ..plan.clone()
    };
    assert_eq!(plan.check(), Ok(()));
    plan
}

#[test]
fn a_gathering_stage_changes_no_record() {
    for step in [group_by(1), group_by(3), deduplicate(2), Step::Count] {
        let steps = [Step::Filter(".v != \"a2\"".to_owned()), step.clone()];
        let direct = job(&steps).files();
        for files in 1..=5 {
            let mut job = job(&steps);
            job.other_plan = Some(gathered(&job.plan(), files));
            assert_eq!(job.files(), direct, "{step:?}, {files}");
        }
    }
}

#[test]
fn an_assignment_with_too_few_or_foreign_shuffles_is_refused() {
    let mut job = job(&[group_by(2)]);
    job.other_plan = Some(two_sources(&job.plan()));
    let context = job.context();
    let list = |stage, shards: u32| {
        let outputs = (0..shards).map(|shard| {
            let task = first_attempt(stage, shard);
            let assignment = Assignment {
                task,
                input: job.input(2 * stage + shard),
                trace_records: false,
            };
            let output = run(&context, &assignment, &Arc::default(), None).unwrap();
            (task, output.file)
        });
        let outputs: Vec<_> = outputs.collect();
        job.publish(StageId(stage), 2, &outputs)
    };
    let (first, second) = (list(0, 2), list(1, 2));
    for (outputs, expected) in [
        (
            vec![first.clone()],
            "1 shuffles are assigned, and stage 3 reads 2",
        ),
        (
            vec![second, first],
            "data/1/outputs-e1-0 is no list of outputs of stage 1",
        ),
    ] {
        let assignment = Assignment {
            task: first_attempt(2, 0),
            input: TaskInput::Shuffle { outputs },
            trace_records: false,
        };
        let failure = run(&context, &assignment, &Arc::default(), None).unwrap_err();
        assert!(failure.error.contains(expected), "{}", failure.error);
    }
}
