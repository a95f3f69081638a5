//! Compiles the client of the coordinator's `run.proto`. Needs no protoc on the machine.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker-image/proto");
    println!(
        "cargo::rerun-if-changed={}",
        protos.join("run.proto").display()
    );
    let descriptors = protox::compile(["run.proto"], [&protos])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
