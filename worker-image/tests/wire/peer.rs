//! Peers that violate the protocol: calls with any bytes as a body, first messages of any kind, and
//! connections with another protocol. Judges nothing.

mod raw;

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Body as _, Bytes, Service as _, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use zephyr_proto::worker::{CoordinatorMessage, WorkerMessage};
use zephyr_worker::transport::client::{Connection, connect};

pub(crate) use raw::{RawConnection, field, frame};

use super::light::Link;

/// The path at which workers open sessions.
pub(crate) const SESSION: &str = "/zephyr.worker.v1.Worker/Session";
/// The path at which the operator opens its stream.
pub(crate) const OPERATE: &str = "/zephyr.run.v1.Run/Operate";

/// Nothing takes this long.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_mins(3);

/// A gRPC message: its flag, its stated length, its bytes.
pub(crate) fn message(flag: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag][..], &length, bytes].concat()
}

/// A gRPC message with its correct length.
pub(crate) fn honest(bytes: &[u8]) -> Vec<u8> {
    message(0, bytes.len(), bytes)
}

/// A plain HTTP/2 connection to the coordinator, with the client that workers use.
pub(crate) async fn channel(link: &Link) -> Channel {
    let endpoint = Endpoint::from_shared(link.address.clone()).unwrap();
    endpoint.connect().await.unwrap()
}

/// A body of these pieces, which then ends, or stays open.
pub(crate) fn body(pieces: Vec<Vec<u8>>, ends: bool) -> axum::body::Body {
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender
            .try_send(Ok::<_, std::io::Error>(Bytes::from(piece)))
            .unwrap();
    }
    if !ends {
        tokio::spawn(async move { sender.closed().await });
    }
    axum::body::Body::from_stream(ReceiverStream::new(receiver))
}

/// The valid authorization.
pub(crate) fn authorization(link: &Link) -> String {
    let value = link.token.to_metadata();
    value.to_str().unwrap().to_owned()
}

/// Makes a call with these bytes as a body, and returns how it ended: `Ok` if a stream of messages
/// was opened.
pub(crate) async fn call(
    link: &Link,
    path: &str,
    authorization: &[&str],
    body: axum::body::Body,
) -> Result<(), Status> {
    let mut request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for value in authorization {
        request = request.header("authorization", *value);
    }
    let request = request.body(tonic::body::Body::new(body)).unwrap();
    let mut channel = channel(link).await;
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let answered = tokio::time::timeout(TEST_TIMEOUT, channel.call(request)).await;
    let response = match answered.unwrap() {
        Ok(response) => response,
        Err(error) => return Err(Status::from_error(Box::new(error))),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let mut body = response.into_body();
    let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
    match tokio::time::timeout(TEST_TIMEOUT, next).await.unwrap() {
        Some(Ok(frame)) => match frame.trailers_ref().and_then(Status::from_header_map) {
            Some(status) => Err(status),
            None => Ok(()),
        },
        Some(Err(status)) => Err(status),
        None => Ok(()),
    }
}

/// An open session of a worker that can send anything.
pub(crate) struct Session {
    /// To the coordinator.
    pub(crate) outbound: mpsc::Sender<WorkerMessage>,
    inbound: Streaming<CoordinatorMessage>,
}

impl Session {
    /// Connects, and sends this first.
    pub(crate) async fn open(link: &Link, first: WorkerMessage) -> Result<Self, Status> {
        let Connection {
            mut client,
            authorization,
        } = connect(&link.address, &link.token).await.unwrap();
        let (outbound, stream) = mpsc::channel(64);
        outbound.send(first).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(stream));
        request
            .metadata_mut()
            .insert("authorization", authorization);
        let inbound = client.session(request).await?.into_inner();
        Ok(Self { outbound, inbound })
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Result<CoordinatorMessage, Status> {
        let received = tokio::time::timeout(TEST_TIMEOUT, self.inbound.message()).await;
        received
            .unwrap()?
            .ok_or_else(|| Status::ok("the coordinator ended the session"))
    }

    /// How the coordinator ends it.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.receive().await {
                return status;
            }
        }
    }
}
