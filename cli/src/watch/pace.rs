//! How fast a job works, from its status at several times. Pure.

use std::collections::VecDeque;

use jiff::Timestamp;
use zephyr_crds::ZephyrJobStatus;

/// The time over which a rate is the mean.
const WINDOW_SECONDS: i64 = 60;

/// The numbers of a status at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    second: i64,
    stage: String,
    done: i64,
    total: i64,
    records: i64,
    bytes: i64,
}

/// The statuses of the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    samples: VecDeque<Sample>,
}

impl Pace {
    /// Adds a status. If a number went down, because a generation began, the count begins again.
    pub(super) fn add(&mut self, now: Timestamp, status: &ZephyrJobStatus) {
        let stage = status.stage.clone().unwrap_or_default();
        let records = status.records.clone().unwrap_or_default();
        let sample = Sample {
            second: now.as_second(),
            stage: stage.name,
            done: stage.done,
            total: stage.total,
            records: records.r#in,
            bytes: records.bytes_in,
        };
        let is_less = |last: &Sample| {
            sample.records < last.records || (sample.stage == last.stage && sample.done < last.done)
        };
        if self.samples.back().is_some_and(is_less) {
            self.samples.clear();
        }
        let begin = sample.second - WINDOW_SECONDS;
        self.samples.push_back(sample);
        // The last sample before the window stays, so that the window is always covered.
        while self
            .samples
            .get(1)
            .is_some_and(|second| second.second <= begin)
        {
            self.samples.pop_front();
        }
    }

    /// Records and bytes that are read per second; `None` if that is less than one record.
    pub(super) fn rates(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.second - first.second;
        let records = last.records - first.records;
        (seconds > 0 && records >= seconds).then(|| {
            let bytes = last.bytes - first.bytes;
            (
                (records / seconds).unsigned_abs(),
                (bytes / seconds).unsigned_abs(),
            )
        })
    }

    /// Seconds until the stage ends, if its tasks end as fast as in the last minute.
    pub(super) fn stage_rest(&self) -> Option<i64> {
        let last = self.samples.back()?;
        let first = self
            .samples
            .iter()
            .find(|sample| sample.stage == last.stage)?;
        let (seconds, done) = (last.second - first.second, last.done - first.done);
        let rest = last.total - last.done;
        (seconds > 0 && done > 0 && rest > 0).then(|| rest * seconds / done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pace(samples: &[(i64, &str, i64, i64)]) -> Pace {
        let mut pace = Pace::default();
        for (second, stage, done, records) in samples {
            let status = json!({
                "stage": {"name": stage, "done": done, "total": 10, "running": 0, "failed": 0, "summary": ""},
                "records": {"in": records, "out": 0, "bytesIn": 0, "bytesOut": 0},
            });
            let status = serde_json::from_value(status).expect("a status");
            pace.add(Timestamp::from_second(*second).expect("a time"), &status);
        }
        pace
    }

    #[test]
    fn the_estimate_belongs_to_the_stage_and_the_last_minute() {
        assert_eq!(
            pace(&[(0, "a", 1, 0), (10, "a", 3, 50)]).stage_rest(),
            Some(35)
        );
        assert_eq!(pace(&[(0, "a", 1, 0), (10, "b", 0, 50)]).stage_rest(), None);
        assert_eq!(pace(&[(0, "a", 1, 0), (10, "a", 1, 0)]).stage_rest(), None);
        let slower = pace(&[(0, "a", 0, 0), (60, "a", 6, 600), (120, "a", 7, 660)]);
        assert_eq!(
            (slower.stage_rest(), slower.rates()),
            (Some(180), Some((1, 0)))
        );
    }

    #[test]
    fn a_new_generation_begins_the_count_again() {
        let again = pace(&[(0, "a", 5, 500), (10, "a", 2, 200), (20, "a", 3, 300)]);
        assert_eq!(
            (again.rates(), again.stage_rest()),
            (Some((10, 0)), Some(70))
        );
    }
}
