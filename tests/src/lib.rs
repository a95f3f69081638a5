//! Shared parts of the tests on a real cluster: a client, separate namespaces, buckets, jobs and
//! nodes.
//!
//! Uses only a kubeconfig, the S3 server's address and a few hooks on nodes. Contains no assertion
//! about the product itself.

pub mod bucket;
pub mod cluster;
pub mod job;
pub mod ledger;
pub mod midway;
pub mod node;
pub mod proxy;
pub mod sum_job;
pub mod words;
