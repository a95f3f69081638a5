//! Sets where and how log lines are written: as JSON on stderr in pods, as plain text in child
//! processes. Writes no line itself.

use tracing_subscriber::EnvFilter;

/// Logs as JSON, one object per line; the filter is `RUST_LOG`, or `default` if that is not set.
pub fn start_json(default: &str) {
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter(default))
        .with_writer(std::io::stderr)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Logs as plain text without times and colours. The supervisor logs each line again and adds its
/// own time.
pub fn start_plain(default: &str) {
    let started = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_env_filter(filter(default))
        .with_writer(std::io::stderr)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}
