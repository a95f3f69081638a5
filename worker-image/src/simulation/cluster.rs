//! Simulates a whole job in one thread on a simulated clock, with real coordinators, real workers,
//! the faults that affect them, and the expected result. The settings of the seed determine the
//! faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use zephyr_engine::coordinator::FailureReason;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::id::{TaskAttempt, TaskId};
use zephyr_engine::plan::PlannedSource;
use zephyr_store::chance::Chance;
use zephyr_store::finalize::{MANIFEST_NAME, STARTED_NAME};
use zephyr_store::ledger::{self, TableFiles, load_plan};

use super::coordinator::Coordinator;
use super::faults::Faults;
use super::job::{DEAD_LETTERS, FOREIGN, OUTPUT, SHAPES, SimulatedJob};
use super::journal::Journal;
use super::network::Network;
use super::on_paused_clock;
use super::process::Process;
use super::rng::Rng;
use super::settings::Settings;
use super::store::{Applied, Server};
use super::tasks::Tasks;
use super::truth::Truth;
use super::worker::Worker;
use crate::coordinator::{EventLoop, Offenders, Status, work};
use crate::metrics::CoordinatorMetrics;

/// The interval between two checks. A check finds the processes that have ended and the actions
/// that are due.
const STEP: Duration = Duration::from_millis(100);
/// How long a job may take after the last fault. This is enough for a hundred tasks of half a
/// minute each, and for all timeouts.
const MAX_HEALED: Duration = Duration::from_mins(30);
/// How long the simulation continues after the end of the job, because late messages could still do
/// harm.
const AFTERWARDS: Duration = Duration::from_mins(3);

/// The shared state of a run.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) settings: Settings,
    pub(super) job: SimulatedJob,
    pub(super) server: Arc<Server>,
    pub(super) journal: Journal,
    pub(super) network: Arc<Network>,
    pub(super) tasks: Tasks,
    truth: Arc<Truth>,
    is_healed: AtomicBool,
}

/// The processes, and the actions that become due later.
pub(super) struct Fleet {
    pub(super) world: Arc<World>,
    pub(super) rng: Rng,
    pub(super) coordinators: Vec<Coordinator>,
    pub(super) workers: Vec<Worker>,
    /// The paused processes, each with the end of its pause.
    pub(super) stalled: Vec<(Instant, Process)>,
    /// The ordinals of workers whose pods will start, each with its time.
    pub(super) starting: Vec<(Instant, u64)>,
    pub(super) coordinator_starts: Option<Instant>,
    pub(super) next_pod: u64,
    pub(super) next_coordinator: u64,
    /// The generation of the processes that start now.
    pub(super) generation: u32,
    /// When the job is cancelled, and then restarted. The next time is the last one.
    pub(super) cancels: Vec<Instant>,
    /// When the coordinator may be asked again to end the job.
    pub(super) asks_next: Instant,
    pub(super) losses: BTreeMap<TaskId, u64>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) trace: u64,
    pub(super) lines: u64,
    pub(super) epochs: usize,
    /// How many failures of tasks were reported. `charged` is how many of them were charged to a
    /// task.
    pub(super) failures: usize,
    pub(super) charged: usize,
    /// How often the job was restarted.
    pub(super) restarts: usize,
    /// Whether tasks read parts of files, or several files.
    pub(super) has_parts: bool,
    /// The final files, by name.
    pub(super) files: BTreeMap<String, Bytes>,
}

/// Runs the job of a seed with its faults. Returns the result, or the error.
pub(super) fn run(seed: u64, is_printing: bool) -> Result<Outcome, String> {
    run_with(seed, Settings::draw(seed), is_printing)
}

/// Runs the job with this shape without faults.
pub(super) fn calm(shape: u64) -> Result<Outcome, String> {
    run_with(shape, Settings::calm(), false)
}

/// Runs a job with the given settings instead of those of a seed.
pub(super) fn run_with(
    seed: u64,
    settings: Settings,
    is_printing: bool,
) -> Result<Outcome, String> {
    let shown = format!("make simulate SEED={seed}: {settings:?}");
    on_paused_clock(&shown, is_printing, async {
        let journal = Journal::new(is_printing);
        let truth = Arc::new(Truth::new(journal.clone()));
        let world = World::new(seed, settings, &journal, truth);
        let mut fleet = Fleet::new(&world);
        fleet.run().await;
        (world.outcome(), journal.violations())
    })
}

/// Runs a job without faults. Returns how it ended, and all objects of the store by name.
pub(super) fn run_undisturbed(
    seed: u64,
    job: SimulatedJob,
) -> Result<(JobResult, BTreeMap<String, Bytes>), String> {
    let shown = format!("job {seed}");
    on_paused_clock(&shown, false, async {
        let journal = Journal::new(false);
        let truth = Arc::new(Truth::new(journal.clone()));
        let world = World::of_job(seed, Settings::calm(), &journal, truth, job);
        let mut fleet = Fleet::new(&world);
        fleet.run_to_the_result().await;
        let result = world.truth.result().unwrap_or(JobResult::Failed {
            reason: FailureReason::Other("NoResult".to_owned()),
            message: "no result is in the ledger".to_owned(),
        });
        let ended = (result, world.objects(&Path::default()));
        (ended, journal.violations())
    })
}

impl World {
    fn new(seed: u64, settings: Settings, journal: &Journal, truth: Arc<Truth>) -> Arc<Self> {
        let job = SimulatedJob::of_shape(seed % SHAPES);
        Self::of_job(seed, settings, journal, truth, job)
    }

    fn of_job(
        seed: u64,
        settings: Settings,
        journal: &Journal,
        truth: Arc<Truth>,
        mut job: SimulatedJob,
    ) -> Arc<Self> {
        let observer = {
            let truth = Arc::clone(&truth);
            Box::new(move |applied: &Applied<'_>| truth.applied(applied))
        };
        let server = Server::new(seed, Faults::default(), journal.clone(), observer);
        let server = Arc::new(server);
        job.put_input(&server);
        (job.source, job.tables) = keep_plan(&job, &server);
        server.set_faults(settings.faults, settings.task_faults);
        let tasks = Tasks::new(&job, &server, settings.task_retry_time);
        Arc::new(Self {
            seed,
            network: Arc::new(Network::new(
                seed,
                settings.message_ms_max,
                Arc::clone(&truth),
            )),
            settings,
            tasks,
            job,
            server,
            journal: journal.clone(),
            truth,
            is_healed: AtomicBool::new(false),
        })
    }

    pub(super) fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::Relaxed)
    }

    /// Returns how the job ended, if its result is durable and the job was not restarted since.
    pub(super) fn result(&self) -> Option<JobResult> {
        self.truth.result()
    }

    /// Returns whether a task was ever complete.
    pub(super) fn has_commits(&self) -> bool {
        self.truth.has_commits()
    }

    /// Returns the attempts whose shuffle files are valid, with their objects.
    pub(super) fn committed_shuffles(&self) -> Vec<(TaskAttempt, String)> {
        let mut shuffles = self.truth.committed_shuffles();
        for (_, path) in &mut shuffles {
            *path = SimulatedJob::object(path);
        }
        shuffles
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            trace: self.journal.trace(),
            lines: self.journal.count(),
            epochs: self.truth.epochs(),
            failures: self.truth.failures(),
            charged: self.truth.charged(),
            restarts: self.truth.restarts(),
            has_parts: self.job.source.parts.is_some(),
            files: self.final_files(),
        }
    }

    fn final_files(&self) -> BTreeMap<String, Bytes> {
        self.objects(&Path::from(OUTPUT))
    }

    fn objects(&self, folder: &Path) -> BTreeMap<String, Bytes> {
        let listed = self.server.all(folder);
        let files = listed.into_iter().filter_map(|object| {
            let bytes = self.server.bytes(&object.location)?;
            Some((object.location.to_string(), bytes))
        });
        files.collect()
    }

    /// Checks everything that the job promises at its end.
    fn expect_the_output(&self) {
        match self.truth.result() {
            Some(JobResult::Succeeded { .. }) => {}
            other => {
                self.journal
                    .violated(&format!("the job ended with {other:?}"));
                return;
            }
        }
        let mut files = self.final_files();
        let manifest = files.remove(&format!("{OUTPUT}/{MANIFEST_NAME}"));
        if manifest.is_none() {
            self.journal.violated("the manifest is missing");
        }
        if files.remove(FOREIGN).is_none() {
            self.journal
                .violated("a file that is nobody's output is gone");
        }
        let started = format!("{OUTPUT}/{STARTED_NAME}");
        if files.contains_key(&started) {
            self.journal
                .violated("the folder still says that the job runs");
        }
        let dead_letters: BTreeMap<String, Bytes> = files
            .extract_if(.., |name, _| name.starts_with(DEAD_LETTERS))
            .collect();
        let written = dead_letters.values().map(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().count() as u64
        });
        let (written, skipped): (u64, u64) = (written.sum(), self.job.skipped.values().sum());
        if self.job.has_dead_letters && written != skipped {
            self.journal.violated(&format!(
                "{written} bad records were written, and {skipped} were skipped: {:?}",
                dead_letters.keys().collect::<Vec<_>>()
            ));
        }
        let mut lines: Vec<String> = files
            .values()
            .flat_map(|bytes| {
                String::from_utf8_lossy(bytes)
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        if lines != self.job.lines {
            self.journal.violated(&format!(
                "the output is {lines:?} and should be {:?}",
                self.job.lines
            ));
        }
        let skipped = self.truth.skipped();
        if skipped != self.job.skipped {
            self.journal.violated(&format!(
                "the ledger counts {skipped:?} as skipped and should count {:?}",
                self.job.skipped
            ));
        }
    }
}

/// Plans the job before the run, on a separate clock, because a simulated clock does not wait for
/// the thread that compiles expressions. A first coordinator makes the plan and then ends. Returns
/// the planned source and the files of the tables.
fn keep_plan(job: &SimulatedJob, server: &Arc<Server>) -> (PlannedSource, TableFiles) {
    let gather = job.gather;
    let job = job.on(server, None, Chance::from_seed(0), Duration::from_secs(1));
    let (storage, pipeline) = (job.storage.clone(), job.pipeline.clone());
    let server = Arc::clone(server);
    let plan = async move {
        let (handle, mut watched) = watch::channel(None);
        let (status, mut shown) = watch::channel(Status::planning("before the run"));
        let metrics = CoordinatorMetrics::default();
        tokio::select! {
            biased;
            _ = watched.wait_for(Option::is_some) => {}
            _ = shown.wait_for(|status| status.result.is_some()) => {}
            _ = work(Arc::new(job), metrics, Offenders::default(), handle, status, || SystemTime::UNIX_EPOCH, EventLoop::run) => {}
        }
    };
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            plan.await;
            let plan = load_plan(&storage, false).await.unwrap();
            let Some(mut plan) = plan else {
                return Default::default();
            };
            if gather.is_some() {
                plan.gather = gather;
                plan.digest = zephyr_engine::plan::plan(&pipeline, plan.source()).digest();
                server.delete(&Path::from(SimulatedJob::object("plan.json")));
                plan = ledger::keep_plan(&storage, plan).await.unwrap();
            }
            (plan.source(), plan.tables)
        })
    });
    thread.join().unwrap()
}

impl Fleet {
    fn new(world: &Arc<World>) -> Self {
        let mut fleet = Self {
            rng: Rng::of(world.seed, "nemesis"),
            world: Arc::clone(world),
            coordinators: Vec::new(),
            workers: Vec::new(),
            stalled: Vec::new(),
            starting: Vec::new(),
            coordinator_starts: Some(Instant::now()),
            next_pod: 0,
            next_coordinator: 0,
            generation: 1,
            cancels: (world.settings.cancels_at_ms.iter().rev())
                .map(|at| Instant::now() + Duration::from_millis(*at))
                .collect(),
            asks_next: Instant::now(),
            losses: BTreeMap::new(),
        };
        for ordinal in 0..world.settings.workers {
            fleet.starting.push((Instant::now(), ordinal));
        }
        fleet
    }

    async fn run(&mut self) {
        let world = Arc::clone(&self.world);
        let heals_at = Instant::now() + Duration::from_millis(world.settings.heals_at_ms);
        let mut next_fault = Instant::now();
        while world.journal.violations().is_empty() {
            let now = Instant::now();
            self.start_what_is_due(now);
            self.cancel_and_restart(now);
            if !world.is_healed() && now >= heals_at {
                self.heal();
            }
            if world.is_healed() {
                if self.cancels.is_empty() && self.current().any(Coordinator::shows_result) {
                    break;
                }
                if now > heals_at + MAX_HEALED {
                    world.journal.violated("the job does not end");
                    return;
                }
            } else if now >= next_fault {
                self.inject_fault(now, heals_at);
                let every = world.settings.fault_every_ms;
                next_fault = now + Duration::from_millis(self.rng.between(1, 2 * every));
            }
            sleep(STEP).await;
        }
        world.expect_the_output();
        let until = Instant::now() + AFTERWARDS;
        while Instant::now() < until && world.journal.violations().is_empty() {
            self.start_what_is_due(Instant::now());
            sleep(STEP).await;
        }
        world.expect_the_output();
    }

    /// The coordinators that Kubernetes has not replaced.
    pub(super) fn current(&self) -> impl Iterator<Item = &Coordinator> {
        self.coordinators.iter().filter(|one| !one.is_replaced)
    }

    async fn run_to_the_result(&mut self) {
        let latest = Instant::now() + MAX_HEALED;
        while !self.coordinators.iter().any(Coordinator::shows_result) {
            let now = Instant::now();
            if now > latest {
                self.world.journal.violated("the job does not end");
            }
            if !self.world.journal.violations().is_empty() {
                return;
            }
            self.start_what_is_due(now);
            sleep(STEP).await;
        }
    }

    fn heal(&mut self) {
        let calm = Faults {
            latency_ms_max: 20,
            ..Faults::default()
        };
        self.world.server.set_faults(calm, Faults::default());
        self.world.is_healed.store(true, Ordering::Relaxed);
        for (_, process) in self.stalled.drain(..) {
            process.stall(false);
        }
        self.world.journal.note("nothing fails any more");
    }

    /// Plays the role of Kubernetes: restarts processes that have ended.
    fn start_what_is_due(&mut self, now: Instant) {
        let world = Arc::clone(&self.world);
        self.stalled.retain(|(until, process)| {
            let stands_still = *until > now;
            if !stands_still {
                world.journal.note(&format!("{} wakes up", process.name()));
                process.stall(false);
            }
            stands_still
        });
        self.coordinators.retain(|coordinator| {
            if coordinator.is_over() {
                world.network.leaves(coordinator.process());
            }
            !coordinator.is_over()
        });
        if self.coordinator_starts.is_none() && self.current().next().is_none() {
            let wait = self.rng.between(500, 10_000);
            self.coordinator_starts = Some(now + Duration::from_millis(wait));
        }
        if self.coordinator_starts.is_some_and(|at| at <= now) {
            self.coordinator_starts = None;
            let coordinator = Coordinator::start(&world, self.generation, self.next_coordinator);
            self.next_coordinator += 1;
            world
                .journal
                .note(&format!("{} starts", coordinator.process().name()));
            self.coordinators.push(coordinator);
        }
        let over: Vec<usize> = (0..self.workers.len())
            .rev()
            .filter(|number| self.workers[*number].is_over())
            .collect();
        for number in over {
            self.worker_is_gone(number, true);
        }
        let due: Vec<u64> = self
            .starting
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, ordinal)| *ordinal)
            .collect();
        self.starting.retain(|(at, _)| *at > now);
        for ordinal in due {
            let worker = Worker::start(&world, self.generation, self.next_pod, ordinal);
            self.next_pod += 1;
            world
                .journal
                .note(&format!("{} starts", worker.process.name()));
            self.workers.push(worker);
        }
    }

    pub(super) fn worker_is_gone(&mut self, number: usize, coordinator_knows: bool) {
        let worker = self.workers.swap_remove(number);
        worker.kill();
        let name = worker.process.name();
        self.world.journal.note(&format!("{name} is gone"));
        self.world
            .network
            .breaks(worker.pod, true, coordinator_knows);
        let wait = Duration::from_millis(self.rng.between(500, 20_000));
        self.starting.push((Instant::now() + wait, worker.ordinal));
    }
}
