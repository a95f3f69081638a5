//! Generates the messages and services from `proto/`, without protoc. Generates nothing else.

use std::error::Error;

/// What travels over the network.
const SERVICES: [&str; 2] = ["proto/worker.proto", "proto/run.proto"];
/// What travels between a supervisor and its child, made of the messages above.
const PIPES: [&str; 1] = ["proto/task.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let pipes = protox::compile(PIPES, ["proto"])?;
    tonic_prost_build::configure()
        .extern_path(".zephyr.worker.v1", "crate::proto::worker")
        .build_client(false)
        .build_server(false)
        .compile_fds(pipes)?;
    // Last, because it writes the services' modules, which the first run knows only as a path.
    let services = protox::compile(SERVICES, ["proto"])?;
    tonic_prost_build::configure()
        .codec_path("crate::transport::codec::SmallBuffers")
        .compile_fds(services)?;
    Ok(())
}
