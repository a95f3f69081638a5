//! Divides the memory of one attempt among everything that grows while the attempt runs: tables,
//! shuffles, dead letters, and the record that is being processed. Pure. Each of these counts the
//! bytes that it uses. Before it exceeds its share, it is written to the local disk or refused.

/// Memory for one attempt if no limit is known.
const MEMORY_BYTES_UNKNOWN: u64 = 512 << 20;

/// The least size of a buffer, however little memory there is.
const MIN_BUFFER_BYTES: u64 = 4 << 20;

/// The reserve is the memory divided by this number, but at least `MIN_RESERVE_BYTES`. When less
/// memory than the reserve is free, a worker ends its largest process; see `worker::memory_watch`.
const RESERVE_SHARE: u64 = 10;
const MIN_RESERVE_BYTES: u64 = 32 << 20;

/// The memory of a task's process without records, and its share of the supervisor's memory. It
/// contains the compiled steps, ranges that are read ahead (3 of 8 MiB), parts of the output that
/// are being sent, and the compressor.
const PROCESS_BYTES: u64 = 96 << 20;

/// The memory for the dead letters of one place: one part of 8 MiB that is being filled, and two
/// parts that are being sent.
const DEAD_LETTER_BYTES: u64 = 24 << 20;

/// A record may always take this much memory, even in a small worker: records of a few hundred KiB
/// never fill a worker.
const MIN_ROOM_BYTES: u64 = 16 << 20;

/// The memory of an attempt, and what the stage needs besides records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// The container's limit divided by its slots; 0 if there is none.
    pub(super) memory_bytes: u64,
    /// The memory that the tables take.
    pub(super) tables_bytes: u64,
    /// How many shuffles the stage reads or writes. Each has a buffer.
    pub(super) shuffles: u32,
    /// How many places of the stage write dead letters.
    pub(super) dead_letters: u32,
    /// How many steps of the stage hold a window of records.
    pub(super) windows: u32,
}

impl Budget {
    /// Returns how many bytes the tables of a job may take: half of the free memory, so that
    /// records and buffers have the other half. If no limit is known, returns `most`.
    pub(super) fn room_for_tables(memory_bytes: u64, most: u64) -> u64 {
        let budget = Self {
            memory_bytes,
            ..Self::default()
        };
        budget.free_bytes().map_or(most, |free| free / 2)
    }

    /// Returns how many bytes a buffer of records may hold. All streams of a merge together may
    /// hold the same number.
    ///
    /// This is a quarter of the memory, because the allocator and the records need the rest. It is
    /// at most half of the free memory, because a stage has at most two buffers. So a task in a
    /// small container writes to the local disk earlier, and its worker does not end it.
    pub(super) fn buffer_bytes(self) -> usize {
        let buffer = match self.free_bytes() {
            None => MEMORY_BYTES_UNKNOWN / 4,
            Some(free) => (self.for_task() / 4).min(free / 2),
        };
        usize::try_from(buffer.max(MIN_BUFFER_BYTES)).unwrap_or(usize::MAX)
    }

    /// Returns how many bytes one record may take: the free memory without the buffers. A window is
    /// a record too, so each window of the stage may take as much. If no memory limit is known,
    /// there is no limit for a record.
    pub(super) fn record_bytes(self) -> usize {
        let Some(free) = self.free_bytes() else {
            return usize::MAX;
        };
        let buffers = u64::from(self.shuffles) * self.buffer_bytes() as u64;
        let records = 1 + u64::from(self.windows);
        let room = (free.saturating_sub(buffers) / records).max(MIN_ROOM_BYTES);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Returns the memory of an attempt without the tables. All attempts of the process share the
    /// tables.
    fn for_task(self) -> u64 {
        self.memory_bytes.saturating_sub(self.tables_bytes)
    }

    /// Returns what is left of this memory after the reserve, the constant memory of a process, and
    /// the dead letters. Returns `None` if no limit is known.
    fn free_bytes(self) -> Option<u64> {
        let memory = self.for_task();
        let reserve = (memory / RESERVE_SHARE).max(MIN_RESERVE_BYTES);
        let dead_letters = u64::from(self.dead_letters) * DEAD_LETTER_BYTES;
        let free = memory.saturating_sub(reserve + PROCESS_BYTES + dead_letters);
        (self.memory_bytes > 0).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn budget(mib: u64, shuffles: u32, dead_letters: u32) -> Budget {
        Budget {
            memory_bytes: mib * MIB,
            shuffles,
            dead_letters,
            ..Budget::default()
        }
    }

    #[test]
    fn a_record_may_take_what_everything_else_leaves() {
        for (mib, shuffles, dead_letters, room) in [
            (1024, 0, 0, 825),
            (1024, 1, 0, 569),
            (1024, 2, 0, 313),
            (1024, 1, 4, 473),
            (512, 1, 0, 236),
            (256, 1, 0, 64),
            (256, 1, 9, 16),
            (128, 1, 0, 16),
        ] {
            let found = budget(mib, shuffles, dead_letters).record_bytes() as u64 / MIB;
            assert_eq!(found, room, "{mib} {shuffles} {dead_letters}");
        }
        assert_eq!(budget(0, 1, 1).record_bytes(), usize::MAX);
        let windows = Budget {
            windows: 2,
            ..budget(1024, 1, 0)
        };
        assert_eq!(windows.record_bytes() as u64 / MIB, 569 / 3);
    }

    #[test]
    fn all_shares_together_stay_below_the_reserve_from_136_mib_on() {
        for (mib, dead_letters, buffer) in [
            (0, 0, 128),
            (64, 0, 4),
            (128, 0, 4),
            (136, 0, 4),
            (192, 0, 32),
            (256, 0, 64),
            (256, 2, 40),
            (1024, 0, 256),
            (1024, 8, 256),
            (1024, 20, 172),
        ] {
            let budget = budget(mib, 2, dead_letters);
            let found = budget.buffer_bytes() as u64;
            assert_eq!(found / MIB, buffer, "{mib} {dead_letters}");
            let memory = mib * MIB;
            let reserve = (memory / RESERVE_SHARE).max(MIN_RESERVE_BYTES);
            let letters = u64::from(dead_letters) * DEAD_LETTER_BYTES;
            let all = reserve + PROCESS_BYTES + letters + 2 * found;
            assert!(all <= memory || mib < 136, "{mib} {dead_letters}: {all}");
        }
    }

    #[test]
    fn tables_take_half_of_what_is_free_and_the_rest_is_divided_as_before() {
        assert_eq!(Budget::room_for_tables(0, 7), 7);
        assert_eq!(Budget::room_for_tables(1024 * MIB, 7) / MIB, 412);
        let with_tables = Budget {
            tables_bytes: 512 * MIB,
            ..budget(1024, 1, 0)
        };
        assert_eq!(with_tables.record_bytes(), budget(512, 1, 0).record_bytes());
        let full = Budget {
            tables_bytes: 2048 * MIB,
            ..budget(1024, 1, 0)
        };
        assert_eq!(full.buffer_bytes() as u64, MIN_BUFFER_BYTES);
    }
}
