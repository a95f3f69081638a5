//! Shuffle files, the data that one stage passes to the next. Each attempt writes one sorted
//! object. A reducer reads one partition of each object by ranges. It merges a limited number of
//! streams at a time, with limited memory.
//!
//! A shuffle file consists of the chunks of its partitions in order, one index entry of fixed width
//! per partition, and a footer. A reducer reads its own entry and its own range, whatever the
//! number of partitions. Checksums cover all bytes. The engine defines the meaning of entries.

mod chunk;
mod error;
mod index;
mod merge;
mod outputs;
mod partition;
mod run;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ShuffleError;
#[cfg(test)]
pub(crate) use index::check_file;
pub use index::shuffle_path;
pub use merge::{EntryStream, FAN_IN, PartitionMerge, SpillFolder};
pub use outputs::{StageOutputs, load_stage, publish_stage};
pub use partition::{PartitionStream, Source};
pub use writer::ShuffleWriter;
