//! Removes job folders that no job needs any more. The modules recognize such folders, find when
//! their jobs ended and what they contain, and remove them.
//!
//! A folder is removed only if its name is a job's uid, it contains only a job's objects, and one
//! of these objects proves to which job the folder belongs. All times are those of the store's
//! clock.

mod marker;
mod remove;
mod shape;
mod survey;
mod sweep;

pub use marker::{Ended, MARKER_NAME, Marker, MarkerError, mark, read_marker, unmark};
pub use remove::remove_job_folder;
pub use shape::{Part, is_job_uid, part_of};
pub use survey::{Proof, Survey, survey};
pub use sweep::{SweepError, Swept, sweep};
