//! Tests of the order of turns, as tables.

use serde_json::{Value, json};

use super::*;
use crate::pods::tests::{at, worker};

const NOW: i64 = 10_000;

fn candidate(name: &str, stage: Stage) -> Candidate {
    let (namespace, name) = name.split_once('/').unwrap_or(("team", name));
    Candidate {
        key: JobKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        uid: name.to_owned(),
        stage,
    }
}

/// Returns a job that was created `ago` seconds ago.
fn new(name: &str, ago: i64) -> Candidate {
    let stage = Stage::Waits {
        since: at(NOW - ago),
        given_back: 0,
        admitted: None,
    };
    candidate(name, stage)
}

/// Returns a job that gave its place back `ago` seconds ago, for the `given_back`-th time.
fn gave_way(name: &str, ago: i64, given_back: u32) -> Candidate {
    let stage = Stage::Waits {
        since: at(NOW - ago),
        given_back,
        admitted: None,
    };
    candidate(name, stage)
}

/// Returns a job whose turn came `ago` seconds ago.
fn admitted(name: &str, ago: i64) -> Candidate {
    let stage = Stage::Waits {
        since: at(0),
        given_back: 0,
        admitted: Some(at(NOW - ago)),
    };
    candidate(name, stage)
}

/// Returns a job that started `begun` seconds ago. The last progress of its start, such as a pod
/// that was placed on a node, was `moved` seconds ago.
fn starts(name: &str, begun: i64, moved: i64, has_room: bool) -> Candidate {
    let placing = Placing {
        moved: at(NOW - moved),
        has_room,
    };
    let begun = at(NOW - begun);
    candidate(name, Stage::Starts { begun, placing })
}

/// Returns what each job may do: it goes, it gives way, it rests before it may start again, or the
/// number of jobs that are before it in the queue.
fn decided(candidates: &[Candidate], limit: usize) -> Vec<String> {
    let turns = turns(candidates, limit, at(NOW));
    let word = |candidate: &Candidate| match turns[&candidate.uid] {
        Turn::Free => "goes".to_owned(),
        Turn::GiveWay => "gives way".to_owned(),
        Turn::Wait(Waiting {
            not_before: Some(_),
            ..
        }) => "rests".to_owned(),
        Turn::Wait(waiting) => waiting.before.to_string(),
    };
    candidates.iter().map(word).collect()
}

#[test]
fn as_many_jobs_start_at_once_as_are_allowed_and_the_others_wait_in_order() {
    type Case = (&'static str, usize, Vec<(Candidate, &'static str)>);
    let cases: Vec<Case> = vec![
        (
            "first in, first out",
            2,
            vec![
                (new("c", 10), "2"),
                (new("a", 30), "goes"),
                (new("b", 20), "goes"),
                (new("d", 5), "3"),
            ],
        ),
        (
            "a job that starts takes a place, whether it has room or not",
            2,
            vec![
                (starts("a", 60, 20, true), "goes"),
                (starts("b", 60, 20, false), "goes"),
                (new("c", 10), "0"),
            ],
        ),
        (
            "a job whose start has made no progress for five minutes blocks no other job",
            1,
            vec![
                (starts("a", 600, 300, true), "goes"),
                (new("c", 10), "goes"),
                (new("d", 5), "1"),
            ],
        ),
        (
            "a job that has found no room for five minutes blocks no other job",
            1,
            vec![
                (starts("a", 600, 300, false), "goes"),
                (new("c", 10), "goes"),
            ],
        ),
        (
            "a job whose turn has come keeps it, even if older jobs appear",
            1,
            vec![(admitted("z", 1), "goes"), (new("a", 9_000), "0")],
        ),
        (
            "a job that does not start within two minutes of its turn blocks no other job",
            1,
            vec![(admitted("z", 120), "goes"), (new("a", 10), "goes")],
        ),
        (
            "namespaces take turns",
            3,
            vec![
                (new("one/a", 50), "goes"),
                (new("one/b", 49), "goes"),
                (new("one/c", 48), "4"),
                (new("one/d", 47), "5"),
                (new("two/e", 10), "goes"),
                (new("two/f", 9), "3"),
            ],
        ),
        (
            "the namespace in which the fewest jobs start gets the next place",
            3,
            vec![
                (starts("one/a", 60, 20, true), "goes"),
                (starts("one/b", 60, 20, true), "goes"),
                (new("one/c", 500), "1"),
                (new("two/e", 10), "goes"),
            ],
        ),
    ];
    for (name, limit, table) in cases {
        let (candidates, expected): (Vec<_>, Vec<_>) = table.into_iter().unzip();
        assert_eq!(decided(&candidates, limit), expected, "{name}");
    }
}

#[test]
fn jobs_that_block_each_other_give_their_places_to_the_oldest_of_them() {
    let cases: Vec<(&str, Vec<(Candidate, &str)>)> = vec![
        (
            "all blocked jobs except the oldest give their places back, and no job starts",
            vec![
                (new("w", 9_000), "0"),
                (starts("b", 500, 400, false), "gives way"),
                (starts("a", 600, 300, false), "goes"),
                (starts("c", 400, 350, false), "gives way"),
                (starts("with-room", 700, 600, true), "goes"),
                (starts("not-yet", 100, 99, false), "gives way"),
            ],
        ),
        (
            "no job gives its place back while only one job has found no room for five minutes",
            vec![
                (starts("a", 600, 300, false), "goes"),
                (starts("b", 600, 299, false), "goes"),
            ],
        ),
        (
            "after half an hour without room the oldest job gives its place back",
            vec![
                (starts("a", 3_000, 1_800, false), "gives way"),
                (starts("b", 500, 400, false), "goes"),
            ],
        ),
        (
            "all jobs give their places back if each of them had half an hour",
            vec![
                (starts("a", 3_000, 1_800, false), "gives way"),
                (starts("b", 2_000, 1_900, false), "gives way"),
            ],
        ),
    ];
    for (name, table) in cases {
        let (candidates, expected): (Vec<_>, Vec<_>) = table.into_iter().unzip();
        assert_eq!(decided(&candidates, 9), expected, "{name}");
    }
}

#[test]
fn after_a_job_gave_its_place_back_fewer_jobs_start_and_this_job_is_last() {
    let cases: Vec<(&str, Vec<(Candidate, &str)>)> = vec![
        (
            "the job rests for a minute, and no other job starts in this minute",
            vec![
                (gave_way("a", 59, 1), "rests"),
                (new("other/b", 10), "0"),
                (new("other/c", 9), "1"),
            ],
        ),
        (
            "after the minute the job has its turn after the jobs that came while it rested",
            vec![
                (gave_way("a", 60, 1), "2"),
                (new("b", 10), "goes"),
                (new("c", 9), "goes"),
            ],
        ),
        (
            "if more jobs gave their places back, fewer jobs start",
            vec![
                (gave_way("a", 60, 1), "1"),
                (gave_way("a2", 60, 1), "2"),
                (gave_way("a3", 60, 1), "3"),
                (new("b", 10), "goes"),
            ],
        ),
        (
            "if a job gave its place back more often, it rests for longer",
            vec![(gave_way("a", 479, 4), "rests"), (new("b", 10), "goes")],
        ),
        (
            "a job rests for at most ten minutes, and then many jobs start at once again",
            vec![
                (gave_way("a", 600, 30), "goes"),
                (new("b", 10), "goes"),
                (new("c", 9), "goes"),
            ],
        ),
    ];
    for (name, table) in cases {
        let (candidates, expected): (Vec<_>, Vec<_>) = table.into_iter().unzip();
        assert_eq!(decided(&candidates, 5), expected, "{name}");
    }
}

fn job(status: &Value) -> ZephyrJob {
    serde_json::from_value(json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {
            "name": "count", "namespace": "team", "uid": "uid", "generation": 3,
            "creationTimestamp": "1970-01-01T00:01:00Z",
        },
        "spec": crate::children::tests::frozen(json!({})).spec,
        "status": status,
    }))
    .unwrap()
}

#[test]
fn the_state_of_a_start_follows_from_status_alone() {
    let condition = |kind: &str, reason: &str, generation: u32| {
        json!([{
            "type": kind, "status": "False", "reason": reason, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "1970-01-01T00:01:00Z",
        }])
    };
    let started = json!([{"generation": 2, "startTime": "1970-01-01T00:02:00Z"}]);
    let new = StartProgress::Waits {
        since: Some(at(60)),
        given_back: 0,
    };
    let starts = |second| StartProgress::Starts {
        generation: 2,
        begun: at(second),
    };
    let cases = [
        (json!({}), new),
        (
            json!({"conditions": condition("Accepted", "SpecInvalid", 3)}),
            StartProgress::Aside,
        ),
        (
            json!({"conditions": condition("Accepted", "SpecInvalid", 2)}),
            new,
        ),
        (
            json!({"conditions": condition("Accepted", "SpecInvalid", 3), "phase": "Failed", "observedGeneration": 3}),
            StartProgress::Aside,
        ),
        (
            json!({"conditions": condition("Accepted", "SpecInvalid", 2), "phase": "Failed", "observedGeneration": 2}),
            new,
        ),
        (
            json!({"conditions": condition("Progressing", "Blocked", 3)}),
            StartProgress::Aside,
        ),
        (
            json!({"conditions": condition("Progressing", "Queued", 3), "queuedSince": "1970-01-01T00:02:00Z"}),
            new,
        ),
        (
            json!({"phase": "Pending", "generation": 2, "generations": started}),
            starts(120),
        ),
        (
            json!({
                "phase": "Restarting", "generation": 2, "generations": started, "backoffUntil": "1970-01-01T00:03:00Z",
            }),
            starts(180),
        ),
        (
            json!({
                "phase": "Pending", "generation": 2, "generations": started, "placesGivenBack": 4,
                "queuedSince": "1970-01-01T00:05:00Z",
            }),
            StartProgress::Waits {
                since: Some(at(300)),
                given_back: 4,
            },
        ),
        (
            json!({
                "phase": "Restarting", "generation": 2, "generations": started, "workingSince": "1970-01-01T00:05:00Z",
            }),
            StartProgress::Aside,
        ),
        (
            json!({"phase": "WaitingForWorkers", "generation": 2, "generations": started, "progress": "63%"}),
            StartProgress::Aside,
        ),
        (
            json!({"phase": "WaitingForWorkers", "generation": 2, "generations": started, "progress": "0%"}),
            starts(120),
        ),
        (
            json!({"phase": "Running", "generation": 2}),
            StartProgress::Aside,
        ),
        (
            json!({"phase": "Failed", "generation": 2}),
            StartProgress::Aside,
        ),
    ];
    for (status, expected) in cases {
        assert_eq!(StartProgress::of(&job(&status)), expected, "{status}");
    }
    let mut deleted = job(&json!({}));
    deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
    assert_eq!(StartProgress::of(&deleted), StartProgress::Aside);
}

#[test]
fn a_resumed_job_waits_from_its_resumption_and_starts_like_a_new_job() {
    let waits = |since, given_back| StartProgress::Waits { since, given_back };
    let condition = |kind: &str, reason: &str| {
        json!([{
            "type": kind, "status": "False", "reason": reason, "message": "", "observedGeneration": 3,
            "lastTransitionTime": "1970-01-01T00:01:00Z",
        }])
    };
    let ended = |cause: &str| {
        json!([
            {"generation": 1, "startTime": "1970-01-01T00:01:00Z", "endTime": "1970-01-01T00:02:00Z", "cause": cause},
            {"generation": 2, "startTime": "1970-01-01T00:02:00Z"},
        ])
    };
    let cases = [
        (
            "it was suspended for days, and is resumed now",
            json!({"generation": 2, "suspensions": 1, "suspendedSince": "1970-01-01T00:02:00Z"}),
            waits(None, 0),
        ),
        (
            "it gave a place back before its generation was suspended",
            json!({
                "generation": 2, "generations": ended("Suspended"), "suspensions": 1, "placesGivenBack": 3,
                "suspendedSince": "1970-01-01T00:02:00Z",
            }),
            waits(None, 0),
        ),
        (
            "the same, and it waits for its turn after the suspension",
            json!({
                "generation": 2, "generations": ended("Suspended"), "suspensions": 1, "placesGivenBack": 3,
                "queuedSince": "1970-01-01T00:05:00Z",
            }),
            waits(Some(at(300)), 0),
        ),
        (
            "it gave its place back, waited for its turn, and was then suspended",
            json!({
                "generation": 2, "generations": ended("GaveWay"), "placesGivenBack": 3,
                "queuedSince": "1970-01-01T00:05:00Z",
            }),
            waits(Some(at(300)), 0),
        ),
        (
            "it gave its place back and was not suspended",
            json!({
                "generation": 2, "generations": ended("GaveWay"), "placesGivenBack": 3,
                "queuedSince": "1970-01-01T00:02:00Z",
            }),
            waits(Some(at(120)), 3),
        ),
        (
            "it was created suspended",
            json!({"suspendedSince": "1970-01-01T00:02:00Z"}),
            waits(None, 0),
        ),
        (
            "it was created suspended, and waits for its turn",
            json!({"conditions": condition("Suspended", "NotSuspended"), "queuedSince": "1970-01-01T00:05:00Z"}),
            waits(Some(at(300)), 0),
        ),
        (
            "its spec is refused while it waits",
            json!({
                "generation": 2, "conditions": condition("Accepted", "SpecInvalid"),
                "queuedSince": "1970-01-01T00:05:00Z",
            }),
            StartProgress::Aside,
        ),
        (
            "it worked before it was suspended, and starts again",
            json!({
                "phase": "Pending", "generation": 2, "generations": ended("Suspended"), "suspensions": 1,
                "progress": "63%",
            }),
            StartProgress::Starts {
                generation: 2,
                begun: at(120),
            },
        ),
    ];
    for (name, status, expected) in cases {
        assert_eq!(StartProgress::of(&job(&status)), expected, "{name}");
    }
}

#[test]
fn a_job_has_room_if_the_pods_that_it_needs_next_have_nodes() {
    let coordinator = |available: Option<i64>| CoordinatorFacts {
        available_since: available.map(at),
        ..CoordinatorFacts::default()
    };
    let workers = |replicas| WorkersFacts {
        replicas,
        ..WorkersFacts::default()
    };
    let pod = |role, node: Option<&str>| PodFacts {
        role,
        node: node.map(str::to_owned),
        created: Some(at(200)),
        scheduled_since: node.map(|_| at(210)),
        ..worker("a")
    };
    let taken = PodFacts {
        deletion: Some(at(220)),
        ..pod(Role::Worker, Some("n"))
    };
    let (begun, up) = (at(100), coordinator(Some(150)));
    let cases: Vec<(&str, Placing, (i64, bool))> = vec![
        (
            "nothing exists",
            Placing::of(None, None, &[], begun),
            (100, true),
        ),
        (
            "the coordinator's pod is not made",
            Placing::of(Some(&coordinator(None)), Some(&workers(0)), &[], begun),
            (100, false),
        ),
        (
            "it has no node",
            Placing::of(
                Some(&coordinator(None)),
                None,
                &[&pod(Role::Coordinator, None)],
                begun,
            ),
            (200, false),
        ),
        (
            "it has one",
            Placing::of(
                Some(&coordinator(None)),
                None,
                &[&pod(Role::Coordinator, Some("n"))],
                begun,
            ),
            (210, true),
        ),
        (
            "it makes its plan",
            Placing::of(Some(&up), Some(&workers(0)), &[], begun),
            (150, true),
        ),
        (
            "no worker is made",
            Placing::of(Some(&up), Some(&workers(3)), &[], begun),
            (150, false),
        ),
        (
            "none has a node",
            Placing::of(
                Some(&up),
                Some(&workers(3)),
                &[&pod(Role::Worker, None), &taken],
                begun,
            ),
            (210, false),
        ),
        (
            "one has a node",
            Placing::of(
                Some(&up),
                Some(&workers(3)),
                &[&pod(Role::Worker, None), &pod(Role::Worker, Some("n"))],
                begun,
            ),
            (210, true),
        ),
    ];
    for (name, found, (moved, has_room)) in cases {
        let expected = Placing {
            moved: at(moved),
            has_room,
        };
        assert_eq!(found, expected, "{name}");
    }
}

/// Simulates `jobs` jobs, each with a coordinator and a worker, on nodes with room for `room` pods,
/// in steps of five seconds. The scheduler places all coordinators in the order of their jobs, and
/// then all workers in that order. Returns after how many seconds all jobs have ended, if they end
/// within two days.
fn time_to_end(jobs: usize, room: usize, limit: usize) -> Option<i64> {
    const STEP: i64 = 5;
    const WORKS_FOR: i64 = 30;
    #[derive(Clone, Default)]
    struct Job {
        begun: Option<i64>,
        queued: Option<i64>,
        given_back: u32,
        coordinator: Option<i64>,
        worker: Option<i64>,
        is_over: bool,
    }
    let mut all = vec![Job::default(); jobs];
    for now in (0..34_560).map(|step| step * STEP) {
        let candidates: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(_, job)| !job.is_over && job.worker.is_none())
            .map(|(number, job)| {
                let stage = match job.begun {
                    None => Stage::Waits {
                        since: at(job.queued.unwrap_or(0)),
                        given_back: job.given_back,
                        admitted: None,
                    },
                    Some(begun) => Stage::Starts {
                        begun: at(begun),
                        placing: Placing {
                            moved: at(job.coordinator.unwrap_or(begun)),
                            has_room: false,
                        },
                    },
                };
                candidate(&format!("job-{number:03}"), stage)
            })
            .collect();
        for (uid, turn) in turns(&candidates, limit, at(now)) {
            let job = &mut all[uid[4..].parse::<usize>().unwrap()];
            match turn {
                Turn::Free if job.begun.is_none() => (job.begun, job.queued) = (Some(now), None),
                Turn::GiveWay => {
                    *job = Job {
                        queued: Some(now),
                        given_back: job.given_back + 1,
                        ..Job::default()
                    };
                }
                Turn::Free | Turn::Wait(_) => {}
            }
        }
        for job in &mut all {
            if job.worker.is_some_and(|worker| now >= worker + WORKS_FOR) {
                *job = Job {
                    is_over: true,
                    ..Job::default()
                };
            }
        }
        let pods = |all: &[Job]| {
            let of = |job: &Job| {
                usize::from(job.coordinator.is_some()) + usize::from(job.worker.is_some())
            };
            all.iter().map(of).sum::<usize>()
        };
        // In each step, coordinators are created before workers, which is the worst order.
        for job in 0..jobs {
            if all[job].begun.is_some() && all[job].coordinator.is_none() && pods(&all) < room {
                all[job].coordinator = Some(now);
            }
        }
        for job in 0..jobs {
            let waits =
                all[job].coordinator.is_some_and(|up| up < now) && all[job].worker.is_none();
            if waits && pods(&all) < room {
                all[job].worker = Some(now);
            }
        }
        if all.iter().all(|job| job.is_over) {
            return Some(now);
        }
    }
    None
}

#[test]
fn two_hundred_jobs_all_end_whatever_room_the_nodes_have() {
    for (room, limit, within) in [
        (120, 32, 600),
        (40, 32, 1_800),
        (20, 32, 7_200),
        (2, 32, 43_200),
        (120, 200, 7_200),
        (5, 1, 7_200),
    ] {
        let took = time_to_end(200, room, limit);
        assert!(
            took.is_some_and(|took| took <= within),
            "room for {room} pods, {limit} at once: {took:?}"
        );
    }
}
