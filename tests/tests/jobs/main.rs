//! Tests of jobs on the cluster that affect no other job. They are in one program, so that other
//! tests can run while one of them waits.

mod bad_records;
mod deletion;
mod disruptions;
mod generations;
mod life;
mod limits;
mod mistakes;
mod moves;
mod overwrite;
mod own_code;
mod plugin;
mod storage;
mod tables;
mod tail;
mod wordcount;
