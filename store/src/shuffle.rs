//! Shuffle files, the data that one stage passes to the next. Each attempt writes one sorted
//! object. A reducer reads one partition of each object by ranges, and merges them with limited
//! memory.
//!
//! A shuffle file consists of the chunks of its partitions in order, one index entry of fixed width
//! per partition, and a footer. When a stage is finished, its coordinator merges the indexes of all
//! files into one. So a reducer needs only one slice of that index to find its ranges, whatever the
//! number of partitions. If there would be many small ranges, another stage first gathers the files
//! into fewer and larger ones. Checksums cover all bytes. The engine defines the meaning of
//! entries.

mod chunk;
mod error;
mod index;
mod merge;
mod merged_index;
mod outputs;
mod partition;
mod reader;
mod run;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ShuffleError;
#[cfg(test)]
pub(crate) use index::check_file;
pub use index::shuffle_path;
pub use merge::{EntryStream, SpillFolder};
#[cfg(test)]
pub(crate) use merged_index::load_slice;
pub use merged_index::{IndexShape, Slice, load_slices, publish_index};
pub use outputs::{StageOutputs, load_stage, publish_stage};
pub use reader::ShuffleReader;
pub use writer::{ShuffleWriter, write_entries};
