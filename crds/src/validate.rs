//! Everything that can be found wrong in a spec without reading data or compiling an expression.

pub use crate::field_error::FieldError;
use crate::job::ZephyrJobSpec;

/// Where the job is to run: a cluster reads and writes object stores only; the CLI's local run also `file://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cluster,
    Local,
}

/// Every fault of the spec, in the order of the fields.
pub fn validate(_spec: &ZephyrJobSpec, _name: &str, _place: Place) -> Vec<FieldError> {
    Vec::new()
}
