//! Serves `/healthz`, `/readyz` and `/metrics`. Requests only read; no path here changes anything.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::metrics::Metrics;

/// The content type that Prometheus expects for this text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the server cannot start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be opened.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address on which the server should listen.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The server ended.
    #[error("serve on {address}: {source}")]
    Serve {
        /// The address on which the server listened.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, metrics: Metrics, health: Health) -> Result<(), Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    axum::serve(listener, router(metrics, health))
        .await
        .map_err(|source| Error::Serve { address, source })
}

fn router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/healthz", get(alive).with_state(health.clone()))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(show_metrics).with_state(metrics))
}

async fn alive(State(health): State<Health>) -> Response {
    answer(health.liveness())
}

async fn ready(State(health): State<Health>) -> Response {
    answer(health.readiness())
}

fn answer(verdict: Result<(), String>) -> Response {
    match verdict {
        Ok(()) => "ok".into_response(),
        Err(sentence) => (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response(),
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
