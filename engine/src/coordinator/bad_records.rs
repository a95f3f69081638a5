//! Counts the bad records that committed tasks skipped at each place, and checks whether the job
//! allows that many. Reads no record.

use crate::coordinator::outbox::Outbox;
use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{JobResult, TaskOutput};
use crate::coordinator::state::{JobState, State};
use crate::id::{ShardId, StageId, TaskId};
use crate::pipeline::{OnError, Origin};
use crate::plan::Plan;
use crate::plan::display::percent;

use std::collections::BTreeMap;

/// Shares are given in millionths.
const MILLION: u128 = 1_000_000;

/// The bad records that committed tasks skipped at one place.
#[derive(Clone, Debug, Hash)]
pub(crate) struct BadTotals {
    /// What the job allows.
    pub(crate) allowed: OnError,
    /// The stage that the place is in.
    pub(crate) stage: StageId,
    /// Records that arrived there.
    pub(crate) arrived: u64,
    /// How many of them were bad.
    pub(crate) skipped: u64,
    /// The first bad record of the first shard that has one. It is kept if that shard runs again,
    /// because the shard then has the same first bad record.
    pub(crate) first: Option<(ShardId, String)>,
}

/// The places of a plan, each with a count of 0.
pub(crate) fn of_plan(plan: &Plan) -> BTreeMap<Origin, BadTotals> {
    let stages = plan.stages.iter();
    let places = stages.flat_map(|stage| {
        let origins = plan.origins(stage).into_iter();
        origins.map(move |origin| (origin, stage.id))
    });
    let counted = places.filter_map(|(origin, stage)| {
        let totals = BadTotals {
            allowed: plan.on_errors.get(&origin)?.clone(),
            stage,
            arrived: 0,
            skipped: 0,
            first: None,
        };
        Some((origin, totals))
    });
    counted.collect()
}

impl State {
    /// Counts what a committed task skipped. Removes the messages from its output, because only one
    /// message for each place is kept.
    pub(crate) fn count_bad(&mut self, task: TaskId, output: &mut TaskOutput) {
        for bad in output.more.iter_mut().flat_map(|more| &mut more.bad) {
            let first = bad.first.take();
            let Some(totals) = self.bad.get_mut(&bad.origin) else {
                continue;
            };
            totals.arrived = totals.arrived.wrapping_add(bad.arrived);
            totals.skipped = totals.skipped.wrapping_add(bad.skipped);
            let is_earlier = totals
                .first
                .as_ref()
                .is_none_or(|(shard, _)| task.shard < *shard);
            if let Some(first) = first
                && is_earlier
            {
                totals.first = Some((task.shard, first));
            }
        }
    }

    /// Subtracts what [`Self::count_bad`] added, if the output is lost.
    pub(crate) fn uncount_bad(&mut self, output: &TaskOutput) {
        for bad in output.bad_records() {
            if let Some(totals) = self.bad.get_mut(&bad.origin) {
                totals.arrived = totals.arrived.wrapping_sub(bad.arrived);
                totals.skipped = totals.skipped.wrapping_sub(bad.skipped);
            }
        }
    }

    /// Ends the job if more records were skipped than `maxSkipped` allows, even while tasks still
    /// run.
    pub(crate) fn judge_skipped(&mut self, out: &mut Outbox) {
        let too_many = self.bad.iter().find_map(|(origin, totals)| {
            let most = totals.allowed.max_skipped?;
            (totals.skipped > most)
                .then(|| totals.refused(*origin, "maxSkipped", &most.to_string()))
        });
        self.conclude_too_many(out, too_many);
    }

    /// Ends the job if a larger share of the records was skipped at a place of `stage` than
    /// `maxSkippedPercent` allows. This must be called only after all tasks of the stage are
    /// committed. Returns whether the job was ended.
    pub(crate) fn judge_share(&mut self, out: &mut Outbox, stage: StageId) -> bool {
        let mut of_stage = self.bad.iter().filter(|(_, totals)| totals.stage == stage);
        let too_many = of_stage.find_map(|(origin, totals)| {
            let most = totals.allowed.max_skipped_per_million?;
            let is_more = u128::from(totals.skipped) * MILLION
                > u128::from(most) * u128::from(totals.arrived);
            let field = "maxSkippedPercent";
            is_more.then(|| totals.refused(*origin, field, &format!("{} %", percent(most))))
        });
        self.conclude_too_many(out, too_many)
    }

    fn conclude_too_many(&mut self, out: &mut Outbox, message: Option<String>) -> bool {
        let Some(message) = message.filter(|_| self.job == JobState::Running) else {
            return false;
        };
        let reason = FailureReason::TooManySkipped;
        self.fail_job(out, JobResult::Failed { reason, message });
        true
    }
}

impl BadTotals {
    fn refused(&self, origin: Origin, field: &str, most: &str) -> String {
        let first = self.first.as_ref().map_or(String::new(), |(_, first)| {
            format!("; the first of them: {first}")
        });
        format!(
            "{origin}.onError.{field}: {} of {} records were skipped; at most {most} may be{first}",
            self.skipped, self.arrived
        )
    }
}
