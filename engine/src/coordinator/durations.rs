//! Counts how long the tasks of a stage took, in a histogram of constant size. It gives the median
//! of up to a million times without a list of them.

/// How many buckets each doubling of the time has. With this number, the error of the median is at
/// most an eighth.
const PER_DOUBLING: u64 = 8;
/// log2 of `PER_DOUBLING`.
const SHIFT: u32 = PER_DOUBLING.ilog2();
/// Number of buckets for all values of a `u64`.
const BUCKETS: usize = ((u64::BITS - SHIFT + 1) as usize) << SHIFT;

/// Times in milliseconds, counted in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Durations {
    /// Empty until the first time is counted, because most stages of a large plan have not begun.
    buckets: Vec<u32>,
    count: u64,
}

impl Durations {
    /// Counts one time.
    pub(crate) fn add(&mut self, milliseconds: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        if let Some(bucket) = self.buckets.get_mut(bucket_of(milliseconds)) {
            *bucket = bucket.saturating_add(1);
            self.count += 1;
        }
    }

    /// The median of all times, rounded up by at most an eighth. `None` before the first time is
    /// counted.
    pub(crate) fn median_ms(&self) -> Option<u64> {
        let half = self.count.div_ceil(2);
        let mut below = 0;
        let middle = self.buckets.iter().position(|bucket| {
            below += u64::from(*bucket);
            half > 0 && below >= half
        })?;
        Some(end_of(middle))
    }
}

fn bucket_of(milliseconds: u64) -> usize {
    let bucket = match milliseconds.checked_ilog2() {
        Some(power) if power >= SHIFT => {
            let within = (milliseconds >> (power - SHIFT)) & (PER_DOUBLING - 1);
            (u64::from(power - SHIFT + 1) << SHIFT) + within
        }
        Some(_) | None => milliseconds,
    };
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The longest time in a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (doubling, within) = (bucket >> SHIFT, bucket & (PER_DOUBLING - 1));
    if doubling == 0 {
        return bucket;
    }
    let width = 1_u64 << (doubling - 1);
    ((PER_DOUBLING + within) << (doubling - 1)).saturating_add(width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_a_bucket_that_ends_at_most_an_eighth_later() {
        let around_powers = (0..u64::BITS).flat_map(|power| {
            let power = 1_u64 << power;
            [power - 1, power, power.saturating_add(power / 3)]
        });
        for time in around_powers.chain(0..2_000).chain([u64::MAX]) {
            let bucket = bucket_of(time);
            assert!(bucket < BUCKETS, "{time}");
            let end = end_of(bucket);
            assert!(
                end >= time && end - time <= time / PER_DOUBLING,
                "{time}: {end}"
            );
        }
    }

    #[test]
    fn the_median_is_that_of_the_times_counted() {
        let mut durations = Durations::default();
        assert_eq!(durations.median_ms(), None);
        for time in [5, 1, 3] {
            durations.add(time);
        }
        assert_eq!(durations.median_ms(), Some(3));
        durations.add(1_000_000);
        assert_eq!(durations.median_ms(), Some(3));
        for _ in 0..5 {
            durations.add(1_000_000);
        }
        let median = durations.median_ms().unwrap();
        assert!((1_000_000..1_125_000).contains(&median), "{median}");
    }
}
