//! Limits for the size of a record. A job may set other values than the defaults.

use zephyr_jq::json::ScanLimits;

/// The default for the longest record: the same as for a line of a file.
pub const DEFAULT_RECORD_BYTES: usize = 64 << 20;

/// The default for the greatest nesting of arrays and objects. 200 levels cover nearly every known
/// document; jq and other programs that read JSON accept more than 64.
pub const DEFAULT_NESTING: usize = 256;

/// The longest record that a job may allow. Offsets on the tape have 32 bits, and a chunk of a
/// shuffle cannot contain a longer record.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// The deepest nesting that a job may allow. Values are compared and printed by recursion. On a
/// value of this depth, even the functions of jq that need the most stack (`walk`, `..`, `paths`)
/// stay within [`STACK_BYTES`](crate::expr::STACK_BYTES), also in a build without optimisation.
pub const MAX_NESTING: usize = 2_000;

/// The quotes around a record that is a line of text, which do not count towards its length.
pub(crate) const QUOTES_BYTES: usize = 2;

/// The braces, quotes and names of an object of two records, rounded up.
const NAMES_BYTES: usize = 64;

/// The limits for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its text; at most [`MAX_RECORD_BYTES`].
    pub bytes: usize,
    /// How deep arrays and objects may nest; at most [`MAX_NESTING`].
    pub nesting: usize,
    /// How many bytes of memory one record may use while it is read and evaluated. [`usize::MAX`]
    /// means no limit.
    pub memory_bytes: usize,
}

impl Limits {
    /// Limits for texts that were checked before, when their records were made. The limits of that
    /// check are not known any more.
    pub(crate) const WIDEST: Self = Self {
        bytes: MAX_RECORD_BYTES + QUOTES_BYTES,
        nesting: MAX_NESTING,
        memory_bytes: usize::MAX,
    };

    /// The limits for an object of two records, such as `{"state": …, "record": …}`. A record has
    /// an upper bound, so this does too.
    pub(crate) fn of_state_and_record(&self) -> Self {
        Self {
            bytes: (2 * self.bytes + NAMES_BYTES).min(Self::WIDEST.bytes),
            nesting: (self.nesting + 1).min(Self::WIDEST.nesting),
            ..*self
        }
    }

    /// Whether a record of `bytes` certainly fits into memory, whatever it contains, because no
    /// value takes more than [`MAX_MEMORY_FACTOR`] times its text.
    pub(crate) fn surely_have_room(&self, bytes: usize) -> bool {
        bytes <= self.memory_bytes / MAX_MEMORY_FACTOR
    }

    /// The limits of the text alone.
    pub(crate) fn of_scan(&self) -> ScanLimits {
        ScanLimits {
            bytes: self.bytes.min(Self::WIDEST.bytes),
            nesting: self.nesting.min(Self::WIDEST.nesting),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: DEFAULT_RECORD_BYTES,
            nesting: DEFAULT_NESTING,
            memory_bytes: usize::MAX,
        }
    }
}

/// A record takes less than this many times the length of its text in memory. A test checks this
/// with the worst texts, such as `[{"":0},{"":0},…]`.
pub(crate) const MAX_MEMORY_FACTOR: usize = 64;

/// The error that a task does not have enough memory for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Approximate number of bytes that are needed.
    pub needed_bytes: usize,
    /// Bytes of memory that a record may use.
    pub room_bytes: usize,
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the record is too large for this worker: it needs about {} MiB of memory, and a task has {} MiB for a record; raise spec.workers.resources.limits.memory or set fewer spec.workers.slots",
            self.needed_bytes.div_ceil(1 << 20),
            self.room_bytes >> 20,
        )
    }
}
