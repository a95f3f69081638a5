//! What the tests on a real cluster share: a client, a namespace of their own, buckets, jobs and
//! nodes.
//!
//! Knows nothing of the cluster but a kubeconfig, the S3 server's address and a few hooks on nodes;
//! holds no assertion about the product itself.

pub mod bucket;
pub mod cluster;
pub mod job;
pub mod ledger;
pub mod node;
pub mod proxy;
pub mod struck;
pub mod sum_job;
pub mod words;
