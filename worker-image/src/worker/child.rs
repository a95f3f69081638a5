//! Handles one child process on behalf of its supervisor: its start, the frames in both directions,
//! the last lines of its stderr, and its exit. This module decides nothing about tasks.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zephyr_engine::coordinator::failed_task::last_lines;
use zephyr_proto::task::{FromChild, Setup, ToChild, from_child, to_child};

use super::child_main::CHILD_ARGUMENT;
use super::death::Cause;
use super::frames::{self, FrameError};

/// How many frames may be read before they are handled.
const FRAMES_QUEUED: usize = 64;
/// How many bytes of a child's stderr are kept, for the message if the child dies.
const STDERR_TAIL_BYTES: usize = 4096;
/// How many bytes a line of stderr may have to be logged in one piece.
const MAX_STDERR_LINE_BYTES: usize = 4096;
/// How many lines of one child's stderr are logged per second, so that one child cannot fill the
/// log.
const STDERR_LINES_PER_SECOND: u32 = 50;
/// How long a new child may take until it is ready. It compiles the expressions first.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a process may take to exit after its pipes closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the end of stderr. A process that the child started may keep it open.
const STDERR_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a child cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    /// The operating system could not start it.
    #[error("start the task's process {executable}: {source}")]
    Start {
        /// The executable.
        executable: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A pipe is missing.
    #[error("start the task's process: it has no {pipe}")]
    NoPipe {
        /// The missing pipe.
        pipe: &'static str,
    },
    /// The pipe to it broke.
    #[error(transparent)]
    Frame(FrameError),
    /// It reported that it cannot work.
    #[error("{error}")]
    Setup {
        /// Its message.
        error: String,
        /// Whether the machine is the cause, according to the child.
        is_disruption: bool,
    },
    /// It did not report that it is ready.
    #[error("the task's process did not get ready within {} s{last_message}", READY_TIMEOUT.as_secs())]
    NotReady {
        /// The last part of its stderr.
        last_message: String,
    },
}

/// A running child process. Dropping it kills it.
pub(super) struct ChildProcess {
    process: Child,
    commands: ChildStdin,
    frames: mpsc::Receiver<Result<from_child::Message, FrameError>>,
    tail: Tail,
    stderr: JoinHandle<()>,
}

impl ChildProcess {
    /// Starts a child and waits until it is ready.
    pub(super) async fn start(
        executable: &Path,
        slot: u32,
        setup: &Setup,
    ) -> Result<Self, ChildError> {
        let mut process = Command::new(executable)
            .arg(CHILD_ARGUMENT)
            .arg(slot.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ChildError::Start {
                executable: executable.display().to_string(),
                source,
            })?;
        let commands = process
            .stdin
            .take()
            .ok_or(ChildError::NoPipe { pipe: "stdin" })?;
        let stdout = process
            .stdout
            .take()
            .ok_or(ChildError::NoPipe { pipe: "stdout" })?;
        let stderr = process
            .stderr
            .take()
            .ok_or(ChildError::NoPipe { pipe: "stderr" })?;
        let tail = Tail::default();
        let stderr = tokio::spawn(forward_stderr(stderr, slot, tail.clone()));
        let (sender, frames) = mpsc::channel(FRAMES_QUEUED);
        tokio::spawn(read_frames(stdout, sender));
        let mut child = Self {
            process,
            commands,
            frames,
            tail,
            stderr,
        };
        child.send(to_child::Message::Setup(setup.clone())).await?;
        match timeout(READY_TIMEOUT, child.next()).await {
            Ok(Some(Ok(from_child::Message::Ready(_)))) => Ok(child),
            Ok(Some(Ok(from_child::Message::SetupFailed(failed)))) => Err(ChildError::Setup {
                error: failed.error,
                is_disruption: failed.is_disruption,
            }),
            Ok(Some(Err(error))) => Err(ChildError::Frame(error)),
            Ok(Some(Ok(_)) | None) | Err(_) => Err(child.not_ready().await),
        }
    }

    async fn not_ready(self) -> ChildError {
        let (_, tail) = self.end().await;
        let last_message = if tail.is_empty() {
            String::new()
        } else {
            format!("; its last output: {}", tail.trim())
        };
        ChildError::NotReady { last_message }
    }

    /// Sends a message to the child.
    pub(super) async fn send(&mut self, message: to_child::Message) -> Result<(), ChildError> {
        frames::write(
            &mut self.commands,
            &ToChild {
                message: Some(message),
            },
        )
        .await
        .map_err(ChildError::Frame)
    }

    /// Returns the next message of the child, or `None` if it has exited. This future may be
    /// dropped without losing a message.
    pub(super) async fn next(&mut self) -> Option<Result<from_child::Message, FrameError>> {
        self.frames.recv().await
    }

    /// Returns whether the child is known to have exited. Does not wait.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None)) || self.frames.is_closed()
    }

    /// Returns the process id, for the log.
    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Forgets what the child logged so far, because another task begins.
    pub(super) fn forget_log(&self) {
        self.tail.clear();
    }

    /// Returns the end of what the child logged since then.
    pub(super) fn log(&self) -> String {
        last_lines(&self.tail.text())
    }

    /// Kills the child, and waits until it has exited.
    pub(super) async fn kill(mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::debug!(%error, "the task's process was gone before it could be killed");
        }
    }

    /// Waits for the end of the child, and kills it if it does not end in time. Returns the cause
    /// of its end, and the last part of its stderr.
    pub(super) async fn end(mut self) -> (Cause, String) {
        let status = match timeout(EXIT_TIMEOUT, self.process.wait()).await {
            Ok(Ok(status)) => cause(status),
            Ok(Err(_)) => Cause::Protocol,
            Err(_) => {
                let _gone_meanwhile = self.process.kill().await;
                Cause::Protocol
            }
        };
        let _held_open = timeout(STDERR_TIMEOUT, &mut self.stderr).await;
        (status, self.tail.text())
    }
}

fn cause(status: ExitStatus) -> Cause {
    match (status.signal(), status.code()) {
        (Some(signal), _) => Cause::Signal(signal),
        (None, Some(code)) => Cause::Exit(code),
        (None, None) => Cause::Protocol,
    }
}

/// Returns the executable of this process, even if its file was replaced since the start.
pub(super) fn own_executable() -> io::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() {
        Ok(link)
    } else {
        std::env::current_exe()
    }
}

async fn read_frames(
    stdout: ChildStdout,
    sender: mpsc::Sender<Result<from_child::Message, FrameError>>,
) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let message = match frames::read::<FromChild>(&mut stdout).await {
            Ok(Some(FromChild {
                message: Some(message),
            })) => Ok(message),
            Ok(Some(FromChild { message: None }) | None) => break,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if sender.send(message).await.is_err() || last {
            break;
        }
    }
}

/// The last part of what a child wrote to its stderr.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(STDERR_TAIL_BYTES);
        kept.drain(..excess);
    }

    fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept.iter().copied().collect::<Vec<_>>()).into_owned()
    }
}

async fn forward_stderr(mut stderr: impl AsyncRead + Unpin, slot: u32, tail: Tail) {
    let mut chunk = vec![0; MAX_STDERR_LINE_BYTES];
    let mut lines = Lines::new(slot);
    loop {
        let read = match stderr.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        tail.push(&chunk[..read]);
        for byte in &chunk[..read] {
            lines.push(*byte);
        }
    }
    lines.end();
}

/// Logs a child's stderr, line by line, up to the limit.
struct Lines {
    slot: u32,
    line: Vec<u8>,
    second_began: Instant,
    logged: u32,
    left_out: u64,
}

impl Lines {
    fn new(slot: u32) -> Self {
        Self {
            slot,
            line: Vec::new(),
            second_began: Instant::now(),
            logged: 0,
            left_out: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        if byte != b'\n' {
            self.line.push(byte);
        }
        if byte == b'\n' || self.line.len() >= MAX_STDERR_LINE_BYTES {
            self.log();
        }
    }

    fn end(&mut self) {
        self.log();
        self.report_left_out();
    }

    fn log(&mut self) {
        if self.line.is_empty() {
            return;
        }
        if self.second_began.elapsed() >= Duration::from_secs(1) {
            self.report_left_out();
            self.second_began = Instant::now();
            self.logged = 0;
        }
        if self.logged < STDERR_LINES_PER_SECOND {
            self.logged += 1;
            tracing::warn!(slot = self.slot, line = %String::from_utf8_lossy(&self.line), "stderr of the task's process");
        } else {
            self.left_out += 1;
        }
        self.line.clear();
    }

    fn report_left_out(&mut self) {
        if self.left_out > 0 {
            tracing::warn!(
                slot = self.slot,
                lines = self.left_out,
                "stderr of the task's process: too many lines, left out"
            );
            self.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_of_stderr_is_kept() {
        let tail = Tail::default();
        let text = format!("{}\nlast words", "x".repeat(10_000));
        forward_stderr(text.as_bytes(), 0, tail.clone()).await;
        assert_eq!(tail.text().len(), STDERR_TAIL_BYTES);
        assert!(tail.text().ends_with("\nlast words"));
    }

    #[test]
    fn fault_3707_a_flood_of_lines_is_cut_and_counted() {
        let mut lines = Lines::new(0);
        for byte in b"x\n".repeat(1000) {
            lines.push(byte);
        }
        assert_eq!(lines.logged, STDERR_LINES_PER_SECOND);
        assert_eq!(lines.left_out, 1000 - u64::from(STDERR_LINES_PER_SECOND));
    }
}
