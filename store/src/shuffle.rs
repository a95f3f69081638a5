//! Shuffle files: what a stage hands to the next. Written sorted, one object an attempt; read by
//! ranges, one partition at a time; merged with bounded fan-in and memory.
//!
//! A shuffle file is the partitions' chunks, one behind the other, then one fixed-width index entry
//! a partition, then a footer. A reducer reads its own entry and its own range, whatever the number
//! of partitions. Everything is under a checksum. What the entries mean is the engine's business.

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
