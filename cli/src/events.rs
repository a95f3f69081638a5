//! `kubectl zephyr events NAME`: prints the events of a job and of its objects, in the order of
//! time. Repeated events are one line. Changes nothing in the cluster.

pub(crate) mod fold;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::json;
use zephyr_crds::job::ZephyrJob;

use self::fold::{Folded, fold, is_of_job, seen_at};
use crate::cluster::{Found, Target};
use crate::output::Data;
use crate::table::{age, table};
use crate::terminal::{note, print, printable};

/// The largest number of events of a namespace that are read, because all of them are in memory.
const MAX_EVENTS: usize = 20_000;

/// How often `--watch` asks for new events.
const ASK_EVERY: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print new events as they come, until the job ends.
    #[arg(short, long)]
    watch: bool,
    /// The format of the result; default: a table.
    #[arg(short, long, conflicts_with = "watch")]
    output: Option<Data>,
}

/// Prints the events.
pub(crate) async fn events(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    if options.watch {
        return watch(&found).await;
    }
    let folded = fold(of_job(&found).await?);
    if let Some(format) = options.output {
        let items: Vec<_> = folded.iter().map(Folded::to_json).collect();
        print(&format.text(&json!({ "items": items })))?;
    } else if folded.is_empty() {
        note(&format!(
            "job {}/{}: no events; a cluster keeps them for an hour, if nothing else is set",
            found.namespace, found.name
        ));
    } else {
        print(&rows(&folded, Timestamp::now()))?;
    }
    Ok(())
}

/// The events of the job and of its objects, the oldest first.
pub(crate) async fn of_job(found: &Found) -> Result<Vec<Event>> {
    let api = found.cluster.api::<Event>();
    let what = format!("list the events of namespace {}", found.namespace);
    let events = found
        .cluster
        .list(&what, &api, ListParams::default(), MAX_EVENTS);
    let events = events.await?;
    if events.len() == MAX_EVENTS {
        note(&format!(
            "only {MAX_EVENTS} events of the namespace were read; others may be missing here"
        ));
    }
    let mut events: Vec<_> = events
        .into_iter()
        .filter(|event| is_of_job(event, &found.job))
        .collect();
    events.sort_by_key(seen_at);
    Ok(events)
}

async fn watch(found: &Found) -> Result<()> {
    let mut shown = BTreeSet::new();
    let mut turn = tokio::time::interval(ASK_EVERY);
    loop {
        turn.tick().await;
        // The job is read before its events, so that the events of its end are not missed.
        let job = found.again().await?;
        let events = of_job(found).await?;
        // Only what still exists is remembered, so that the memory does not grow.
        let mut now = BTreeSet::new();
        for event in events {
            let id = (
                event.metadata.uid.clone(),
                event.metadata.resource_version.clone(),
            );
            if !shown.contains(&id) {
                print(&line(&event))?;
            }
            now.insert(id);
        }
        shown = now;
        if job.is_none_or(|job| has_ended(&job)) {
            return Ok(());
        }
    }
}

fn has_ended(job: &ZephyrJob) -> bool {
    job.status
        .as_ref()
        .is_some_and(zephyr_crds::ZephyrJobStatus::is_final)
}

/// An event as one line.
fn line(event: &Event) -> String {
    let time = seen_at(event).map(|time| format!("{time:.0}"));
    let object = &event.involved_object;
    let count = event.count.filter(|count| *count > 1);
    let text = format!(
        "{} {} {} {}/{}: {}{}",
        time.unwrap_or_default(),
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        object.kind.as_deref().unwrap_or_default(),
        object.name.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default().trim_end(),
        count
            .map(|count| format!(" (x{count})"))
            .unwrap_or_default(),
    );
    printable(&text)
}

/// The events as a table. Pure.
fn rows(folded: &[Folded], now: Timestamp) -> String {
    let rows = folded.iter().map(|one| {
        let seen = |time: Option<Timestamp>| time.map(|time| age(time, now)).unwrap_or_default();
        let last = if one.count > 1 {
            format!(
                "{} (x{} over {})",
                seen(one.last),
                one.count,
                seen(one.first)
            )
        } else {
            seen(one.last)
        };
        let object = match one.objects {
            1 => one.object.clone(),
            more => format!("{} and {} more", one.object, more - 1),
        };
        vec![
            last,
            one.kind.clone(),
            one.reason.clone(),
            object,
            one.message.clone(),
        ]
    });
    table(&["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_one_row_with_their_count() {
        let at = |time: &str| Some(time.parse().expect("a time"));
        let folded = [Folded {
            first: at("2026-01-01T00:00:00Z"),
            last: at("2026-01-01T00:04:00Z"),
            count: 12,
            kind: "Warning".to_owned(),
            reason: "FailedScheduling".to_owned(),
            object: "Pod/count-workers-g1-0".to_owned(),
            objects: 3,
            message: "no room".to_owned(),
        }];
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        let text = rows(&folded, now);
        let expected = "60s (x12 over 5m)   Warning   FailedScheduling   Pod/count-workers-g1-0 and 2 more   no room\n";
        assert!(text.ends_with(expected), "{text}");
    }
}
