//! A TCP connection to the coordinator that can send any bytes, and the few frames of HTTP/2 that a
//! misbehaving peer needs. Understands no headers.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Link, TEST_TIMEOUT};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

/// The connection.
pub(crate) struct RawConnection(TcpStream);

impl RawConnection {
    /// Connects, and sends nothing.
    pub(crate) async fn open(link: &Link) -> Self {
        let address = link.address.trim_start_matches("http://");
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Connects as an HTTP/2 client does, and sends nothing more.
    pub(crate) async fn open_http2(link: &Link) -> Self {
        let mut connection = Self::open(link).await;
        connection.say(PREFACE).await;
        connection.say(&frame(SETTINGS, 0, 0, &[])).await;
        connection
    }

    /// Sends bytes; the coordinator may have closed the connection.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let said = timeout(TEST_TIMEOUT, self.0.write_all(bytes)).await;
        if let Err(error) = said.unwrap() {
            eprintln!("the coordinator does not read any more: {error}");
        }
    }

    /// All bytes from the coordinator until it closes the connection.
    pub(crate) async fn until_closed(mut self) -> Vec<u8> {
        let mut received = Vec::new();
        let read = timeout(TEST_TIMEOUT, self.0.read_to_end(&mut received)).await;
        if let Err(error) = read.unwrap() {
            eprintln!("the coordinator hung up: {error}");
        }
        received
    }

    /// Answers only frames that keep a connection alive, and makes no call, until the coordinator
    /// closes the connection; returns the number of received frames.
    pub(crate) async fn idle_politely(mut self) -> usize {
        let mut frames = 0;
        loop {
            let mut head = [0; 9];
            let read = timeout(TEST_TIMEOUT, self.0.read_exact(&mut head)).await;
            if read.unwrap().is_err() {
                return frames;
            }
            frames += 1;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if self.0.read_exact(&mut payload).await.is_err() {
                return frames;
            }
            let (kind, flags) = (head[3], head[4]);
            match (kind, flags & ACK) {
                (SETTINGS, 0) => self.say(&frame(SETTINGS, ACK, 0, &[])).await,
                (PING, 0) => self.say(&frame(PING, ACK, 0, &payload)).await,
                _ => {}
            }
        }
    }
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// A header field, neither indexed nor compressed.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        length(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// A length with a prefix of seven bits.
fn length(bytes: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        bytes.push(u8::try_from(length).unwrap());
        return;
    };
    bytes.push(127);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}
