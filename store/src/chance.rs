//! Makes random numbers. They come from the system, or in a simulation from a seed. They must not
//! be used for secrets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of random numbers, shared by all its clones.
#[derive(Clone)]
pub struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    /// Makes a source that the system seeds. Its sequence is different in each process.
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))))
    }

    /// Makes a source from a seed. The same seed always gives the same sequence.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Returns a number from a half to one. A caller multiplies its wait by this number, so that
    /// many callers do not try again at the same time.
    pub fn jitter(&self) -> f64 {
        self.lock().random_range(0.5..=1.0)
    }

    /// Returns a number that no other caller gets.
    pub fn unique(&self) -> u128 {
        self.lock().random()
    }

    fn lock(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
