//! Opens a worker's connection to its coordinator. Each worker has its own connection. This module
//! sends nothing by itself.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use zephyr_proto::worker::worker_client::WorkerClient;

use super::token::Token;
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_MESSAGE_BYTES};

/// How long connecting may take. This is short, because the worker retries forever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is invalid.
    #[error("dial coordinator {address}: not an address: {source}")]
    Address {
        /// The address as it was configured.
        address: String,
        /// The cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// Nothing answers at that address.
    #[error("dial coordinator {address}: {cause}")]
    Dial {
        /// The address as it was configured.
        address: String,
        /// The innermost cause. The outer causes only say "transport error".
        cause: String,
    },
}

/// A client, and the metadata that each call must contain.
pub struct Connection {
    /// The client.
    pub client: WorkerClient<Channel>,
    /// The value of the header `authorization`.
    pub authorization: MetadataValue<Ascii>,
}

/// Connects to the coordinator.
pub async fn connect(address: &str, token: &Token) -> Result<Connection, ConnectError> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|source| ConnectError::Address {
            address: address.to_owned(),
            source,
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| ConnectError::Dial {
            address: address.to_owned(),
            cause: innermost(&error),
        })?;
    let client = WorkerClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Ok(Connection {
        client,
        authorization: token.to_metadata(),
    })
}

/// Returns the innermost cause of an error.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
