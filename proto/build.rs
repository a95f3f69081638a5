//! Generates the messages and services from the `.proto` files in this folder, without protoc. It
//! generates nothing else.

use std::error::Error;

/// The protocols that are used over the network.
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
    // The services are compiled last: the compilation above needs only the paths of their modules,
    // and this one writes the modules.
    let services = protox::compile(SERVICES, ["."])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(services)?;
    Ok(())
}
