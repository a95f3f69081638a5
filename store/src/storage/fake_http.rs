//! A small HTTP server for tests, on a real socket. It gives prepared answers, including wrong
//! ones. It is never part of a program.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::storage::Stores;
use crate::storage::stores::Times;

/// A request of a client.
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path as it was sent, with percent-encoding.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Header names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Request {
    /// Returns a parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// Returns the requested range: the first byte, and the byte after the last one.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let range = self.headers.get("range")?.strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
    }
}

/// The answer of the server.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// How many bytes of the body are sent before the connection ends, if it ends early.
    pub(crate) cut_after: Option<usize>,
    /// How long the server pauses in the middle of the body.
    pub(crate) pause: Duration,
    /// Whether the connection is reset without an answer.
    pub(crate) reset: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    /// Makes an error in the XML format of S3, Google and Azure.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>M.</Message></Error>"
        );
        Self::new(status, body).with("content-type", "application/xml")
    }
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The server. It stops when this value is dropped.
pub(crate) struct FakeHttp {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl FakeHttp {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        crate::install_crypto_provider();
        let handler: Handler = Arc::new(handler);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler)));
            }
        });
        Self {
            address,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Returns the address of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns clients that use this server as S3, as Google and as Azure. They retry nothing.
    pub(crate) fn stores(&self) -> Stores {
        let endpoint = self.url();
        let google =
            r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#;
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "id"),
            ("aws_secret_access_key", "secret"),
            ("google_base_url", &endpoint),
            ("google_service_account_key", google),
            ("google_allow_http", "true"),
            ("azure_storage_account_name", "account"),
            ("azure_storage_account_key", "a2V5"),
            ("azure_storage_endpoint", &endpoint),
            ("azure_allow_http", "true"),
        ];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Stores::of_options(BTreeMap::from(options))
            .with_retry_time(Duration::ZERO)
            .with_times(Times {
                client_retries: 0,
                ..Times::default()
            })
    }
}

async fn serve(stream: TcpStream, handler: Handler) {
    // If a client disconnects, only this connection ends.
    let _ = talk(stream, &handler).await;
}

async fn talk(mut stream: TcpStream, handler: &Handler) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        let Some(request) = receive(&mut stream, &mut received).await? else {
            return Ok(());
        };
        let reply = handler(&request);
        if reply.reset {
            stream.set_zero_linger()?;
            return Ok(());
        }
        let is_head = request.method == "HEAD";
        let has_body = !is_head && !matches!(reply.status, 204 | 304);
        let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
        for (name, value) in &reply.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let has_length = reply
            .headers
            .iter()
            .any(|(name, _)| *name == "content-length");
        if !has_length && reply.status != 204 && reply.status != 304 {
            let _ = write!(head, "content-length: {}\r\n", reply.body.len());
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        if has_body {
            let count = reply.cut_after.unwrap_or(reply.body.len());
            let (first, second) = reply.body[..count].split_at(count / 2);
            stream.write_all(first).await?;
            if !reply.pause.is_zero() {
                tokio::time::sleep(reply.pause).await;
            }
            stream.write_all(second).await?;
        }
        if reply.cut_after.is_some() {
            return stream.shutdown().await;
        }
    }
}

async fn receive(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    received.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while received.len() < length {
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
    let body = Bytes::from(received.drain(..length).collect::<Vec<u8>>());
    Ok(Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    }))
}
