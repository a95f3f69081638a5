//! The process between a task's process and a command. It starts the command and reports how the
//! command ended. When the task's process asks for it, or is gone, it kills everything that the
//! command started. Moves no records: the command itself holds the ends of the task's pipes.
//!
//! All processes that the command starts stay below this process. This includes those that detach
//! themselves, because this process adopts them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use serde_json::{Value, json};

/// First argument of this process. No subcommand or option of any of our programs begins like this.
pub(crate) const GUARDIAN_ARGUMENT: &str = "__command-guardian";

/// How long it tries to kill what the command started. Only a process that hangs inside the kernel
/// survives the first tries.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two tries.
const KILL_PAUSE: Duration = Duration::from_millis(2);
/// The longest description of a command. Validation limits the arguments and the environment, so
/// that every description is shorter.
const MAX_ORDER_BYTES: u64 = 1 << 20;

/// The command to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Its whole environment.
    pub(super) env: BTreeMap<String, String>,
    /// Its working directory.
    pub(super) directory: String,
}

/// What this process reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The command runs.
    Started,
    /// The system refused to start it, with this error number.
    Failed(i32),
    /// It ended by itself with this code.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Report {
    fn line(self) -> String {
        match self {
            Self::Started => "started\n".to_owned(),
            Self::Failed(error) => format!("failed {error}\n"),
            Self::Exit(code) => format!("exit {code}\n"),
            Self::Signal(signal) => format!("signal {signal}\n"),
        }
    }

    /// Reads one line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (word, number) = (words.next()?, words.next().map(str::parse));
        match (word, number) {
            ("started", None) => Some(Self::Started),
            ("failed", Some(Ok(error))) => Some(Self::Failed(error)),
            ("exit", Some(Ok(code))) => Some(Self::Exit(code)),
            ("signal", Some(Ok(signal))) => Some(Self::Signal(signal)),
            _ => None,
        }
    }
}

/// Sends an order together with the command's standard input, output and error.
pub(super) fn send_order(
    control: &UnixStream,
    order: &Order,
    streams: [BorrowedFd<'_>; 3],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&streams)) {
        return Err(io::Error::other("no room for three descriptors"));
    }
    sendmsg(
        control,
        &[IoSlice::new(b"!")],
        &mut rights,
        SendFlags::NOSIGNAL,
    )?;
    let Order {
        command,
        env,
        directory,
    } = order;
    let text = json!({"command": command, "env": env, "directory": directory});
    let mut control = control;
    control.write_all(format!("{text}\n").as_bytes())
}

/// Runs the guardian. The task's process holds the other end of its standard input.
pub(crate) fn guardian_main() -> ExitCode {
    match guard() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the process that watches over a command ends");
            ExitCode::FAILURE
        }
    }
}

fn guard() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (order, streams) = receive_order(&control)?;
    let mut reports = control.try_clone()?;
    let program = order.command.first().map_or("", String::as_str);
    let [input, output, error] = streams.map(Stdio::from);
    let mut command = Command::new(program);
    command
        .args(order.command.iter().skip(1))
        .env_clear()
        .envs(&order.env)
        .current_dir(&order.directory)
        .stdin(input)
        .stdout(output)
        .stderr(error)
        .process_group(0);
    let started = command.spawn();
    // The command's streams are closed here, so that only the command and what it starts hold them.
    drop(command);
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(0);
            return reports.write_all(Report::Failed(number).line().as_bytes());
        }
    };
    reports.write_all(Report::Started.line().as_bytes())?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| io::Error::other("the command has no process id"))?;
    let ended = Arc::new(Ended::default());
    let seen = Arc::clone(&ended);
    let killer = std::thread::Builder::new().name("kill".to_owned());
    killer.spawn(move || {
        wait_for_the_end_of(&control);
        kill_all(group, &seen);
        std::process::exit(0);
    })?;
    reap(group, &ended, &mut reports);
    loop {
        std::thread::park();
    }
}

/// What is known about the processes below this one.
#[derive(Default)]
struct Ended {
    /// The command was waited for, so its process id may belong to another process.
    command: AtomicBool,
    /// No process is left.
    all: AtomicBool,
}

fn receive_order(control: &UnixStream) -> io::Result<(Order, [OwnedFd; 3])> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        control,
        &mut [IoSliceMut::new(&mut byte)],
        &mut rights,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut streams = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            streams.extend(descriptors);
        }
    }
    let streams = <[OwnedFd; 3]>::try_from(streams)
        .map_err(|_| io::Error::other("the order came without three descriptors"))?;
    let mut line = String::new();
    BufReader::new(control.take(MAX_ORDER_BYTES)).read_line(&mut line)?;
    let order = parse_order(&line).ok_or_else(|| io::Error::other("the order is not valid"))?;
    Ok((order, streams))
}

fn parse_order(line: &str) -> Option<Order> {
    let mut order: Value = serde_json::from_str(line).ok()?;
    Some(Order {
        command: serde_json::from_value(order["command"].take()).ok()?,
        env: serde_json::from_value(order["env"].take()).ok()?,
        directory: serde_json::from_value(order["directory"].take()).ok()?,
    })
}

/// Returns when the task's process closes its end of the stream, or is gone.
fn wait_for_the_end_of(mut control: &UnixStream) {
    let mut byte = [0];
    while matches!(control.read(&mut byte), Ok(1..)) {}
}

/// Waits for all processes below this one and reports the end of the command.
fn reap(group: Pid, ended: &Ended, reports: &mut UnixStream) {
    while let Ok(Some((process, status))) = wait(WaitOptions::empty()) {
        if process != group {
            continue;
        }
        ended.command.store(true, Ordering::Release);
        let report = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Report::Exit(code),
            (None, Some(signal)) => Report::Signal(signal),
            (None, None) => continue,
        };
        // If the task's process is gone, nobody needs the report.
        let _gone = reports.write_all(report.line().as_bytes());
    }
    ended.all.store(true, Ordering::Release);
}

/// Kills the command and all processes below this one until none is left, for at most
/// [`KILL_TIMEOUT`].
fn kill_all(group: Pid, ended: &Ended) {
    let give_up = Instant::now() + KILL_TIMEOUT;
    while !ended.all.load(Ordering::Acquire) {
        // The id belongs to the command's group as long as the command was not waited for. After
        // that, the search below finds the rest of its group.
        if !ended.command.load(Ordering::Acquire) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let alive = descendants(getpid());
        if Instant::now() > give_up {
            return;
        }
        for process in alive {
            let _gone = kill_process(process, Signal::KILL);
        }
        std::thread::sleep(KILL_PAUSE);
    }
}

/// The processes below `root` that have not ended.
fn descendants(root: Pid) -> Vec<Pid> {
    below(root.as_raw_nonzero().get(), &processes())
        .into_iter()
        .filter_map(Pid::from_raw)
        .collect()
}

/// Returns the parent of each process that has not ended.
pub(crate) fn processes() -> BTreeMap<i32, i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.parse::<i32>().ok()
    });
    names
        .filter_map(|process| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            Some((process, parent(&stat)?))
        })
        .collect()
}

/// The parent that a `stat` file names; `None` if the process has ended. The name of the program
/// may contain any character, so its end is the last bracket of the file.
fn parent(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// All processes below `root`, without it.
pub(crate) fn below(root: i32, parents: &BTreeMap<i32, i32>) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        let children = parents.iter().filter(|(_, parent)| found.contains(parent));
        let children: Vec<i32> = children.map(|(process, _)| *process).collect();
        found.extend(children);
        if found.len() == before {
            found.remove(&root);
            return found;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The name of the test below. If the executable of the tests runs only this test, it is a
    /// guardian.
    pub(crate) const AS_GUARDIAN: &str = "task::exec::guardian::tests::a_test_that_is_a_guardian";

    #[test]
    fn a_test_that_is_a_guardian() {
        // Only a process that was started by `process::start` has a socket as its standard input.
        let is_socket = |path: &std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
        if std::fs::read_link("/proc/self/fd/0").is_ok_and(|path| is_socket(&path)) {
            guardian_main();
            std::process::exit(0);
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_nothing_else_is() {
        for report in [
            Report::Started,
            Report::Failed(2),
            Report::Exit(0),
            Report::Exit(255),
            Report::Signal(9),
        ] {
            assert_eq!(Report::parse(&report.line()), Some(report));
        }
        for line in ["", "exit", "exit x", "started 1", "stopped"] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_parent_is_found_behind_any_name_and_an_ended_process_has_none() {
        assert_eq!(parent("17 (a) b) 3) S 5 17 17 0 -1"), Some(5));
        assert_eq!(parent("17 (sh) Z 5 17 17 0 -1"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn all_generations_below_a_process_are_found() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (9, 3), (4, 1), (5, 4), (7, 7)]);
        assert_eq!(below(2, &parents), BTreeSet::from([3, 9]));
        assert_eq!(below(1, &parents), BTreeSet::from([2, 3, 4, 5, 9]));
        assert_eq!(below(7, &parents), BTreeSet::new());
    }
}
