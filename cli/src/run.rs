//! `kubectl zephyr run -f job.yaml`: runs the whole job on this machine, with the same coordinator
//! and the same workers, each task in its own child process. It uses no cluster.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use zephyr_crds::frozen::{FROZEN_JOB_VERSION, FrozenJob};
use zephyr_crds::job::{MAX_SLOTS, ZephyrJob};
use zephyr_crds::validate::{Place, validate};
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::plan::counted;
use zephyr_proto::run::{Counter, Phase, Skipped, Snapshot};
use zephyr_worker::local::{LocalOptions, run_local};
use zephyr_worker::worker::task_slots;

use crate::manifest;
use crate::sample::Sample;
use crate::shards;
use crate::terminal::{bytes, counters_text, note, print, printable, sentence, skipped_text};

/// The share of the machine's memory that the task processes may use; the rest is for this process
/// and the system.
const MEMORY_SHARE: f64 = 0.6;

/// The least time between two lines of a run without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// How often such a run checks whether a line is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The job's manifest; `-` reads standard input.
    #[arg(short, long)]
    filename: String,
    /// The name of the job (metadata.name), if the manifest has several jobs.
    #[arg(long)]
    name: Option<String>,
    /// Where the ledger and intermediate data are stored: a uri or a folder. Default: the
    /// manifest's own uri if it is `file://`, otherwise a temporary folder that is removed at the
    /// end.
    #[arg(long)]
    storage: Option<String>,
    /// Resume the run with this uid from its ledger, instead of starting a new one. Needs the same
    /// storage.
    #[arg(long, requires = "storage")]
    resume: Option<String>,
    /// Number of workers. All of them run on this machine, each with processes of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Tasks that each worker runs at a time; 0 = the machine's cores divided among the workers.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_SLOTS)))]
    slots: u32,
    /// Try the job on the first N records of its source and print the results on standard output.
    /// Writes nothing to the job's sink or storage. Files are neither split nor combined.
    #[arg(long, value_name = "N", conflicts_with_all = ["storage", "resume"], value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print no progress on standard error, and no lines about what the run waits for.
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the job to its end.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut job = manifest::read(&options.filename, options.name.as_deref(), Place::Local)?;
    refuse_to_pause(&job)?;
    if let Some(records) = options.limit {
        return try_out(job, records, &options).await;
    }
    let temporary = choose_storage(&mut job, options.storage.as_deref())?;
    storage_is_apart(&options.filename, &job, options.storage.is_some())?;
    let frozen = freeze(job, options.resume.clone())?;
    if !options.quiet && temporary.is_none() {
        note(&format!(
            "run {}: ledger under {}",
            frozen.uid, frozen.spec.storage.uri
        ));
    }
    let (result, latest) = to_the_end(frozen, &options).await?;
    drop(temporary);
    match result {
        JobResult::Succeeded {
            files,
            rows,
            bytes: size,
            manifest,
        } => {
            print(&format!(
                "{}, {}, {}: {}",
                counted(files, "file"),
                counted(rows, "record"),
                bytes(size),
                printable(&manifest)
            ))?;
            for line in skipped_lines(&latest)
                .into_iter()
                .chain(counters_line(&latest))
            {
                print(&line)?;
            }
            Ok(())
        }
        JobResult::Failed { reason, message } => bail!("{reason}: {}", printable(&message)),
    }
}

/// Fails if the spec suspends or cancels the job, because a cluster would not run it either. Also
/// fails if the job continues another one.
fn refuse_to_pause(job: &ZephyrJob) -> Result<()> {
    if job.spec.suspend {
        bail!("spec.suspend: is true, so the job would not run; remove it to run the job here");
    }
    if job.spec.cancel.is_some() {
        bail!("spec.cancel: is set, so the job would not run; remove it to run the job here");
    }
    if job.spec.restore_from.is_some() {
        bail!(
            "spec.restoreFrom: is set, and only a job of a cluster can continue another one; remove it to run the job here from its beginning"
        );
    }
    Ok(())
}

/// Runs the job on its first records and prints the results.
async fn try_out(mut job: ZephyrJob, records: u64, options: &Options) -> Result<()> {
    let sample = Sample::take(&mut job, records).await?;
    let frozen = freeze(job, None)?;
    match to_the_end(frozen, options).await {
        Ok((JobResult::Succeeded { .. }, latest)) => {
            for line in sample
                .skipped_line()
                .into_iter()
                .chain(skipped_lines(&latest))
                .chain(counters_line(&latest))
            {
                note(&sample.with_original_names(&line));
            }
            sample.write_output(&mut std::io::stdout().lock())
        }
        Ok((JobResult::Failed { reason, message }, _)) => {
            let message = sample.with_original_names(&message);
            bail!("{reason}: {}", printable(&message))
        }
        Err(error) => bail!(sample.with_original_names(&sentence(&error))),
    }
}

/// Runs a job to its result, with progress on standard error; returns the last report too.
async fn to_the_end(frozen: FrozenJob, options: &Options) -> Result<(JobResult, Snapshot)> {
    let progress = Progress::start(options.quiet);
    // A sample has no split or combined files, so there is nothing to say about them.
    let is_quiet = options.quiet || options.limit.is_some();
    let cores = std::thread::available_parallelism()
        .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let slots = task_slots(options.slots, cores / options.workers);
    let local = LocalOptions {
        workers: options.workers,
        slots,
        memory_bytes: task_memory(),
        child_executable: None,
        resumes: options.resume.is_some(),
        progress: progress.callback(),
        planned: Arc::new(move |plan| {
            if let Some(sentence) = shards::sentence(&plan.parts).filter(|_| !is_quiet) {
                note(&sentence);
            }
        }),
    };
    let result = tokio::select! {
        result = run_local(frozen, local) => result?,
        signal = interrupted() => bail!("interrupted by {}", signal?),
    };
    progress.finish();
    Ok((result, progress.latest()))
}

/// Waits for a signal that asks the program to end; returns its name. The run then removes its
/// temporary data.
async fn interrupted() -> Result<&'static str> {
    let listen = |kind| signal(kind).context("listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}

/// A line for each place that skipped bad records.
fn skipped_lines(snapshot: &Snapshot) -> Vec<String> {
    let line = |skipped: &Skipped| {
        let text = skipped_text(&skipped.place, skipped.records, &skipped.first);
        format!("skipped: {text}")
    };
    snapshot.skipped.iter().map(line).collect()
}

/// A line with what the commands have counted; `None` if they have counted nothing.
fn counters_line(snapshot: &Snapshot) -> Option<String> {
    let counter = |counter: &Counter| (counter.name.clone(), counter.count);
    let counters: Vec<_> = snapshot.counters.iter().map(counter).collect();
    (!counters.is_empty()).then(|| format!("counters: {}", counters_text(&counters)))
}

/// Sets where the run keeps its ledger; returns the temporary folder, which must exist as long as
/// the run.
fn choose_storage(job: &mut ZephyrJob, storage: Option<&str>) -> Result<Option<tempfile::TempDir>> {
    if let Some(storage) = storage {
        job.spec.storage.uri = if storage.contains("://") {
            storage.to_owned()
        } else {
            folder_uri(Path::new(storage))?
        };
        return Ok(None);
    }
    if job.spec.storage.uri.starts_with("file://") {
        return Ok(None);
    }
    let folder = tempfile::Builder::new()
        .prefix("zephyr-run-")
        .tempdir()
        .context("make a temporary folder")?;
    job.spec.storage.uri = folder_uri(folder.path())?;
    Ok(Some(folder))
}

/// Checks the storage that was chosen here, by the same rules as the storage of a manifest.
fn storage_is_apart(filename: &str, job: &ZephyrJob, is_given: bool) -> Result<()> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let errors = validate(&job.spec, name, Place::Local);
    if errors.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = errors.iter().map(|error| format!("  {error}")).collect();
    let chosen = if is_given {
        "with the folder of --storage as spec.storage.uri"
    } else {
        "with a temporary folder as spec.storage.uri, which --storage or TMPDIR can put elsewhere"
    };
    bail!(
        "{filename}: the job is refused {chosen}\n{}",
        lines.join("\n")
    );
}

fn folder_uri(folder: &Path) -> Result<String> {
    let absolute =
        std::path::absolute(folder).with_context(|| format!("--storage {}", folder.display()))?;
    let text = absolute
        .to_str()
        .with_context(|| format!("--storage {}: not UTF-8", absolute.display()))?;
    Ok(format!("file://{text}"))
}

/// The frozen job for a run on this machine, with this uid or with a new one.
pub(crate) fn freeze(job: ZephyrJob, resume: Option<String>) -> Result<FrozenJob> {
    let name = job
        .metadata
        .name
        .context("metadata.name: missing; give the job a name")?;
    Ok(FrozenJob {
        version: FROZEN_JOB_VERSION,
        namespace: "local".to_owned(),
        name,
        uid: resume.unwrap_or_else(new_uid),
        generation: 1,
        spec: job.spec,
        storage_options: zephyr_worker::local::storage_options_from_environment(),
        coordinator_address: "http://127.0.0.1".to_owned(),
        restart: None,
    })
}

/// A uid that no other run has.
fn new_uid() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Bytes of memory that all task processes together may use; 0 if the machine does not report its
/// memory.
fn task_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = available
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "it is an estimate"
    )]
    let share = (kilobytes as f64 * 1024.0 * MEMORY_SHARE) as u64;
    share
}

/// Output on standard error during the run. On a terminal this is a bar. Otherwise it consists of
/// lines that say what the run waits for.
struct Progress {
    bar: ProgressBar,
    latest: Arc<Mutex<Snapshot>>,
    /// The tasks that print lines; they end when this value is dropped.
    _lines: JoinSet<()>,
}

impl Progress {
    fn start(quiet: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if quiet || !is_terminal {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let style =
            ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} tasks  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let latest: Arc<Mutex<Snapshot>> = Arc::default();
        let mut lines = JoinSet::new();
        if !quiet && !is_terminal {
            lines.spawn(say_what_it_waits_for(Arc::clone(&latest)));
        }
        Self {
            bar,
            latest,
            _lines: lines,
        }
    }

    fn callback(&self) -> Arc<dyn Fn(&Snapshot) + Send + Sync> {
        let (bar, latest) = (self.bar.clone(), Arc::clone(&self.latest));
        Arc::new(move |snapshot| {
            bar.set_length(snapshot.tasks_total);
            bar.set_position(snapshot.tasks_done);
            bar.set_message(message(snapshot));
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.clone();
        })
    }

    fn latest(&self) -> Snapshot {
        let latest = self.latest.lock();
        latest.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

async fn say_what_it_waits_for(latest: Arc<Mutex<Snapshot>>) {
    let mut lines = WaitingLines::new(Instant::now());
    let mut tick = interval(LOOK_INTERVAL);
    loop {
        tick.tick().await;
        let snapshot = latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(line) = lines.next(&snapshot, Instant::now()) {
            note(&line);
        }
    }
}

/// The lines of a run without a terminal. They say what the run waits for, so that it never waits
/// in silence, but they are rare enough not to fill a log.
struct WaitingLines {
    began: Instant,
    last: Option<Instant>,
}

impl WaitingLines {
    fn new(began: Instant) -> Self {
        Self { began, last: None }
    }

    /// The line that is due now, if there is one. A store that does not answer is mentioned at
    /// once; everything else only after a while.
    fn next(&mut self, snapshot: &Snapshot, now: Instant) -> Option<String> {
        if snapshot.message.is_empty() || snapshot.phase() == Phase::Ended {
            return None;
        }
        let is_first_outage = self.last.is_none() && snapshot.phase() == Phase::StorageUnavailable;
        let is_spaced = now.duration_since(self.last.unwrap_or(self.began)) >= LINE_INTERVAL;
        if !is_first_outage && !is_spaced {
            return None;
        }
        self.last = Some(now);
        Some(format!("waiting: {}", printable(&snapshot.message)))
    }
}

/// The text after the bar.
fn message(snapshot: &Snapshot) -> String {
    let stages = snapshot
        .planned
        .as_ref()
        .map_or(0, |planned| planned.stages);
    let stage = snapshot
        .stage
        .as_ref()
        .map(|stage| format!("{}/{stages} {}", stage.index, stage.name))
        .unwrap_or_default();
    let read = snapshot
        .records
        .as_ref()
        .map(|records| format!(", {} records read", records.records_in))
        .unwrap_or_default();
    if snapshot.phase() == Phase::StorageUnavailable || stage.is_empty() {
        return printable(&snapshot.message);
    }
    format!("{stage}{read}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest that reads all files below a folder, and its storage.
    fn job(folder: &Path) -> ZephyrJob {
        let uri = folder_uri(folder).expect("an absolute path");
        let sink = format!("{uri}/out/{{shard}}.jsonl");
        let text = manifest::text_of(&format!("{uri}/in/**"), "[]", &sink);
        let path = folder.join("job.yaml");
        std::fs::write(&path, text).expect("a file is written");
        manifest::read(path.to_str().expect("UTF-8"), None, Place::Local).expect("it is good")
    }

    #[test]
    fn a_run_without_a_terminal_says_what_it_waits_for_every_30_s() {
        let began = Instant::now();
        let mut lines = WaitingLines::new(began);
        let mut at = |seconds: u64, phase: Phase, message: &str| {
            let snapshot = Snapshot {
                phase: phase.into(),
                message: message.to_owned(),
                ..Snapshot::default()
            };
            lines.next(&snapshot, began + Duration::from_secs(seconds))
        };
        let away = Phase::StorageUnavailable;
        assert_eq!(at(0, Phase::Planning, "reading"), None);
        assert_eq!(at(1, away, "denied").as_deref(), Some("waiting: denied"));
        assert_eq!(at(2, away, "other"), None);
        assert_eq!(at(30, away, "denied"), None);
        assert_eq!(at(31, away, "denied").as_deref(), Some("waiting: denied"));
        assert_eq!(at(60, Phase::Running, ""), None);
        assert_eq!(
            at(61, Phase::Running, "full").as_deref(),
            Some("waiting: full")
        );
        assert_eq!(at(99, Phase::Ended, "the end"), None);
    }

    #[test]
    fn the_storage_chosen_for_a_local_run_is_checked_like_that_of_the_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for (storage, is_refused) in [("in/scratch", true), ("in", true), ("scratch", false)] {
            let mut job = job(root);
            let storage = root.join(storage);
            let storage = storage.to_str();
            assert!(
                choose_storage(&mut job, storage)
                    .expect("a storage")
                    .is_none()
            );
            let message = storage_is_apart("job.yaml", &job, true)
                .err()
                .map(|error| error.to_string());
            assert_eq!(message.is_some(), is_refused, "{message:?}");
            if let Some(message) = message {
                assert!(message.starts_with("job.yaml: the job is refused with the folder of --storage as spec.storage.uri\n  spec."), "{message}");
                assert!(message.contains("storage prefix"), "{message}");
            }
        }
    }

    #[test]
    fn a_temporary_folder_below_an_input_pattern_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut job = job(folder.path());
        let files = job.spec.pipeline.source.files.as_mut().expect("files");
        files.paths = vec![folder_uri(&std::env::temp_dir()).expect("a path") + "/**"];
        "s3://out/{shard}.jsonl".clone_into(&mut job.spec.pipeline.sink.files.path);
        let temporary = choose_storage(&mut job, None).expect("a folder");
        assert!(temporary.is_some());
        let message = storage_is_apart("job.yaml", &job, false)
            .expect_err("it is refused")
            .to_string();
        assert!(
            message.contains(
                "which --storage or TMPDIR can put elsewhere\n  spec.storage.uri: overlaps"
            ),
            "{message}"
        );
    }
}
