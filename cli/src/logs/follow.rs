//! Follows the lines of a job's pods, with one stream for each container that started. All streams
//! write into one channel with a limit. So a slow terminal slows the streams down, and the memory
//! does not grow.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::choice::{Choice, Source, choose, nothing_chosen};
use super::lines::{Line, Lines};
use super::{Style, parameters};
use crate::cluster::{Cluster, Found};
use crate::terminal::{note, print};

/// How often the pods are listed.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// The largest number of pods that are followed at once: each one has a connection to the server.
const MAX_STREAMS: usize = 200;
/// Lines that wait to be printed.
const MAX_WAITING: usize = 1_000;
/// How long streams may take to end after the job has ended.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// How many listings in a row may fail, before the program gives up. That takes about a minute.
const MAX_FAILURES: u32 = 30;
/// How many streams of one container may fail in a row.
const MAX_STREAM_FAILURES: u32 = 5;

/// One run of a container: the uid of its pod, and how often it had restarted before.
type Run = (String, i32);

/// What is sent to the printer: a prefix, and a line.
type Sent = (String, Line);

/// The streams of one run, one after another.
#[derive(Default)]
struct Stream {
    task: Option<JoinHandle<Ended>>,
    /// The time of the last line when a stream ended.
    last: Option<Timestamp>,
    /// How many streams in a row have failed without a line.
    failures: u32,
}

/// How a stream ended.
#[derive(Default)]
struct Ended {
    last: Option<Timestamp>,
    error: Option<anyhow::Error>,
}

struct Follower<'a> {
    found: &'a Found,
    choice: Choice,
    style: Style,
    sender: Sender<Sent>,
    streams: BTreeMap<Run, Stream>,
    is_first: bool,
}

/// Prints the lines of the chosen pods until the job ends.
pub(super) async fn follow(found: &Found, choice: Choice, style: Style) -> Result<()> {
    let (sender, receiver) = channel(MAX_WAITING);
    let follower = Follower {
        found,
        choice,
        style,
        sender,
        streams: BTreeMap::new(),
        is_first: true,
    };
    // If either side fails, the other one is dropped.
    let printed = print_all(receiver, style.has_times);
    tokio::try_join!(follower.run(), printed)?;
    Ok(())
}

async fn print_all(mut receiver: Receiver<Sent>, has_times: bool) -> Result<()> {
    while let Some((prefix, line)) = receiver.recv().await {
        print(&format!("{prefix}{}", line.shown(has_times)))?;
    }
    Ok(())
}

impl Follower<'_> {
    async fn run(mut self) -> Result<()> {
        let mut turn = tokio::time::interval(LIST_EVERY);
        let (mut failures, mut ended_at) = (0, None);
        loop {
            turn.tick().await;
            let looked = async { Ok((self.found.again().await?, self.found.pods().await?)) };
            let (job, pods): (_, Vec<Pod>) = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    failures += 1;
                    if failures >= MAX_FAILURES {
                        return Err(error);
                    }
                    continue;
                }
            };
            failures = 0;
            let sources = choose(&pods, self.choice);
            let has_ended = job.as_ref().is_none_or(|job| {
                job.status
                    .as_ref()
                    .is_some_and(zephyr_crds::ZephyrJobStatus::is_final)
            });
            if self.is_first && sources.is_empty() {
                let sentence = nothing_chosen(&self.found.job, &pods, self.choice);
                if has_ended {
                    bail!(sentence);
                }
                note(&sentence);
            }
            self.update(&sources).await?;
            let are_open = self.streams.values().any(|stream| stream.task.is_some());
            if has_ended {
                let ended_at = *ended_at.get_or_insert_with(Instant::now);
                if !are_open || ended_at.elapsed() > END_TIMEOUT {
                    self.say_end(job.as_ref());
                    return Ok(());
                }
            }
            self.is_first = false;
        }
    }

    /// Opens and closes streams, so that there is one for each container that runs.
    async fn update(&mut self, sources: &[Source]) -> Result<()> {
        for (run, stream) in &mut self.streams {
            let Some(task) = stream.task.take_if(|task| task.is_finished()) else {
                continue;
            };
            let ended = task.await.unwrap_or_default();
            let has_lines = ended.last > stream.last;
            stream.last = ended.last.or(stream.last);
            let is_broken = ended.error.is_some();
            stream.failures = if is_broken && !has_lines {
                stream.failures + 1
            } else {
                0
            };
            let source = sources
                .iter()
                .find(|source| (&source.uid, source.restarts) == (&run.0, run.1));
            let Some(source) = source.filter(|source| is_broken || source.runs) else {
                continue;
            };
            if let Some(error) = ended
                .error
                .filter(|_| stream.failures >= MAX_STREAM_FAILURES)
            {
                note(&format!(
                    "{}{error:#}; its lines are no longer followed",
                    source.prefix
                ));
                continue;
            }
            let mut parameters = parameters(Style {
                tail: None,
                ..self.style
            });
            parameters.follow = true;
            parameters.since_time = stream.last;
            let (cluster, sender) = (self.found.cluster.clone(), self.sender.clone());
            let task = read(cluster, source.clone(), parameters, stream.last, sender);
            stream.task = Some(tokio::spawn(task));
        }
        // Runs of pods that no longer exist are forgotten when their lines have ended.
        self.streams.retain(|(uid, _), stream| {
            stream.task.is_some() || sources.iter().any(|source| source.uid == *uid)
        });
        for source in sources.iter().filter(|source| source.waits.is_none()) {
            self.begin(source)?;
        }
        Ok(())
    }

    /// Begins the stream of a container that has none.
    fn begin(&mut self, source: &Source) -> Result<()> {
        let run = (source.uid.clone(), source.restarts);
        if self.streams.contains_key(&run) {
            return Ok(());
        }
        let open = self.streams.values().filter(|stream| stream.task.is_some());
        if open.count() >= MAX_STREAMS {
            bail!(
                "more than {MAX_STREAMS} pods cannot be followed at once; allowed are --coordinator and --worker N"
            );
        }
        let tail = self.style.tail.filter(|_| self.is_first);
        let mut parameters = parameters(Style { tail, ..self.style });
        parameters.follow = true;
        let (cluster, sender) = (self.found.cluster.clone(), self.sender.clone());
        let task = tokio::spawn(read(cluster, source.clone(), parameters, None, sender));
        let stream = Stream {
            task: Some(task),
            ..Stream::default()
        };
        self.streams.insert(run, stream);
        Ok(())
    }

    fn say_end(&self, job: Option<&zephyr_crds::job::ZephyrJob>) {
        let (namespace, name) = (&self.found.namespace, &self.found.name);
        let phase = job.and_then(|job| job.status.as_ref()?.phase);
        let how = phase.map_or("was deleted".to_owned(), |phase| {
            format!("has ended: {}", phase.as_str())
        });
        note(&format!("job {namespace}/{name} {how}"));
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        let tasks = self
            .streams
            .values()
            .filter_map(|stream| stream.task.as_ref());
        tasks.for_each(JoinHandle::abort);
    }
}

/// Sends the lines of one run.
async fn read(
    cluster: Cluster,
    source: Source,
    parameters: LogParams,
    after: Option<Timestamp>,
    sender: Sender<Sent>,
) -> Ended {
    let mut last = after;
    let sent = send_lines(&cluster, &source, &parameters, &mut last, &sender);
    let error = sent.await.err();
    Ended { last, error }
}

async fn send_lines(
    cluster: &Cluster,
    source: &Source,
    parameters: &LogParams,
    last: &mut Option<Timestamp>,
    sender: &Sender<Sent>,
) -> Result<()> {
    let (api, after) = (cluster.api::<Pod>(), *last);
    let what = format!("read the lines of pod {}", source.pod);
    let stream = api.log_stream(&source.pod, parameters);
    let mut lines = Lines::new(cluster.ask(&what, stream).await?);
    while let Some(line) = lines.next().await? {
        // After a broken connection the server repeats the lines of the last second.
        if line.time.is_some() && line.time <= after {
            continue;
        }
        *last = line.time.or(*last);
        if sender.send((source.prefix.clone(), line)).await.is_err() {
            break;
        }
    }
    Ok(())
}
