//! Compiles the client of the coordinator's `run.proto`, and the server that its tests answer with. Needs no protoc on the machine.

/// Seen from this package's folder, where Cargo runs this: no path of the machine gets into the program.
const PROTOS: &str = "../worker-image/proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROTOS}/run.proto");
    let descriptors = protox::compile(["run.proto"], [PROTOS])?;
    tonic_prost_build::configure()
        .build_server(true)
        .compile_fds(descriptors)?;
    Ok(())
}
