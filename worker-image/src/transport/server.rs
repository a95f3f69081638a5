//! The coordinator's gRPC server. The token of every call is checked first, whatever its path is.
//! This file itself answers only calls to unknown services.

use std::future::Future;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};
use zephyr_proto::run::run_server::{self, Run, RunServer};
use zephyr_proto::worker::worker_server::{self, Worker, WorkerServer};

use super::arrival::{Arrival, LetIn};
use super::token::TokenCheck;
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_MESSAGE_BYTES};

/// How many streams one connection may have. A worker and the operator need one each, and a second
/// one while the first closes.
const STREAMS_PER_CONNECTION: u32 = 8;
/// How many calls one connection may make at the same time.
const CALLS_PER_CONNECTION: usize = 8;
/// How many bytes the headers of a call have at most. They are the token and a few headers of
/// tonic.
const MAX_HEADERS_BYTES: u32 = 8 * 1024;
/// If no data has arrived for this long, TCP checks whether the peer still answers.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves both services on this listener until `stop` completes. Calls without the token are
/// counted in `refused`.
pub async fn serve(
    listener: TcpListener,
    check: TokenCheck,
    refused: Counter,
    worker: impl Worker,
    run: impl Run,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let workers = WorkerServer::new(worker)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let operators = RunServer::new(run)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(TCP_KEEPALIVE))
        .map(|accepted| accepted.map(Arrival::new));
    let gate = move |request: Request<()>| {
        let let_in = check.check(request).inspect_err(|_| {
            refused.inc();
        })?;
        if let Some(arrival) = let_in.extensions().get::<LetIn>() {
            arrival.note();
        }
        Ok(let_in)
    };
    let services = Routes::new(workers).add_service(operators);
    let services = Routes::from(services.into_axum_router().fallback(unknown_call));
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADERS_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .layer(InterceptorLayer::new(gate))
        .add_routes(services)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

/// Answers a call to an unknown service. The version of a protocol is part of its service's name,
/// so a caller of another release gets the list of existing services.
async fn unknown_call() -> axum::response::Response {
    let (worker, run) = (worker_server::SERVICE_NAME, run_server::SERVICE_NAME);
    let text = format!("no such call; this coordinator serves {worker} and {run}");
    Status::unimplemented(text).into_http()
}
