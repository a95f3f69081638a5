//! Measures the resources of a coordinator's process ten times a minute, reports them once a
//! minute, and checks how fast they grow. Causes no load.

use std::fs;
use std::time::{Duration, Instant};

use crate::light::{Coordinator, slope, until};

/// Measurements in one minute; their median is reported and judged, because sessions come and go.
const LOOKS: usize = 10;
/// Time between two measurements.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(6);
/// Growth that may be random.
const MAX_GROWTH_PERCENT_PER_HOUR: f64 = 1.0;
/// The measured resources.
const KINDS: [&str; 3] = ["resident KiB", "descriptors", "sockets"];
/// The state `TIME_WAIT` in /proc/net/tcp.
const TIME_WAIT: &str = "06";

/// A process that is watched.
pub(crate) struct Watch {
    process: u32,
    port: u16,
    began: Instant,
    /// Resident memory before the first worker connected: the plan's tasks.
    plan_kib: f64,
    looks: Vec<[u64; 3]>,
    minutes: [Vec<(Duration, f64)>; 3],
}

impl Watch {
    /// Starts a coordinator with this number of tasks, and measures from the time when it has its
    /// plan and no worker yet.
    pub(crate) async fn begin(tasks: u32) -> (Coordinator, Self) {
        let mut coordinator = Coordinator::of(tasks);
        coordinator.start();
        until("a plan", async || {
            let snapshot = coordinator.snapshot().await;
            snapshot.is_some_and(|snapshot| snapshot.planned.is_some())
        })
        .await;
        let process = coordinator.process_id().unwrap();
        let [plan_kib, ..] = usage(process);
        let watch = Self {
            process,
            port: coordinator.grpc_port(),
            began: Instant::now(),
            plan_kib: as_float(plan_kib),
            looks: Vec::new(),
            minutes: Default::default(),
        };
        (coordinator, watch)
    }

    /// Measures; once a minute, prints the values, followed by `more`.
    pub(crate) fn look(&mut self, more: impl FnOnce() -> String) {
        self.looks.push(usage(self.process));
        if self.looks.len() < LOOKS {
            return;
        }
        let time = self.began.elapsed();
        let middle = [0, 1, 2].map(|kind| {
            let mut values: Vec<_> = self.looks.iter().map(|look| look[kind]).collect();
            values.sort_unstable();
            values[values.len() / 2]
        });
        self.looks.clear();
        for (minutes, value) in self.minutes.iter_mut().zip(middle) {
            minutes.push((time, as_float(value)));
        }
        let [kib, descriptors, sockets] = middle;
        println!(
            "soak: {:>3} min: {:.1} MiB resident, {descriptors} descriptors, {sockets} sockets and {} in TIME_WAIT; {}",
            self.minutes[0].len(),
            as_float(kib) / 1024.0,
            time_waits(self.port),
            more()
        );
    }

    /// Prints how fast each value grew in the second half; returns a sentence for each that grew
    /// too fast.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (kind, points) in KINDS.iter().zip(&self.minutes) {
            let percent = slope::percent_per_hour(points);
            let last = points.last().map_or(0.0, |(_, value)| *value);
            println!(
                "soak: {kind}: {last:.0} at the end; second half: {:+.1} an hour, {percent:+.2} %/h (at most {MAX_GROWTH_PERCENT_PER_HOUR} %/h)",
                slope::per_hour(points)
            );
            if percent > MAX_GROWTH_PERCENT_PER_HOUR {
                wrong.push(format!("{kind} grow by {percent:.2} % an hour"));
            }
        }
        let beyond: Vec<_> = self.minutes[0]
            .iter()
            .map(|(time, kib)| (*time, kib - self.plan_kib))
            .collect();
        println!(
            "soak: the plan took {:.0} KiB before the first worker came; the rest grew by {:+.2} %/h (not judged)",
            self.plan_kib,
            slope::percent_per_hour(&beyond)
        );
        wrong
    }
}

fn as_float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// The values of a process, in the order of `KINDS`.
fn usage(process: u32) -> [u64; 3] {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().split_whitespace().next().unwrap();
    let (mut descriptors, mut sockets) = (0, 0);
    for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        descriptors += 1;
        // A file that was closed in the meantime cannot be read any more.
        if let Ok(target) = fs::read_link(entry.unwrap().path())
            && target.to_string_lossy().starts_with("socket:")
        {
            sockets += 1;
        }
    }
    [resident.parse().unwrap(), descriptors, sockets]
}

/// Connections of this port that are closed but not yet forgotten by the system.
fn time_waits(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let waits = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, local, remote, TIME_WAIT, ..] if local.ends_with(&port) || remote.ends_with(&port))
    };
    table.lines().filter(waits).count()
}
