//! Chooses the number of workers of a job with `maxReplicas`, by the tasks that are open.
//!
//! Pure, and without a memory: the number depends on the report, the spec, the pods and the present
//! number. It grows to what the open tasks need now, and it falls only to what the widest stage
//! that is left needs. So the change from one stage to the next causes no fall that is followed by
//! a rise. Workers are counted and not ordinals: a worker on a lost node does not count.

use zephyr_crds::job::ZephyrJobSpec;
use zephyr_crds::workers::WorkersAsked;

use super::observed::Observed;
use crate::pods::{ContainerRun, PodFacts};
use crate::run_report::RunReport;

/// How many workers there are at least while a task is open, if `maxReplicas` allows it: one that
/// runs the task, and one that can take it over at once if the first is lost, slow or sick.
const WHILE_A_TASK_IS_OPEN: u32 = 2;

/// The open tasks of a run: those that are not committed, whether they run or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenTasks {
    /// The open tasks that can run now.
    now: u64,
    /// The greatest number of open tasks that can run at the same time, now or in a later stage. If
    /// the coordinator does not list all stages, this is an estimate that is never too small.
    later: u64,
}

/// The workers that a generation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    open: OpenTasks,
    /// How many tasks run on a worker at the same time.
    tasks_per_worker: u32,
    /// `minReplicas` and `maxReplicas`.
    bounds: (u32, u32),
}

impl Needs {
    /// Returns what the job with this spec needs, or `None` if its number of workers is fixed or
    /// the plan is not known. The slots of a worker are those of the running generation, if its
    /// spec is known.
    pub(super) fn of(
        spec: &ZephyrJobSpec,
        observed: &Observed,
        report: &RunReport,
    ) -> Option<Self> {
        let WorkersAsked::Elastic { least, greatest } = spec.workers.asked() else {
            return None;
        };
        let root = observed
            .generation(report.generation)
            .and_then(|objects| objects.root.as_ref());
        let frozen = root.and_then(|root| root.frozen.job());
        Some(Self {
            open: OpenTasks::of(report)?,
            tasks_per_worker: tasks_per_worker(frozen.map_or(spec, |frozen| &frozen.spec)),
            bounds: (least, greatest),
        })
    }

    /// Returns the number of workers for the tasks that can run now.
    fn now(&self) -> u32 {
        self.workers_for(self.open.now)
    }

    /// Returns the number of workers for the widest stage that is left.
    fn later(&self) -> u32 {
        self.workers_for(self.open.later)
    }

    fn workers_for(&self, tasks: u64) -> u32 {
        let (least, greatest) = self.bounds;
        let workers = tasks.div_ceil(u64::from(self.tasks_per_worker.max(1)));
        let spare = if tasks > 0 { WHILE_A_TASK_IS_OPEN } else { 0 };
        u32::try_from(workers)
            .unwrap_or(u32::MAX)
            .max(spare)
            .clamp(least, greatest)
    }

    /// Returns the number of pods, if there are `present` pods now. A worker that has a task is not
    /// released, and at most half of the workers are released at a time: a report may be wrong, and
    /// new nodes cost minutes.
    pub(super) fn choose(&self, present: u32, pods: &WorkerPods) -> u32 {
        let (_, greatest) = self.bounds;
        let wanted = pods.enough_for(self.now()).min(greatest);
        if present < wanted {
            return wanted;
        }
        let kept = pods.kept_for(self.later()).max(pods.busy_below);
        kept.max(present.div_ceil(2)).min(present)
    }

    /// Returns why there are `desired` workers, in one sentence.
    pub(super) fn in_words(&self, desired: u32) -> String {
        let OpenTasks { now, later } = self.open;
        let (least, greatest) = self.bounds;
        let at_once = self.tasks_per_worker;
        let needed = self.now();
        let spare = if now > 0 && now.div_ceil(u64::from(at_once.max(1))) < u64::from(needed) {
            format!("; at least {WHILE_A_TASK_IS_OPEN} while a task is open")
        } else {
            String::new()
        };
        let stays = if self.later() > needed {
            format!(
                "; a later stage has {later} tasks, so up to {} workers stay",
                self.later()
            )
        } else {
            String::new()
        };
        let other = if desired < needed {
            format!("; no more than {desired} are useful or requested yet")
        } else if desired > self.later() {
            format!(
                "; {desired} stay for now: workers with tasks, a spare one for each lost one, and idle ones as long as they are less than a \
                 quarter"
            )
        } else {
            String::new()
        };
        format!(
            "the number of open tasks is {now} and a worker runs {at_once} at a time, so the number of workers that the job \
             needs is {needed} (minReplicas {least}, maxReplicas {greatest}{spare}){stays}{other}"
        )
    }
}

impl OpenTasks {
    fn of(report: &RunReport) -> Option<Self> {
        report.planned.as_ref()?;
        let all = report.tasks_total.saturating_sub(report.tasks_done);
        // A coordinator of an earlier release reports only the running stage.
        let stages = if report.stages.is_empty() {
            report.stage.as_slice()
        } else {
            &report.stages
        };
        let (mut now, mut widest, mut listed) = (0, 0, 0_u64);
        for stage in stages {
            let open = u64::from(stage.total.saturating_sub(stage.done));
            // The first stage that is not complete can run. A later one can if a task of it runs.
            if listed == 0 || stage.running > 0 {
                now += open;
            }
            widest = open.max(widest);
            listed += open;
        }
        let unlisted = all.saturating_sub(listed);
        Some(Self {
            now,
            later: now.max(widest).max(unlisted),
        })
    }
}

/// Returns how many tasks a worker runs at the same time. A command may take several slots.
fn tasks_per_worker(spec: &ZephyrJobSpec) -> u32 {
    let slots = spec.workers.effective_slots().unwrap_or(1);
    let of_command = spec.pipeline.slots_of_commands();
    let of_command = of_command.map_or(1, |(slots, _)| slots.max(1));
    (slots / of_command).max(1)
}

/// The pods of a generation's workers, by ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WorkerPods {
    /// Those of workers that work or could work at once, in rising order.
    living: Vec<u32>,
    /// Those on lost nodes, in rising order. No other pod takes their places until they are deleted
    /// by force.
    lost: Vec<u32>,
    /// The ordinal after the highest one whose worker may have a task.
    busy_below: u32,
}

impl WorkerPods {
    pub(super) fn of(observed: &Observed, report: &RunReport) -> Self {
        let mut pods = Self::default();
        for pod in observed.workers(report.generation) {
            let Some(ordinal) = pod.ordinal() else {
                continue;
            };
            if pod.is_on_lost_node {
                pods.lost.push(ordinal);
            } else if is_living(report, pod) {
                pods.living.push(ordinal);
            }
            // A task on a lost node runs again elsewhere.
            if !pod.is_on_lost_node && may_be_busy(report, pod) {
                pods.busy_below = pods.busy_below.max(ordinal.saturating_add(1));
            }
        }
        pods.living.sort_unstable();
        pods.lost.sort_unstable();
        pods
    }

    /// Returns how many pods there must be, so that `workers` of them are not on lost nodes.
    fn enough_for(&self, workers: u32) -> u32 {
        let more = |pods: u32, lost: &u32| pods.saturating_add(u32::from(*lost < pods));
        self.lost.iter().fold(workers, more)
    }

    /// Returns to how many pods the number can fall, so that `workers` workers stay: the living
    /// ones with the lowest ordinals, and one ordinal above them for each one that is missing.
    fn kept_for(&self, workers: u32) -> u32 {
        let living = u32::try_from(self.living.len()).unwrap_or(u32::MAX);
        let missing = workers.saturating_sub(living);
        let last = workers.min(living).checked_sub(1);
        let last = last.and_then(|last| self.living.get(usize::try_from(last).ok()?));
        last.map_or(0, |ordinal| ordinal.saturating_add(1))
            .saturating_add(missing)
    }
}

/// Whether a worker can work: it is connected, and nothing ends it.
fn is_living(report: &RunReport, pod: &PodFacts) -> bool {
    let connected = report.connected_pods.as_ref();
    let is_taken = pod.over || pod.deletion.is_some() || pod.disruption.is_some();
    // A coordinator of an earlier release does not report who is connected.
    !is_taken && connected.is_none_or(|connected| connected.contains(&pod.uid))
}

/// Whether a worker may have a task. A coordinator that has just started does not know the tasks of
/// the workers that have not connected to it yet, and no coordinator knows the tasks of a worker
/// that is reconnecting.
fn may_be_busy(report: &RunReport, pod: &PodFacts) -> bool {
    let connected = report.connected_pods.as_ref();
    let is_unknown = connected.is_some_and(|connected| !connected.contains(&pod.uid));
    let runs = matches!(pod.container.state, ContainerRun::Running { .. });
    report.busy_pods.contains(&pod.uid)
        || report.reconnecting_pods.contains(&pod.uid)
        || is_unknown && runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_report::{Planned, PodUids, StageReport};

    /// A report with these stages: (done, total, running).
    fn report(stages: &[(u32, u32, u32)]) -> RunReport {
        let stages = stages.iter().map(|(done, total, running)| StageReport {
            done: *done,
            total: *total,
            running: *running,
            ..StageReport::default()
        });
        let stages: Vec<_> = stages.collect();
        RunReport {
            planned: Some(Planned::default()),
            tasks_done: stages.iter().map(|stage| u64::from(stage.done)).sum(),
            tasks_total: stages.iter().map(|stage| u64::from(stage.total)).sum(),
            stages,
            ..RunReport::default()
        }
    }

    fn open(report: &RunReport) -> (u64, u64) {
        let open = OpenTasks::of(report).expect("a plan");
        (open.now, open.later)
    }

    fn needs(now: u64, later: u64, tasks_per_worker: u32, bounds: (u32, u32)) -> Needs {
        Needs {
            open: OpenTasks { now, later },
            tasks_per_worker,
            bounds,
        }
    }

    /// So many idle workers.
    fn all_living(count: u32) -> WorkerPods {
        WorkerPods {
            living: (0..count).collect(),
            ..WorkerPods::default()
        }
    }

    #[test]
    fn the_open_tasks_are_those_of_the_stages_that_run_and_of_the_widest_that_is_left() {
        for (stages, expected) in [
            (&[(0, 8, 0), (0, 2, 0)][..], (8, 8)),
            (&[(6, 8, 2), (0, 5, 0)], (2, 5)),
            (&[(8, 8, 0), (0, 5, 0)], (5, 5)),
            (&[(8, 8, 0), (4, 5, 1)], (1, 1)),
            (&[(8, 8, 0), (5, 5, 0)], (0, 0)),
            // An output of the first stage was lost while the second runs.
            (&[(7, 8, 1), (1, 5, 3)], (5, 5)),
        ] {
            assert_eq!(open(&report(stages)), expected, "{stages:?}");
        }
        let mut unplanned = report(&[(0, 8, 0)]);
        unplanned.planned = None;
        assert_eq!(OpenTasks::of(&unplanned), None);
    }

    #[test]
    fn stages_that_are_not_listed_count_as_one_later_stage() {
        let mut older = report(&[(2, 8, 4)]);
        older.stage = older.stages.pop();
        older.tasks_total += 100;
        assert_eq!(open(&older), (6, 100));
        let mut none = report(&[]);
        none.tasks_total = 3;
        assert_eq!(open(&none), (0, 3));
    }

    #[test]
    fn the_number_grows_to_the_open_tasks_and_falls_to_the_widest_stage_that_is_left() {
        for (now, later, present, expected) in [
            (8, 8, 0, 4),
            (3, 3, 0, 3),
            (3, 3, 4, 3),
            (0, 0, 2, 1),
            // The next stage needs what the last tasks of this one do not.
            (1, 8, 4, 4),
            (1, 3, 4, 3),
            // The next stage is wider, but it does not run yet.
            (1, 8, 2, 2),
            (u64::MAX, u64::MAX, 2, 4),
        ] {
            let chosen = needs(now, later, 1, (1, 4)).choose(present, &all_living(present));
            assert_eq!(chosen, expected, "{now} {later} {present}");
        }
        let choose = |needs: Needs, present| needs.choose(present, &all_living(present));
        assert_eq!(choose(needs(9, 9, 4, (1, 100)), 0), 3, "four at a time");
        assert_eq!(choose(needs(0, 0, 4, (5, 100)), 9), 5, "minReplicas");
        assert_eq!(choose(needs(1, 1, 4, (1, 100)), 0), 2, "a spare one");
        assert_eq!(choose(needs(1, 1, 4, (1, 1)), 0), 1, "maxReplicas");
        let at_once = choose(needs(3, 3, 1, (1, 10_000)), 10_000);
        assert_eq!(at_once, 5000, "at most half at a time");
    }

    /// Found by an attack: the idle living workers were released, and one on a lost node stayed.
    #[test]
    fn a_worker_on_a_lost_node_or_without_a_session_is_none_of_those_that_stay() {
        let last_task = needs(1, 1, 1, (1, 4));
        for (living, lost, present, expected) in [
            (&[1, 2, 3][..], &[0][..], 4, 3),
            (&[2, 3], &[0, 1], 4, 4),
            (&[3], &[0, 1, 2], 4, 4),
            (&[0, 1, 2, 3], &[], 4, 2),
            // Two are not connected. They may never be.
            (&[2, 3], &[], 4, 4),
            // The number grows by one for each lost node, but not beyond maxReplicas.
            (&[1], &[0], 2, 3),
            // Pods that never got a node are released.
            (&[0], &[], 4, 2),
            (&[], &[], 4, 2),
            (&[], &[0, 1, 2], 3, 4),
        ] {
            let pods = WorkerPods {
                living: living.to_vec(),
                lost: lost.to_vec(),
                busy_below: 0,
            };
            assert_eq!(last_task.choose(present, &pods), expected, "{pods:?}");
        }
    }

    #[test]
    fn a_worker_with_a_task_stays_and_so_do_those_below_it() {
        let needs = needs(1, 1, 1, (1, 4));
        for (busy_below, expected) in [(0, 2), (1, 2), (3, 3), (4, 4), (9, 4)] {
            let pods = WorkerPods {
                busy_below,
                ..all_living(4)
            };
            assert_eq!(needs.choose(4, &pods), expected, "{busy_below}");
        }
    }

    /// Every way in which two stages can go forward, from any present number: a number that falls
    /// never rises again, because no output is lost here.
    #[test]
    fn the_number_never_rises_again_after_it_fell_as_long_as_no_output_is_lost() {
        for (first, second) in (0..12_u32).flat_map(|a| (0..12_u32).map(move |b| (a, b))) {
            for start in 0..=6 {
                let (mut present, mut has_fallen) = (start, false);
                // Twice more at the end, because at most half of the workers are released at once.
                for done in 0..=first + second + 2 {
                    let (one, two) = (done.min(first), done.saturating_sub(first).min(second));
                    let report = report(&[(one, first, 0), (two, second, 0)]);
                    let open = OpenTasks::of(&report).expect("a plan");
                    let needs = Needs {
                        open,
                        tasks_per_worker: 1,
                        bounds: (1, 6),
                    };
                    let chosen = needs.choose(present, &all_living(present));
                    assert!(
                        !(has_fallen && chosen > present),
                        "{first} {second} {start}: from {present} to {chosen} at {done}"
                    );
                    has_fallen |= chosen < present;
                    present = chosen;
                }
                assert_eq!(present, 1, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_worker_that_is_not_connected_may_have_a_task() {
        let running = ContainerRun::Running { since: None };
        let mut pod = PodFacts {
            uid: "w".to_owned(),
            ..crate::pods::tests::worker("count-workers-g1-3")
        };
        pod.container.state = running;
        let with = |uids: &[&str]| -> PodUids {
            let uids = uids.iter().map(|uid| (*uid).to_owned());
            std::sync::Arc::new(uids.collect())
        };
        let idle = RunReport {
            connected_pods: Some(with(&["w"])),
            ..RunReport::default()
        };
        assert!(!may_be_busy(&idle, &pod));
        let busy = RunReport {
            busy_pods: with(&["w"]),
            ..idle.clone()
        };
        assert!(may_be_busy(&busy, &pod));
        let reconnecting = RunReport {
            reconnecting_pods: with(&["w"]),
            ..idle.clone()
        };
        assert!(may_be_busy(&reconnecting, &pod));
        let restarted = RunReport {
            connected_pods: Some(with(&[])),
            ..idle
        };
        assert!(may_be_busy(&restarted, &pod));
        pod.container.state = ContainerRun::Waiting(crate::pods::tests::explanation("Pending", ""));
        assert!(!may_be_busy(&restarted, &pod));
    }

    #[test]
    fn the_reason_names_the_tasks_and_both_bounds() {
        assert_eq!(
            needs(2, 8, 1, (1, 4)).in_words(3),
            "the number of open tasks is 2 and a worker runs 1 at a time, so the number of workers that the job needs is 2 \
             (minReplicas 1, maxReplicas 4); a later stage has 8 tasks, so up to 4 workers stay"
        );
        assert_eq!(
            needs(8, 8, 2, (1, 3)).in_words(3),
            "the number of open tasks is 8 and a worker runs 2 at a time, so the number of workers that the job needs is 3 \
             (minReplicas 1, maxReplicas 3)"
        );
        let ending = |needs: Needs, desired| {
            needs
                .in_words(desired)
                .split_once(" needs is ")
                .unwrap()
                .1
                .to_owned()
        };
        assert_eq!(
            ending(needs(1, 1, 1, (1, 4)), 2),
            "2 (minReplicas 1, maxReplicas 4; at least 2 while a task is open)"
        );
        assert_eq!(
            ending(needs(8, 8, 1, (1, 9)), 3),
            "8 (minReplicas 1, maxReplicas 9); no more than 3 are useful or requested yet"
        );
        assert_eq!(
            ending(needs(3, 3, 1, (1, 9)), 7),
            "3 (minReplicas 1, maxReplicas 9); 7 stay for now: workers with tasks, a spare one for each lost one, and idle ones as long as they \
             are less than a quarter"
        );
    }
}
