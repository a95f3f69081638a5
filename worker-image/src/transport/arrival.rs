//! Closes a connection on which no call was accepted in time. Such a peer is silent, has no token,
//! sends endless headers, or speaks plain HTTP or TLS. This module does not look at the bytes of
//! the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

/// How long a connection may be open before its first call is accepted. A worker makes its first
/// call within milliseconds after connecting, or within seconds if thousands of workers connect at
/// the same time.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(20);

/// Records whether a call was accepted on a connection. Clones refer to the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct LetIn(Arc<AtomicBool>);

impl LetIn {
    /// Records that a call was accepted. From then on the connection may be silent for any time.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An accepted connection.
pub(super) struct Arrival<S> {
    inner: S,
    let_in: LetIn,
    /// When the connection is closed. `None` after a call was accepted.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Arrival<S> {
    /// Wraps a connection that was accepted just now.
    pub(super) fn new(inner: S) -> Self {
        Self::within(inner, ARRIVAL_TIMEOUT)
    }

    fn within(inner: S, time: Duration) -> Self {
        Self {
            inner,
            let_in: LetIn::default(),
            deadline: Some(Box::pin(sleep(time))),
        }
    }

    /// Returns whether the connection must be closed. This is checked only if there is nothing to
    /// read, so that received bytes are handled first.
    fn is_too_late(&mut self, context: &mut Context<'_>) -> bool {
        if self.let_in.is_noted() {
            self.deadline = None;
        }
        self.deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl<S> Connected for Arrival<S> {
    type ConnectInfo = LetIn;

    fn connect_info(&self) -> LetIn {
        self.let_in.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Arrival<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Pending if this.is_too_late(context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            other @ (Poll::Pending | Poll::Ready(_)) => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Arrival<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Returns a connection whose time is over, and the peer's end of it.
    fn overdue() -> (DuplexStream, Arrival<DuplexStream>) {
        let (peer, accepted) = duplex(64);
        (peer, Arrival::within(accepted, Duration::ZERO))
    }

    #[tokio::test]
    async fn a_connection_without_an_accepted_call_is_closed_when_nothing_is_left_to_read() {
        let (mut peer, mut arrival) = overdue();
        peer.write_all(b"words").await.unwrap();
        let mut heard = Vec::new();
        let error = arrival.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(heard, b"words");
    }

    #[tokio::test]
    async fn a_connection_with_an_accepted_call_or_with_time_left_may_be_silent() {
        let (mut peer, mut let_in) = overdue();
        let_in.connect_info().note();
        let (_other_peer, accepted) = duplex(64);
        let mut new = Arrival::new(accepted);
        for silent in [&mut let_in, &mut new] {
            let mut byte = [0];
            assert!(futures::poll!(std::pin::pin!(silent.read(&mut byte))).is_pending());
        }
        peer.write_all(b"later").await.unwrap();
        drop(peer);
        let mut heard = Vec::new();
        let_in.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"later");
    }
}
