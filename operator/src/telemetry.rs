//! Sets up the logs: one JSON object per line on standard output. This module sets up nothing else.

use tracing_subscriber::EnvFilter;

/// The log level if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "info";

/// Starts logging for the process.
pub fn start() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_current_span(true)
        .with_span_list(false)
        .init();
}
