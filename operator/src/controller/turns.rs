//! Decides how many jobs start at once, in which order, and which of them give their places back.
//!
//! Pure. A job *starts* from the beginning of its first generation until one of its workers is
//! alive, or until its plan shows that it needs no worker. After that it *works*. These rules apply
//! only to jobs that do not work yet:
//!
//! - As many jobs start at once as the operator allows. The others wait, first in, first out.
//!   Namespaces take turns: the next place goes to the namespace in which the fewest jobs start.
//! - A job counts as starting for [`STARTING_TIMEOUT`] after each step forward. A job that needs
//!   longer keeps its pods, but no longer counts.
//! - Two jobs whose pods find no room for that time may block each other: each coordinator uses the
//!   room that a worker of the other job needs. The oldest job without room stays. All other jobs
//!   without room give their places back: their pods are removed. This uses up no generation.
//! - After that no job starts for [`FIRST_RETURN`], so that the job that stays gets the room. Then
//!   fewer jobs start at once until [`FEWER_FOR`] has passed. The more jobs gave their places back,
//!   the fewer start: in the end one at a time.
//!
//! So all jobs end if each of them alone fits into the cluster. At most one job that starts keeps
//! its place without room for longer than [`STARTING_TIMEOUT`]. After [`KEEPS_FOR`] this job also
//! gives its place back, if it blocks others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::conditions::{ConditionStatus, ConditionType, Reason};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::status::{GenerationEnd, Phase, ZephyrJobStatus};

use super::observed::{CoordinatorFacts, WorkersFacts};
use super::validate::begins_anew;
use crate::pods::{PodFacts, Role};
use crate::queue::JobKey;

/// How long a job counts as starting after its last step forward, and how long its pods may have no
/// room because of other jobs' pods. A node group that grows adds nodes in less time.
pub const STARTING_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);
/// How long the oldest job that finds no room keeps its place.
const KEEPS_FOR: SignedDuration = SignedDuration::from_mins(30);
/// For how long fewer jobs start at once after a job gave its place back.
const FEWER_FOR: SignedDuration = SignedDuration::from_mins(10);
/// The shortest wait of a job that gave its place back for the first time; each further time
/// doubles the wait. After this wait the pods no longer exist, and other pods use their room.
const FIRST_RETURN: SignedDuration = SignedDuration::from_mins(1);
/// The longest wait of a job that gave its place back.
const LATEST_RETURN: SignedDuration = SignedDuration::from_mins(10);
/// How long a place is held for a job whose turn has come. A job takes milliseconds to start. A job
/// that cannot start, because its status cannot be written, must not keep others from starting.
const HELD_FOR: SignedDuration = SignedDuration::from_mins(2);
/// The shortest interval at which the status of a waiting job updates the number of jobs before it.
/// The longest is `LATEST_COUNT`.
const SOONEST_COUNT: Duration = Duration::from_secs(15);
const LATEST_COUNT: Duration = Duration::from_mins(5);
/// How much longer the interval is for each place in the queue, so that the whole queue causes only
/// about ten writes per second.
const WAIT_PER_PLACE: Duration = Duration::from_millis(500);

/// What a job may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Start, or continue.
    #[default]
    Free,
    /// Wait for its turn.
    Wait(Waiting),
    /// Give its place back.
    GiveWay,
}

/// Where a job is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many jobs have their turn before it.
    pub before: usize,
    /// How many jobs start now.
    pub starting: usize,
    /// How many jobs may start at the same time now.
    pub limit: usize,
    /// The time until which a job that gave its place back does not start.
    pub not_before: Option<Timestamp>,
}

/// How far a job's start has come, according to its own spec and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartProgress {
    /// It needs no place: it works, has ended, is being deleted, or cannot start for a reason that
    /// does not concern others.
    Aside,
    /// It waits for its turn.
    Waits {
        /// When it was created, gave its place back, or was resumed. `None` means that it was
        /// resumed just now.
        since: Option<Timestamp>,
        /// How often it gave its place back, if it waits because of that.
        given_back: u32,
    },
    /// It starts.
    Starts {
        /// The generation that starts.
        generation: u32,
        /// When that generation began.
        begun: Timestamp,
    },
}

/// A job that waits to start, or starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The namespace and name of the job.
    pub key: JobKey,
    /// The uid of the job.
    pub uid: String,
    /// How far its start has come.
    pub stage: Stage,
}

/// How far the start of a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    Waits {
        /// When it was created, gave its place back, or was resumed.
        since: Timestamp,
        /// How often it gave its place back, if it waits because of that.
        given_back: u32,
        /// When its turn came, if it has come.
        admitted: Option<Timestamp>,
    },
    /// It starts.
    Starts {
        /// When its generation began.
        begun: Timestamp,
        /// Whether its pods have room.
        placing: Placing,
    },
}

/// Whether the pods that a job needs next have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placing {
    /// When the job made its last step forward.
    pub moved: Timestamp,
    /// Whether all pods that the job needs next have nodes.
    pub has_room: bool,
}

impl StartProgress {
    /// Returns how far the start of `job` has come.
    pub fn of(job: &ZephyrJob) -> Self {
        let usual = ZephyrJobStatus::default();
        let status = job.status.as_ref().unwrap_or(&usual);
        let has_ended = status.is_final() && !begins_anew(job);
        let is_foreign = job.spec.other_manager().is_some();
        let is_deleted = job.metadata.deletion_timestamp.is_some();
        if is_deleted || is_foreign || has_ended || is_held(job, status) {
            return Self::Aside;
        }
        let waits = status.queued_since.is_some() || status.suspended_since.is_some();
        if has_worked(status) && !waits {
            return Self::Aside;
        }
        let Some(generation) = status.generation.filter(|_| !waits) else {
            return if starts_nothing(job, status) {
                Self::Aside
            } else {
                Self::Waits {
                    since: waits_since(job, status),
                    given_back: places_given_back(status),
                }
            };
        };
        let started = status.generations.last().map(|record| record.start_time.0);
        let backoff = status.backoff_until.as_ref().map(|time| time.0);
        Self::Starts {
            generation,
            begun: started
                .into_iter()
                .chain(backoff)
                .max()
                .unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// Returns since when the job waits, or `None` if its wait begins now, because it is resumed.
fn waits_since(job: &ZephyrJob, status: &ZephyrJobStatus) -> Option<Timestamp> {
    if status.suspended_since.is_some() {
        return None;
    }
    let was_suspended = |status: &ZephyrJobStatus| {
        let mut all = status.conditions.iter();
        all.any(|condition| condition.r#type == ConditionType::Suspended)
    };
    let queued = status.queued_since.as_ref();
    let queued = queued.filter(|_| status.generation.is_some() || was_suspended(status));
    let created = job.metadata.creation_timestamp.as_ref();
    let since = queued.or(created).map(|time| time.0);
    Some(since.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Returns how often the job gave its place back, if it waits because of that. Returns 0 if it was
/// suspended later, because then it waits like a new job.
pub fn places_given_back(status: &ZephyrJobStatus) -> u32 {
    let mut records = status.generations.iter().rev();
    let last = records.find_map(|record| record.cause.zip(record.end_time.as_ref()));
    // A job that gives its place back waits from the time at which its generation ends.
    let waits_for_that = match last {
        Some((GenerationEnd::GaveWay, end)) => {
            let queued = status.queued_since.as_ref();
            queued.is_some_and(|queued| queued.0 <= end.0)
        }
        Some(_) => false,
        None => status.suspended_since.is_none(),
    };
    if waits_for_that {
        status.places_given_back
    } else {
        0
    }
}

/// Returns whether the job does not start, because it is suspended or cancelled.
fn is_held(job: &ZephyrJob, status: &ZephyrJobStatus) -> bool {
    let is_unwanted = job.spec.suspend || job.spec.cancel.is_some();
    let has_pods = status.generation.is_some()
        && status.queued_since.is_none()
        && status.suspended_since.is_none();
    is_unwanted && !has_pods
}

/// Returns whether the job has worked. An earlier release did not write the time at which a job
/// first worked; for its jobs, the share of finished tasks decides.
fn has_worked(status: &ZephyrJobStatus) -> bool {
    let has_done = status
        .progress
        .as_ref()
        .is_some_and(|share| share.as_str() != "0%");
    // Only a release that writes that time suspends jobs.
    status.working_since.is_some()
        || has_done && status.suspensions == 0
        || matches!(status.phase, Some(Phase::Running | Phase::Succeeding))
}

/// Returns whether this version of the spec is refused, or no number is left for a generation.
fn starts_nothing(job: &ZephyrJob, status: &ZephyrJobStatus) -> bool {
    status.conditions.iter().any(|condition| {
        let is_false = condition.status == ConditionStatus::False;
        let is_refused = condition.r#type == ConditionType::Accepted;
        let is_blocked =
            condition.r#type == ConditionType::Progressing && condition.reason == Reason::Blocked;
        let is_current = condition.observed_generation == job.metadata.generation;
        is_false && is_current && (is_refused || is_blocked)
    })
}

impl Placing {
    /// Returns whether the `pods` of a generation that began at `begun` have room.
    pub fn of(
        coordinator: Option<&CoordinatorFacts>,
        workers: Option<&WorkersFacts>,
        pods: &[&PodFacts],
        begun: Timestamp,
    ) -> Self {
        let steps = pods
            .iter()
            .flat_map(|pod| [pod.created, pod.scheduled_since])
            .flatten();
        let available = coordinator.and_then(|coordinator| coordinator.available_since);
        let moved = steps.chain(available).fold(begun, Timestamp::max);
        let has_node = |role: Role| {
            pods.iter()
                .any(|pod| pod.role == role && pod.node.is_some() && !pod.is_taken() && !pod.over)
        };
        // An object that does not exist yet needs no room.
        let has_room = match (coordinator, workers) {
            (Some(coordinator), _) if coordinator.available_since.is_none() => {
                has_node(Role::Coordinator)
            }
            (Some(_), Some(workers)) if workers.replicas > 0 => has_node(Role::Worker),
            (Some(_) | None, _) => true,
        };
        Self { moved, has_room }
    }
}

impl Waiting {
    /// Returns the wait as a sentence for people.
    pub fn sentence(&self, given_back: u32, why: &str) -> String {
        let Self {
            before,
            starting,
            limit,
            not_before,
        } = self;
        let gave_back = match given_back {
            0 => String::new(),
            _ => format!("gave its place back ({why}), and "),
        };
        if let Some(time) = not_before {
            return format!("{gave_back}tries again at {time:.0} at the earliest");
        }
        let jobs = if *before == 1 { "job" } else { "jobs" };
        format!(
            "{gave_back}waits for {before} {jobs} before it; {starting} jobs start now, at most {limit} at once"
        )
    }

    /// Returns after how long status must update the number of jobs before this one. The nearer its
    /// turn is, the shorter the time.
    pub fn look_again(&self) -> Duration {
        let place = u32::try_from(self.before).unwrap_or(u32::MAX);
        WAIT_PER_PLACE
            .saturating_mul(place)
            .clamp(SOONEST_COUNT, LATEST_COUNT)
    }
}

/// Returns what each of `candidates` may do, by uid, if `limit` jobs may start at once.
pub fn turns(candidates: &[Candidate], limit: usize, now: Timestamp) -> BTreeMap<String, Turn> {
    let mut turns = BTreeMap::new();
    let yielding = giving_way(candidates, now);
    let gave_way = |within| {
        let all = candidates.iter();
        all.filter(|candidate| gave_way_within(candidate, within, now))
            .count()
    };
    let limit = (limit / (1 + gave_way(FEWER_FOR))).max(1);
    let may_start = if yielding.is_empty() && gave_way(FIRST_RETURN) == 0 {
        limit
    } else {
        0
    };
    let mut starting = 0;
    // The number of places by namespace. Three kinds of jobs count: jobs that start, jobs whose
    // turn has come, and jobs that gave a place back a moment ago.
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for candidate in candidates {
        let turn = match candidate.stage {
            Stage::Starts { .. } if yielding.contains(candidate.uid.as_str()) => Turn::GiveWay,
            Stage::Starts { placing, .. } => {
                starting += usize::from(now.duration_since(placing.moved) < STARTING_TIMEOUT);
                Turn::Free
            }
            Stage::Waits {
                admitted: Some(at), ..
            } => {
                starting += usize::from(now.duration_since(at) < HELD_FOR);
                Turn::Free
            }
            Stage::Waits { .. } => {
                if gave_way_within(candidate, FEWER_FOR, now) {
                    *places.entry(&candidate.key.namespace).or_default() += 1;
                }
                continue;
            }
        };
        *places.entry(&candidate.key.namespace).or_default() += 1;
        turns.insert(candidate.uid.clone(), turn);
    }
    let mut free = may_start.saturating_sub(starting);
    for (before, (candidate, not_before)) in in_order(candidates, &places, now).enumerate() {
        let turn = if free > 0 && not_before.is_none() {
            free -= 1;
            starting += 1;
            Turn::Free
        } else {
            Turn::Wait(Waiting {
                before,
                starting,
                limit,
                not_before,
            })
        };
        turns.insert(candidate.uid.clone(), turn);
    }
    turns
}

/// Returns the uids of the jobs that give their places back. If at least two jobs find no room, all
/// of them give their places back except the oldest. The oldest stays, and no other job may take
/// room from it.
fn giving_way(candidates: &[Candidate], now: Timestamp) -> BTreeSet<&str> {
    let mut without_room: Vec<_> = candidates
        .iter()
        .filter_map(|candidate| match candidate.stage {
            Stage::Starts { begun, placing } if !placing.has_room => {
                Some((begun, &candidate.key, placing, candidate.uid.as_str()))
            }
            Stage::Starts { .. } | Stage::Waits { .. } => None,
        })
        .collect();
    let is_stuck = |placing: Placing| now.duration_since(placing.moved) >= STARTING_TIMEOUT;
    let all = without_room.iter();
    if all.filter(|(_, _, placing, _)| is_stuck(*placing)).count() < 2 {
        return BTreeSet::new();
    }
    without_room.sort_by_key(|(begun, key, _, _)| (*begun, *key));
    let stays = without_room.iter().position(|(_, _, placing, _)| {
        is_stuck(*placing) && now.duration_since(placing.moved) < KEEPS_FOR
    });
    let all = without_room.iter().enumerate();
    all.filter(|(index, _)| Some(*index) != stays)
        .map(|(_, (_, _, _, uid))| *uid)
        .collect()
}

/// Returns whether the job gave its place back within the time `within` before `now`.
fn gave_way_within(candidate: &Candidate, within: SignedDuration, now: Timestamp) -> bool {
    match candidate.stage {
        Stage::Waits {
            since, given_back, ..
        } => given_back > 0 && now.duration_since(since) < within,
        Stage::Starts { .. } => false,
    }
}

/// Returns the jobs that wait, in the order of their turns, each with the time until which it does
/// not start.
fn in_order<'a>(
    candidates: &'a [Candidate],
    places: &BTreeMap<&str, usize>,
    now: Timestamp,
) -> impl Iterator<Item = (&'a Candidate, Option<Timestamp>)> {
    type Lane<'a> = BTreeSet<(Timestamp, &'a JobKey, usize)>;
    let mut lanes: BTreeMap<&str, Lane<'a>> = BTreeMap::new();
    let mut resting = BTreeSet::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Stage::Waits {
            since,
            given_back,
            admitted: None,
        } = candidate.stage
        else {
            continue;
        };
        let returns = returns_at(since, given_back);
        if returns > now {
            resting.insert((returns, &candidate.key, index));
        } else {
            let lane = lanes.entry(&candidate.key.namespace).or_default();
            lane.insert((returns, &candidate.key, index));
        }
    }
    // The first waiting job of each namespace, ordered by the number of places of the namespace,
    // and then by how long the job has waited.
    let mut heads: BTreeSet<(usize, Timestamp, &JobKey, usize)> = BTreeSet::new();
    let mut ordered = Vec::new();
    let take_head = |lanes: &mut BTreeMap<&str, Lane<'a>>, namespace: &str| {
        let lane = lanes.get_mut(namespace)?;
        lane.pop_first()
    };
    let namespaces: Vec<&str> = lanes.keys().copied().collect();
    for namespace in namespaces {
        if let Some((time, key, index)) = take_head(&mut lanes, namespace) {
            heads.insert((
                places.get(namespace).copied().unwrap_or(0),
                time,
                key,
                index,
            ));
        }
    }
    while let Some((held, _, key, index)) = heads.pop_first() {
        ordered.push((&candidates[index], None));
        if let Some((time, key, index)) = take_head(&mut lanes, &key.namespace) {
            heads.insert((held + 1, time, key, index));
        }
    }
    let resting = resting
        .into_iter()
        .map(|(returns, _, index)| (&candidates[index], Some(returns)));
    ordered.extend(resting);
    ordered.into_iter()
}

/// Returns the earliest time at which a job that has waited since `since` may start.
fn returns_at(since: Timestamp, given_back: u32) -> Timestamp {
    let Some(doublings) = given_back.checked_sub(1) else {
        return since;
    };
    let factor = 2_i32.checked_pow(doublings).unwrap_or(i32::MAX);
    let wait = FIRST_RETURN
        .checked_mul(factor)
        .unwrap_or(LATEST_RETURN)
        .min(LATEST_RETURN);
    since.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
