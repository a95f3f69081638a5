//! Generates the messages and services from the `.proto` files in this folder, without protoc.
//! Generates nothing else.

use std::error::Error;

/// The protocols on the network.
const SERVICES: [&str; 2] = ["worker.proto", "run.proto"];
/// The protocol between a supervisor and its child, which uses the messages above.
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
    // This is last, because it writes the services' modules, which the first run knows only as a
    // path.
    let services = protox::compile(SERVICES, ["."])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(services)?;
    Ok(())
}
