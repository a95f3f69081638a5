//! Tests of jobs on the cluster that affect no other job. They are one program, so that other tests
//! can run while one waits.

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
