//! The program `zephyr-operator`: arguments, logs, exit code. Nothing else.

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
    // One TLS provider for the process; a second call would only find that it is installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    match startup::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!(error = %cause, "operator ends");
            ExitCode::FAILURE
        }
    }
}
