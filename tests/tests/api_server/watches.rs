//! Opens watches of both servers, which stay open while requests are sent. Compares their events
//! and the order of the events, but not the times.

use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt, Stream, StreamExt, TryStreamExt};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zephyr_tests::cluster::TEST_TIMEOUT;

use super::both::{Ask, Both, read};
use super::memory::Strictness;
use super::simulation::api::{ApiServer, watch};

/// Up to which event a watch is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Up to an event for an object of this name.
    Object(&'static str),
    /// Until all objects that existed when the watch began were sent.
    AllIsKnown,
    /// Until the watch ends by itself.
    End,
}

/// One watch of both servers.
pub(crate) struct Watch {
    ask: Ask,
    until: Until,
    real: JoinHandle<Result<Vec<Value>>>,
    ours: JoinHandle<Result<Vec<Value>>>,
}

impl Watch {
    /// Opens the watch of `ask` on both servers.
    pub(crate) async fn open(both: &Both, ask: Ask, until: Until) -> Result<Self> {
        let real = lines_of(&both.client, &ask, both).await?;
        let ours = our_lines(&both.server, &ask, both)?;
        Ok(Self {
            ask,
            until,
            real: tokio::spawn(collect(real, until)),
            ours: tokio::spawn(collect(ours, until)),
        })
    }

    /// Waits for the events, and compares them.
    pub(crate) async fn compare(self, both: &mut Both) -> Result<()> {
        let what = self.ask.to_string();
        let real = self.real.await?.with_context(|| format!("real: {what}"))?;
        let ours = self.ours.await?.with_context(|| format!("ours: {what}"))?;
        let how = Strictness::new(self.until != Until::End);
        let (real, ours) = (json!({"events": real}), json!({"events": ours}));
        let different = both.pairs.differences(&real, &ours, how);
        both.note(&format!("{what} ({:?})", self.until), &different);
        Ok(())
    }
}

async fn lines_of(
    client: &Client,
    ask: &Ask,
    both: &Both,
) -> Result<impl Stream<Item = Result<String>> + Send + use<>> {
    let body = client.request_stream(ask.request(&both.real)?).await?;
    Ok(body.lines().map_err(anyhow::Error::from))
}

fn our_lines(
    server: &ApiServer,
    ask: &Ask,
    both: &Both,
) -> Result<impl Stream<Item = Result<String>> + Send + use<>> {
    let request = read(ask.request(&both.ours)?)?;
    let chunks = match watch::open(server, &request) {
        Ok(chunks) => chunks,
        Err(answer) => bail!("{} {}", answer.code, answer.body),
    };
    Ok(chunks.flat_map(|chunk| {
        let text = String::from_utf8_lossy(&chunk).into_owned();
        let lines: Vec<_> = text.lines().map(|line| Ok(line.to_owned())).collect();
        futures::stream::iter(lines)
    }))
}

/// Collects the events of a watch. Bookmarks may come at any time, so they count only if nothing
/// else is expected.
async fn collect(lines: impl Stream<Item = Result<String>>, until: Until) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    let mut lines = std::pin::pin!(lines);
    loop {
        let next = timeout(TEST_TIMEOUT, lines.next()).await;
        let Some(line) = next.with_context(|| format!("not seen: {until:?}"))? else {
            break;
        };
        let event: Value = serde_json::from_str(&line?)?;
        let is_mark = event["type"] == "BOOKMARK";
        let metadata = &event["object"]["metadata"];
        let name = metadata["name"].as_str().map(str::to_owned);
        let is_all = metadata["annotations"]["k8s.io/initial-events-end"] == "true";
        if !is_mark || until == Until::End {
            events.push(event);
        }
        match until {
            Until::Object(last) if name.as_deref() == Some(last) => return Ok(events),
            Until::AllIsKnown if is_mark && is_all => return Ok(events),
            Until::Object(_) | Until::AllIsKnown | Until::End => {}
        }
    }
    if until == Until::End {
        Ok(events)
    } else {
        bail!("the watch ended before {until:?}: {events:?}")
    }
}
