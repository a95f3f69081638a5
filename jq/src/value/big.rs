//! An integer beyond 64 bits, which counts the memory that it takes.

use std::fmt;
use std::ops::Deref;

use num_bigint::BigInt;

use crate::meter::{ALLOCATION_BYTES, Held};

/// An integer beyond 64 bits.
#[derive(Clone, Debug)]
pub struct Big {
    integer: BigInt,
    #[expect(dead_code, reason = "it counts as long as it exists")]
    held: Held,
}

impl From<BigInt> for Big {
    fn from(integer: BigInt) -> Self {
        let bytes = usize::try_from(integer.bits() / 8).unwrap_or(usize::MAX / 2);
        let held = Held::new(ALLOCATION_BYTES + bytes);
        Self { integer, held }
    }
}

impl Deref for Big {
    type Target = BigInt;

    fn deref(&self) -> &BigInt {
        &self.integer
    }
}

impl fmt::Display for Big {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.integer.fmt(f)
    }
}
