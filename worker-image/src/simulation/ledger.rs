//! Simulates the real ledger on a store that fails, with several coordinators at the same time.
//! They take over, append, are killed at any moment, pause, and resume after others have replaced
//! them. The content of their records has no meaning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use zephyr_engine::coordinator::record::{FailureClass, LogRecord};
use zephyr_engine::id::{Attempt, Epoch, JobUid, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_store::chance::Chance;
use zephyr_store::ledger::{Ledger, LedgerError, MergePolicy, TakeOver, WriterToken};
use zephyr_store::storage::JobStorage;

use super::client::stores;
use super::faults::{Damages, Faults};
use super::journal::Journal;
use super::ledger_book::LedgerBook;
use super::on_paused_clock;
use super::process::Process;
use super::rng::Rng;
use super::store::{Applied, Server};

/// How many coordinators run at the same time at most: one that works, and superseded ones.
const MAX_ALIVE: usize = 4;
/// How long it may take after the last fault until exactly one coordinator can append.
const MAX_HEALED: Duration = Duration::from_mins(10);
/// How often a ledger is read again before an error in it counts as permanent, as in planning.
const LEDGER_READS: u32 = 3;

/// The choices of a seed before its run begins.
#[derive(Clone, Debug)]
struct Settings {
    faults: Faults,
    merge_after_objects: u64,
    merge_after_bytes: usize,
    retry_time: Duration,
    records_max: u64,
    pause_ms_max: u64,
    fault_every_ms: u64,
    heals_at: Duration,
}

impl Settings {
    fn draw(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "ledger settings");
        let one_of = |rng: &mut Rng, from: &[u64]| rng.pick(from).unwrap_or_default();
        let damages = rng
            .pick(&[Damages::Nothing, Damages::Nothing, Damages::Ledger])
            .unwrap_or_default();
        let faults = Faults {
            latency_ms_max: one_of(&mut rng, &[2, 50, 2_000]),
            refused: one_of(&mut rng, &[0, 20, 200]),
            replies_lost: one_of(&mut rng, &[0, 50, 300]),
            falsely_there: one_of(&mut rng, &[0, 50, 300]),
            hung: one_of(&mut rng, &[0, 10, 100]),
            stale: one_of(&mut rng, &[0, 300]),
            damaged: one_of(&mut rng, &[1, 5]),
            short: one_of(&mut rng, &[0, 50]),
            damages,
        };
        Self {
            faults,
            merge_after_objects: rng.between(1, 8),
            merge_after_bytes: usize::try_from(one_of(&mut rng, &[200, 2_000, 1 << 20]))
                .unwrap_or(200),
            retry_time: Duration::from_secs(one_of(&mut rng, &[1, 10, 120])),
            records_max: one_of(&mut rng, &[1, 5, 40]),
            pause_ms_max: one_of(&mut rng, &[50, 500, 3_000]),
            fault_every_ms: one_of(&mut rng, &[300, 3_000, 20_000]),
            heals_at: Duration::from_millis(rng.between(5_000, 60_000)),
        }
    }
}

/// The shared state of all coordinators of a run.
struct World {
    seed: u64,
    settings: Settings,
    server: Arc<Server>,
    journal: Journal,
    book: Arc<Mutex<LedgerBook>>,
    /// The number of the next record.
    next: Mutex<u32>,
}

struct Running {
    number: u64,
    process: Process,
    task: JoinHandle<()>,
}

/// Runs a seed. Returns the hash of all events, or the error.
pub(super) fn run(seed: u64, is_printing: bool) -> Result<u64, String> {
    let settings = Settings::draw(seed);
    let shown = format!("make simulate SEED={seed}: the ledger, {settings:?}");
    on_paused_clock(&shown, is_printing, async {
        let world = World::new(seed, settings, is_printing);
        world.run().await;
        (world.journal.trace(), world.journal.violations())
    })
}

impl World {
    fn new(seed: u64, settings: Settings, is_printing: bool) -> Arc<Self> {
        let journal = Journal::new(is_printing);
        let book = Arc::new(Mutex::new(LedgerBook::default()));
        let observer = {
            let (journal, book) = (journal.clone(), Arc::clone(&book));
            Box::new(move |applied: &Applied<'_>| {
                if let Applied::Put { path, bytes } = applied {
                    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(wrong) = book.put(path, bytes) {
                        journal.violated(&wrong);
                    }
                }
            })
        };
        let server = Server::new(seed, settings.faults, journal.clone(), observer);
        Arc::new(Self {
            seed,
            settings,
            server: Arc::new(server),
            journal,
            book,
            next: Mutex::new(0),
        })
    }

    fn book(&self) -> MutexGuard<'_, LedgerBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, is_right: Result<(), String>) {
        if let Err(wrong) = is_right {
            self.journal.violated(&wrong);
        }
    }

    async fn run(self: &Arc<Self>) {
        let mut rng = Rng::of(self.seed, "ledger nemesis");
        let heals_at = Instant::now() + self.settings.heals_at;
        let mut alive: Vec<Running> = Vec::new();
        let mut started = 0;
        while Instant::now() < heals_at && self.journal.violations().is_empty() {
            alive.retain(|running| !running.task.is_finished());
            let is_unattended = alive.iter().all(|running| running.process.is_stalled());
            if alive.len() < MAX_ALIVE && (is_unattended || rng.percent(25)) {
                alive.push(self.start(started));
                started += 1;
            }
            self.inject_fault(&mut rng, &mut alive, heals_at);
            let pause = rng.between(1, 2 * self.settings.fault_every_ms);
            sleep_until(heals_at.min(Instant::now() + Duration::from_millis(pause))).await;
        }
        let calm = Faults {
            latency_ms_max: 20,
            ..Faults::default()
        };
        self.server.set_faults(calm, calm);
        for running in &alive {
            running.process.stall(false);
        }
        // Coordinators that are still alive continue. All except one must notice that they are
        // fenced.
        alive.push(self.start(started));
        let deadline = Instant::now() + MAX_HEALED;
        while self.journal.violations().is_empty() {
            alive.retain(|running| !running.task.is_finished());
            match &alive[..] {
                [] => self.journal.violated("no coordinator is left"),
                [last] if self.has_appended(last.number) => break,
                _ if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
                several => {
                    let names: Vec<&str> = several.iter().map(|one| one.process.name()).collect();
                    self.journal
                        .violated(&format!("{names:?} go on, and one should append"));
                }
            }
        }
    }

    fn inject_fault(&self, rng: &mut Rng, alive: &mut Vec<Running>, heals_at: Instant) {
        if alive.is_empty() {
            return;
        }
        let chosen = usize::try_from(rng.between(0, alive.len() as u64 - 1)).unwrap_or(0);
        match rng.between(0, 9) {
            0..3 => {
                let killed = alive.swap_remove(chosen);
                let name = killed.process.name();
                self.journal.note(&format!("{name} is killed"));
                killed.task.abort();
            }
            3..6 => {
                let process = &alive[chosen].process;
                let stalls = !process.is_stalled();
                self.journal
                    .note(&format!("{} stalls: {stalls}", process.name()));
                process.stall(stalls);
            }
            6 => {
                let out = Duration::from_millis(rng.between(1_000, 60_000));
                self.journal.note("the store is away");
                self.server.fails_until(heals_at.min(Instant::now() + out));
            }
            _ => {}
        }
    }

    fn start(self: &Arc<Self>, number: u64) -> Running {
        let process = Process::new(&format!("coordinator {number}"));
        let world = Arc::clone(self);
        let work = {
            let process = process.clone();
            async move { world.coordinate(number, &process).await }
        };
        Running {
            number,
            task: tokio::spawn(process.run(work)),
            process,
        }
    }

    /// Makes the calls of a coordinator to its ledger, from its start until it is fenced.
    async fn coordinate(&self, number: u64, process: &Process) {
        let name = process.name();
        let seed = Rng::of(self.seed, name).next();
        let chance = Chance::from_seed(seed);
        let mut rng = Rng::new(seed);
        let writer = WriterToken::from_random(chance.unique());
        let stores = stores(&self.server, Some(process), chance, &["s3://b"]);
        let stores = stores.with_retry_time(self.settings.retry_time);
        let Ok(job) = JobUid::parse("uid") else {
            return;
        };
        let Ok(storage) = JobStorage::new(stores, "s3://b/jobs", job) else {
            return;
        };
        let mut refused = 0;
        let TakeOver {
            mut ledger,
            epoch,
            records,
        } = loop {
            match self.take_over(&storage, &writer).await {
                Ok(taken) => break taken,
                Err(LedgerError::Unavailable(_)) => {}
                // The data may have been damaged in transit; the stored data is not damaged.
                Err(LedgerError::Refused { .. })
                    if self.settings.faults.damages == Damages::Ledger
                        && refused < LEDGER_READS =>
                {
                    refused += 1;
                }
                Err(error) => {
                    self.journal.violated(&format!("{name}: {error}"));
                    return;
                }
            }
            sleep(Duration::from_millis(rng.between(100, 5_000))).await;
        };
        self.journal.note(&format!(
            "{name} has epoch {epoch} and {} records",
            records.len()
        ));
        self.expect(self.book().took_over(epoch.0, &records));
        loop {
            sleep(Duration::from_millis(
                rng.between(0, self.settings.pause_ms_max),
            ))
            .await;
            let batch = self.draw_records(&mut rng, number);
            loop {
                match ledger.append(&batch).await {
                    Ok(()) => {
                        self.journal
                            .note(&format!("{name}: {} records are durable", batch.len()));
                        self.expect(self.book().acknowledged(epoch.0, &batch));
                        break;
                    }
                    Err(LedgerError::Unavailable(_)) => {}
                    Err(LedgerError::Fenced { by }) => {
                        self.journal.note(&format!("{name} is fenced by {by}"));
                        return;
                    }
                    // The data of the seal may have been damaged in transit when it was read.
                    Err(LedgerError::Refused { .. })
                        if self.settings.faults.damages == Damages::Ledger =>
                    {
                        return;
                    }
                    Err(error) => {
                        self.journal.violated(&format!("{name}: {error}"));
                        return;
                    }
                }
            }
        }
    }

    async fn take_over(
        &self,
        storage: &JobStorage,
        writer: &WriterToken,
    ) -> Result<TakeOver, LedgerError> {
        let policy = MergePolicy {
            objects: self.settings.merge_after_objects,
            bytes: self.settings.merge_after_bytes,
        };
        Ledger::open(storage, writer.clone())
            .await?
            .take_over(policy)
            .await
    }

    /// Returns random unique records, which contain the coordinator's number.
    fn draw_records(&self, rng: &mut Rng, number: u64) -> Vec<LogRecord> {
        let count = rng.between(1, self.settings.records_max);
        let one = |_| {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            let task = TaskAttempt {
                task: TaskId {
                    stage: StageId(0),
                    shard: ShardId(*next),
                },
                attempt: Attempt {
                    epoch: Epoch(number + 1),
                    number: 1,
                },
            };
            if next.is_multiple_of(2) {
                LogRecord::Revoked { task }
            } else {
                let error = "no ".repeat(*next as usize % 50);
                let class = FailureClass::Application;
                LogRecord::Failed { task, class, error }
            }
        };
        (0..count).map(one).collect()
    }

    /// Returns whether the ledger contains anything written by this coordinator.
    fn has_appended(&self, number: u64) -> bool {
        let book = self.book();
        book.known_to(u64::MAX - 1).any(|record| match record {
            LogRecord::Revoked { task } | LogRecord::Failed { task, .. } => {
                task.attempt.epoch.0 == number + 1
            }
            LogRecord::Done { .. }
            | LogRecord::StageFinished { .. }
            | LogRecord::Finalized { .. }
            | LogRecord::Result(_)
            | LogRecord::Restarted(_) => false,
        })
    }
}
