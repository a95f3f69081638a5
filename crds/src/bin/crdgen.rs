//! Prints the custom resource definition. It never connects to a cluster.

use std::io::Write;

fn main() -> Result<(), zephyr_crds::crd::PrintError> {
    let text = zephyr_crds::crd::yaml()?;
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(zephyr_crds::crd::PrintError::Write)
}
