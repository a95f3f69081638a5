//! `takePerShard`: passes the first records of a shard, up to a number. After them nothing more is
//! read.

/// What happens to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It passes, and later records may pass too.
    Pass,
    /// It passes, and no later record passes.
    Last,
    /// It does not pass, and no later record passes.
    Nothing,
}

/// Decides about one record, and counts it in `taken` if it passes.
pub(crate) fn take(limit: u64, taken: &mut u64) -> Taken {
    if *taken >= limit {
        return Taken::Nothing;
    }
    *taken += 1;
    if *taken == limit {
        Taken::Last
    } else {
        Taken::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_says_that_it_is_the_last() {
        let mut taken = 0;
        assert_eq!(
            [0; 4].map(|_| take(2, &mut taken)),
            [Taken::Pass, Taken::Last, Taken::Nothing, Taken::Nothing]
        );
        assert_eq!(take(0, &mut 0), Taken::Nothing);
    }
}
