//! The identity of a job: its uid, and the name and namespace under which the API server stores it.
//! Knows nothing about the job's spec.

use crate::queue::JobKey;

/// A job: its uid identifies it, and its name and namespace locate it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which a successor may have too.
    pub name: String,
    /// Its uid, which no other job ever has.
    pub uid: String,
}

impl JobIdentity {
    /// The job by name, as the queue knows it.
    pub fn key(&self) -> JobKey {
        JobKey {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}
