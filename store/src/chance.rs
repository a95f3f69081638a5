//! Where random numbers come from: the system, or in a simulation a seed. Nothing here is fit for
//! secrets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of random numbers, shared by all its clones.
#[derive(Clone)]
pub struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    /// From the system: another sequence in each process.
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))))
    }

    /// The same sequence each time.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number from a half to one, by which waits are shortened so that many callers do not come
    /// back at once.
    pub fn jitter(&self) -> f64 {
        self.lock().random_range(0.5..=1.0)
    }

    /// A number that nobody else draws.
    pub fn unique(&self) -> u128 {
        self.lock().random()
    }

    fn lock(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
