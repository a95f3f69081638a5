//! Generates the messages and services from the `.proto` files beside this one, without protoc.
//! Generates nothing else.

use std::error::Error;

/// What travels over the network.
const SERVICES: [&str; 2] = ["worker.proto", "run.proto"];
/// What travels between a supervisor and its child, made of the messages above.
const PIPES: [&str; 1] = ["task.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in SERVICES.iter().chain(&PIPES) {
        println!("cargo::rerun-if-changed={file}");
    }
    let pipes = protox::compile(PIPES, ["."])?;
    tonic_prost_build::configure()
        .extern_path(".zephyr.worker.v1", "crate::worker")
        .build_client(false)
        .build_server(false)
        .compile_fds(pipes)?;
    // Last, because it writes the services' modules, which the first run knows only as a path.
    let services = protox::compile(SERVICES, ["."])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(services)?;
    Ok(())
}
