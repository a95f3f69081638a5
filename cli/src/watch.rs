//! `kubectl zephyr watch NAME`: follows the status of a job until the job ends. On a terminal it
//! shows a live view; otherwise it prints one line for each change. It ends with code 1 if the job
//! fails, and changes nothing in the cluster.

mod pace;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use zephyr_crds::ZephyrJobStatus;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::status::{Phase, StageStatus};

use self::pace::Pace;
use crate::cluster::{Found, Target};
use crate::status::{describe_workers, reason};
use crate::table::length;
use crate::terminal::{bytes, note, print, printable};

/// How often the job is read. The operator writes a job's status at most that often.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How many reads in a row may fail, before the program gives up: about a minute.
const MAX_FAILURES: u32 = 30;
/// Characters of the bar of a stage.
const BAR: i64 = 30;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print lines also on a terminal, and no live view.
    #[arg(long)]
    plain: bool,
}

/// Follows the job.
pub(crate) async fn watch(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    let is_live = !options.plain && std::io::stdout().is_terminal();
    let mut screen = is_live.then(Screen::default);
    let (mut pace, mut last, mut failures) = (Pace::default(), String::new(), 0);
    let mut turn = tokio::time::interval(READ_EVERY);
    loop {
        turn.tick().await;
        let job = match found.again().await {
            Ok(Some(job)) => job,
            Ok(None) => bail!("job {}/{} was deleted", found.namespace, found.name),
            Err(error) => {
                failures += 1;
                if failures >= MAX_FAILURES {
                    return Err(error);
                }
                continue;
            }
        };
        failures = 0;
        let status = job.status.clone().unwrap_or_default();
        let now = Timestamp::now();
        pace.add(now, &status);
        let line = line(&status, &pace);
        if let Some(screen) = &mut screen {
            screen.show(&view(&found, &status, &pace, now));
        } else if line != last {
            print(&format!("{now:.0} {line}"))?;
            last = line;
        }
        if status.is_final() {
            screen.iter().for_each(Screen::keep);
            return ended(&found, &job);
        }
    }
}

fn ended(found: &Found, job: &ZephyrJob) -> Result<()> {
    let status = job.status.clone().unwrap_or_default();
    let why = reason(&status).map_or(String::new(), |why| printable(&why.message));
    let (namespace, name) = (&found.namespace, &found.name);
    if status.phase == Some(Phase::Failed) {
        bail!("job {namespace}/{name} has failed: {why}");
    }
    note(&format!("job {namespace}/{name} has succeeded: {why}"));
    Ok(())
}

/// The lines of a live view, which are drawn again in place.
#[derive(Default)]
struct Screen {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Screen {
    /// Lets the last view stay on the terminal.
    fn keep(&self) {
        self.lines.iter().for_each(ProgressBar::abandon);
    }

    fn show(&mut self, lines: &[String]) {
        while self.lines.len() < lines.len() {
            // The template is correct. A line that is too long for the terminal is cut.
            let style = ProgressStyle::with_template("{wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let line = self.all.add(ProgressBar::new_spinner().with_style(style));
            self.lines.push(line);
        }
        let texts = lines
            .iter()
            .map(String::as_str)
            .chain(std::iter::repeat(""));
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(printable(text));
        }
    }
}

/// The lines of the live view. Pure.
fn view(found: &Found, status: &ZephyrJobStatus, pace: &Pace, now: Timestamp) -> Vec<String> {
    let title = format!("{}/{}", found.namespace, found.name);
    let mut lines = vec![title];
    lines.extend(details(status, pace, now));
    lines
}

fn details(status: &ZephyrJobStatus, pace: &Pace, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let phase = status
        .phase
        .map_or("not seen by the operator yet", Phase::as_str);
    let since = status.start_time.as_ref();
    let since = since.map(|since| length(now.as_second() - since.0.as_second()));
    let since = since.map_or(String::new(), |since| format!(", {since} since its start"));
    lines.push(format!("Phase       {phase}{since}"));
    if let Some(why) = reason(status) {
        lines.push(format!(
            "Why         {}: {}",
            why.reason.as_str(),
            why.message
        ));
    }
    lines.extend(stage_lines(status, pace));
    if let Some(progress) = &status.progress {
        lines.push(format!("All stages  {progress}"));
    }
    if let Some(workers) = &status.workers {
        lines.push(format!("Workers     {}", describe_workers(workers)));
    }
    if let Some(records) = &status.records {
        let rate = pace
            .rates()
            .map_or(String::new(), |(of_records, of_bytes)| {
                format!(" ({of_records} records/s, {}/s)", bytes(of_bytes))
            });
        let read = bytes(records.bytes_in.unsigned_abs());
        lines.push(format!(
            "Records     {} read, {read}{rate}, {} written",
            records.r#in, records.out
        ));
    }
    if let Some(generation) = status.generation.filter(|number| *number > 1) {
        lines.push(format!("Generation  {generation}"));
    }
    lines
}

/// One line for each stage, with a bar. The estimate is that of the stage that runs.
fn stage_lines(status: &ZephyrJobStatus, pace: &Pace) -> Vec<String> {
    let stages = if status.stages.is_empty() {
        status.stage.as_slice()
    } else {
        &status.stages
    };
    let line = |stage: &StageStatus| {
        let done = if stage.total == 0 {
            BAR
        } else {
            BAR * stage.done / stage.total
        };
        let bar: String = (0..BAR)
            .map(|at| if at < done { '█' } else { '░' })
            .collect();
        let is_current = (status.stage.as_ref()).is_some_and(|current| current.name == stage.name);
        let rest = pace.stage_rest().filter(|_| is_current);
        let rest = rest.map_or(String::new(), |rest| {
            format!(", the stage ends in about {}", length(rest))
        });
        format!(
            "Stage       {} {bar} {}, {} run{rest}",
            stage.name, stage.summary, stage.running
        )
    };
    stages.iter().map(line).collect()
}

/// The stages that are shown in one line: the current one, or all if there are several.
fn stages_in_a_line(status: &ZephyrJobStatus) -> String {
    let stages = if status.stages.len() > 1 {
        &status.stages
    } else {
        status.stage.as_slice()
    };
    let stage = |stage: &StageStatus| format!("{} {}", stage.name, stage.summary);
    stages.iter().map(stage).collect::<Vec<_>>().join(", ")
}

/// The status as one line. It contains no times, so an equal line means that nothing has changed.
/// Pure.
fn line(status: &ZephyrJobStatus, pace: &Pace) -> String {
    let mut parts = vec![status.phase.map_or("NotSeen", Phase::as_str).to_owned()];
    parts.extend(Some(stages_in_a_line(status)).filter(|stages| !stages.is_empty()));
    parts.extend(status.progress.clone());
    let workers = status.workers.as_ref();
    parts.extend(workers.map(|workers| {
        format!(
            "workers {}, {} disruptions",
            workers.summary, workers.disruptions
        )
    }));
    if let Some((records, _)) = pace.rates().filter(|_| !status.is_final()) {
        parts.push(format!("{records} records/s"));
    }
    let why = reason(status).filter(|_| status.stage.is_none() || status.is_final());
    parts.extend(why.map(|why| format!("{}: {}", why.reason.as_str(), why.message)));
    printable(&parts.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(done: i64, records: i64) -> ZephyrJobStatus {
        serde_json::from_value(json!({
            "phase": "Running", "progress": "40%", "startTime": "2026-01-01T00:00:00Z",
            "stage": {"name": "1/2 map", "done": done, "total": 10, "running": 2, "failed": 0, "summary": format!("{done}/10")},
            "records": {"in": records, "out": 0, "bytesIn": 10 * records, "bytesOut": 0},
        }))
        .expect("a status")
    }

    #[test]
    fn the_view_has_a_bar_a_rate_and_an_estimate() {
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).expect("a time");
        let mut pace = Pace::default();
        pace.add(at(0), &status(2, 100));
        pace.add(at(10), &status(4, 1_100));
        let lines = details(&status(4, 1_100), &pace, at(10));
        assert_eq!(
            lines,
            [
                "Phase       Running, 10s since its start",
                "Stage       1/2 map ████████████░░░░░░░░░░░░░░░░░░ 4/10, 2 run, the stage ends in about 30s",
                "All stages  40%",
                "Records     1100 read, 11.0 kB (100 records/s, 1.0 kB/s), 0 written",
            ]
        );
        let plain = line(&status(4, 1_100), &pace);
        assert_eq!(plain, "Running; 1/2 map 4/10; 40%; 100 records/s");
    }

    #[test]
    fn each_stage_of_a_job_is_shown() {
        let stage = |name: &str, done, running| StageStatus::new(name, done, 10, running, 0);
        let both = ZephyrJobStatus {
            stages: vec![stage("1/2 map", 10, 0), stage("2/2 reduce", 5, 3)],
            stage: Some(stage("2/2 reduce", 5, 3)),
            ..ZephyrJobStatus::default()
        };
        let pace = Pace::default();
        assert_eq!(
            stage_lines(&both, &pace),
            [
                "Stage       1/2 map ██████████████████████████████ 10/10, 0 run",
                "Stage       2/2 reduce ███████████████░░░░░░░░░░░░░░░ 5/10, 3 run",
            ]
        );
        assert_eq!(
            line(&both, &pace),
            "NotSeen; 1/2 map 10/10, 2/2 reduce 5/10"
        );
    }

    #[test]
    fn a_job_that_was_not_seen_is_one_line() {
        assert_eq!(
            line(&ZephyrJobStatus::default(), &Pace::default()),
            "NotSeen"
        );
    }
}
