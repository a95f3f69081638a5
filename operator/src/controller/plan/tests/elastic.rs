//! Tests of plans for jobs with `maxReplicas`.

use super::*;

/// A job of two stages, whose coordinator has a plan.
fn elastic(least: u32, greatest: u32, shards: u32) -> World {
    let workers = json!({"minReplicas": least, "maxReplicas": greatest});
    let mut world = World::new(json!({}));
    world.job.spec.workers = serde_json::from_value(workers).unwrap();
    world.settle();
    world.coordinator_is(true);
    world.says(RunPhase::Running, shards);
    world
}

impl World {
    /// The coordinator reports these stages: how many tasks are done, how many exist, how many run.
    fn stages(&mut self, stages: &[(u32, u32, u32)]) {
        let report = self.report.as_mut().unwrap();
        let stage = |(done, total, running): &(u32, u32, u32)| StageReport {
            done: *done,
            total: *total,
            running: *running,
            ..StageReport::default()
        };
        report.stages = stages.iter().map(stage).collect();
        report.tasks_done = stages.iter().map(|(done, ..)| u64::from(*done)).sum();
        report.tasks_total = stages.iter().map(|(_, total, _)| u64::from(*total)).sum();
    }

    /// Returns what is done about the workers because of a report of these stages.
    fn scaled_by(&mut self, stages: &[(u32, u32, u32)]) -> Vec<String> {
        self.stages(stages);
        let before = self.log.len();
        self.settle();
        let log = self.log[before..].iter();
        let scaled = log.filter(|line| line.starts_with("scale"));
        scaled.cloned().collect()
    }

    /// So many worker pods run and are idle.
    fn workers_run(&mut self, count: u32) {
        for ordinal in 0..count {
            self.worker_pod(&format!("count-workers-g1-{ordinal}"), |pod| {
                pod.uid = format!("uid-{ordinal}");
            });
        }
    }

    fn why(&self) -> Option<&str> {
        self.job.status.workers.as_ref()?.why.as_deref()
    }
}

#[test]
fn an_elastic_job_grows_with_a_stage_and_shrinks_at_its_end() {
    let mut world = elastic(1, 4, 8);
    world.workers_run(4);
    for (stages, scaled) in [
        (&[(0, 2, 0), (0, 8, 0)][..], Some("0 to 2")),
        // The next stage needs all of them, so none is released at the end of this one.
        (&[(1, 2, 1), (0, 8, 0)], None),
        (&[(2, 2, 0), (0, 8, 0)], Some("2 to 4")),
        (&[(2, 2, 0), (4, 8, 4)], None),
        (&[(2, 2, 0), (5, 8, 3)], Some("4 to 3")),
        (&[(2, 2, 0), (7, 8, 1)], Some("3 to 2")),
        // Two outputs of the first stage were lost.
        (&[(0, 2, 0), (7, 8, 1)], Some("2 to 3")),
        (&[(2, 2, 0), (7, 8, 1)], Some("3 to 2")),
        (&[(2, 2, 0), (8, 8, 0)], Some("2 to 1")),
    ] {
        let expected = scaled.map(|change| format!("scale count-workers-g1 from {change}"));
        let found = world.scaled_by(stages);
        assert_eq!(found, Vec::from_iter(expected), "{stages:?}");
    }
    assert_eq!(
        world.why(),
        Some(
            "the number of open tasks is 0 and a worker runs 1 at a time, so the number of workers that the job needs is 1 \
             (minReplicas 1, maxReplicas 4)"
        )
    );
}

#[test]
fn a_job_has_no_more_workers_than_shards_and_no_fewer_than_its_least() {
    let mut world = elastic(3, 100, 8);
    world.workers_run(8);
    let large = [(0, 500, 0)];
    assert_eq!(
        world.scaled_by(&large),
        ["scale count-workers-g1 from 0 to 8"]
    );
    let small = [(499, 500, 1)];
    assert_eq!(
        world.scaled_by(&small),
        [
            "scale count-workers-g1 from 8 to 4",
            "scale count-workers-g1 from 4 to 3"
        ]
    );
    // The last worker that can be useful is enough, whatever the least number is.
    world.report.as_mut().unwrap().useful_workers = Some(2);
    assert_eq!(
        world.scaled_by(&small),
        ["scale count-workers-g1 from 3 to 2"]
    );
}

#[test]
fn a_change_of_the_bounds_applies_at_once_and_a_fixed_number_replaces_them() {
    let mut world = elastic(1, 4, 8);
    let open = [(0, 8, 4)];
    world.scaled_by(&open);
    world.job.spec.workers.max_replicas = Some(2);
    assert_eq!(
        world.scaled_by(&open),
        ["scale count-workers-g1 from 4 to 2"]
    );
    world.job.spec.workers.max_replicas = Some(8);
    assert_eq!(
        world.scaled_by(&open),
        ["scale count-workers-g1 from 2 to 8"]
    );
    world.job.spec.workers.max_replicas = None;
    world.job.spec.workers.replicas = Some(3);
    assert_eq!(
        world.scaled_by(&open),
        ["scale count-workers-g1 from 8 to 3"]
    );
    assert_eq!(world.why(), None);
    assert_eq!(world.generation(), 1);
}

#[test]
fn no_worker_with_a_task_is_released_and_those_above_it_are() {
    let mut world = elastic(1, 8, 8);
    world.scaled_by(&[(0, 8, 8)]);
    world.workers_run(8);
    let busy = |world: &mut World, ordinals: &[u32]| {
        let uids = ordinals.iter().map(|ordinal| format!("uid-{ordinal}"));
        world.report.as_mut().unwrap().busy_pods = Arc::new(uids.collect());
    };
    busy(&mut world, &[0, 4]);
    let tail = [(6, 8, 2)];
    assert_eq!(
        world.scaled_by(&tail),
        ["scale count-workers-g1 from 8 to 5"]
    );
    assert_eq!(world.scaled_by(&tail), [""; 0]);
    busy(&mut world, &[0]);
    let last = [(7, 8, 1)];
    assert_eq!(
        world.scaled_by(&last),
        [
            "scale count-workers-g1 from 5 to 3",
            "scale count-workers-g1 from 3 to 2"
        ]
    );
}

#[test]
fn living_workers_stay_for_the_last_task_and_not_one_on_a_lost_node() {
    let mut world = elastic(1, 4, 8);
    world.scaled_by(&[(0, 8, 4)]);
    world.workers_run(4);
    world.worker_pod("count-workers-g1-0", |pod| {
        pod.is_on_lost_node = true;
        pod.uid = "lost".to_owned();
    });
    world.report.as_mut().unwrap().busy_pods = Arc::new(["lost".to_owned()].into());
    assert_eq!(
        world.scaled_by(&[(7, 8, 0)]),
        ["scale count-workers-g1 from 4 to 3"]
    );
}

#[test]
fn a_set_that_somebody_deleted_is_made_again_for_the_open_tasks() {
    let mut world = elastic(1, 4, 8);
    world.scaled_by(&[(0, 8, 4)]);
    world.current().workers = None;
    world.scaled_by(&[(5, 8, 3)]);
    assert_eq!(world.workers().replicas, 3);
}

#[test]
fn a_coordinator_whose_reports_go_to_and_fro_causes_at_most_one_scaling_in_five_seconds() {
    let mut world = elastic(1, 8, 8);
    world.workers_run(8);
    world.scaled_by(&[(0, 8, 0)]);
    let logged = world.log.len();
    for tick in 0..1_200 {
        world.stages(if tick % 2 == 0 {
            &[(7, 8, 0)]
        } else {
            &[(0, 8, 0)]
        });
        world.reconcile();
        world.advance(500);
    }
    let scaled = world.log.len() - logged;
    assert!((1..=120).contains(&scaled), "{scaled}");
}
