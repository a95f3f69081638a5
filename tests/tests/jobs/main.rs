//! Jobs on the cluster that disturb nobody but themselves. One program, so that what one of them
//! waits for is time for the others.

mod deletion;
mod disruptions;
mod generations;
mod limits;
mod mistakes;
mod overwrite;
mod storage;
mod tail;
mod wordcount;
