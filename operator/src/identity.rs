//! The identity of a job: its uid, and the name and namespace under which the API server stores it.
//! This module does not use the job's spec.

use crate::queue::JobKey;

/// A job: its uid identifies it, and its name and namespace locate it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name. After the job is deleted, another job may have the same name.
    pub name: String,
    /// Its uid, which no other job ever has.
    pub uid: String,
}

impl JobIdentity {
    /// Returns the name and namespace, by which the queue knows the job.
    pub fn key(&self) -> JobKey {
        JobKey {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}
