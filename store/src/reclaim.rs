//! Job folders that no job needs any more: how they are recognized, when their jobs ended, what
//! they contain, and their removal.
//!
//! A folder is removed only if its name is a job's uid, it contains only a job's objects, and one
//! of these objects proves to which job the folder belongs. All times are those of the store's
//! clock.

mod marker;
mod remove;
mod shape;
mod survey;
mod sweep;

pub use marker::{Ended, MARKER_NAME, Marker, MarkerError, mark, read_marker};
pub use remove::remove_job_folder;
pub use shape::{Part, is_job_uid, part_of};
pub use survey::{Proof, Survey, survey};
pub use sweep::{SweepError, Swept, sweep};
