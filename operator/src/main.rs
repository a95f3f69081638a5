//! The program `zephyr-operator`. This file only handles arguments, logs and the exit code.

use std::process::ExitCode;

use clap::Parser;
use tracing::error;
use zephyr_operator::config::Config;
use zephyr_operator::{open_files, startup, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    telemetry::start();
    open_files::raise_limit();
    // Installs the TLS provider of the process. An error would only mean that one is already
    // installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    match startup::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!(error = %cause, "operator ends");
            ExitCode::FAILURE
        }
    }
}
