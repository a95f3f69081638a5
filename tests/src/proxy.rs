//! A way to the object store that can be told to fail: everything passes through it unchanged, or nothing does and the store
//! seems to be overloaded. Knows no more of HTTP than where a request ends.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What S3 says when it is asked too much.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// The way. It ends when this is dropped.
pub struct Proxy {
    /// Where it listens, on all addresses of this machine.
    pub port: u16,
    is_overloaded: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

impl Proxy {
    /// A way to `target`, an address of this form: `http://host:port`.
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
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, target, watched));
        Ok(Self {
            port,
            is_overloaded,
            _connections: connections,
        })
    }

    /// From now on every request is answered by 503 `SlowDown`; what is under way is cut.
    pub fn overload(&self) {
        self.is_overloaded.send_replace(true);
    }

    /// From now on everything passes.
    pub fn recover(&self) {
        self.is_overloaded.send_replace(false);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, is_overloaded: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let mut watched = is_overloaded.clone();
        connections.spawn(async move {
            let outcome = if *watched.borrow_and_update() {
                refuse(client).await
            } else {
                tokio::select! {
                    outcome = pass(client, target) => outcome,
                    _ = watched.changed() => Ok(()),
                }
            };
            // Whoever is cut off is heard on the other side.
            drop(outcome);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut store = TcpStream::connect(target).await?;
    copy_bidirectional(&mut client, &mut store).await?;
    Ok(())
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
    tokio::io::copy(&mut reader.take(length), &mut tokio::io::sink()).await?;
    let head = format!(
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        SLOW_DOWN.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(SLOW_DOWN.as_bytes()).await?;
    client.shutdown().await
}
