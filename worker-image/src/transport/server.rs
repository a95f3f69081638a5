//! The coordinator's gRPC server: every call, to whatever path, passes the token check first. Answers no call itself.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::token::TokenCheck;
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_MAX_BYTES};
use crate::proto::run::run_server::{Run, RunServer};
use crate::proto::worker::worker_server::{Worker, WorkerServer};

/// Streams at once on one connection: a worker and the operator need one each, and a second while the first dies.
const STREAMS_PER_CONNECTION: u32 = 8;
/// Calls at once on one connection.
const CALLS_PER_CONNECTION: usize = 8;
/// Largest header of a call: the token and tonic's own few lines.
const HEADERS_MAX_BYTES: u32 = 8 * 1024;
/// How long TCP may keep a peer that answers nothing.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves both services on this listener until `stop` is done.
pub async fn serve(
    listener: TcpListener,
    check: TokenCheck,
    worker: impl Worker,
    run: impl Run,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let workers = WorkerServer::new(worker)
        .max_decoding_message_size(MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let operators = RunServer::new(run)
        .max_decoding_message_size(MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(TCP_KEEPALIVE));
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS_MAX_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .layer(InterceptorLayer::new(move |request| check.check(request)))
        .add_service(workers)
        .add_service(operators)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}
