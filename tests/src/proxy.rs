//! A proxy to the object store that can fail on request. It passes everything on unchanged, or
//! answers every request like an overloaded store, or never answers a part of an upload. It parses
//! only as much HTTP as it needs to find the end of a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, sink};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// S3's answer to too many requests.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// The text by which the first line of a request for a part of an upload is recognized.
const PART: &[u8] = b"partNumber=";

/// How many bytes are passed on at a time at most.
const PIECE_BYTES: usize = 64 << 10;

/// The proxy. It stops when this value is dropped.
pub struct Proxy {
    /// Its port, on all interfaces of this machine.
    pub port: u16,
    is_overloaded: watch::Sender<bool>,
    parts_to_drop: Arc<AtomicU32>,
    _connections: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy to `target`, an address of the form `http://host:port`.
    pub async fn start(target: &str) -> Result<Self> {
        let target = target
            .strip_prefix("http://")
            .context("the object store has no plain HTTP address")?;
        let target = tokio::net::lookup_host(target)
            .await?
            .next()
            .with_context(|| format!("{target} has no address"))?;
        let listener = TcpListener::bind("0.0.0.0:0").await?;
        let port = listener.local_addr()?.port();
        let (is_overloaded, watched) = watch::channel(false);
        let parts_to_drop = Arc::default();
        let mut connections = JoinSet::new();
        let way = Way {
            target,
            is_overloaded: watched,
            parts_to_drop: Arc::clone(&parts_to_drop),
        };
        connections.spawn(accept(listener, way));
        Ok(Self {
            port,
            is_overloaded,
            parts_to_drop,
            _connections: connections,
        })
    }

    /// Answers every request from now on with 503 `SlowDown`. Closes the connections of running
    /// requests.
    pub fn overload(&self) {
        self.is_overloaded.send_replace(true);
    }

    /// Passes everything on from now on.
    pub fn recover(&self) {
        self.is_overloaded.send_replace(false);
    }

    /// Accepts the next `count` parts of uploads, but never answers them. Their connections stay
    /// open.
    pub fn drop_parts(&self, count: u32) {
        self.parts_to_drop.store(count, Ordering::SeqCst);
    }

    /// Returns how many parts will still be dropped.
    pub fn parts_to_drop(&self) -> u32 {
        self.parts_to_drop.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Way {
    target: SocketAddr,
    is_overloaded: watch::Receiver<bool>,
    parts_to_drop: Arc<AtomicU32>,
}

async fn accept(listener: TcpListener, way: Way) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let mut way = way.clone();
        connections.spawn(async move {
            let outcome = if *way.is_overloaded.borrow_and_update() {
                refuse(client).await
            } else {
                tokio::select! {
                    outcome = pass(client, way.target, &way.parts_to_drop) => outcome,
                    _ = way.is_overloaded.changed() => Ok(()),
                }
            };
            // An error needs no report: the other side notices that the connection was closed.
            drop(outcome);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(
    mut client: TcpStream,
    target: SocketAddr,
    parts_to_drop: &AtomicU32,
) -> std::io::Result<()> {
    let mut store = TcpStream::connect(target).await?;
    let (asking, mut answered) = client.split();
    let (mut answering, asked) = store.split();
    tokio::select! {
        outcome = ask(asking, asked, parts_to_drop) => outcome,
        outcome = copy(&mut answering, &mut answered) => outcome.map(drop),
    }
}

/// Passes on the client's bytes, except a part that must be dropped and everything after it.
async fn ask(
    mut client: ReadHalf<'_>,
    mut store: WriteHalf<'_>,
    parts_to_drop: &AtomicU32,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = client.read(&mut piece).await?;
        let Some(said) = piece.get(..length).filter(|said| !said.is_empty()) else {
            return Ok(());
        };
        let is_part = said.windows(PART.len()).any(|window| window == PART);
        let one_less = |left: u32| left.checked_sub(1);
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        if is_part && parts_to_drop.fetch_update(set, get, one_less).is_ok() {
            copy(&mut client, &mut sink()).await?;
            return Ok(());
        }
        store.write_all(said).await?;
    }
}

/// Reads one request to its end and answers it.
async fn refuse(mut client: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(&mut client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    copy(&mut reader.take(length), &mut sink()).await?;
    let head = format!(
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        SLOW_DOWN.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(SLOW_DOWN.as_bytes()).await?;
    client.shutdown().await
}
