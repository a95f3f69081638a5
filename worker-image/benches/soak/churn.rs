//! Makes workers die, drain, fall silent and come back all the time, while short tasks are
//! processed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::time::interval;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::{StageId, TaskAttempt};

use crate::light::{Coordinator, Fleet, Work, until};
use crate::watch::{LOOK_EVERY, Watch};

/// Percentage of workers that leave in a minute.
const CHURN_PERCENT_PER_MINUTE: usize = 30;
/// The mean duration of a task. The actual duration is between half and one and a half times this.
const TASK_TIME: Duration = Duration::from_secs(3);
/// How long a worker is away if the coordinator notices at once that it left. This is shorter than
/// the allowed silence.
const AWAY: Duration = Duration::from_secs(10);
/// How long a worker is away if only its silence shows that it left. This is longer than the
/// allowed silence.
const SILENT: Duration = Duration::from_secs(45);
/// No worker leaves in the last part of the time, so that all are back when losses are counted.
const SETTLING: Duration = Duration::from_secs(90);
/// The longest time that a message is in transit. If a worker is asked to run a task this long
/// after the task's commit, the request was sent after the commit.
const ON_ITS_WAY: Duration = Duration::from_secs(10);
/// Allowed warnings of the coordinator per worker and minute.
const MAX_WARNINGS: f64 = 1.0;

/// How a worker leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is asked to terminate, and its pod is replaced.
    Drains,
    /// Its connection breaks, and its container is restarted.
    Restarts,
    /// Its connection breaks, and the operator reports that its pod was taken away.
    Preempted,
    /// Its connection stays open, and there is no report.
    FallsSilent,
}

impl End {
    /// Returns how the nth worker that leaves does so. Half of the workers are asked to terminate,
    /// and a twentieth only fall silent.
    fn of(number: usize) -> Self {
        match number % 20 {
            0..10 => Self::Drains,
            10..15 => Self::Restarts,
            15..19 => Self::Preempted,
            _ => Self::FallsSilent,
        }
    }

    /// Whether the coordinator is right to count it as a disruption.
    fn is_disruption(self) -> bool {
        match self {
            Self::Drains | Self::Preempted | Self::FallsSilent => true,
            Self::Restarts => false,
        }
    }

    fn away(self) -> Duration {
        match self {
            Self::Drains | Self::Restarts | Self::Preempted => AWAY,
            Self::FallsSilent => SILENT,
        }
    }
}

/// The times at which tasks of the first stage were acknowledged, and the tasks dispatched long
/// afterwards.
struct Commits {
    began: Instant,
    /// Milliseconds; 0 if not acknowledged.
    at: Vec<AtomicU64>,
    ran_again: AtomicU64,
}

impl Commits {
    fn of(tasks: u32) -> Self {
        Self {
            began: Instant::now(),
            at: (0..tasks).map(|_| AtomicU64::new(0)).collect(),
            ran_again: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap() + 1
    }

    fn place(&self, task: TaskAttempt) -> Option<&AtomicU64> {
        (task.task.stage == StageId(0)).then(|| &self.at[task.task.shard.0 as usize])
    }

    fn acknowledged(&self, task: TaskAttempt) {
        if let Some(at) = self.place(task) {
            at.store(self.now(), Ordering::Relaxed);
        }
    }

    fn given_out(&self, task: TaskAttempt) {
        let committed = self.place(task).map_or(0, |at| at.load(Ordering::Relaxed));
        let since = Duration::from_millis(self.now().saturating_sub(committed));
        if committed > 0 && since > ON_ITS_WAY {
            println!("soak: {task} is run {since:?} after its commit");
            self.ran_again.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The workers that left, and the expected effects.
#[derive(Default)]
struct Gone {
    /// The workers that are away, in the order in which they left, for each kind of wait.
    away: [VecDeque<(Instant, usize, End)>; 2],
    count: usize,
    disruptions: u64,
}

impl Gone {
    /// Makes this worker leave.
    fn take(&mut self, fleet: &Fleet, place: usize) {
        let end = End::of(self.count);
        self.count += 1;
        self.disruptions += u64::from(end.is_disruption());
        match end {
            End::Drains => fleet.drain(place),
            End::Restarts | End::Preempted => fleet.kill(place),
            End::FallsSilent => fleet.fall_silent(place),
        }
        let returns = Instant::now() + end.away();
        self.away[usize::from(end == End::FallsSilent)].push_back((returns, place, end));
    }

    /// Brings back workers whose time has come; returns the pods that were taken away.
    fn bring_back(&mut self, fleet: &mut Fleet) -> Vec<String> {
        let mut preempted = Vec::new();
        for away in &mut self.away {
            while let Some((_, place, end)) =
                away.pop_front_if(|(returns, ..)| *returns <= Instant::now())
            {
                match end {
                    End::Restarts => fleet.restart(place),
                    End::Preempted => preempted.push(fleet.replace(place)),
                    End::Drains | End::FallsSilent => drop(fleet.replace(place)),
                }
            }
        }
        preempted
    }

    fn is_away(&self, place: usize) -> bool {
        let mut away = self.away.iter().flatten();
        away.any(|(_, gone, _)| *gone == place)
    }
}

/// Returns a sentence for every error.
pub(crate) async fn soak(workers: usize, minutes: u32) -> Vec<String> {
    let length = Duration::from_mins(minutes.into());
    // The number of tasks if no slot were ever empty.
    let worth = length.div_duration_f64(TASK_TIME) * float(workers);
    let tasks = rounded_up(worth);
    println!(
        "soak: {minutes} min of {CHURN_PERCENT_PER_MINUTE} %/min churn on {workers} workers, {tasks} tasks of about {TASK_TIME:?}"
    );
    let (mut coordinator, mut watch) = Watch::begin(tasks).await;
    let commits = Arc::new(Commits::of(tasks));
    let (given_out, acknowledged) = (Arc::clone(&commits), Arc::clone(&commits));
    let witness = move |_worker, task| given_out.given_out(task);
    let mut fleet = Fleet::new(coordinator.link(), 1, Work::Lasting(TASK_TIME), witness)
        .with_acknowledged(move |_worker, task| acknowledged.acknowledged(task));
    fleet.add(workers);
    until("sessions", async || fleet.connected() == workers).await;

    let gone = drive(&coordinator, &mut fleet, &mut watch, length).await;
    until("all workers' return", async || fleet.connected() == workers).await;
    let mut wrong = watch.judge();
    wrong.extend(judge(&mut coordinator, &fleet, &gone, &commits).await);
    let warnings = float(coordinator.log_lines("WARN"));
    let warnings = warnings / float(workers) / f64::from(minutes);
    println!("soak: {warnings:.4} warnings for each worker and minute (at most {MAX_WARNINGS})");
    if warnings > MAX_WARNINGS {
        wrong.push(format!("{warnings:.2} warnings for each worker and minute"));
    }
    wrong
}

/// Makes workers leave and brings them back, for the given time.
async fn drive(
    coordinator: &Coordinator,
    fleet: &mut Fleet,
    watch: &mut Watch,
    length: Duration,
) -> Gone {
    let workers = fleet.size();
    let every = Duration::from_mins(1).div_f64(float(workers * CHURN_PERCENT_PER_MINUTE) / 100.0);
    let mut gone = Gone::default();
    let (mut next_death, mut next_look) = (interval(every), interval(LOOK_EVERY));
    let mut operator = None;
    let began = Instant::now();
    while began.elapsed() < length {
        tokio::select! {
            _ = next_death.tick() => {
                let preempted = gone.bring_back(fleet);
                if operator.is_none() && !preempted.is_empty() {
                    operator = coordinator.operator().await;
                }
                for pod_uid in preempted {
                    operator.as_ref().unwrap().pod_was_preempted(&pod_uid).await;
                }
                if began.elapsed() + SETTLING < length
                    && let Some(place) = anyone(fleet, &gone)
                {
                    gone.take(fleet, place);
                }
            }
            // In the last part nothing is measured: all workers come back, and therefore the
            // numbers rise.
            _ = next_look.tick(), if began.elapsed() + SETTLING < length => {
                watch.look(|| format!("{} tasks acknowledged, {} workers went, {} away", fleet.acknowledged_by_all(), gone.count, workers - fleet.connected()));
                // The operator's reports are not read here. A new stream is opened before the
                // unread reports have an effect.
                operator = None;
            }
        }
    }
    gone
}

/// A connected worker.
fn anyone(fleet: &Fleet, gone: &Gone) -> Option<usize> {
    let mut draws = (0..100).map(|_| rand::rng().random_range(0..fleet.size()));
    draws.find(|place| fleet.is_connected(*place) && !gone.is_away(*place))
}

/// Compares reports and the ledger with what happened.
async fn judge(
    coordinator: &mut Coordinator,
    fleet: &Fleet,
    gone: &Gone,
    commits: &Commits,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let counts = coordinator.snapshot().await.unwrap().workers.unwrap();
    println!(
        "soak: {} workers went, {} of them by disruption; the coordinator counts {}; {} sessions broke under live workers",
        gone.count,
        gone.disruptions,
        counts.disruptions,
        fleet.sessions_again()
    );
    if counts.disruptions != gone.disruptions {
        wrong.push(format!(
            "the coordinator counts {} workers as disrupted; {} were",
            counts.disruptions, gone.disruptions
        ));
    }
    if fleet.sessions_again() > 0 {
        wrong.push(format!(
            "{} sessions of live workers were broken",
            fleet.sessions_again()
        ));
    }
    let ran_again = commits.ran_again.load(Ordering::Relaxed);
    if ran_again > 0 {
        wrong.push(format!("{ran_again} tasks were run after their commit"));
    }
    if coordinator.process_id().is_none() {
        wrong.push("the coordinator has ended".to_owned());
    }
    let (_, records) = coordinator.ledger().await;
    let (mut done, mut others) = (BTreeSet::new(), 0_usize);
    for record in &records {
        match record {
            LogRecord::Done { task, .. } => {
                if !done.insert(task.task) {
                    wrong.push(format!("{} was committed twice", task.task));
                }
            }
            LogRecord::Failed { .. }
            | LogRecord::Revoked { .. }
            | LogRecord::StageFinished { .. }
            | LogRecord::Finalized { .. }
            | LogRecord::Result(_)
            | LogRecord::Restarted(_) => others += 1,
        }
    }
    println!(
        "soak: the ledger holds {} tasks, each once, and {others} other records",
        done.len()
    );
    if others > 0 {
        wrong.push(format!(
            "the ledger holds {others} records of failures and losses"
        ));
    }
    wrong
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of tasks: positive, and below what a plan can have"
)]
fn rounded_up(tasks: f64) -> u32 {
    tasks.ceil() as u32
}
