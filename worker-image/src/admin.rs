//! Serves `/healthz`, `/readyz` and `/metrics` of both roles. Changes nothing and reveals no
//! secret.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// Says whether this process is ready: `Err` with the reason if it is not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The sources of the answers.
#[derive(Clone)]
struct Admin {
    ready: Ready,
    registry: Arc<Registry>,
}

/// Serves on this listener until `stop` is done.
pub async fn serve(
    listener: TcpListener,
    ready: Ready,
    registry: Registry,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin {
            ready,
            registry: Arc::new(registry),
        });
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop)
        .await
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    match (admin.ready)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(admin): State<Admin>) -> Result<String, StatusCode> {
    let mut text = String::new();
    encode(&mut text, &admin.registry).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(text)
}
