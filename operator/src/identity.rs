//! Which job is meant: its uid, and the name and namespace under which the API server has it. Knows
//! nothing of its spec.

use crate::queue::JobKey;

/// Which job: the uid is the identity, name and namespace say where it is.
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
