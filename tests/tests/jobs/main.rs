//! Jobs on the cluster that disturb only themselves. They are one program, so that others can run
//! while one of them waits.

mod deletion;
mod disruptions;
mod generations;
mod limits;
mod mistakes;
mod overwrite;
mod storage;
mod tables;
mod tail;
mod wordcount;
