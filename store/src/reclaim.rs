//! Job folders that nobody needs any more: how they look, when they ended, what is in them, and
//! their removal.
//!
//! Only a folder that has the name of a job's uid, that holds nothing but a job's objects, and that
//! proves by one of them whose it is, is ever removed. All times are those of the store's clock.

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
