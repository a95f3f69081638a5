//! `sample`: keeps a share of the records, chosen by a hash of the seed, the shard and the record's
//! position among those that arrive in this shard. So the same shards give the same sample,
//! whatever runs them. Looks at no record.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hashes below this number are kept, of 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    seed: u64,
    below: u128,
}

impl Sample {
    /// A sample of this fraction, from 0 to 1.
    pub(crate) fn new(fraction: f64, seed: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction from 0 to 1 gives 0 to 2^64; any other number is cut to the range of the type"
        )]
        let below = (fraction * 18_446_744_073_709_551_616.0) as u128;
        Self { seed, below }
    }

    /// Decides about one record, and counts it in `arrived`.
    pub(crate) fn keeps(self, shard: u32, arrived: &mut u64) -> bool {
        let mut place = [0; 12];
        place[..4].copy_from_slice(&shard.to_le_bytes());
        place[4..].copy_from_slice(&arrived.to_le_bytes());
        *arrived += 1;
        u128::from(xxh3_64_with_seed(&place, self.seed)) < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fraction: f64, seed: u64, shard: u32, records: usize) -> Vec<usize> {
        let (sample, mut arrived) = (Sample::new(fraction, seed), 0);
        let all = 0..records;
        all.filter(|_| sample.keeps(shard, &mut arrived)).collect()
    }

    /// These positions are part of the results of jobs, so they must never change.
    #[test]
    fn the_sample_of_a_seed_never_changes() {
        assert_eq!(kept(0.25, 0, 0, 24), SAMPLE_OF_0);
        assert_eq!(kept(0.25, 17, 3, 24), SAMPLE_OF_17);
    }

    /// As another implementation of the hash gives them.
    const SAMPLE_OF_0: [usize; 5] = [1, 6, 10, 14, 23];
    const SAMPLE_OF_17: [usize; 7] = [1, 2, 4, 6, 10, 16, 23];

    #[test]
    fn a_sample_has_about_its_fraction_and_differs_by_seed_and_shard() {
        assert_eq!(kept(0.0, 1, 0, 1000).len(), 0);
        assert_eq!(kept(1.0, 1, 0, 1000).len(), 1000);
        for (seed, shard) in [(0, 0), (1, 0), (0, 1), (u64::MAX, u32::MAX)] {
            let count = kept(0.1, seed, shard, 100_000).len();
            assert!((9_500..10_500).contains(&count), "{count}");
        }
        assert_ne!(kept(0.5, 0, 0, 100), kept(0.5, 1, 0, 100));
        assert_ne!(kept(0.5, 0, 0, 100), kept(0.5, 0, 1, 100));
        let (tenth, half) = (kept(0.1, 7, 2, 1000), kept(0.5, 7, 2, 1000));
        assert!(tenth.iter().all(|position| half.contains(position)));
    }
}
