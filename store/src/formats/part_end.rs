//! The end of a part of a compressed file, counted in plain bytes. The decompressor finds it, and
//! the reader of lines stops there. Reads nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Not known yet.
const UNKNOWN: u64 = u64::MAX;

/// Where the lines of a part end. The decompressor sets this before it returns a byte after it.
///
/// The plain bytes of a part are counted from the first byte of its first block or frame. Whether a
/// line begins at byte 0 is not known, because the byte before it is in the previous part. So a
/// line that begins there belongs to the previous part. A part has the lines that begin at its byte
/// 1 or later, up to a line that begins at the first byte after the part.
#[derive(Clone, Debug)]
pub(crate) struct PartEnd(Arc<AtomicU64>);

impl Default for PartEnd {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNKNOWN)))
    }
}

impl PartEnd {
    pub(super) fn is_known(&self) -> bool {
        self.until() != UNKNOWN
    }

    /// The part has this number of plain bytes.
    pub(super) fn set(&self, plain_bytes: u64) {
        self.0
            .store(plain_bytes.saturating_add(1), Ordering::Relaxed);
    }

    /// The part has no block and no frame, so it has no line.
    pub(super) fn set_empty(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Lines that begin here or later belong to another part.
    pub(crate) fn until(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
