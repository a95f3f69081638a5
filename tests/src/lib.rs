//! Contains the shared parts of the tests on a real cluster: a client, separate namespaces,
//! buckets, jobs and nodes.
//!
//! It uses only a kubeconfig, the S3 server's address and a few commands on nodes. It contains no
//! assertion about the product itself.

pub mod bucket;
pub mod cluster;
pub mod job;
pub mod ledger;
pub mod midway;
pub mod node;
pub mod plugin;
pub mod proxy;
pub mod sum_job;
pub mod words;
