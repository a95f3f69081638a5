//! Makes random numbers from a seed, which are the same on every machine, and a hash of events.
//! They must not be used for secrets.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A generator of random numbers (splitmix64).
#[derive(Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a separate generator for one purpose, so that the numbers for one purpose do not
    /// depend on how many are used for another.
    pub(super) fn of(seed: u64, purpose: &str) -> Self {
        let mut hash = Hash::new();
        hash.bytes(purpose.as_bytes());
        Self(seed ^ hash.value())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.permille(chance * 10)
    }

    pub(super) fn permille(&mut self, chance: u64) -> bool {
        self.between(0, 999) < chance
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let last = (from.len() as u64).checked_sub(1)?;
        let position = self.between(0, last);
        from.get(usize::try_from(position).ok()?).cloned()
    }
}

/// A hash (FNV-1a).
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn new() -> Self {
        Self(FNV_OFFSET)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }
}
